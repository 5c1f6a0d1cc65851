//! What the metrics show, counted so that a look costs the same whatever the ledger holds.
//! It never reads a table that grows from end to end.

use sqlx::{Row, SqlitePool};

use super::StoreError;
use crate::time::Timestamp;

/// A configured mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailboxSample {
    /// Its name.
    pub name: String,
    /// The state's word.
    pub state: String,
    /// Messages on the server without a final row.
    pub backlog: i64,
    /// Since when there are such without a break.
    pub backlog_since: Option<Timestamp>,
}

/// The configured mailboxes.
///
/// # Errors
/// What the database says.
pub async fn mailboxes(readers: &SqlitePool) -> Result<Vec<MailboxSample>, StoreError> {
    let rows = sqlx::query(
        "SELECT name, state, backlog, backlog_since FROM mailbox
         WHERE is_configured = 1
         ORDER BY name",
    )
    .fetch_all(readers)
    .await?;
    let sample = |row: &sqlx::sqlite::SqliteRow| {
        Ok(MailboxSample {
            name: row.try_get("name")?,
            state: row.try_get("state")?,
            backlog: row.try_get("backlog")?,
            backlog_since: row.try_get::<Option<i64>, _>("backlog_since")?.map(Timestamp),
        })
    };
    rows.iter().map(sample).collect()
}

/// How often messages came to a verdict: (mailbox, verdict, count), of the configured mailboxes.
///
/// # Errors
/// What the database says.
pub async fn verdicts(readers: &SqlitePool) -> Result<Vec<(String, String, i64)>, StoreError> {
    let rows = sqlx::query(
        "SELECT b.name, c.verdict, c.count FROM verdict_count c
         JOIN mailbox b ON b.id = c.mailbox
         WHERE b.is_configured = 1
         ORDER BY b.name, c.verdict",
    )
    .fetch_all(readers)
    .await?;
    let sample = |row: &sqlx::sqlite::SqliteRow| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
    rows.iter().map(sample).collect()
}

/// What is to go out: (state, how many, when the oldest was queued).
///
/// # Errors
/// What the database says.
pub async fn outbox(readers: &SqlitePool) -> Result<Vec<(String, i64, Timestamp)>, StoreError> {
    let rows = sqlx::query(
        "SELECT state, count(*), min(created_at) FROM outgoing
         WHERE state IN ('queued', 'sending', 'sent', 'failed', 'unknown')
         GROUP BY state",
    )
    .fetch_all(readers)
    .await?;
    let sample = |row: &sqlx::sqlite::SqliteRow| Ok((row.try_get(0)?, row.try_get(1)?, Timestamp(row.try_get(2)?)));
    rows.iter().map(sample).collect()
}
