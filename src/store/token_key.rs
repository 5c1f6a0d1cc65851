//! The sample that shows whether a token key is the right one, and the key that comes next.
//! It never holds a key in clear.

use sqlx::sqlite::SqliteConnection;
use sqlx::{Row, SqliteExecutor};

use super::StoreError;

/// What is known of the token key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenKey {
    /// A known value, sealed with the present key.
    pub sample: Vec<u8>,
    /// Grows with each rotation.
    pub generation: i64,
    /// The present key, sealed with the configured one, where that is still the old.
    pub next: Option<Vec<u8>>,
}

/// What is known of the token key, if one was ever used.
///
/// # Errors
/// What the database says.
pub async fn find(executor: impl SqliteExecutor<'_>) -> Result<Option<TokenKey>, StoreError> {
    let row = sqlx::query("SELECT sample, generation, next FROM token_key WHERE id = 1")
        .fetch_optional(executor)
        .await?;
    let read = |row: sqlx::sqlite::SqliteRow| {
        Ok(TokenKey {
            sample: row.try_get("sample")?,
            generation: row.try_get("generation")?,
            next: row.try_get("next")?,
        })
    };
    row.map(read).transpose()
}

/// How often the key was rotated.
///
/// # Errors
/// What the database says.
pub async fn generation(executor: impl SqliteExecutor<'_>) -> Result<i64, StoreError> {
    Ok(find(executor).await?.map_or(0, |known| known.generation))
}

/// Remembers the present key by its sample, one generation on.
///
/// # Errors
/// What the database says.
pub async fn save(connection: &mut SqliteConnection, sample: &[u8], next: Option<&[u8]>) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO token_key (id, sample, next) VALUES (1, ?1, ?2)
         ON CONFLICT (id) DO UPDATE SET sample = ?1, next = ?2, generation = generation + 1",
    )
    .bind(sample)
    .bind(next)
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets the sealed copy of the present key: the configured one is the present one.
///
/// # Errors
/// What the database says.
pub async fn forget_next(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    sqlx::query("UPDATE token_key SET next = NULL WHERE id = 1")
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
