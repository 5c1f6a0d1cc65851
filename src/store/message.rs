//! The ledger: rows of messages, the ways in which a message is known already, and its original bytes.

use std::collections::HashSet;

use sqlx::{Row, SqliteConnection, SqlitePool};

use super::StoreError;
use crate::issue::{Reason, Verdict};
use crate::mail::Class;
use crate::mailbox::{Listed, MailboxId, Place, Uid, UidValidity};
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

/// Writes a row.
///
/// # Errors
/// What the database says; a second row for a place is [`StoreError::Failed`].
pub async fn insert(
    connection: &mut SqliteConnection,
    message: &NewMessage<'_>,
    now: Timestamp,
) -> Result<MessageId, StoreError> {
    let (folder, uidvalidity, uid) = imap_columns(message.place);
    let row = sqlx::query(
        "INSERT INTO message (mailbox, source, remote_id, folder, uidvalidity, uid, server_id, message_id, sha256,
                fingerprint, size, class, verdict, reason, issue, comment, original, received_at, ingested_at,
                server_action, trace)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21)
         RETURNING id",
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
    .fetch_one(connection)
    .await?;
    Ok(MessageId(row.try_get(0)?))
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

/// Keeps the original bytes of a message, compressed by the caller.
///
/// # Errors
/// What the database says.
pub async fn insert_original(
    connection: &mut SqliteConnection,
    message: MessageId,
    compressed: &[u8],
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO original (message, bytes) VALUES (?1, ?2)")
        .bind(message.0)
        .bind(compressed)
        .execute(connection)
        .await?;
    Ok(())
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

/// A message that is known already, and by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Its row.
    pub message: MessageId,
    /// The issue that it became or joined.
    pub issue: Option<IssueId>,
    /// What was the same.
    pub reason: Reason,
}

/// The identities of a message, from the surest on.
#[derive(Debug, Clone, Copy)]
pub struct Identities<'m> {
    /// Its place.
    pub place: &'m Place,
    /// EMAILID or X-GM-MSGID.
    pub server_id: Option<&'m str>,
    /// Of its bytes.
    pub sha256: &'m [u8; 32],
    /// Of its decoded contents; absent where it could not be read, or only its header was.
    pub fingerprint: Option<&'m [u8; 32]>,
}

/// The row by which a message is known in its own mailbox: by place, by the server's id, by its bytes, by
/// its contents; whichever comes first. A duplicate of a duplicate leads to the first.
///
/// # Errors
/// What the database says.
pub async fn find_known(
    connection: &mut SqliteConnection,
    mailbox: MailboxId,
    identities: &Identities<'_>,
) -> Result<Option<Known>, StoreError> {
    let (folder, uidvalidity, uid) = imap_columns(identities.place);
    let row = sqlx::query(
        "SELECT coalesce(original, id), issue, 0 AS rank FROM message
            WHERE mailbox = ?1 AND folder = ?2 AND uidvalidity = ?3 AND uid = ?4
         UNION ALL
         SELECT coalesce(original, id), issue, 1 FROM message
            WHERE mailbox = ?1 AND server_id = ?5 AND ?5 IS NOT NULL
         UNION ALL
         SELECT coalesce(original, id), issue, 2 FROM message
            WHERE sha256 = ?6 AND mailbox = ?1
         UNION ALL
         SELECT coalesce(original, id), issue, 3 FROM message
            WHERE fingerprint = ?7 AND ?7 IS NOT NULL AND mailbox = ?1
         ORDER BY rank, 1 LIMIT 1",
    )
    .bind(mailbox.0)
    .bind(folder)
    .bind(uidvalidity)
    .bind(uid)
    .bind(identities.server_id)
    .bind(identities.sha256.as_slice())
    .bind(identities.fingerprint.map(<[u8; 32]>::as_slice))
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let reason = match row.try_get::<i64, _>(2)? {
        0 => Reason::SamePlace,
        1 => Reason::SameServerId,
        2 => Reason::SameBytes,
        _ => Reason::SameContent,
    };
    known(&row, reason).map(Some)
}

/// The row by which a message is known in another mailbox whose mail went to the same project.
///
/// # Errors
/// What the database says.
pub async fn find_elsewhere(
    connection: &mut SqliteConnection,
    mailbox: MailboxId,
    project: &str,
    (sha256, fingerprint): (&[u8; 32], Option<&[u8; 32]>),
) -> Result<Option<Known>, StoreError> {
    let row = sqlx::query(
        "SELECT m.id, m.issue FROM message m JOIN issue i ON i.id = m.issue
         WHERE (m.sha256 = ?1 OR m.fingerprint = ?2) AND m.mailbox <> ?3 AND i.project = ?4
           AND m.verdict IN ('issue', 'comment', 'event') AND m.message_id IS NOT NULL
         ORDER BY m.id LIMIT 1",
    )
    .bind(sha256.as_slice())
    .bind(fingerprint.map(<[u8; 32]>::as_slice))
    .bind(mailbox.0)
    .bind(project)
    .fetch_optional(connection)
    .await?;
    row.map(|row| known(&row, Reason::SameMessageElsewhere)).transpose()
}

