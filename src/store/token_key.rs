//! The sample that shows whether the token key is the right one.
//! It never holds the key.

use sqlx::sqlite::SqliteConnection;
use sqlx::{Row, SqliteExecutor};

use super::StoreError;

/// The sealed sample of the token key, if one was stored.
///
/// # Errors
/// What the database says.
pub async fn sample(executor: impl SqliteExecutor<'_>) -> Result<Option<Vec<u8>>, StoreError> {
    let row = sqlx::query("SELECT sample FROM token_key WHERE id = 1")
        .fetch_optional(executor)
        .await?;
    match row {
        Some(row) => Ok(Some(row.try_get("sample")?)),
        None => Ok(None),
    }
}

/// Stores the sealed sample of the token key.
///
/// # Errors
/// What the database says.
pub async fn save(connection: &mut SqliteConnection, sample: &[u8]) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO token_key (id, sample) VALUES (1, ?)
         ON CONFLICT (id) DO UPDATE SET sample = excluded.sample",
    )
    .bind(sample)
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether any sealed token is stored.
///
/// # Errors
/// What the database says.
pub async fn is_needed(executor: impl SqliteExecutor<'_>) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "SELECT EXISTS (SELECT 1 FROM \"grant\"
                        WHERE access_token IS NOT NULL OR refresh_token IS NOT NULL
                           OR previous_refresh_token IS NOT NULL) AS has_tokens",
    )
    .fetch_one(executor)
    .await?;
    Ok(row.try_get("has_tokens")?)
}
