//! Sign-ins that persons have begun.
//! It never keeps a state parameter, only its hash, and lets each come back once.

use sqlx::sqlite::SqliteConnection;
use sqlx::{Row, SqliteExecutor};

use super::StoreError;
use crate::time::Timestamp;

/// How long a finished or forgotten sign-in is kept for the command that waits for it, in seconds.
const KEPT: i64 = 24 * 3600;

/// A sign-in that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// SHA-256 of its state parameter.
    pub state_sha256: Vec<u8>,
    /// For which integration.
    pub integration: String,
    /// Whose grant it is.
    pub login: String,
    /// Where the browser comes back to.
    pub redirect_uri: String,
    /// Sealed PKCE verifier.
    pub verifier: Vec<u8>,
    /// When it was begun.
    pub created_at: Timestamp,
    /// When it is too late.
    pub expires_at: Timestamp,
}

/// What came of a sign-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing yet.
    Waiting,
    /// The grant was stored; a sentence about who signed in.
    Done(String),
    /// It was refused or failed; a sentence with the remedy.
    Failed(String),
}

/// Records a sign-in that was begun, and removes old ones.
///
/// # Errors
/// What the database says.
pub async fn begin(connection: &mut SqliteConnection, begun: &Authorization) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM authorization WHERE expires_at < ?")
        .bind(begun.created_at.0 - KEPT)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "INSERT INTO authorization
             (state_sha256, integration, login, redirect_uri, verifier, created_at, expires_at)
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&begun.state_sha256)
    .bind(&begun.integration)
    .bind(&begun.login)
    .bind(&begun.redirect_uri)
    .bind(&begun.verifier)
    .bind(begun.created_at.0)
    .bind(begun.expires_at.0)
    .execute(connection)
    .await?;
    Ok(())
}

/// The sealed verifiers of the sign-ins that are under way, by state.
///
/// # Errors
/// What the database says.
pub async fn verifiers(executor: impl SqliteExecutor<'_>) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
    let rows = sqlx::query("SELECT state_sha256, verifier FROM authorization WHERE used_at IS NULL")
        .fetch_all(executor)
        .await?;
    let read = |row: &sqlx::sqlite::SqliteRow| Ok((row.try_get("state_sha256")?, row.try_get("verifier")?));
    rows.iter().map(read).collect()
}

/// Puts the same verifier in its place, sealed with another key.
///
/// # Errors
/// What the database says.
pub async fn set_verifier(
    connection: &mut SqliteConnection,
    state_sha256: &[u8],
    verifier: &[u8],
) -> Result<(), StoreError> {
    sqlx::query("UPDATE authorization SET verifier = ? WHERE state_sha256 = ?")
        .bind(verifier)
        .bind(state_sha256)
        .execute(connection)
        .await?;
    Ok(())
}

/// Why a state parameter cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// No sign-in of this integration has it.
    Unknown,
    /// It came back before.
    Used,
    /// It came back too late.
    TooOld,
}

/// Takes the sign-in of a state parameter: the first time within its time, for this integration.
///
/// # Errors
/// What the database says.
pub async fn take(
    connection: &mut SqliteConnection,
    state_sha256: &[u8],
    integration: &str,
    now: Timestamp,
) -> Result<Option<Authorization>, StoreError> {
    let row = sqlx::query(
        "UPDATE authorization SET used_at = ?1
         WHERE state_sha256 = ?2 AND integration = ?3 AND used_at IS NULL AND expires_at > ?1
         RETURNING login, redirect_uri, verifier, created_at, expires_at",
    )
    .bind(now.0)
    .bind(state_sha256)
    .bind(integration)
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Authorization {
        state_sha256: state_sha256.to_owned(),
        integration: integration.to_owned(),
        login: row.try_get("login")?,
        redirect_uri: row.try_get("redirect_uri")?,
        verifier: row.try_get("verifier")?,
        created_at: Timestamp(row.try_get("created_at")?),
        expires_at: Timestamp(row.try_get("expires_at")?),
    }))
}

/// Why [`take`] found nothing.
///
/// # Errors
/// What the database says.
pub async fn gone(
    connection: &mut SqliteConnection,
    state_sha256: &[u8],
    integration: &str,
) -> Result<Gone, StoreError> {
    let row = sqlx::query("SELECT used_at FROM authorization WHERE state_sha256 = ? AND integration = ?")
        .bind(state_sha256)
        .bind(integration)
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else {
        return Ok(Gone::Unknown);
    };
    let used_at: Option<i64> = row.try_get("used_at")?;
    Ok(if used_at.is_some() { Gone::Used } else { Gone::TooOld })
}

/// Records what came of a sign-in.
///
/// # Errors
/// What the database says.
pub async fn settle(
    connection: &mut SqliteConnection,
    state_sha256: &[u8],
    outcome: &Outcome,
) -> Result<(), StoreError> {
    let (word, detail) = match outcome {
        Outcome::Waiting => (None, None),
        Outcome::Done(detail) => (Some("done"), Some(detail)),
        Outcome::Failed(detail) => (Some("failed"), Some(detail)),
    };
    sqlx::query("UPDATE authorization SET outcome = ?, detail = ? WHERE state_sha256 = ?")
        .bind(word)
        .bind(detail)
        .bind(state_sha256)
        .execute(connection)
        .await?;
    Ok(())
}

/// What came of a sign-in, so far.
///
/// # Errors
/// What the database says.
pub async fn outcome(executor: impl SqliteExecutor<'_>, state_sha256: &[u8]) -> Result<Outcome, StoreError> {
    let row = sqlx::query("SELECT outcome, detail FROM authorization WHERE state_sha256 = ?")
        .bind(state_sha256)
        .fetch_optional(executor)
        .await?;
    let Some(row) = row else {
        return Ok(Outcome::Waiting);
    };
    let word: Option<String> = row.try_get("outcome")?;
    let detail = row.try_get::<Option<String>, _>("detail")?.unwrap_or_default();
    match word.as_deref() {
        None => Ok(Outcome::Waiting),
        Some("done") => Ok(Outcome::Done(detail)),
        Some("failed") => Ok(Outcome::Failed(detail)),
        Some(_) => Err(StoreError::Inconsistent {
            table: "authorization",
            column: "outcome",
        }),
    }
}
