//! Rows of the table `grant`: sealed tokens and their state. The lease of who may renew them is in `lease`.
//! It never opens a sealed value, and nothing but [`forget`] removes a refresh token.

pub mod seal;
pub mod sign_in;

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Row, SqliteExecutor};

use super::StoreError;
use crate::grant::{GrantKey, GrantState, Problem};
use crate::time::Timestamp;

/// The row of a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GrantId(pub i64);

/// A grant as the database has it.
#[derive(Debug, Clone)]
pub struct GrantRow {
    /// The row.
    pub id: GrantId,
    /// Its identity.
    pub key: GrantKey,
    /// Name of the integration that used it last.
    pub integration: String,
    /// Grows with each change of the tokens.
    pub generation: i64,
    /// Sealed.
    pub access_token: Option<Vec<u8>>,
    /// When the access token ends.
    pub access_token_expires_at: Option<Timestamp>,
    /// Whether a mail server refused it.
    pub is_rejected: bool,
    /// When that last forced a renewal.
    pub forced_at: Option<Timestamp>,
    /// Sealed.
    pub refresh_token: Option<Vec<u8>>,
    /// Sealed; the one before.
    pub previous_refresh_token: Option<Vec<u8>>,
    /// When the refresh token was issued.
    pub refresh_token_issued_at: Option<Timestamp>,
    /// Granted scopes, separated by spaces.
    pub scopes: Option<String>,
    /// When it was last renewed.
    pub refreshed_at: Option<Timestamp>,
    /// When it is renewed, or tried again.
    pub next_refresh_at: Option<Timestamp>,
    /// When the provider is expected to end it.
    pub expected_end_at: Option<Timestamp>,
    /// How it is.
    pub state: GrantState,
    /// Since when.
    pub state_since: Timestamp,
    /// Failed tries in a row.
    pub failures: u32,
    /// Why, if it is not well.
    pub problem: Option<Problem>,
    /// Keyed digest of the settings that were last used.
    pub settings: Option<Vec<u8>>,
    /// Who renews it at present, and until when that holds.
    pub lease: Option<(String, Timestamp)>,
}

/// New tokens of a grant, as a whole: what is `None` here is absent afterwards.
#[derive(Debug)]
pub struct NewTokens {
    /// Sealed.
    pub access_token: Vec<u8>,
    /// When it ends.
    pub access_token_expires_at: Timestamp,
    /// Sealed.
    pub refresh_token: Option<Vec<u8>>,
    /// Sealed.
    pub previous_refresh_token: Option<Vec<u8>>,
    /// When the refresh token was issued.
    pub refresh_token_issued_at: Option<Timestamp>,
    /// Granted scopes, separated by spaces.
    pub scopes: Option<String>,
    /// When it is to be renewed.
    pub next_refresh_at: Timestamp,
    /// When the provider is expected to end it.
    pub expected_end_at: Option<Timestamp>,
    /// Keyed digest of the settings that were used.
    pub settings: Vec<u8>,
    /// Whether the mail server's refusal forced this renewal.
    pub is_forced: bool,
}

/// A try that failed.
#[derive(Debug)]
pub struct Failed {
    /// How the grant is now.
    pub state: GrantState,
    /// Why.
    pub problem: Problem,
    /// Failed tries in a row, this one counted.
    pub failures: u32,
    /// When it is tried again.
    pub next_refresh_at: Timestamp,
    /// Keyed digest of the settings that were used.
    pub settings: Vec<u8>,
}

/// The grant of an identity.
///
/// # Errors
/// What the database says.
pub async fn find(executor: impl SqliteExecutor<'_>, key: &GrantKey) -> Result<Option<GrantRow>, StoreError> {
    let row = sqlx::query(
        "SELECT * FROM \"grant\"
         WHERE client_id = ? AND token_endpoint = ? AND login = ?",
    )
    .bind(&key.client_id)
    .bind(&key.token_endpoint)
    .bind(&key.login)
    .fetch_optional(executor)
    .await?;
    row.as_ref().map(read).transpose()
}

/// All grants, those set aside too, by integration and login.
///
/// # Errors
/// What the database says.
pub async fn list(executor: impl SqliteExecutor<'_>) -> Result<Vec<GrantRow>, StoreError> {
    let rows = sqlx::query("SELECT * FROM \"grant\" ORDER BY integration, login, id")
        .fetch_all(executor)
        .await?;
    rows.iter().map(read).collect()
}