fn known(row: &sqlx::sqlite::SqliteRow, reason: Reason) -> Result<Known, StoreError> {
    Ok(Known {
        message: MessageId(row.try_get(0)?),
        issue: row.try_get::<Option<i64>, _>(1)?.map(IssueId),
        reason,
    })
}

/// Records the messages that the first listing leaves out, unread: their Message-ID where it was looked up.
///
/// # Errors
/// What the database says.
pub async fn insert_before_start(
    connection: &mut SqliteConnection,
    mailbox: MailboxId,
    (folder, uidvalidity): (&str, UidValidity),
    left_out: &[(Listed, Option<String>)],
    now: Timestamp,
) -> Result<(), StoreError> {
    for chunk in left_out.chunks(1000) {
        let rows: Vec<_> = chunk
            .iter()
            .map(|(listed, message_id)| {
                serde_json::json!([
                    listed.uid.get(),
                    listed.size,
                    listed.received_at.map(|at| at.0),
                    message_id
                ])
            })
            .collect();
        sqlx::query(
            "INSERT INTO message (mailbox, source, remote_id, folder, uidvalidity, uid, size, received_at, message_id,
                    verdict, reason, ingested_at)
             SELECT ?1, 'imap', ?2 || ';UIDVALIDITY=' || ?3 || ';UID=' || (value ->> 0), ?2, ?3, value ->> 0,
                    value ->> 1, value ->> 2, value ->> 3, 'ignored', 'before-start', ?4
             FROM json_each(?5)
             WHERE true
             ON CONFLICT DO NOTHING",
        )
        .bind(mailbox.0)
        .bind(folder)
        .bind(i64::from(uidvalidity.0))
        .bind(now.0)
        .bind(serde_json::Value::from(rows).to_string())
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Of these messages those that have the size and date of one that the first listing left out, with the
/// Message-IDs of the latter.
///
/// # Errors
/// What the database says.
pub async fn resembling_before_start(
    readers: &SqlitePool,
    mailbox: MailboxId,
    listed: &[Listed],
) -> Result<Vec<(Listed, Vec<Option<String>>)>, StoreError> {
    if !has_before_start(readers, mailbox).await? {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for listed in listed {
        let Some(received_at) = listed.received_at else {
            continue;
        };
        let rows = sqlx::query(
            "SELECT message_id FROM message
             WHERE mailbox = ?1 AND received_at = ?2 AND size = ?3 AND reason = 'before-start'",
        )
        .bind(mailbox.0)
        .bind(received_at.0)
        .bind(i64::try_from(listed.size).unwrap_or(i64::MAX))
        .fetch_all(readers)
        .await?;
        if !rows.is_empty() {
            let ids: Result<Vec<_>, _> = rows.iter().map(|row| row.try_get(0)).collect();
            found.push((listed.clone(), ids?));
        }
    }
    Ok(found)
}

async fn has_before_start(readers: &SqlitePool, mailbox: MailboxId) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT EXISTS (SELECT 1 FROM message WHERE mailbox = ?1 AND reason = 'before-start')")
        .bind(mailbox.0)
        .fetch_one(readers)
        .await?;
    Ok(row.try_get(0)?)
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

/// Counts a death of the process while it parsed a message.
///
/// # Errors
/// What the database says.
pub async fn add_death(
    connection: &mut SqliteConnection,
    mailbox: MailboxId,
    remote_id: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO attempt (mailbox, remote_id, deaths) VALUES (?1, ?2, 1)
         ON CONFLICT (mailbox, remote_id) DO UPDATE SET deaths = deaths + 1",
    )
    .bind(mailbox.0)
    .bind(remote_id)
    .execute(connection)
    .await?;
    Ok(())
}

/// The messages of a mailbox at which the process died while it parsed them.
///
/// # Errors
/// What the database says.
pub async fn suspects(readers: &SqlitePool, mailbox: MailboxId) -> Result<HashSet<String>, StoreError> {
    let rows = sqlx::query("SELECT remote_id FROM attempt WHERE mailbox = ?1")
        .bind(mailbox.0)
        .fetch_all(readers)
        .await?;
    let ids: Result<HashSet<_>, sqlx::Error> = rows.iter().map(|row| row.try_get(0)).collect();
    Ok(ids?)
}

/// Forgets the deaths at a message, once it has its row.
///
/// # Errors
/// What the database says.
pub async fn forget_deaths(
    connection: &mut SqliteConnection,
    mailbox: MailboxId,
    remote_id: &str,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM attempt WHERE mailbox = ?1 AND remote_id = ?2")
        .bind(mailbox.0)
        .bind(remote_id)
        .execute(connection)
        .await?;
    Ok(())
}
