//! Clients whose first credentials were refused while the second were taken.
//! It never holds a credential: digests with a key.

use sqlx::sqlite::SqliteConnection;
use sqlx::{Row, SqliteExecutor};

use super::StoreError;
use crate::time::Timestamp;

/// First credentials that a provider refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedClient {
    /// Keyed digest of them.
    pub digest: Vec<u8>,
    /// The provider's own code.
    pub code: String,
    /// When they were refused.
    pub refused_at: Timestamp,
}

/// What is known of a client at a token endpoint.
///
/// # Errors
/// What the database says.
pub async fn refused(
    executor: impl SqliteExecutor<'_>,
    (client_id, token_endpoint): (&str, &str),
) -> Result<Option<RefusedClient>, StoreError> {
    let row = sqlx::query(
        "SELECT digest, code, refused_at FROM refused_client
         WHERE client_id = ? AND token_endpoint = ?",
    )
    .bind(client_id)
    .bind(token_endpoint)
    .fetch_optional(executor)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(RefusedClient {
        digest: row.try_get("digest")?,
        code: row.try_get("code")?,
        refused_at: Timestamp(row.try_get("refused_at")?),
    }))
}

/// Notes that the first credentials of a client were refused.
///
/// # Errors
/// What the database says.
pub async fn refuse(
    connection: &mut SqliteConnection,
    (client_id, token_endpoint): (&str, &str),
    refused: &RefusedClient,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO refused_client (client_id, token_endpoint, digest, code, refused_at)
         VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (client_id, token_endpoint) DO UPDATE SET
             digest = excluded.digest, code = excluded.code, refused_at = excluded.refused_at",
    )
    .bind(client_id)
    .bind(token_endpoint)
    .bind(&refused.digest)
    .bind(&refused.code)
    .bind(refused.refused_at.0)
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets that the first credentials of a client were refused.
///
/// # Errors
/// What the database says.
pub async fn accept(
    connection: &mut SqliteConnection,
    (client_id, token_endpoint): (&str, &str),
) -> Result<(), StoreError> {
    sqlx::query(
        "DELETE FROM refused_client
         WHERE client_id = ? AND token_endpoint = ?",
    )
    .bind(client_id)
    .bind(token_endpoint)
    .execute(connection)
    .await?;
    Ok(())
}
