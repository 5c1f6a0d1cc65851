//! `message retry|release|discard|reextract`: messages that are looked at again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::context::{Context, Failure, NO, OK};
use super::ingest::intake_failed;
use super::simulate::{by_address, since};
use super::{Json, print};
use crate::intake::{Intake, Origin, Outcome};
use crate::issue::Verdict;
use crate::mailbox::MailboxId;
use crate::notice::Notice;
use crate::store::Store;
use crate::store::message::MessageId;
use crate::store::message::revise::{self, Stored};
use crate::telling::Teller;

/// Messages by their ids.
#[derive(Debug, Args)]
pub struct Ids {
    /// The messages
    #[arg(required = true, value_name = "ID")]
    ids: Vec<i64>,
    #[command(flatten)]
    json: Json,
}

/// Messages by their ids or age.
#[derive(Debug, Args)]
pub struct Reextract {
    /// The messages
    #[arg(value_name = "ID", required_unless_present = "since", conflicts_with = "since")]
    ids: Vec<i64>,
    /// Those that came in since then, such as 30d
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Duration>,
    #[command(flatten)]
    json: Json,
}

/// What is done with messages that are held or quarantined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Quarantined mail is read again.
    Retry,
    /// Held mail is accepted.
    Release,
    /// Either is ignored.
    Discard,
}

impl Act {
    fn fits(self, verdict: Option<Verdict>) -> bool {
        match self {
            Self::Retry => verdict == Some(Verdict::Quarantined),
            Self::Release => verdict == Some(Verdict::Held),
            Self::Discard => matches!(verdict, Some(Verdict::Held | Verdict::Quarantined)),
        }
    }

    fn refusal(self, id: MessageId, verdict: Option<Verdict>) -> Failure {
        let wanted = match self {
            Self::Retry => "only quarantined mail can be read again",
            Self::Release => "only held mail can be released",
            Self::Discard => "only held or quarantined mail can be discarded",
        };
        let is = verdict.map_or("not final", Verdict::as_str);
        Failure::Failed(format!("message {} is {is}; {wanted}", id.0))
    }
}

/// Does it with each message; all of them are looked up first. Exit 1 where one still cannot be read.
///
/// # Errors
/// Any [`Failure`].
pub async fn run(context: &Context, act: Act, ids: &Ids) -> Result<u8, Failure> {
    let bench = Bench::open(context).await?;
    let mut found = Vec::new();
    for id in &ids.ids {
        let stored = bench.stored(MessageId(*id)).await?;
        if !act.fits(stored.verdict) {
            return Err(act.refusal(stored.id, stored.verdict));
        }
        found.push((bench.origin(&stored)?, stored));
    }
    let mut rows = Vec::new();
    for (origin, stored) in found {
        rows.push(bench.act(act, &origin, stored).await?);
    }
    say(&rows, ids.json.json)?;
    let is_unread = |row: &Value| row.get("verdict").and_then(Value::as_str) == Some("quarantined");
    Ok(if rows.iter().any(is_unread) { NO } else { OK })
}

/// Reads the texts of messages again.
///
/// # Errors
/// Any [`Failure`].
pub async fn reextract(context: &Context, reextract: &Reextract) -> Result<u8, Failure> {
    let bench = Bench::open(context).await?;
    let ids = match reextract.since {
        Some(since) => bench.since(since).await?,
        None => reextract.ids.iter().map(|id| MessageId(*id)).collect(),
    };
    let mut rows = Vec::new();
    for id in ids {
        let stored = bench.stored(id).await?;
        if !matches!(stored.verdict, Some(Verdict::Issue | Verdict::Comment)) {
            if reextract.since.is_some() {
                continue;
            }
            let is = stored.verdict.map_or("not final", Verdict::as_str);
            return Err(Failure::Failed(format!(
                "message {} is {is}: it is no text of an issue",
                id.0
            )));
        }
        let origin = bench.origin(&stored)?;
        let done = bench.intake.reextract(&origin, stored).await.map_err(intake_failed)?;
        rows.push(match done {
            Ok(has_changed) => json!({ "message": id.0, "changed": has_changed }),
            Err(reason) => json!({ "message": id.0, "changed": false, "reason": reason.as_str() }),
        });
    }
    let changed = rows.iter().filter(|row| row.get("changed") == Some(&Value::Bool(true)));
    let text = format!("{} of {} texts changed", changed.count(), rows.len());
    if reextract.json.json {
        print::json(&rows)?;
    } else {
        print::line(&text)?;
    }
    Ok(OK)
}

/// What the commands work with.
struct Bench<'b> {
    context: &'b Context,
    store: Store,
    intake: Intake,
}

impl<'b> Bench<'b> {
    async fn open(context: &'b Context) -> Result<Self, Failure> {
        let store = context.store().await?;
        let clock = context.clock.clone();
        let notice = Notice::new(store.clone(), clock.clone()).telling(Teller::new(context.config.receivers()));
        Ok(Self {
            context,
            intake: Intake::beside(store.clone(), clock, notice, context.config.rules()),
            store,
        })
    }

    async fn stored(&self, id: MessageId) -> Result<Stored, Failure> {
        let stored = revise::stored(self.store.readers(), id).await?;
        stored.ok_or_else(|| {
            Failure::NotFound(format!(
                "there is no message {} whose bytes are kept; `mailintake message list` shows the newest",
                id.0
            ))
        })
    }

    async fn since(&self, since: Duration) -> Result<Vec<MessageId>, Failure> {
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let from = crate::time::Timestamp(self.context.clock.now().0.saturating_sub(seconds));
        Ok(revise::ids_since(self.store.readers(), from).await?)
    }

    fn origin(&self, stored: &Stored) -> Result<Origin, Failure> {
        let mailbox = by_address(&self.context.config, &stored.address).ok_or_else(|| {
            Failure::Failed(format!(
                "message {} came by {}, which is not configured any more",
                stored.id.0, stored.address
            ))
        })?;
        Ok(Origin {
            mailbox,
            id: MailboxId(stored.mailbox.0),
            suspects: Arc::new(HashSet::new()),
        })
    }

    async fn act(&self, act: Act, origin: &Origin, stored: Stored) -> Result<Value, Failure> {
        let id = stored.id;
        let outcome = match act {
            Act::Retry => self.intake.take_again(origin, stored, false).await,
            Act::Release => self.intake.take_again(origin, stored, true).await,
            Act::Discard => {
                self.intake.discard(origin, id).await.map_err(intake_failed)?;
                return Ok(json!({ "message": id.0, "verdict": "ignored", "reason": "discarded", "issue": null }));
            }
        };
        outcome.map(|outcome| row(id, &outcome)).map_err(intake_failed)
    }
}

fn row(id: MessageId, outcome: &Outcome) -> Value {
    json!({
        "message": id.0, "verdict": outcome.verdict.as_str(), "reason": outcome.reason.as_str(),
        "issue": outcome.issue,
    })
}

fn say(rows: &[Value], json: bool) -> Result<(), Failure> {
    if json {
        return print::json(&rows);
    }
    for row in rows {
        let issue = row.get("issue").and_then(Value::as_str);
        print::line(&format!(
            "message {} is now {} ({}){}",
            super::explain::word(row.get("message")),
            super::explain::word(row.get("verdict")),
            super::explain::word(row.get("reason")),
            issue.map_or_else(String::new, |key| format!(": {key}"))
        ))?;
    }
    Ok(())
}
