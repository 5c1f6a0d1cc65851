//! Rows of the ledger, and the original bytes.

use serde::Serialize;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqlitePool};

use crate::store::StoreError;
use crate::time::Timestamp;

/// A message of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields are those of the contract")]
pub struct MessageView {
    pub id: i64,
    pub mailbox: String,
    pub source: String,
    pub remote_id: String,
    pub folder: Option<String>,
    pub uidvalidity: Option<i64>,
    pub uid: Option<i64>,
    pub message_id: Option<String>,
    pub sha256: Option<String>,
    pub size: i64,
    pub class: Option<String>,
    pub verdict: Option<String>,
    pub reason: Option<String>,
    pub issue: Option<String>,
    pub comment: Option<i64>,
    pub received_at: Option<String>,
    pub ingested_at: String,
    pub server_action: String,
}

/// Which messages are listed.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// With this verdict.
    pub verdict: Option<String>,
    /// Of the mailbox with this name or address.
    pub mailbox: Option<String>,
    /// Of the issue with this key.
    pub issue: Option<String>,
    /// At most so many.
    pub limit: i64,
}

/// The messages that fit, the newest first.
///
/// # Errors
/// What the database says.
pub async fn list(readers: &SqlitePool, filter: &Filter) -> Result<Vec<MessageView>, StoreError> {
    let rows = sqlx::query(
        "SELECT v.* FROM messages v JOIN message m ON m.id = v.id JOIN mailbox b ON b.id = m.mailbox
         WHERE (?1 IS NULL OR v.verdict = ?1)
           AND (?2 IS NULL OR b.name = ?2 OR b.address = lower(?2))
           AND (?3 IS NULL OR v.issue = ?3)
         ORDER BY v.id DESC LIMIT ?4",
    )
    .bind(filter.verdict.as_deref())
    .bind(filter.mailbox.as_deref())
    .bind(filter.issue.as_deref())
    .bind(filter.limit)
    .fetch_all(readers)
    .await?;
    rows.iter().map(message_view).collect()
}

/// A message by its id.
///
/// # Errors
/// What the database says.
pub async fn show(readers: &SqlitePool, id: i64) -> Result<Option<MessageView>, StoreError> {
    let row = sqlx::query("SELECT * FROM messages WHERE id = ?1")
        .bind(id)
        .fetch_optional(readers)
        .await?;
    row.as_ref().map(message_view).transpose()
}

pub(super) fn message_view(row: &SqliteRow) -> Result<MessageView, StoreError> {
    Ok(MessageView {
        id: row.try_get("id")?,
        mailbox: row.try_get("mailbox")?,
        source: row.try_get("source")?,
        remote_id: row.try_get("remote_id")?,
        folder: row.try_get("folder")?,
        uidvalidity: row.try_get("uidvalidity")?,
        uid: row.try_get("uid")?,
        message_id: row.try_get("message_id")?,
        sha256: row.try_get("sha256")?,
        size: row.try_get("size")?,
        class: row.try_get("class")?,
        verdict: row.try_get("verdict")?,
        reason: row.try_get("reason")?,
        issue: row.try_get("issue")?,
        comment: row.try_get("comment")?,
        received_at: row.try_get("received_at")?,
        ingested_at: row.try_get("ingested_at")?,
        server_action: row.try_get("server_action")?,
    })
}

/// The original bytes of a message, while they are kept; a duplicate has those of its original.
///
/// # Errors
/// What the database says; [`StoreError::Inconsistent`] if they cannot be unpacked.
pub async fn original(readers: &SqlitePool, id: i64) -> Result<Option<Vec<u8>>, StoreError> {
    let row = sqlx::query(
        "SELECT o.bytes, o.message FROM message m JOIN original o ON o.message = coalesce(m.original, m.id) WHERE m.id = ?1",
    )
    .bind(id)
    .fetch_optional(readers)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let compressed: Vec<u8> = row.try_get(0)?;
    crate::store::original::read(readers, row.try_get(1)?, compressed)
        .await
        .map(Some)
}

/// The message that a duplicate is the same as.
///
/// # Errors
/// What the database says.
pub async fn original_of(readers: &SqlitePool, duplicate: i64) -> Result<Option<i64>, StoreError> {
    let row = sqlx::query("SELECT original FROM message WHERE id = ?1")
        .bind(duplicate)
        .fetch_optional(readers)
        .await?;
    row.map_or(Ok(None), |row| Ok(row.try_get(0)?))
}

/// The messages of an issue that have bytes of their own, in the order they came: row, and when it was received.
///
/// # Errors
/// What the database says.
pub async fn of_issue(
    readers: &SqlitePool,
    (project, number): (&str, i64),
) -> Result<Vec<(i64, Timestamp)>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, coalesce(received_at, ingested_at) AS at FROM message
         WHERE issue = (SELECT id FROM issue WHERE project = ?1 AND number = ?2) AND original IS NULL ORDER BY id",
    )
    .bind(project)
    .bind(number)
    .fetch_all(readers)
    .await?;
    let message = |row: &SqliteRow| Ok((row.try_get("id")?, Timestamp(row.try_get("at")?)));
    rows.iter().map(message).collect()
}
