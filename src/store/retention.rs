//! What is kept for a time only: the original bytes of messages, and what was sent.
//! It never takes those of held or quarantined mail, and works in steps so that mail never waits for it.

use std::time::Duration;

use sqlx::Row;

use super::{Store, StoreError, attachment};
use crate::time::Timestamp;

/// Messages looked at in one transaction.
const STEP: i64 = 500;
/// How long the text of what was sent is kept, for whoever asks what it said.
const SENT_KEPT: Duration = Duration::from_hours(7 * 24);
/// Pages given back to the disk in one transaction, 4 KiB each.
const SHRINK: &str = "PRAGMA incremental_vacuum(1000)";
/// The same as a number.
const SHRINK_PAGES: i64 = 1000;

/// Deletes the original bytes of messages that were ingested longer ago than `kept`, and gives the room back.
/// Returns how many were deleted.
///
/// # Errors
/// What the database says; what was deleted until then stays deleted.
pub async fn run(store: &Store, kept: Duration, now: Timestamp) -> Result<u64, StoreError> {
    let before = now.0.saturating_sub(i64::try_from(kept.as_secs()).unwrap_or(i64::MAX));
    let (mut after, mut deleted) = (0, 0);
    while let Some((last, count)) = step(store, after, before).await? {
        after = last;
        deleted += count;
    }
    while forget_sent(store, now).await? {}
    shrink(store).await?;
    Ok(deleted)
}

/// One step after a message: the last message looked at, and how many lost their bytes. `None` once no message
/// is old enough: their numbers grow with the time of their ingestion.
async fn step(store: &Store, after: i64, before: i64) -> Result<Option<(i64, u64)>, StoreError> {
    let mut write = store.write_lightly().await?;
    let connection = write.connection()?;
    let row = sqlx::query(
        "SELECT max(message) AS last, sum(ingested_at < ?2) AS old FROM (
            SELECT o.message, m.ingested_at FROM original o JOIN message m ON m.id = o.message
            WHERE o.message > ?1 ORDER BY o.message LIMIT ?3
         )",
    )
    .bind(after)
    .bind(before)
    .bind(STEP)
    .fetch_one(&mut *connection)
    .await?;
    let last: Option<i64> = row.try_get("last")?;
    let old: Option<i64> = row.try_get("old")?;
    let (Some(last), Some(1..)) = (last, old) else {
        return Ok(None);
    };
    let parts = sqlx::query(
        "SELECT DISTINCT lower(hex(p.sha256)) AS sha256 FROM original_part p JOIN message m ON m.id = p.message
         WHERE p.message > ?1 AND p.message <= ?2 AND m.ingested_at < ?3 AND m.verdict NOT IN ('held', 'quarantined')",
    )
    .bind(after)
    .bind(last)
    .bind(before)
    .fetch_all(&mut *connection)
    .await?;
    let done = sqlx::query(
        "DELETE FROM original WHERE message IN (
            SELECT m.id FROM message m
            WHERE m.id > ?1 AND m.id <= ?2 AND m.ingested_at < ?3 AND m.verdict NOT IN ('held', 'quarantined')
         )",
    )
    .bind(after)
    .bind(last)
    .bind(before)
    .execute(&mut *connection)
    .await?;
    let hashes: Result<_, sqlx::Error> = parts.iter().map(|row| row.try_get("sha256")).collect();
    attachment::forget_unused(connection, hashes?).await?;
    write.commit().await?;
    Ok(Some((last, done.rows_affected())))
}

/// Takes away what is over for long: the rows of events and alerts, the texts of mails. The row of a mail stays, for
/// by it an acknowledgement is never sent again and an answer finds its issue. Whether there may be more.
async fn forget_sent(store: &Store, now: Timestamp) -> Result<bool, StoreError> {
    let before = now
        .0
        .saturating_sub(i64::try_from(SENT_KEPT.as_secs()).unwrap_or(i64::MAX));
    let mut write = store.write_lightly().await?;
    let connection = write.connection()?;
    let deleted = sqlx::query(
        "DELETE FROM outgoing WHERE id IN (
            SELECT id FROM outgoing
            WHERE finished_at < ?1 AND finished_at IS NOT NULL AND payload <> '' AND kind IN ('event', 'alert')
            LIMIT ?2
         )",
    )
    .bind(before)
    .bind(STEP)
    .execute(&mut *connection)
    .await?;
    let emptied = sqlx::query(
        "UPDATE outgoing SET payload = '', summary = NULL WHERE id IN (
            SELECT id FROM outgoing
            WHERE finished_at < ?1 AND finished_at IS NOT NULL AND payload <> '' AND kind NOT IN ('event', 'alert')
            LIMIT ?2
         )",
    )
    .bind(before)
    .bind(STEP)
    .execute(connection)
    .await?;
    write.commit().await?;
    Ok(deleted.rows_affected() + emptied.rows_affected() > 0)
}

/// Gives free pages back to the disk.
async fn shrink(store: &Store) -> Result<(), StoreError> {
    let row = sqlx::query("PRAGMA freelist_count").fetch_one(store.readers()).await?;
    let free: i64 = row.try_get(0)?;
    for _ in 0..=free / SHRINK_PAGES {
        store.outside_transaction(SHRINK).await?;
    }
    Ok(())
}
