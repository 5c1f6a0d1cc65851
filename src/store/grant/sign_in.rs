//! Sign-ins of persons: when they began, and when and how the provider ended them.

use std::time::Duration;

use sqlx::{Row, SqliteConnection, SqlitePool};

use super::{GrantId, StoreError};
use crate::time::Timestamp;

/// One sign-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignInRow {
    /// Whose grant.
    pub grant: GrantId,
    /// When it was.
    pub began_at: Timestamp,
    /// When the provider first refused its refresh token, and the code for that.
    pub end: Option<(Timestamp, String)>,
    /// The life of such a sign-in, where the provider's answer stated it.
    pub life: Option<Duration>,
}

/// Records that somebody has signed in.
///
/// # Errors
/// What the database says.
pub async fn begin(connection: &mut SqliteConnection, grant: GrantId, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO sign_in (grant_id, began_at) VALUES (?1, ?2) ON CONFLICT DO NOTHING")
        .bind(grant.0)
        .bind(now.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// Records that the provider has ended the last sign-in of a grant; what is recorded once stays.
///
/// # Errors
/// What the database says.
pub async fn end(
    connection: &mut SqliteConnection,
    grant: GrantId,
    (code, life): (&str, Option<Duration>),
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE sign_in SET ended_at = ?2, code = ?3, life = ?4
         WHERE grant_id = ?1 AND ended_at IS NULL
           AND began_at = (SELECT max(began_at) FROM sign_in WHERE grant_id = ?1)",
    )
    .bind(grant.0)
    .bind(now.0)
    .bind(code)
    .bind(life.map(|life| i64::try_from(life.as_secs()).unwrap_or(i64::MAX)))
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes back what [`end`] recorded of the last sign-in: its refresh token works after all.
///
/// # Errors
/// What the database says.
pub async fn revive(connection: &mut SqliteConnection, grant: GrantId) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE sign_in SET ended_at = NULL, code = NULL, life = NULL
         WHERE grant_id = ?1 AND ended_at IS NOT NULL
           AND began_at = (SELECT max(began_at) FROM sign_in WHERE grant_id = ?1)",
    )
    .bind(grant.0)
    .execute(connection)
    .await?;
    Ok(())
}

/// All sign-ins that are known, the oldest first.
///
/// # Errors
/// What the database says.
pub async fn list(readers: &SqlitePool) -> Result<Vec<SignInRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT grant_id, began_at, ended_at, code, life FROM sign_in
         ORDER BY began_at, grant_id",
    )
    .fetch_all(readers)
    .await?;
    let read = |row: &sqlx::sqlite::SqliteRow| {
        let ended_at: Option<i64> = row.try_get("ended_at")?;
        let code: Option<String> = row.try_get("code")?;
        let life: Option<i64> = row.try_get("life")?;
        Ok(SignInRow {
            grant: GrantId(row.try_get("grant_id")?),
            began_at: Timestamp(row.try_get("began_at")?),
            end: ended_at.map(Timestamp).zip(code),
            life: life.and_then(|life| u64::try_from(life).ok()).map(Duration::from_secs),
        })
    };
    rows.iter().map(read).collect()
}
