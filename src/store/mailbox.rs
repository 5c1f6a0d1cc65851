//! Mailboxes, their folders, and the daemon's own row.

use sqlx::{Row, SqliteConnection, SqlitePool};

use super::StoreError;
use crate::mailbox::{MailboxId, MailboxState, Uid, UidValidity};
use crate::time::Timestamp;

/// The row of a mailbox, made if it is not there; its label and project are brought up to date.
///
/// # Errors
/// What the database says.
pub async fn ensure(
    connection: &mut SqliteConnection,
    address: &str,
    name: &str,
    project: &str,
    now: Timestamp,
) -> Result<MailboxId, StoreError> {
    let row = sqlx::query(
        "INSERT INTO mailbox (address, name, project, state_since)
         VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (address) DO UPDATE SET name = ?2, project = ?3, is_configured = 1
         RETURNING id",
    )
    .bind(address.to_lowercase())
    .bind(name)
    .bind(project)
    .bind(now.0)
    .fetch_one(connection)
    .await?;
    Ok(MailboxId(row.try_get(0)?))
}

/// The row of a mailbox by its address, if it was ever watched.
///
/// # Errors
/// What the database says.
pub async fn find(readers: &SqlitePool, address: &str) -> Result<Option<MailboxId>, StoreError> {
    find_on(&mut *readers.acquire().await?, address).await
}

/// The same on a connection.
///
/// # Errors
/// What the database says.
pub async fn find_on(connection: &mut SqliteConnection, address: &str) -> Result<Option<MailboxId>, StoreError> {
    let row = sqlx::query("SELECT id FROM mailbox WHERE address = ?1")
        .bind(address.to_lowercase())
        .fetch_optional(connection)
        .await?;
    row.map(|row| Ok(MailboxId(row.try_get(0)?))).transpose()
}

/// Marks the mailboxes that the configuration no longer has: all but these.
///
/// # Errors
/// What the database says.
pub async fn retire_others(connection: &mut SqliteConnection, kept: &[MailboxId]) -> Result<(), StoreError> {
    let kept = serde_json::Value::from(kept.iter().map(|id| id.0).collect::<Vec<_>>()).to_string();
    sqlx::query(
        "UPDATE mailbox SET is_configured = 0, state = 'stopped', backlog = 0,
                error_code = NULL, error_summary = NULL, error_remedy = NULL
         WHERE is_configured = 1 AND id NOT IN (SELECT value FROM json_each(?1))",
    )
    .bind(kept)
    .execute(connection)
    .await?;
    Ok(())
}

/// What a worker says of its mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The state.
    pub state: MailboxState,
    /// Messages on the server that have no final row yet.
    pub backlog: u64,
    /// What is wrong.
    pub error: Option<crate::grant::Problem>,
}

