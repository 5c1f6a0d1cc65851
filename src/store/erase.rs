//! Erasing what an issue holds, for privacy: texts, names, files, the original bytes of its messages.
//! It never touches what became of a message: the ledger keeps its rows and verdicts, so that nothing comes again.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::issue::{self, NewEvent};
use super::{Store, StoreError, attachment};
use crate::thread::IssueId;
use crate::time::Timestamp;

/// Stands where a summary was.
const ERASED: &str = "(erased)";

/// Erases an issue and those that were merged into it, with what other issues repeat of them, and closes it.
/// Deleted bytes are overwritten in the file. Returns the keys of what was erased.
///
/// # Errors
/// What the database says.
pub async fn erase(store: &Store, issue: IssueId, now: Timestamp) -> Result<Vec<String>, StoreError> {
    store.outside_transaction("PRAGMA secure_delete = ON").await?;
    let mut write = store.write().await?;
    let connection = write.connection()?;
    let (ids, keys) = with_merged(connection, issue).await?;
    let ids = serde_json::Value::from(ids).to_string();
    let mut hashes = erase_messages(connection, &ids).await?;
    hashes.extend(erase_attachments(connection, &ids).await?);
    attachment::forget_unused(connection, hashes).await?;
    erase_texts(connection, &ids, now).await?;
    erase_outgoing(connection, &ids, now).await?;
    let event = NewEvent {
        issue,
        kind: "erased",
        message: None,
        detail: None,
    };
    issue::event(connection, &event, now).await?;
    write.commit().await?;
    // The log still has the pages as they were. A reader keeps it for a moment at most; the nightly upkeep does it again.
    store.outside_transaction("PRAGMA wal_checkpoint(TRUNCATE)").await?;
    store.outside_transaction("PRAGMA incremental_vacuum").await?;
    store.outside_transaction("PRAGMA wal_checkpoint(TRUNCATE)").await?;
    Ok(keys)
}

async fn with_merged(connection: &mut SqliteConnection, issue: IssueId) -> Result<(Vec<i64>, Vec<String>), StoreError> {
    let rows = sqlx::query(
        "WITH RECURSIVE same (id) AS (
            SELECT ?1 UNION SELECT i.id FROM same s JOIN issue i ON i.merged_into = s.id
         )
         SELECT i.id, i.project || '-' || i.number AS key FROM same s JOIN issue i ON i.id = s.id ORDER BY i.id",
    )
    .bind(issue.0)
    .fetch_all(connection)
    .await?;
    let mut found = (Vec::new(), Vec::new());
    for row in rows {
        found.0.push(row.try_get("id")?);
        found.1.push(row.try_get("key")?);
    }
    Ok(found)
}

/// The original bytes, and the trace, which quotes headers. A message that is a duplicate elsewhere has no bytes
/// of its own. Returns the hashes of the attachments that stood in them.
async fn erase_messages(connection: &mut SqliteConnection, ids: &str) -> Result<Vec<String>, StoreError> {
    let rows = sqlx::query(
        "SELECT DISTINCT lower(hex(sha256)) AS sha256 FROM original_part
         WHERE message IN (SELECT id FROM message WHERE issue IN (SELECT value FROM json_each(?1)))",
    )
    .bind(ids)
    .fetch_all(&mut *connection)
    .await?;
    sqlx::query(
        "DELETE FROM original
         WHERE message IN (SELECT id FROM message WHERE issue IN (SELECT value FROM json_each(?1)))",
    )
    .bind(ids)
    .execute(&mut *connection)
    .await?;
    sqlx::query("UPDATE message SET trace = NULL WHERE issue IN (SELECT value FROM json_each(?1))")
        .bind(ids)
        .execute(connection)
        .await?;
    hashes(&rows)
}

/// The attachments, of copies in other issues too. Returns their hashes.
async fn erase_attachments(connection: &mut SqliteConnection, ids: &str) -> Result<Vec<String>, StoreError> {
    let mut rows = sqlx::query(
        "DELETE FROM attachment WHERE issue IN (SELECT value FROM json_each(?1))
         RETURNING lower(hex(sha256)) AS sha256",
    )
    .bind(ids)
    .fetch_all(&mut *connection)
    .await?;
    let copies = sqlx::query(
        "DELETE FROM attachment
         WHERE issue IN (SELECT issue FROM comment WHERE merged_from IN (SELECT value FROM json_each(?1)))
           AND comment IN (SELECT id FROM comment WHERE merged_from IN (SELECT value FROM json_each(?1)))
         RETURNING lower(hex(sha256)) AS sha256",
    )
    .bind(ids)
    .fetch_all(&mut *connection)
    .await?;
    rows.extend(copies);
    hashes(&rows)
}

fn hashes(rows: &[SqliteRow]) -> Result<Vec<String>, StoreError> {
    rows.iter().map(|row| Ok(row.try_get("sha256")?)).collect()
}

/// The texts and names. The search index follows by its triggers.
async fn erase_texts(connection: &mut SqliteConnection, ids: &str, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE comment SET author_name = NULL, author_address = NULL, body = '', elided = NULL, signature = NULL
         WHERE issue IN (SELECT value FROM json_each(?1)) OR merged_from IN (SELECT value FROM json_each(?1))",
    )
    .bind(ids)
    .execute(&mut *connection)
    .await?;
    sqlx::query("UPDATE event SET detail = NULL WHERE issue IN (SELECT value FROM json_each(?1))")
        .bind(ids)
        .execute(&mut *connection)
        .await?;
    sqlx::query("DELETE FROM participant WHERE issue IN (SELECT value FROM json_each(?1))")
        .bind(ids)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "UPDATE issue SET state = 'closed', summary = ?2, description = '', description_elided = NULL,
                signature = NULL, reporter_name = NULL, reporter_address = NULL, updated_at = ?3
         WHERE id IN (SELECT value FROM json_each(?1))",
    )
    .bind(ids)
    .bind(ERASED)
    .bind(now.0)
    .execute(connection)
    .await?;
    Ok(())
}

/// What was to be sent about it, or was: the texts, what receivers said, and to whom. What was not sent yet is not
/// sent any more.
async fn erase_outgoing(connection: &mut SqliteConnection, ids: &str, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE sent SET recipient = ''
         WHERE outgoing IN (SELECT id FROM outgoing WHERE issue IN (SELECT value FROM json_each(?1)))",
    )
    .bind(ids)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "UPDATE outgoing
         SET payload = '', summary = NULL,
             code = CASE state WHEN 'queued' THEN 'erased' ELSE code END,
             finished_at = CASE state WHEN 'queued' THEN ?2 ELSE finished_at END,
             state = CASE state WHEN 'queued' THEN 'failed' ELSE state END
         WHERE issue IN (SELECT value FROM json_each(?1))",
    )
    .bind(ids)
    .bind(now.0)
    .execute(connection)
    .await?;
    Ok(())
}
