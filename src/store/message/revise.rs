//! Rows that are looked at again: held and quarantined mail, and texts that a newer extractor reads.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection, SqlitePool};

use super::{MessageId, NewMessage, ServerAction};
use crate::issue::{Reason, Verdict};
use crate::mail::{Class, Extract};
use crate::mailbox::{MailboxId, OtherSource, Place, RawMessage, Uid, UidValidity};
use crate::store::StoreError;
use crate::store::original;
use crate::time::Timestamp;

/// A message with its original bytes, as it was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its row.
    pub id: MessageId,
    /// The row of its mailbox.
    pub mailbox: MailboxId,
    /// The address of its mailbox, in lower case.
    pub address: String,
    /// What became of it.
    pub verdict: Option<Verdict>,
    /// As it was fetched.
    pub raw: RawMessage,
}

/// A message with its bytes; `None` where it has no row, or its bytes are not kept.
///
/// # Errors
/// What the database says.
pub async fn stored(readers: &SqlitePool, id: MessageId) -> Result<Option<Stored>, StoreError> {
    let row = sqlx::query(
        "SELECT m.*, b.address, o.bytes FROM message m
            JOIN mailbox b ON b.id = m.mailbox JOIN original o ON o.message = m.id
         WHERE m.id = ?1",
    )
    .bind(id.0)
    .fetch_optional(readers)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let bytes = original::read(readers, id.0, row.try_get("bytes")?).await?;
    stored_row(&row, bytes).map(Some)
}

/// What a message is now; `None` where that is not final.
///
/// # Errors
/// What the database says.
pub async fn verdict(connection: &mut SqliteConnection, id: MessageId) -> Result<Option<Verdict>, StoreError> {
    let row = sqlx::query("SELECT verdict FROM message WHERE id = ?1")
        .bind(id.0)
        .fetch_optional(connection)
        .await?;
    let word = row.map(|row| row.try_get::<Option<String>, _>(0)).transpose()?;
    Ok(word.flatten().as_deref().and_then(Verdict::parse))
}

/// The messages whose bytes are kept and that came in since then, the oldest first.
///
/// # Errors
/// What the database says.
pub async fn ids_since(readers: &SqlitePool, since: Timestamp) -> Result<Vec<MessageId>, StoreError> {
    let rows = sqlx::query(
        "SELECT m.id FROM message m JOIN original o ON o.message = m.id WHERE m.ingested_at >= ?1 ORDER BY m.id",
    )
    .bind(since.0)
    .fetch_all(readers)
    .await?;
    rows.iter().map(|row| Ok(MessageId(row.try_get(0)?))).collect()
}

fn stored_row(row: &SqliteRow, bytes: Vec<u8>) -> Result<Stored, StoreError> {
    let size = u64::try_from(row.try_get::<i64, _>("size")?).unwrap_or(0);
    let verdict: Option<String> = row.try_get("verdict")?;
    Ok(Stored {
        id: MessageId(row.try_get("id")?),
        mailbox: MailboxId(row.try_get("mailbox")?),
        address: row.try_get("address")?,
        verdict: verdict.as_deref().and_then(Verdict::parse),
        raw: RawMessage {
            place: place(row)?,
            // Of a stub the size is that of the whole message.
            is_stub: size > bytes.len() as u64,
            stated_size: size,
            received_at: row.try_get::<Option<i64>, _>("received_at")?.map(Timestamp),
            server_id: row.try_get("server_id")?,
            bytes,
            large: None,
        },
    })
}

fn place(row: &SqliteRow) -> Result<Place, StoreError> {
    let source: String = row.try_get("source")?;
    let source = match source.as_str() {
        "pop3" => OtherSource::Pop3,
        "file" => OtherSource::File,
        "pipe" => OtherSource::Pipe,
        _ => return imap_place(row),
    };
    Ok(Place::Other {
        source,
        remote_id: row.try_get("remote_id")?,
    })
}

fn imap_place(row: &SqliteRow) -> Result<Place, StoreError> {
    let impossible = |column| StoreError::Inconsistent {
        table: "message",
        column,
    };
    let uidvalidity: i64 = row.try_get("uidvalidity")?;
    let uid: i64 = row.try_get("uid")?;
    Ok(Place::Imap {
        folder: row.try_get("folder")?,
        uidvalidity: UidValidity(u32::try_from(uidvalidity).map_err(|_| impossible("uidvalidity"))?),
        uid: u32::try_from(uid)
            .ok()
            .and_then(Uid::new)
            .ok_or_else(|| impossible("uid"))?,
    })
}