/// Writes the condition of a mailbox; `state_since` moves only if the state does.
///
/// # Errors
/// What the database says.
pub async fn set_condition(
    connection: &mut SqliteConnection,
    mailbox: MailboxId,
    condition: &Condition,
    now: Timestamp,
) -> Result<(), StoreError> {
    let error = condition.error.as_ref();
    sqlx::query(
        "UPDATE mailbox
         SET state_since = CASE WHEN state = ?2 THEN state_since ELSE ?3 END,
             state = ?2, backlog = ?4,
             backlog_since = CASE WHEN ?4 = 0 THEN NULL ELSE coalesce(backlog_since, ?3) END,
             error_code = ?5, error_summary = ?6, error_remedy = ?7
         WHERE id = ?1",
    )
    .bind(mailbox.0)
    .bind(condition.state.as_str())
    .bind(now.0)
    .bind(i64::try_from(condition.backlog).unwrap_or(i64::MAX))
    .bind(error.map(|e| e.code.as_str()))
    .bind(error.map(|e| e.summary.as_str()))
    .bind(error.map(|e| e.remedy.as_str()))
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes when mailboxes were last looked at.
///
/// # Errors
/// What the database says.
pub async fn set_checked(
    connection: &mut SqliteConnection,
    checked: &[(MailboxId, Timestamp)],
) -> Result<(), StoreError> {
    for (mailbox, at) in checked {
        sqlx::query("UPDATE mailbox SET last_check_at = ?2 WHERE id = ?1")
            .bind(mailbox.0)
            .bind(at.0)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Writes when the last message came.
///
/// # Errors
/// What the database says.
pub async fn set_last_message(
    connection: &mut SqliteConnection,
    mailbox: MailboxId,
    at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE mailbox SET last_message_at = ?2 WHERE id = ?1")
        .bind(mailbox.0)
        .bind(at.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// Marks every mailbox stopped, as at the start and the end of the daemon.
///
/// # Errors
/// What the database says.
pub async fn stop_all(connection: &mut SqliteConnection, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query("UPDATE mailbox SET state = 'stopped', state_since = ?1 WHERE state <> 'stopped'")
        .bind(now.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// A mailbox as `status` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailboxRow {
    /// The address in lower case.
    pub address: String,
    /// The state's word.
    pub state: String,
    /// Since when.
    pub since: Timestamp,
    /// When it was last looked at.
    pub last_check_at: Option<Timestamp>,
    /// When the last message came.
    pub last_message_at: Option<Timestamp>,
    /// Messages taken.
    pub ingested: i64,
    /// Messages on the server without a final row.
    pub backlog: i64,
    /// Messages that wait for a person.
    pub held: i64,
    /// Messages that could not be read.
    pub quarantined: i64,
    /// What is wrong.
    pub error: Option<crate::grant::Problem>,
}

/// All mailboxes that the database knows.
///
/// # Errors
/// What the database says.
pub async fn list(readers: &SqlitePool) -> Result<Vec<MailboxRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT b.address, b.state, b.state_since, b.last_check_at, b.last_message_at, b.backlog,
                b.error_code, b.error_summary, b.error_remedy,
                (SELECT count(*) FROM message m WHERE m.mailbox = b.id AND m.verdict IS NOT NULL
                    AND m.verdict <> 'vanished' AND m.reason IS NOT 'before-start') AS ingested,
                (SELECT count(*) FROM message m WHERE m.mailbox = b.id AND m.verdict = 'held') AS held,
                (SELECT count(*) FROM message m WHERE m.mailbox = b.id AND m.verdict = 'quarantined') AS quarantined
         FROM mailbox b ORDER BY b.id",
    )
    .fetch_all(readers)
    .await?;
    rows.iter().map(mailbox_row).collect()
}

fn mailbox_row(row: &sqlx::sqlite::SqliteRow) -> Result<MailboxRow, StoreError> {
    let code: Option<String> = row.try_get("error_code")?;
    let error = match code {
        Some(code) => Some(crate::grant::Problem {
            code,
            summary: row.try_get::<Option<String>, _>("error_summary")?.unwrap_or_default(),
            remedy: row.try_get::<Option<String>, _>("error_remedy")?.unwrap_or_default(),
        }),
        None => None,
    };
    Ok(MailboxRow {
        address: row.try_get("address")?,
        state: row.try_get("state")?,
        since: Timestamp(row.try_get("state_since")?),
        last_check_at: row.try_get::<Option<i64>, _>("last_check_at")?.map(Timestamp),
        last_message_at: row.try_get::<Option<i64>, _>("last_message_at")?.map(Timestamp),
        ingested: row.try_get("ingested")?,
        backlog: row.try_get("backlog")?,
        held: row.try_get("held")?,
        quarantined: row.try_get("quarantined")?,
        error,
    })
}

/// A folder as it was last listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FolderRow {
    /// The generation of its UIDs then.
    pub uidvalidity: UidValidity,
}

/// What is known of a folder; `None` before its first listing.
///
/// # Errors
/// What the database says.
pub async fn folder(readers: &SqlitePool, mailbox: MailboxId, name: &str) -> Result<Option<FolderRow>, StoreError> {
    let row = sqlx::query("SELECT uidvalidity FROM folder WHERE mailbox = ?1 AND name = ?2")
        .bind(mailbox.0)
        .bind(name)
        .fetch_optional(readers)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let uidvalidity: i64 = row.try_get(0)?;
    let uidvalidity = u32::try_from(uidvalidity).map_err(|_| StoreError::Inconsistent {
        table: "folder",
        column: "uidvalidity",
    })?;
    Ok(Some(FolderRow {
        uidvalidity: UidValidity(uidvalidity),
    }))
}

/// Records that a folder was listed for the first time, or under a new generation of UIDs.
///
/// # Errors
/// What the database says.
pub async fn set_folder(
    connection: &mut SqliteConnection,
    mailbox: MailboxId,
    name: &str,
    (uidvalidity, highest): (UidValidity, Option<Uid>),
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO folder (mailbox, name, uidvalidity, first_uid, listed_at)
         VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (mailbox, name) DO UPDATE SET uidvalidity = ?3, first_uid = ?4, listed_at = ?5",
    )
    .bind(mailbox.0)
    .bind(name)
    .bind(i64::from(uidvalidity.0))
    .bind(highest.map_or(0, |uid| i64::from(uid.get())))
    .bind(now.0)
    .execute(connection)
    .await?;
    Ok(())
}

/// The first listing of a folder, or the last one under a new generation of UIDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstListing {
    /// Highest UID that was there; 0 for none.
    pub first_uid: i64,
    /// When.
    pub listed_at: Timestamp,
}

/// When a folder was first listed, or any of a mailbox.
///
/// # Errors
/// What the database says.
pub async fn first_listing(
    connection: &mut SqliteConnection,
    mailbox: MailboxId,
    folder: Option<&str>,
) -> Result<Option<FirstListing>, StoreError> {
    let row = sqlx::query(
        "SELECT first_uid, listed_at FROM folder
         WHERE mailbox = ?1 AND (?2 IS NULL OR name = ?2) ORDER BY listed_at DESC LIMIT 1",
    )
    .bind(mailbox.0)
    .bind(folder)
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(FirstListing {
        first_uid: row.try_get("first_uid")?,
        listed_at: Timestamp(row.try_get("listed_at")?),
    }))
}

/// The daemon that runs, or ran last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DaemonRow {
    /// Its process.
    pub pid: i64,
    /// When it started.
    pub started_at: Timestamp,
}

/// Writes down which daemon runs.
///
/// # Errors
/// What the database says.
pub async fn set_daemon(connection: &mut SqliteConnection, pid: u32, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO daemon (id, pid, started_at) VALUES (1, ?1, ?2)
         ON CONFLICT (id) DO UPDATE SET pid = ?1, started_at = ?2",
    )
    .bind(i64::from(pid))
    .bind(now.0)
    .execute(connection)
    .await?;
    Ok(())
}

/// The daemon that runs, or ran last.
///
/// # Errors
/// What the database says.
pub async fn daemon(readers: &SqlitePool) -> Result<Option<DaemonRow>, StoreError> {
    let row = sqlx::query("SELECT pid, started_at FROM daemon")
        .fetch_optional(readers)
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(DaemonRow {
        pid: row.try_get(0)?,
        started_at: Timestamp(row.try_get(1)?),
    }))
}