/// How often the tokens of a grant have changed; 0 if there is no such grant. A parked worker watches it.
///
/// # Errors
/// What the database says.
pub async fn generation(executor: impl SqliteExecutor<'_>, key: &GrantKey) -> Result<i64, StoreError> {
    let row = sqlx::query(
        "SELECT generation FROM \"grant\"
         WHERE client_id = ? AND token_endpoint = ? AND login = ?",
    )
    .bind(&key.client_id)
    .bind(&key.token_endpoint)
    .bind(&key.login)
    .fetch_optional(executor)
    .await?;
    match row {
        Some(row) => Ok(row.try_get("generation")?),
        None => Ok(0),
    }
}

/// Makes the row of a grant that is configured, and notes which integration uses it.
///
/// # Errors
/// What the database says.
pub async fn ensure(
    connection: &mut SqliteConnection,
    key: &GrantKey,
    integration: &str,
    now: Timestamp,
) -> Result<GrantRow, StoreError> {
    sqlx::query(
        "INSERT INTO \"grant\" (client_id, token_endpoint, login, integration, state_since)
         VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (client_id, token_endpoint, login) DO UPDATE SET integration = excluded.integration",
    )
    .bind(&key.client_id)
    .bind(&key.token_endpoint)
    .bind(&key.login)
    .bind(integration)
    .bind(now.0)
    .execute(&mut *connection)
    .await?;
    find(connection, key).await?.ok_or(inconsistent("login"))
}

/// Saves new tokens over those of `generation`, ends the lease, and makes the grant well. `false`: somebody
/// else has changed it meanwhile, and nothing was saved.
///
/// # Errors
/// What the database says.
pub async fn save(
    connection: &mut SqliteConnection,
    (id, generation): (GrantId, i64),
    tokens: &NewTokens,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let saved = sqlx::query(
        "UPDATE \"grant\" SET
             generation = generation + 1,
             access_token = ?, access_token_expires_at = ?, access_token_rejected = 0,
             forced_at = CASE WHEN ? THEN ? ELSE forced_at END,
             refresh_token = ?, previous_refresh_token = ?, refresh_token_issued_at = ?,
             scopes = ?, refreshed_at = ?, next_refresh_at = ?, expected_end_at = ?,
             state = 'ok', state_since = CASE WHEN state = 'ok' THEN state_since ELSE ? END,
             failures = 0, error_code = NULL, error_summary = NULL, error_remedy = NULL,
             settings = ?, lease_owner = NULL, lease_until = NULL
         WHERE id = ? AND generation = ?",
    )
    .bind(&tokens.access_token)
    .bind(tokens.access_token_expires_at.0)
    .bind(tokens.is_forced)
    .bind(now.0)
    .bind(&tokens.refresh_token)
    .bind(&tokens.previous_refresh_token)
    .bind(tokens.refresh_token_issued_at.map(|at| at.0))
    .bind(&tokens.scopes)
    .bind(now.0)
    .bind(tokens.next_refresh_at.0)
    .bind(tokens.expected_end_at.map(|at| at.0))
    .bind(now.0)
    .bind(&tokens.settings)
    .bind(id.0)
    .bind(generation)
    .execute(connection)
    .await?;
    Ok(saved.rows_affected() == 1)
}

/// Records a try that failed and ends the lease; the tokens stay. Nothing happens if somebody else has
/// changed the grant meanwhile.
///
/// # Errors
/// What the database says.
pub async fn fail(
    connection: &mut SqliteConnection,
    (id, generation): (GrantId, i64),
    failed: &Failed,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let state = failed.state.as_str();
    let saved = sqlx::query(
        "UPDATE \"grant\" SET
             state = ?1, state_since = CASE WHEN state = ?1 THEN state_since ELSE ?2 END,
             failures = ?3, next_refresh_at = ?4,
             error_code = ?5, error_summary = ?6, error_remedy = ?7,
             settings = ?8, lease_owner = NULL, lease_until = NULL
         WHERE id = ?9 AND generation = ?10",
    )
    .bind(state)
    .bind(now.0)
    .bind(failed.failures)
    .bind(failed.next_refresh_at.0)
    .bind(&failed.problem.code)
    .bind(&failed.problem.summary)
    .bind(&failed.problem.remedy)
    .bind(&failed.settings)
    .bind(id.0)
    .bind(generation)
    .execute(connection)
    .await?;
    Ok(saved.rows_affected() == 1)
}

