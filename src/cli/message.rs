//! `message …`: the ledger.

use clap::{Args, Subcommand};

use super::Json;
use super::context::{Database, Failure, OK};
use super::print;
use crate::issue::Verdict;
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

/// Runs one of them.
///
/// # Errors
/// Any [`Failure`].
pub async fn run(database: &Database, command: Message) -> Result<u8, Failure> {
    match command {
        Message::List(list) => self::list(database, list).await,
        Message::Show { id, json } => show(database, id, json.json).await,
        Message::Raw { id } => raw(database, id).await,
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

async fn raw(database: &Database, id: i64) -> Result<u8, Failure> {
    let store = database.store().await?;
    view::show(store.readers(), id).await?.ok_or_else(|| not_found(id))?;
    let bytes = view::original(store.readers(), id).await?.ok_or_else(|| {
        Failure::NotFound(format!(
            "the bytes of message {id} are not kept: it was not fetched, or its retention has ended"
        ))
    })?;
    print::bytes(&bytes)?;
    Ok(OK)
}
