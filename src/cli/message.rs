//! `message …`: the ledger.

use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::again::{self, Act};
use super::context::{Database, Failure, OK, with_config, with_database};
use super::{Json, print};
use crate::issue::Verdict;
use crate::store::message::revise;
use crate::store::view::message::{self as view, Filter, MessageView};

/// The commands about messages.
#[derive(Debug, Subcommand)]
pub enum Message {
    /// List messages, the newest first
    List(List),
    /// Show the row of a message
    Show {
        /// The message
        id: i64,
        /// As JSON
        #[command(flatten)]
        json: Json,
    },
    /// Tell why a message became what it is: every rule that was tested
    Explain {
        /// The message
        id: i64,
        /// As JSON
        #[command(flatten)]
        json: Json,
    },
    /// Read quarantined mail again
    Retry(again::Ids),
    /// Accept held mail
    Release(again::Ids),
    /// Ignore held or quarantined mail
    Discard(again::Ids),
    /// Read the texts of issues and comments again, with a newer extractor
    Reextract(again::Reextract),
    /// Print the original bytes of a message
    Raw {
        /// The message
        id: i64,
    },
}

/// Which messages are listed.
#[derive(Debug, Args)]
pub struct List {
    /// Only with this verdict
    #[arg(long, value_parser = verdict)]
    verdict: Option<Verdict>,
    /// Only of this mailbox
    #[arg(long, value_name = "NAME")]
    mailbox: Option<String>,
    /// Only of this issue
    #[arg(long, value_name = "KEY")]
    issue: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
    #[command(flatten)]
    json: Json,
}

fn verdict(word: &str) -> Result<Verdict, String> {
    Verdict::parse(word).ok_or_else(|| {
        let words: Vec<_> = Verdict::ALL.iter().map(|verdict| verdict.as_str()).collect();
        format!("not one of {}", words.join(", "))
    })
}

/// Runs one of them. What decides anew needs the configuration, what looks on does without.
///
/// # Errors
/// Any [`Failure`].
pub fn command(config: &Path, command: Message) -> Result<u8, Failure> {
    match command {
        Message::List(list) => with_database(config, async |database| self::list(database, list).await),
        Message::Show { id, json } => with_database(config, async |database| show(database, id, json.json).await),
        Message::Explain { id, json } => with_database(config, async |database| explain(database, id, json.json).await),
        Message::Raw { id } => with_database(config, async |database| raw(database, id).await),
        Message::Retry(ids) => with_config(config, async |context| again::run(context, Act::Retry, &ids).await),
        Message::Release(ids) => with_config(config, async |context| again::run(context, Act::Release, &ids).await),
        Message::Discard(ids) => with_config(config, async |context| again::run(context, Act::Discard, &ids).await),
        Message::Reextract(which) => with_config(config, async |context| again::reextract(context, &which).await),
    }
}

async fn list(database: &Database, list: List) -> Result<u8, Failure> {
    let store = database.store().await?;
    let filter = Filter {
        verdict: list.verdict.map(|verdict| verdict.as_str().to_owned()),
        mailbox: list.mailbox,
        issue: list.issue,
        limit: i64::from(list.limit),
    };
    let messages = view::list(store.readers(), &filter).await?;
    if list.json.json {
        print::json(&messages)?;
    } else if messages.is_empty() {
        print::aside("no messages");
    } else {
        let rows = messages.iter().map(row).collect();
        let head = [
            "id",
            "ingested",
            "mailbox",
            "class",
            "verdict",
            "reason",
            "issue",
            "message-id",
        ];
        print::line(&print::table(&head, rows))?;
    }
    Ok(OK)
}

fn row(message: &MessageView) -> Vec<String> {
    vec![
        message.id.to_string(),
        print::local_time(&message.ingested_at),
        message.mailbox.clone(),
        print::or_dash(message.class.as_deref()),
        print::or_dash(message.verdict.as_deref()),
        print::or_dash(message.reason.as_deref()),
        print::or_dash(message.issue.as_deref()),
        print::or_dash(message.message_id.as_deref()),
    ]
}

fn not_found(id: i64) -> Failure {
    Failure::NotFound(format!(
        "there is no message {id}; `mailintake message list` shows the newest"
    ))
}

async fn show(database: &Database, id: i64, json: bool) -> Result<u8, Failure> {
    let store = database.store().await?;
    let message = view::show(store.readers(), id).await?.ok_or_else(|| not_found(id))?;
    if json {
        print::json(&message)?;
        return Ok(OK);
    }
    let value = serde_json::to_value(&message).map_err(|error| Failure::Failed(error.to_string()))?;
    let fields = value.as_object().into_iter().flatten();
    let rows = fields
        .map(|(name, value)| {
            vec![
                name.clone(),
                value.as_str().map_or_else(|| value.to_string(), str::to_owned),
            ]
        })
        .collect();
    print::line(&print::table(&["field", "value"], rows))?;
    Ok(OK)
}

async fn explain(database: &Database, id: i64, json: bool) -> Result<u8, Failure> {
    let store = database.store().await?;
    let message = view::show(store.readers(), id).await?.ok_or_else(|| not_found(id))?;
    let stored = revise::trace(store.readers(), id).await?;
    let mut explanation = explanation(&message, stored.as_deref());
    if let (Some(original), Value::Object(fields)) = (view::original_of(store.readers(), id).await?, &mut explanation) {
        fields.insert("original".to_owned(), json!(original));
    }
    if json {
        print::json(&explanation)?;
    } else {
        let subject = message.message_id.as_deref().unwrap_or(&message.remote_id);
        print::line(&format!(
            "message {id}  {subject}\n{}",
            super::explain::text(&explanation)
        ))?;
    }
    Ok(OK)
}

/// What was written down when it was decided; of a duplicate and the like only the decision.
fn explanation(message: &MessageView, stored: Option<&str>) -> Value {
    let stored: Option<Value> = stored.and_then(|text| serde_json::from_str(text).ok());
    let mut explanation = stored.unwrap_or_else(|| {
        json!({ "class": { "value": message.class, "rule": null, "evidence": null }, "thread": [],
                "trim": { "rules": [], "confidence": null } })
    });
    if let Value::Object(fields) = &mut explanation {
        fields.insert("message".to_owned(), json!(message.id));
        // As it is now: a person may have decided since.
        fields.insert(
            "decision".to_owned(),
            json!({ "verdict": message.verdict, "reason": message.reason }),
        );
    }
    explanation
}

async fn raw(database: &Database, id: i64) -> Result<u8, Failure> {
    let store = database.store().await?;
    let message = view::show(store.readers(), id).await?.ok_or_else(|| not_found(id))?;
    let bytes = view::original(store.readers(), id).await?.ok_or_else(|| {
        Failure::NotFound(format!(
            "the bytes of message {id} are not kept: it was not fetched, its retention has ended, or its issue was erased"
        ))
    })?;
    let sha256 = format!("{:x}", Sha256::digest(&bytes));
    if let Some(original) = view::original_of(store.readers(), id).await?
        && message.sha256.as_ref() != Some(&sha256)
    {
        print::aside(&format!(
            "message {id} is a duplicate; these are the bytes of message {original}, which has the same content"
        ));
    }
    print::bytes(&bytes)?;
    Ok(OK)
}
