//! Alerts: raised, seen again, told again, acknowledged, resolved.

use serde_json::{Value, json};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection, SqlitePool};

use super::StoreError;
use crate::alert::{AlertKind, Finding};
use crate::time::Timestamp;

/// An alert as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertRow {
    /// Its row.
    pub id: i64,
    /// What was found.
    pub finding: Finding,
    /// When it was raised.
    pub since: Timestamp,
    /// When it was last found.
    pub last_seen: Timestamp,
    /// How often it was found.
    pub count: i64,
    /// Reminders told so far.
    pub reminders: u32,
    /// Whether somebody has taken note.
    pub is_acknowledged: bool,
}

impl AlertRow {
    /// An alert as it is when it has just been raised.
    pub fn new(id: i64, finding: &Finding, now: Timestamp) -> Self {
        Self {
            id,
            finding: finding.clone(),
            since: now,
            last_seen: now,
            count: 1,
            reminders: 0,
            is_acknowledged: false,
        }
    }

    /// As JSON, for commands and whoever is told.
    pub fn value(&self) -> Value {
        let (finding, problem) = (&self.finding, &self.finding.problem);
        json!({
            "id": self.id,
            "kind": finding.kind.as_str(),
            "severity": finding.severity().as_str(),
            "subject": finding.subject,
            "login": finding.login,
            "code": problem.code,
            "summary": problem.summary,
            "remedy": problem.remedy,
            "since": self.since.rfc3339(),
            "last_seen": self.last_seen.rfc3339(),
            "count": self.count,
            "acknowledged": self.is_acknowledged,
        })
    }
}

/// Records a finding. Returns the row if this is a new alert, `None` if it was open already.
///
/// # Errors
/// What the database says.
pub async fn raise(
    connection: &mut SqliteConnection,
    finding: &Finding,
    now: Timestamp,
) -> Result<Option<i64>, StoreError> {
    let row = sqlx::query(
        "INSERT INTO alert (kind, severity, subject, login, code, summary, remedy, since, last_seen)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)
         ON CONFLICT (kind, subject, login) WHERE resolved_at IS NULL
         DO UPDATE SET last_seen = ?8, count = count + 1, severity = ?2, code = ?5, summary = ?6, remedy = ?7
         RETURNING id, count",
    )
    .bind(finding.kind.as_str())
    .bind(finding.severity().as_str())
    .bind(finding.subject.as_str())
    .bind(finding.login.as_deref().unwrap_or_default())
    .bind(finding.problem.code.as_str())
    .bind(finding.problem.summary.as_str())
    .bind(finding.problem.remedy.as_str())
    .bind(now.0)
    .fetch_one(connection)
    .await?;
    let count: i64 = row.try_get(1)?;
    Ok(if count == 1 { Some(row.try_get(0)?) } else { None })
}

/// Resolves an open alert; returns it if there was one.
///
/// # Errors
/// What the database says.
pub async fn resolve(
    connection: &mut SqliteConnection,
    kind: AlertKind,
    (subject, login): (&str, &str),
    now: Timestamp,
) -> Result<Option<AlertRow>, StoreError> {
    let row = sqlx::query(
        "UPDATE alert SET resolved_at = ?4
         WHERE kind = ?1 AND subject = ?2 AND login = ?3 AND resolved_at IS NULL
         RETURNING *",
    )
    .bind(kind.as_str())
    .bind(subject)
    .bind(login)
    .bind(now.0)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(alert_row).transpose()
}

/// The open alerts, the oldest first.
///
/// # Errors
/// What the database says.
pub async fn open(readers: &SqlitePool) -> Result<Vec<AlertRow>, StoreError> {
    let rows = sqlx::query("SELECT * FROM alert WHERE resolved_at IS NULL ORDER BY id")
        .fetch_all(readers)
        .await?;
    rows.iter().map(alert_row).collect()
}

/// Makes an open alert one of another subject or login: what it is about got wider or narrower.
///
/// # Errors
/// What the database says.
pub async fn retitle(
    connection: &mut SqliteConnection,
    id: i64,
    finding: &Finding,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE alert SET subject = ?2, login = ?3, severity = ?4, code = ?5, summary = ?6, remedy = ?7,
                last_seen = ?8, count = count + 1
         WHERE id = ?1 AND resolved_at IS NULL",
    )
    .bind(id)
    .bind(finding.subject.as_str())
    .bind(finding.login.as_deref().unwrap_or_default())
    .bind(finding.severity().as_str())
    .bind(finding.problem.code.as_str())
    .bind(finding.problem.summary.as_str())
    .bind(finding.problem.remedy.as_str())
    .bind(now.0)
    .execute(connection)
    .await?;
    Ok(())
}

/// Counts a reminder.
///
/// # Errors
/// What the database says.
pub async fn add_reminder(connection: &mut SqliteConnection, id: i64) -> Result<(), StoreError> {
    sqlx::query("UPDATE alert SET reminders = reminders + 1 WHERE id = ?1")
        .bind(id)
        .execute(connection)
        .await?;
    Ok(())
}

/// Records that somebody has taken note of an open alert; `false` if there is none with this id.
///
/// # Errors
/// What the database says.
pub async fn acknowledge(connection: &mut SqliteConnection, id: i64, now: Timestamp) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "UPDATE alert SET acknowledged_at = coalesce(acknowledged_at, ?2) WHERE id = ?1 AND resolved_at IS NULL",
    )
    .bind(id)
    .bind(now.0)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

fn alert_row(row: &SqliteRow) -> Result<AlertRow, StoreError> {
    let kind: String = row.try_get("kind")?;
    let kind = AlertKind::parse(&kind).ok_or(StoreError::Inconsistent {
        table: "alert",
        column: "kind",
    })?;
    let login: String = row.try_get("login")?;
    Ok(AlertRow {
        id: row.try_get("id")?,
        finding: Finding {
            kind,
            subject: row.try_get("subject")?,
            login: (!login.is_empty()).then_some(login),
            problem: crate::grant::Problem {
                code: row.try_get("code")?,
                summary: row.try_get("summary")?,
                remedy: row.try_get("remedy")?,
            },
        },
        since: Timestamp(row.try_get("since")?),
        last_seen: Timestamp(row.try_get("last_seen")?),
        count: row.try_get("count")?,
        reminders: u32::try_from(row.try_get::<i64, _>("reminders")?).unwrap_or(u32::MAX),
        is_acknowledged: row.try_get::<Option<i64>, _>("acknowledged_at")?.is_some(),
    })
}