/// Writes what became of a held or quarantined message when it was looked at again. What is owed on the
/// server is only ever added.
///
/// # Errors
/// What the database says; [`StoreError::Inconsistent`] where it is neither held nor quarantined any more.
pub async fn rewrite(
    connection: &mut SqliteConnection,
    id: MessageId,
    message: &NewMessage<'_>,
) -> Result<(), StoreError> {
    let done = sqlx::query(
        "UPDATE message
         SET message_id = ?2, fingerprint = ?3, class = ?4, verdict = ?5, reason = ?6, issue = ?7, comment = ?8,
             original = ?9, trace = ?10,
             server_action = CASE WHEN server_action = 'none' AND ?11 THEN 'pending' ELSE server_action END
         WHERE id = ?1 AND verdict IN ('held', 'quarantined')",
    )
    .bind(id.0)
    .bind(message.message_id)
    .bind(message.fingerprint.map(<[u8; 32]>::as_slice))
    .bind(message.class.map(Class::as_str))
    .bind(message.verdict.as_str())
    .bind(message.reason.as_str())
    .bind(message.issue.map(|issue| issue.0))
    .bind(message.comment)
    .bind(message.original.map(|original| original.0))
    .bind(message.trace)
    .bind(message.server_action == ServerAction::Pending)
    .execute(&mut *connection)
    .await?;
    if done.rows_affected() == 1 {
        sqlx::query("UPDATE comment SET message = ?1 WHERE id = ?2")
            .bind(id.0)
            .bind(message.comment)
            .execute(connection)
            .await?;
        return Ok(());
    }
    Err(StoreError::Inconsistent {
        table: "message",
        column: "verdict",
    })
}

/// Makes a held or quarantined message ignored; `false` where it is neither.
///
/// # Errors
/// What the database says.
pub async fn discard(connection: &mut SqliteConnection, id: MessageId) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "UPDATE message SET verdict = 'ignored', reason = ?2
         WHERE id = ?1 AND verdict IN ('held', 'quarantined')",
    )
    .bind(id.0)
    .bind(Reason::Discarded.as_str())
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Whether a mailbox has quarantined mail.
///
/// # Errors
/// What the database says.
pub async fn has_quarantined(readers: &SqlitePool, mailbox: MailboxId) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT EXISTS (SELECT 1 FROM message WHERE mailbox = ?1 AND verdict = 'quarantined')")
        .bind(mailbox.0)
        .fetch_one(readers)
        .await?;
    Ok(row.try_get(0)?)
}

/// A text as it is shown, in its parts.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'t> {
    /// What was written.
    pub body: &'t str,
    /// The quoted part.
    pub elided: Option<&'t str>,
    /// The signature.
    pub signature: Option<&'t str>,
}

/// Writes the text of the issue that a message opened, or of its comment, anew; `false` if it is as it was.
///
/// # Errors
/// What the database says.
pub async fn retext(
    connection: &mut SqliteConnection,
    id: MessageId,
    shown: Shown<'_>,
    extract: &Extract,
) -> Result<bool, StoreError> {
    let of_issue = sqlx::query(
        "UPDATE issue SET description = ?2, description_elided = ?3, signature = ?4
         WHERE id = (SELECT issue FROM message WHERE id = ?1 AND verdict = 'issue')
           AND (description, description_elided, signature) IS NOT (?2, ?3, ?4)",
    )
    .bind(id.0)
    .bind(shown.body)
    .bind(shown.elided)
    .bind(shown.signature)
    .execute(&mut *connection)
    .await?;
    let of_comment = sqlx::query(
        "UPDATE comment SET body = ?2, elided = ?3, signature = ?4
         WHERE id = (SELECT comment FROM message WHERE id = ?1 AND verdict = 'comment')
           AND (body, elided, signature) IS NOT (?2, ?3, ?4)",
    )
    .bind(id.0)
    .bind(shown.body)
    .bind(shown.elided)
    .bind(shown.signature)
    .execute(&mut *connection)
    .await?;
    let trim = serde_json::json!({ "rules": extract.rules, "confidence": extract.confidence });
    sqlx::query("UPDATE message SET trace = json_set(trace, '$.trim', json(?2)) WHERE id = ?1 AND trace IS NOT NULL")
        .bind(id.0)
        .bind(trim.to_string())
        .execute(connection)
        .await?;
    Ok(of_issue.rows_affected() + of_comment.rows_affected() > 0)
}

/// Why a message became what it is, as JSON; `None` where nothing was decided.
///
/// # Errors
/// What the database says.
pub async fn trace(readers: &SqlitePool, id: i64) -> Result<Option<String>, StoreError> {
    let row = sqlx::query("SELECT trace FROM message WHERE id = ?1")
        .bind(id)
        .fetch_optional(readers)
        .await?;
    row.map_or(Ok(None), |row| Ok(row.try_get(0)?))
}
