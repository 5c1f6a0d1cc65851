//! The ledger: rows of messages, and what is still owed on the server.

pub mod before_start;
pub mod death;
pub mod known;
pub mod maildrop;
pub mod revise;

use std::collections::HashSet;

use sqlx::{Row, SqliteConnection, SqlitePool};

use super::original::{self, NewOriginal};
use super::{StoreError, frame};
use crate::issue::{Reason, Verdict};
use crate::mail::Class;
use crate::mailbox::{MailboxId, Place, Uid, UidValidity};
use crate::thread::IssueId;
use crate::time::Timestamp;

/// The row of a message; grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub i64);

/// Whether something is still owed on the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerAction {
    /// Nothing was to be done.
    None,
    /// It is to be done.
    Pending,
}

/// A row to be written.
#[derive(Debug, Clone)]
pub struct NewMessage<'m> {
    /// The mailbox.
    pub mailbox: MailboxId,
    /// Where it stands.
    pub place: &'m Place,
    /// EMAILID or X-GM-MSGID.
    pub server_id: Option<&'m str>,
    /// Message-ID, normalized.
    pub message_id: Option<&'m str>,
    /// Of the bytes as fetched.
    pub sha256: Option<&'m [u8; 32]>,
    /// Of the decoded contents.
    pub fingerprint: Option<&'m [u8; 32]>,
    /// In bytes.
    pub size: u64,
    /// What kind of sender wrote it.
    pub class: Option<Class>,
    /// What became of it.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// The issue.
    pub issue: Option<IssueId>,
    /// The comment's row.
    pub comment: Option<i64>,
    /// The row that this one is a duplicate of.
    pub original: Option<MessageId>,
    /// When the server received it.
    pub received_at: Option<Timestamp>,
    /// What is owed on the server.
    pub server_action: ServerAction,
    /// Why it was decided so, as JSON.
    pub trace: Option<&'m str>,
}

/// Writes a row, with the original bytes where they are to be kept, and tells its comment of it.
///
/// # Errors
/// What the database says; a second row for a place is [`StoreError::Failed`].
pub async fn insert(
    connection: &mut SqliteConnection,
    message: &NewMessage<'_>,
    original: Option<&NewOriginal>,
    now: Timestamp,
) -> Result<MessageId, StoreError> {
    let (folder, uidvalidity, uid) = imap_columns(message.place);
    let mut frames = original.map(|original| original.contents.frames());
    let first = match &mut frames {
        Some(frames) => frame::next(frames)?,
        None => None,
    };
    let row = sqlx::query(
        "INSERT INTO message (mailbox, source, remote_id, folder, uidvalidity, uid, server_id, message_id, sha256,
                fingerprint, size, class, verdict, reason, issue, comment, original, received_at, ingested_at,
                server_action, trace)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21);
         UPDATE comment SET message = last_insert_rowid() WHERE id = $16;
         INSERT INTO original (message, bytes) SELECT last_insert_rowid(), $22 WHERE $22 IS NOT NULL;
         INSERT INTO original_part (message, number, place, sha256, width, has_cr)
         SELECT last_insert_rowid(), key, value ->> 0, unhex(value ->> 1), value ->> 2, value ->> 3 FROM json_each($23);
         SELECT last_insert_rowid()",
    )
    .bind(message.mailbox.0)
    .bind(message.place.source().as_str())
    .bind(message.place.remote_id())
    .bind(folder)
    .bind(uidvalidity)
    .bind(uid)
    .bind(message.server_id)
    .bind(message.message_id)
    .bind(message.sha256.map(<[u8; 32]>::as_slice))
    .bind(message.fingerprint.map(<[u8; 32]>::as_slice))
    .bind(i64::try_from(message.size).unwrap_or(i64::MAX))
    .bind(message.class.map(Class::as_str))
    .bind(message.verdict.as_str())
    .bind(message.reason.as_str())
    .bind(message.issue.map(|issue| issue.0))
    .bind(message.comment)
    .bind(message.original.map(|original| original.0))
    .bind(message.received_at.map(|at| at.0))
    .bind(now.0)
    .bind(match message.server_action {
        ServerAction::None => "none",
        ServerAction::Pending => "pending",
    })
    .bind(message.trace)
    .bind(first.as_deref())
    .bind(original.map(original::parts))
    .fetch_one(&mut *connection)
    .await?;
    drop(first);
    let id = MessageId(row.try_get(0)?);
    if let Some(frames) = &mut frames {
        frame::insert_original_more(connection, id.0, frames).await?;
    }
    Ok(id)
}

