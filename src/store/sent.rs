//! The mails that we sent, known by their Message-IDs, and how many of them a machine wrote.
//! It never holds what they say.

use std::collections::HashSet;

use sqlx::{Row, SqliteConnection, SqliteExecutor};

use super::StoreError;
use super::thread::add_carrier;
use crate::mail::parse::carrier_key;
use crate::mailbox::MailboxId;
use crate::thread::IssueId;
use crate::time::Timestamp;

/// A mail that is queued.
#[derive(Debug, Clone, Copy)]
pub struct NewSent<'s> {
    /// Its Message-ID, without angle brackets.
    pub message_id: &'s str,
    /// The row of the outbox.
    pub outgoing: i64,
    /// The issue that it is about.
    pub issue: IssueId,
    /// Whom it goes to.
    pub recipient: &'s str,
    /// The mailbox for which it answers by itself.
    pub mailbox: Option<MailboxId>,
}

/// Writes down a mail with what queues it, so that answers to it find its issue.
///
/// # Errors
/// What the database says.
pub async fn record(connection: &mut SqliteConnection, sent: &NewSent<'_>, now: Timestamp) -> Result<(), StoreError> {
    let message_id = carrier_key(sent.message_id);
    sqlx::query(
        "INSERT INTO sent (message_id, outgoing, issue, recipient, mailbox, at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (message_id) DO NOTHING",
    )
    .bind(&message_id)
    .bind(sent.outgoing)
    .bind(sent.issue.0)
    .bind(sent.recipient.to_lowercase())
    .bind(sent.mailbox.map(|mailbox| mailbox.0))
    .bind(now.0)
    .execute(&mut *connection)
    .await?;
    add_carrier(connection, &message_id, sent.issue).await
}

/// Those of these Message-IDs (normalized) that are ours.
///
/// # Errors
/// What the database says.
pub async fn ours(executor: impl SqliteExecutor<'_>, message_ids: &[&str]) -> Result<HashSet<String>, StoreError> {
    let rows = sqlx::query("SELECT s.message_id FROM json_each(?1) k JOIN sent s ON s.message_id = k.value")
        .bind(serde_json::json!(message_ids).to_string())
        .fetch_all(executor)
        .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// What was answered by itself since a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answers {
    /// To this sender, by this project.
    pub to_sender: i64,
    /// For this mailbox.
    pub for_mailbox: i64,
    /// Issues that this sender opened.
    pub issues: i64,
}

/// Counts them.
///
/// # Errors
/// What the database says.
pub async fn answers(
    connection: &mut SqliteConnection,
    (sender, project): (&str, &str),
    mailbox: MailboxId,
    since: Timestamp,
) -> Result<Answers, StoreError> {
    let row = sqlx::query(
        "SELECT
            (SELECT count(*) FROM sent s JOIN issue i ON i.id = s.issue
             WHERE s.recipient = ?1 AND s.at > ?4 AND s.mailbox IS NOT NULL AND i.project = ?2) AS to_sender,
            (SELECT count(*) FROM sent s WHERE s.mailbox = ?3 AND s.at > ?4) AS for_mailbox,
            (SELECT count(*) FROM participant p JOIN issue i ON i.id = p.issue
             WHERE p.address = ?1 AND i.created_at > ?4 AND lower(i.reporter_address) = ?1) AS issues",
    )
    .bind(sender.to_lowercase())
    .bind(project)
    .bind(mailbox.0)
    .bind(since.0)
    .fetch_one(connection)
    .await?;
    Ok(Answers {
        to_sender: row.try_get("to_sender")?,
        for_mailbox: row.try_get("for_mailbox")?,
        issues: row.try_get("issues")?,
    })
}
