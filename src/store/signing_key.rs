//! The keys of the marks in our mails. They never leave the database but to sign and to verify.

use std::time::Duration;

use sqlx::{Row, SqliteConnection, SqliteExecutor};

use super::StoreError;
use crate::compose::sign::{KEY_LENGTH, Keys};
use crate::time::Timestamp;

/// Time for which a key signs; for as long again it verifies.
const TERM: Duration = Duration::from_hours(365 * 24);

/// The keys that verify, the newest first; none before the first mail was written.
///
/// # Errors
/// What the database says.
pub async fn known(executor: impl SqliteExecutor<'_>) -> Result<Keys, StoreError> {
    let rows = sqlx::query("SELECT key FROM signing_key ORDER BY id DESC LIMIT 2")
        .fetch_all(executor)
        .await?;
    let mut keys = Vec::with_capacity(rows.len());
    for row in rows {
        let key: Vec<u8> = row.try_get(0)?;
        keys.push(key.try_into().map_err(|_| StoreError::Inconsistent {
            table: "signing_key",
            column: "key",
        })?);
    }
    Ok(Keys::new(keys))
}

/// The keys to sign with: a first one is made where there is none, a new one where the newest has served its term.
///
/// # Errors
/// What the database says.
pub async fn signing(connection: &mut SqliteConnection, now: Timestamp) -> Result<Keys, StoreError> {
    let term = i64::try_from(TERM.as_secs()).unwrap_or(i64::MAX);
    let fresh: [u8; KEY_LENGTH] = rand::random();
    sqlx::query(
        "INSERT INTO signing_key (key, created_at)
         SELECT ?1, ?2 WHERE NOT EXISTS (SELECT 1 FROM signing_key WHERE created_at > ?3)",
    )
    .bind(fresh.as_slice())
    .bind(now.0)
    .bind(now.0.saturating_sub(term))
    .execute(&mut *connection)
    .await?;
    sqlx::query("DELETE FROM signing_key WHERE id NOT IN (SELECT id FROM signing_key ORDER BY id DESC LIMIT 2)")
        .execute(&mut *connection)
        .await?;
    known(connection).await
}
