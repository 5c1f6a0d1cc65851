//! The steps of "test connection" at a POP3 server. What is read there counts as unread again.

use super::{CONNECTION, Checked, Doctor, database, well};
use crate::mailbox::{Credential, Mailbox, Start};
use crate::pop3::{Entry, Pop3Error, Session, Step, header};

/// Headers that are asked for at once.
const HEADERS_AT_ONCE: usize = 100;

impl Doctor {
    pub(super) async fn maildrop(&self, mailbox: &Mailbox, credential: &Credential, steps: &mut Vec<Checked>) {
        match self.pop3.connect(mailbox, credential).await {
            Err(error) => steps.extend(up_to(&error, mailbox)),
            Ok(mut session) => {
                steps.extend(CONNECTION.iter().map(|step| Checked::ok(step, well(step, mailbox))));
                match session.list().await {
                    Ok(entries) => self.listed(&mut session, mailbox, &entries, steps).await,
                    Err(error) => steps.push(Checked::failed("list", error.problem())),
                }
                session.leave().await;
            }
        }
    }

    async fn listed(&self, session: &mut Session, mailbox: &Mailbox, entries: &[Entry], steps: &mut Vec<Checked>) {
        let has_ids = entries.iter().all(|entry| entry.uidl.is_some()) && session.offer().has_uidl;
        let ids = if has_ids {
            "with a UIDL each"
        } else {
            "without UIDL: each is read at every look, and known by its bytes"
        };
        steps.push(Checked::ok("list", format!("{} messages, {ids}", entries.len())));
        let delay = session.offer().login_delay;
        if delay > mailbox.poll_interval {
            let text = format!(
                "the server wants {} s between sign-ins, which is kept to",
                delay.as_secs()
            );
            steps.push(Checked::ok("delay", text));
        }
        steps.push(self.first_look(session, mailbox, entries).await);
    }

    /// What `start` takes and leaves.
    async fn first_look(&self, session: &mut Session, mailbox: &Mailbox, entries: &[Entry]) -> Checked {
        match self.is_listed(mailbox, "INBOX").await {
            Err(error) => return Checked::failed("start", database(&error)),
            Ok(true) => {
                let text = "this mailbox was listed before: only what is not in the ledger is taken";
                return Checked::ok("start", text);
            }
            Ok(false) => {}
        }
        match taken(session, mailbox.start, entries).await {
            Ok(taken) => {
                let left = entries.len() - taken;
                let text = format!(
                    "start = {} takes {taken} and leaves {left} of what is there now",
                    mailbox.start
                );
                Checked::ok("start", text)
            }
            Err(error) => Checked::failed("start", error.problem()),
        }
    }
}

async fn taken(session: &mut Session, start: Start, entries: &[Entry]) -> Result<usize, Pop3Error> {
    let since = match start {
        Start::New => return Ok(0),
        Start::All | Start::Unseen => return Ok(entries.len()),
        Start::Since(since) => since,
    };
    let mut taken = 0;
    for chunk in entries.chunks(HEADERS_AT_ONCE) {
        let headers = session.headers(chunk).await?;
        let dates = headers
            .iter()
            .map(|header| header.as_deref().and_then(header::received_at));
        taken += dates.filter(|date| date.is_none_or(|date| date >= since)).count();
    }
    Ok(taken)
}

/// The steps before the one that failed went well.
fn up_to(error: &Pop3Error, mailbox: &Mailbox) -> Vec<Checked> {
    let failed = match error {
        Pop3Error::Resolve { .. } => "dns",
        Pop3Error::Connect { .. } => "tcp",
        Pop3Error::Tls { .. } | Pop3Error::Unprotected { .. } => "tls",
        Pop3Error::Greeting { .. } => "greeting",
        Pop3Error::Garbled { step }
        | Pop3Error::OverLimit { step, .. }
        | Pop3Error::Lost { step, .. }
        | Pop3Error::Timeout { step }
            if *step != Step::SignIn =>
        {
            "greeting"
        }
        _ => "sign-in",
    };
    let before = CONNECTION.iter().take_while(|step| **step != failed);
    let mut steps: Vec<Checked> = before.map(|step| Checked::ok(step, well(step, mailbox))).collect();
    steps.push(Checked::failed(failed, error.problem()));
    steps
}