fn imap_columns(place: &Place) -> (Option<&str>, Option<i64>, Option<i64>) {
    match place {
        Place::Imap {
            folder,
            uidvalidity,
            uid,
        } => (Some(folder), Some(i64::from(uidvalidity.0)), Some(i64::from(uid.get()))),
        Place::Other { .. } => (None, None, None),
    }
}

/// The UIDs of a folder that have a final row.
///
/// # Errors
/// What the database says.
pub async fn known_uids(
    readers: &SqlitePool,
    mailbox: MailboxId,
    folder: &str,
    uidvalidity: UidValidity,
) -> Result<HashSet<Uid>, StoreError> {
    let rows = sqlx::query(
        "SELECT uid FROM message
         WHERE mailbox = ?1 AND folder = ?2 AND uidvalidity = ?3 AND uid IS NOT NULL AND verdict IS NOT NULL",
    )
    .bind(mailbox.0)
    .bind(folder)
    .bind(i64::from(uidvalidity.0))
    .fetch_all(readers)
    .await?;
    rows.iter().map(uid_of).collect()
}

fn uid_of(row: &sqlx::sqlite::SqliteRow) -> Result<Uid, StoreError> {
    let uid: i64 = row.try_get(0)?;
    u32::try_from(uid)
        .ok()
        .and_then(Uid::new)
        .ok_or(StoreError::Inconsistent {
            table: "message",
            column: "uid",
        })
}

/// The messages of a folder whose server action is still owed.
///
/// # Errors
/// What the database says.
pub async fn owed(
    readers: &SqlitePool,
    mailbox: MailboxId,
    (folder, uidvalidity): (&str, UidValidity),
) -> Result<Vec<Uid>, StoreError> {
    let rows = sqlx::query(
        "SELECT uid FROM message
         WHERE mailbox = ?1 AND folder = ?2 AND uidvalidity = ?3 AND server_action = 'pending' ORDER BY uid",
    )
    .bind(mailbox.0)
    .bind(folder)
    .bind(i64::from(uidvalidity.0))
    .fetch_all(readers)
    .await?;
    rows.iter().map(uid_of).collect()
}

/// Records that the server action of these messages is done.
///
/// # Errors
/// What the database says.
pub async fn set_settled(
    connection: &mut SqliteConnection,
    mailbox: MailboxId,
    (folder, uidvalidity): (&str, UidValidity),
    uids: &[Uid],
) -> Result<(), StoreError> {
    let uids = serde_json::Value::from(uids.iter().map(|uid| uid.get()).collect::<Vec<_>>()).to_string();
    sqlx::query(
        "UPDATE message SET server_action = 'done'
         WHERE mailbox = ?1 AND folder = ?2 AND uidvalidity = ?3
           AND uid IN (SELECT value FROM json_each(?4)) AND server_action = 'pending'",
    )
    .bind(mailbox.0)
    .bind(folder)
    .bind(i64::from(uidvalidity.0))
    .bind(uids)
    .execute(connection)
    .await?;
    Ok(())
}

/// Under a new generation of UIDs nothing can be done to the old ones any more: their actions are given up,
/// and are owed anew by the rows that the messages get now.
///
/// # Errors
/// What the database says.
pub async fn forget_owed(
    connection: &mut SqliteConnection,
    mailbox: MailboxId,
    (folder, uidvalidity): (&str, UidValidity),
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE message SET server_action = 'none'
         WHERE mailbox = ?1 AND folder = ?2 AND uidvalidity <> ?3 AND server_action = 'pending'",
    )
    .bind(mailbox.0)
    .bind(folder)
    .bind(i64::from(uidvalidity.0))
    .execute(connection)
    .await?;
    Ok(())
}
