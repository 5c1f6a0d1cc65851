//! The ledger of a POP3 mailbox. A message is known there by its unique id *and* its bytes: `remote_id` is the UIDL, or
//! `sha256:` and the hash of the bytes at a server without.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection, SqlitePool};

use super::MessageId;
use crate::issue::Reason;
use crate::mailbox::MailboxId;
use crate::store::StoreError;
use crate::time::Timestamp;

/// What the ledger knows of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its row.
    pub id: MessageId,
    /// Its UIDL, or the hash that stands for it.
    pub remote_id: String,
    /// In bytes; as the server stated it where it was not read whole.
    pub size: u64,
    /// Of what was read of it; `None` where nothing was.
    pub sha256: Option<[u8; 32]>,
    /// Whether it is a mail that had its row, in other bytes: some servers rewrite what they store.
    pub is_rewritten: bool,
    /// Whether its deletion is owed.
    pub is_owed: bool,
    /// Whether it was deleted.
    pub is_deleted: bool,
}

impl Row {
    /// Whether it is that of a message with this header which was read no further, since it was over the limit then.
    pub fn is_stub_of(&self, of_header: &[u8; 32], header_bytes: usize) -> bool {
        self.sha256.as_ref() == Some(of_header) && self.size > header_bytes as u64
    }
}

/// The rows with these remote ids.
///
/// # Errors
/// What the database says.
pub async fn rows(readers: &SqlitePool, mailbox: MailboxId, remote_ids: &[&str]) -> Result<Vec<Row>, StoreError> {
    let mut found = Vec::new();
    for chunk in remote_ids.chunks(1000) {
        let rows = sqlx::query(
            "SELECT m.id, m.remote_id, m.size, m.sha256, m.server_action, m.reason
             FROM json_each(?2) l CROSS JOIN message m ON m.remote_id = l.value
             WHERE m.mailbox = ?1 AND m.uid IS NULL AND m.source = 'pop3'",
        )
        .bind(mailbox.0)
        .bind(serde_json::Value::from(chunk.to_vec()).to_string())
        .fetch_all(readers)
        .await?;
        for row in &rows {
            found.push(row_of(row)?);
        }
    }
    // A UIDL may be listed twice.
    found.sort_by_key(|row| row.id);
    found.dedup_by_key(|row| row.id);
    Ok(found)
}

fn row_of(row: &SqliteRow) -> Result<Row, StoreError> {
    let action: String = row.try_get("server_action")?;
    let sha256: Option<Vec<u8>> = row.try_get("sha256")?;
    let reason: Option<String> = row.try_get("reason")?;
    Ok(Row {
        id: MessageId(row.try_get("id")?),
        remote_id: row.try_get("remote_id")?,
        size: u64::try_from(row.try_get::<i64, _>("size")?).unwrap_or(0),
        sha256: sha256.and_then(|bytes| bytes.try_into().ok()),
        is_rewritten: reason.as_deref() == Some(Reason::SameContent.as_str()),
        is_owed: action == "pending",
        is_deleted: action == "done",
    })
}

/// The messages whose deletion is owed, with their remote ids.
///
/// # Errors
/// What the database says.
pub async fn owed(readers: &SqlitePool, mailbox: MailboxId) -> Result<Vec<(MessageId, String)>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, remote_id FROM message
         WHERE mailbox = ?1 AND folder IS NULL AND server_action = 'pending' AND source = 'pop3' ORDER BY id",
    )
    .bind(mailbox.0)
    .fetch_all(readers)
    .await?;
    let pair = |row: &SqliteRow| Ok((MessageId(row.try_get(0)?), row.try_get(1)?));
    rows.iter().map(pair).collect()
}

/// Records that these messages are deleted.
///
/// # Errors
/// What the database says.
pub async fn set_settled(connection: &mut SqliteConnection, ids: &[MessageId]) -> Result<(), StoreError> {
    let ids = serde_json::Value::from(ids.iter().map(|id| id.0).collect::<Vec<_>>()).to_string();
    sqlx::query(
        "UPDATE message SET server_action = 'done'
         WHERE id IN (SELECT value FROM json_each(?1)) AND server_action = 'pending'",
    )
    .bind(ids)
    .execute(connection)
    .await?;
    Ok(())
}

/// A message that the first listing leaves out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Its UIDL, or the hash that stands for it.
    pub remote_id: String,
    /// In bytes, as the server states it.
    pub size: u64,
    /// When the server received it, where its header was read.
    pub received_at: Option<Timestamp>,
    /// Its Message-ID, where its header was read.
    pub message_id: Option<String>,
    /// Of its bytes, where it had to be read for its hash.
    pub sha256: Option<[u8; 32]>,
}

/// Records a message that the first listing leaves out, or left out under another id. One that has its row, unread,
/// gets its bytes known.
///
/// # Errors
/// What the database says.
pub async fn leave_out(
    connection: &mut SqliteConnection,
    mailbox: MailboxId,
    message: &LeftOut,
    now: Timestamp,
) -> Result<(), StoreError> {
    let size = i64::try_from(message.size).unwrap_or(i64::MAX);
    let sha256 = message.sha256.as_ref().map(<[u8; 32]>::as_slice);
    let known = sqlx::query(
        "UPDATE message SET sha256 = ?4
         WHERE mailbox = ?1 AND remote_id = ?2 AND uid IS NULL AND size = ?3 AND sha256 IS NULL
           AND source = 'pop3' AND reason = 'before-start'",
    )
    .bind(mailbox.0)
    .bind(&message.remote_id)
    .bind(size)
    .bind(sha256)
    .execute(&mut *connection)
    .await?;
    if known.rows_affected() > 0 {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO message (mailbox, source, remote_id, size, received_at, message_id, sha256, verdict, reason,
                ingested_at)
         VALUES (?1, 'pop3', ?2, ?3, ?4, ?5, ?6, 'ignored', 'before-start', ?7)",
    )
    .bind(mailbox.0)
    .bind(&message.remote_id)
    .bind(size)
    .bind(message.received_at.map(|at| at.0))
    .bind(&message.message_id)
    .bind(sha256)
    .bind(now.0)
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether the first listing left out a message of this Message-ID, size and date: it has another UIDL now, and was
/// never read.
///
/// # Errors
/// What the database says.
pub async fn was_left_out(
    readers: &SqlitePool,
    mailbox: MailboxId,
    (message_id, size, received_at): (&str, u64, Option<Timestamp>),
) -> Result<bool, StoreError> {
    // `+mailbox` keeps the planner from the index of the whole mailbox.
    let row = sqlx::query(
        "SELECT EXISTS (SELECT 1 FROM message WHERE message_id = ?2 AND +mailbox = ?1 AND size = ?3
            AND received_at IS ?4 AND reason = 'before-start')",
    )
    .bind(mailbox.0)
    .bind(message_id)
    .bind(i64::try_from(size).unwrap_or(i64::MAX))
    .bind(received_at.map(|at| at.0))
    .fetch_one(readers)
    .await?;
    Ok(row.try_get(0)?)
}
