//! Discovery documents as they were last fetched, so that a restart works while the provider is down.
//! It never judges their age: the broker does.

use sqlx::sqlite::SqliteConnection;
use sqlx::{Row, SqliteExecutor};

use super::StoreError;
use crate::grant::Endpoints;
use crate::time::Timestamp;

/// The endpoints of an issuer and when they were fetched.
///
/// # Errors
/// What the database says.
pub async fn find(
    executor: impl SqliteExecutor<'_>,
    issuer: &str,
) -> Result<Option<(Endpoints, Timestamp)>, StoreError> {
    let row = sqlx::query("SELECT endpoints, fetched_at FROM discovery WHERE issuer = ?")
        .bind(issuer)
        .fetch_optional(executor)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let endpoints: String = row.try_get("endpoints")?;
    let endpoints = serde_json::from_str(&endpoints).map_err(|_| StoreError::Inconsistent {
        table: "discovery",
        column: "endpoints",
    })?;
    Ok(Some((endpoints, Timestamp(row.try_get("fetched_at")?))))
}

/// Keeps the endpoints of an issuer.
///
/// # Errors
/// What the database says.
pub async fn save(
    connection: &mut SqliteConnection,
    issuer: &str,
    endpoints: &Endpoints,
    now: Timestamp,
) -> Result<(), StoreError> {
    let endpoints = serde_json::to_string(endpoints).unwrap_or_default();
    sqlx::query(
        "INSERT INTO discovery (issuer, endpoints, fetched_at) VALUES (?, ?, ?)
         ON CONFLICT (issuer) DO UPDATE SET endpoints = excluded.endpoints, fetched_at = excluded.fetched_at",
    )
    .bind(issuer)
    .bind(endpoints)
    .bind(now.0)
    .execute(connection)
    .await?;
    Ok(())
}