/// Notes that a mail server refused the access token of `generation`.
///
/// # Errors
/// What the database says.
pub async fn reject(connection: &mut SqliteConnection, id: GrantId, generation: i64) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE \"grant\" SET access_token_rejected = 1
         WHERE id = ? AND generation = ?",
    )
    .bind(id.0)
    .bind(generation)
    .execute(connection)
    .await?;
    Ok(())
}

/// Lets a grant that is not well be tried at once, as after a reload.
///
/// # Errors
/// What the database says.
pub async fn try_now(connection: &mut SqliteConnection, id: GrantId, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE \"grant\" SET next_refresh_at = ?
         WHERE id = ? AND failures > 0",
    )
    .bind(now.0)
    .bind(id.0)
    .execute(connection)
    .await?;
    Ok(())
}

/// Lets the grants at a host that did not answer be tried at once, now that it does. `host` is the beginning of
/// their token endpoints.
///
/// # Errors
/// What the database says.
pub async fn try_host(connection: &mut SqliteConnection, host: &str, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE \"grant\" SET next_refresh_at = ?1
         WHERE failures > 0 AND state = 'degraded' AND error_code IN ('timeout', 'unreachable', 'broken-answer')
           AND substr(token_endpoint, 1, length(?2)) = ?2",
    )
    .bind(now.0)
    .bind(host)
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets the tokens of a grant: nobody has signed in.
///
/// # Errors
/// What the database says.
pub async fn forget(connection: &mut SqliteConnection, id: GrantId, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE \"grant\" SET
             generation = generation + 1,
             access_token = NULL, access_token_expires_at = NULL, access_token_rejected = 0,
             refresh_token = NULL, previous_refresh_token = NULL, refresh_token_issued_at = NULL,
             scopes = NULL, next_refresh_at = NULL, expected_end_at = NULL,
             state = 'pending', state_since = ?, failures = 0,
             error_code = NULL, error_summary = NULL, error_remedy = NULL,
             lease_owner = NULL, lease_until = NULL
         WHERE id = ?",
    )
    .bind(now.0)
    .bind(id.0)
    .execute(connection)
    .await?;
    Ok(())
}

fn read(row: &SqliteRow) -> Result<GrantRow, StoreError> {
    let instant = |column: &str| Ok::<_, StoreError>(row.try_get::<Option<i64>, _>(column)?.map(Timestamp));
    let state: String = row.try_get("state")?;
    let lease: (Option<String>, Option<i64>) = (row.try_get("lease_owner")?, row.try_get("lease_until")?);
    Ok(GrantRow {
        id: GrantId(row.try_get("id")?),
        key: GrantKey {
            client_id: row.try_get("client_id")?,
            token_endpoint: row.try_get("token_endpoint")?,
            login: row.try_get("login")?,
        },
        integration: row.try_get("integration")?,
        generation: row.try_get("generation")?,
        access_token: row.try_get("access_token")?,
        access_token_expires_at: instant("access_token_expires_at")?,
        is_rejected: row.try_get("access_token_rejected")?,
        forced_at: instant("forced_at")?,
        refresh_token: row.try_get("refresh_token")?,
        previous_refresh_token: row.try_get("previous_refresh_token")?,
        refresh_token_issued_at: instant("refresh_token_issued_at")?,
        scopes: row.try_get("scopes")?,
        refreshed_at: instant("refreshed_at")?,
        next_refresh_at: instant("next_refresh_at")?,
        expected_end_at: instant("expected_end_at")?,
        state: GrantState::parse(&state).ok_or(inconsistent("state"))?,
        state_since: Timestamp(row.try_get("state_since")?),
        failures: row.try_get("failures")?,
        problem: problem(row)?,
        settings: row.try_get("settings")?,
        lease: lease.0.zip(lease.1.map(Timestamp)),
    })
}

fn problem(row: &SqliteRow) -> Result<Option<Problem>, StoreError> {
    let code: Option<String> = row.try_get("error_code")?;
    let Some(code) = code else { return Ok(None) };
    Ok(Some(Problem {
        code,
        summary: row.try_get::<Option<_>, _>("error_summary")?.unwrap_or_default(),
        remedy: row.try_get::<Option<_>, _>("error_remedy")?.unwrap_or_default(),
    }))
}

fn inconsistent(column: &'static str) -> StoreError {
    StoreError::Inconsistent { table: "grant", column }
}
