//! The ways in which a message is known already, from the surest on.

use std::collections::HashSet;

use sqlx::{Row, SqliteConnection};

use super::{MessageId, imap_columns};
use crate::issue::Reason;
use crate::mailbox::{MailboxId, OtherSource, Place};
use crate::store::StoreError;
use crate::thread::IssueId;

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
pub async fn find(
    connection: &mut SqliteConnection,
    mailbox: MailboxId,
    identities: &Identities<'_>,
) -> Result<Option<Known>, StoreError> {
    let (folder, uidvalidity, uid) = imap_columns(identities.place);
    // `+mailbox` keeps the planner from the index of the whole mailbox.
    let row = sqlx::query(
        "SELECT coalesce(original, id), issue, 0 AS rank FROM message
            WHERE mailbox = ?1 AND folder = ?2 AND uidvalidity = ?3 AND uid = ?4
         UNION ALL
         SELECT coalesce(original, id), issue, 0 FROM message
            WHERE mailbox = ?1 AND remote_id = ?8 AND uid IS NULL AND sha256 = ?6 AND source = 'pop3'
         UNION ALL
         SELECT coalesce(original, id), issue, 1 FROM message
            WHERE mailbox = ?1 AND server_id = ?5 AND ?5 IS NOT NULL
         UNION ALL
         SELECT coalesce(original, id), issue, 2 FROM message
            WHERE sha256 = ?6 AND +mailbox = ?1
         UNION ALL
         SELECT coalesce(original, id), issue, 3 FROM message
            WHERE fingerprint = ?7 AND ?7 IS NOT NULL AND +mailbox = ?1
         ORDER BY rank, 1 LIMIT 1",
    )
    .bind(mailbox.0)
    .bind(folder)
    .bind(uidvalidity)
    .bind(uid)
    .bind(identities.server_id)
    .bind(identities.sha256.as_slice())
    .bind(identities.fingerprint.map(<[u8; 32]>::as_slice))
    .bind(unique_id(identities.place))
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

/// The id that with the bytes makes a place in a POP3 mailbox: servers reuse it, or make it of the contents.
fn unique_id(place: &Place) -> Option<&str> {
    match place {
        Place::Other {
            source: OtherSource::Pop3,
            remote_id,
        } => Some(remote_id),
        Place::Imap { .. } | Place::Other { .. } => None,
    }
}

/// Which of these messages may be known, in this mailbox or another: those of which some row has an identity. One
/// look for a whole batch, most of which is new.
///
/// # Errors
/// What the database says.
pub async fn any(
    connection: &mut SqliteConnection,
    mailbox: MailboxId,
    batch: &[Identities<'_>],
) -> Result<HashSet<usize>, StoreError> {
    let hex = |bytes: &[u8; 32]| {
        bytes
            .iter()
            .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
    };
    let keys: Vec<_> = batch
        .iter()
        .map(|one| {
            let (folder, uidvalidity, uid) = imap_columns(one.place);
            serde_json::json!([
                hex(one.sha256),
                one.fingerprint.map(hex),
                one.server_id,
                folder,
                uidvalidity,
                uid
            ])
        })
        .collect();
    let rows = sqlx::query(
        "SELECT k.key FROM json_each(?1) k CROSS JOIN message m ON m.sha256 = unhex(k.value ->> 0)
         UNION
         SELECT k.key FROM json_each(?1) k CROSS JOIN message m ON m.fingerprint = unhex(k.value ->> 1)
         UNION
         SELECT k.key FROM json_each(?1) k CROSS JOIN message m
            ON m.mailbox = ?2 AND m.server_id = k.value ->> 2
         UNION
         SELECT k.key FROM json_each(?1) k CROSS JOIN message m
            ON m.mailbox = ?2 AND m.folder = k.value ->> 3 AND m.uidvalidity = k.value ->> 4 AND m.uid = k.value ->> 5",
    )
    .bind(serde_json::Value::from(keys).to_string())
    .bind(mailbox.0)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| Ok(usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or(usize::MAX)))
        .collect()
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
