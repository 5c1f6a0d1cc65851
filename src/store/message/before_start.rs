//! Mail that the first listing left out: recorded unread, and recognized when its UID changes.

use sqlx::{Row, SqliteConnection, SqlitePool};

use crate::mailbox::{Listed, MailboxId, UidValidity};
use crate::store::StoreError;
use crate::time::Timestamp;

/// Records the messages that the first listing leaves out, unread: their Message-ID where it was looked up.
///
/// # Errors
/// What the database says.
pub async fn insert(
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
pub async fn resembling(
    readers: &SqlitePool,
    mailbox: MailboxId,
    listed: &[Listed],
) -> Result<Vec<(Listed, Vec<Option<String>>)>, StoreError> {
    if !has_any(readers, mailbox).await? {
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

async fn has_any(readers: &SqlitePool, mailbox: MailboxId) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT EXISTS (SELECT 1 FROM message WHERE mailbox = ?1 AND reason = 'before-start')")
        .bind(mailbox.0)
        .fetch_one(readers)
        .await?;
    Ok(row.try_get(0)?)
}
