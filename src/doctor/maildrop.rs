//! The steps of "test connection" at a POP3 server. What is read there counts as unread again.

use super::access::{self, Advice, Refused};
use super::certificate::{self, Opening};
use super::claims::Service;
use super::imap::{CONNECTION, credential, well};
use super::provider::Token;
use super::{Checked, Doctor, database};
use crate::mailbox::{Mailbox, SignIn, Start, Tls};
use crate::pop3::{Entry, Pop3Error, Session, Step, header};

/// Headers that are asked for at once.
const HEADERS_AT_ONCE: usize = 100;

impl Doctor {
    pub(super) async fn maildrop(&self, mailbox: &Mailbox) -> Vec<Checked> {
        let mut steps = Vec::new();
        let mut token = match &mailbox.sign_in {
            SignIn::Password(_) => None,
            SignIn::Token(grant) => match self.token_for(grant, Service::Pop3, &mut steps).await {
                Some(token) => Some(token),
                None => return steps,
            },
        };
        match self.open_maildrop(mailbox, &mut token, &mut steps).await {
            Err(error) => {
                let failed = failed_step(&error);
                let before = CONNECTION.iter().take_while(|step| **step != failed);
                steps.extend(before.map(|step| Checked::ok(step, well(step, mailbox))));
                steps.push(self.told_of_maildrop(&error, failed, (mailbox, token.as_ref())).await);
            }
            Ok(mut session) => {
                steps.extend(CONNECTION.iter().map(|step| Checked::ok(step, well(step, mailbox))));
                match session.list().await {
                    Ok(entries) => self.listed(&mut session, mailbox, &entries, &mut steps).await,
                    Err(error) => steps.push(Checked::failed("list", error.problem())),
                }
                session.leave().await;
            }
        }
        steps
    }

    /// Signs in; where a saved token is refused, once more with a new one, as the daemon does.
    async fn open_maildrop(
        &self,
        mailbox: &Mailbox,
        token: &mut Option<Token>,
        steps: &mut Vec<Checked>,
    ) -> Result<Session, Pop3Error> {
        let first = self.pop3.connect(mailbox, &credential(mailbox, token.as_ref())).await;
        if let (Err(error), SignIn::Token(grant)) = (&first, &mailbox.sign_in)
            && error.is_credential_refused()
            && self.renewed(grant, token, steps).await
        {
            return self.pop3.connect(mailbox, &credential(mailbox, token.as_ref())).await;
        }
        first
    }

    /// The step that failed, with what is to be read beside it.
    async fn told_of_maildrop(
        &self,
        error: &Pop3Error,
        step: &'static str,
        (mailbox, token): (&Mailbox, Option<&Token>),
    ) -> Checked {
        let server = &mailbox.server;
        let mut problem = error.problem();
        let advice = match (error, &mailbox.sign_in, token) {
            (Pop3Error::Tls { .. }, _, _) => Advice {
                remedy: None,
                notes: certificate::look(&server.host, server.port, opening(server.tls), self.clock.now()).await,
            },
            (Pop3Error::SignInRefused { refusal, .. }, SignIn::Token(grant), Some(token)) => access::advice(&Refused {
                grant,
                token,
                mailbox: &mailbox.sasl_user,
                service: Service::Pop3,
                words: &refusal.text,
                has_worked: self.is_listed(mailbox, "INBOX").await.unwrap_or(false),
            }),
            _ => Advice::default(),
        };
        if let Some(remedy) = advice.remedy {
            problem.remedy = remedy;
        }
        Checked::failed(step, problem).with(advice.notes)
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

/// The step that an error is about.
fn failed_step(error: &Pop3Error) -> &'static str {
    match error {
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
        Pop3Error::Garbled { .. }
        | Pop3Error::OverLimit { .. }
        | Pop3Error::Lost { .. }
        | Pop3Error::Timeout { .. }
        | Pop3Error::NoMechanism { .. }
        | Pop3Error::BadName
        | Pop3Error::Spool(_)
        | Pop3Error::SignInRefused { .. }
        | Pop3Error::Refused { .. } => "sign-in",
    }
}

fn opening(tls: Tls) -> Opening {
    match tls {
        Tls::Implicit | Tls::None => Opening::Implicit,
        Tls::StartTls => Opening::Pop3,
    }
}
