//! What is to be sent: queued with its reason, claimed, tried again, ended.
//! It never decides when to give up: `outbox` does.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection, SqliteExecutor};

use super::StoreError;
use crate::outgoing::{Channel, OutgoingKind};
use crate::thread::IssueId;
use crate::time::Timestamp;

/// A delivery that is new.
#[derive(Debug, Clone, Copy)]
pub struct NewOutgoing<'o> {
    /// By what it goes.
    pub channel: Channel,
    /// Why.
    pub kind: OutgoingKind,
    /// Name of the smtp server, URL of the webhook; empty for the alert command.
    pub target: &'o str,
    /// What goes to one target in one lane keeps its order; empty where order is of no use.
    pub lane: &'o str,
    /// The same text is queued once, ever.
    pub once: &'o str,
    /// The issue that it is about.
    pub issue: Option<IssueId>,
    /// What is sent, as JSON; its shape is the channel's.
    pub payload: &'o str,
}

/// A delivery that is not over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The row.
    pub id: i64,
    /// By what it goes.
    pub channel: Channel,
    /// Why.
    pub kind: OutgoingKind,
    /// Name of the smtp server, URL of the webhook; empty for the alert command.
    pub target: String,
    /// Its lane.
    pub lane: String,
    /// The issue that it is about.
    pub issue: Option<IssueId>,
    /// What is sent, as JSON.
    pub payload: String,
    /// Tries begun before this one.
    pub attempts: u32,
    /// When it was queued.
    pub created_at: Timestamp,
}

/// How a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The receiver has it.
    Sent,
    /// It was given up.
    Failed,
    /// It may have arrived, and is of a kind that must not arrive twice.
    Unknown,
}

impl End {
    /// The word for it in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// Queues a delivery; `None` if the same was queued before.
///
/// # Errors
/// What the database says.
pub async fn queue(
    connection: &mut SqliteConnection,
    new: &NewOutgoing<'_>,
    now: Timestamp,
) -> Result<Option<i64>, StoreError> {
    let row = sqlx::query(
        "INSERT INTO outgoing (channel, kind, target, lane, once, issue, payload, next_try_at, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)
         ON CONFLICT (once) DO NOTHING
         RETURNING id",
    )
    .bind(new.channel.as_str())
    .bind(new.kind.as_str())
    .bind(new.target)
    .bind(new.lane)
    .bind(new.once)
    .bind(new.issue.map(|issue| issue.0))
    .bind(new.payload)
    .bind(now.0)
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// What is due, the oldest first, at most `limit`: of each lane only the first that is not over.
///
/// # Errors
/// What the database says.
pub async fn due(executor: impl SqliteExecutor<'_>, now: Timestamp, limit: u32) -> Result<Vec<Outgoing>, StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM outgoing o
         WHERE state IN ('queued', 'sending') AND state = 'queued' AND next_try_at <= ?1
           AND (lane = '' OR NOT EXISTS (
               SELECT 1 FROM outgoing earlier
               WHERE earlier.target = o.target AND earlier.lane = o.lane AND earlier.id < o.id
                 AND earlier.channel = o.channel AND earlier.state IN ('queued', 'sending')))
         ORDER BY next_try_at, id LIMIT ?2",
    )
    .bind(now.0)
    .bind(limit)
    .fetch_all(executor)
    .await?;
    rows.iter().map(read).collect()
}

/// What a former process was sending when it died.
///
/// # Errors
/// What the database says.
pub async fn interrupted(executor: impl SqliteExecutor<'_>) -> Result<Vec<Outgoing>, StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM outgoing
         WHERE state IN ('queued', 'sending') AND state = 'sending'
         ORDER BY id",
    )
    .fetch_all(executor)
    .await?;
    rows.iter().map(read).collect()
}

/// Begins a try; `false` if it is not queued any more. Must be on disk before the first byte goes out.
///
/// # Errors
/// What the database says.
pub async fn begin(connection: &mut SqliteConnection, id: i64) -> Result<bool, StoreError> {
    let begun = sqlx::query(
        "UPDATE outgoing SET state = 'sending', attempts = attempts + 1
         WHERE id = ?1 AND state = 'queued'",
    )
    .bind(id)
    .execute(connection)
    .await?;
    Ok(begun.rows_affected() == 1)
}

/// Puts a delivery back until `at`, with what went wrong (code, summary).
///
/// # Errors
/// What the database says.
pub async fn put_back(
    connection: &mut SqliteConnection,
    id: i64,
    at: Timestamp,
    (code, summary): (&str, &str),
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE outgoing SET state = 'queued', next_try_at = ?2, code = ?3, summary = ?4
         WHERE id = ?1 AND state IN ('queued', 'sending')",
    )
    .bind(id)
    .bind(at.0)
    .bind(code)
    .bind(summary)
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends a delivery, with what the receiver said last (code, summary); `false` if it was over already.
///
/// # Errors
/// What the database says.
pub async fn end(
    connection: &mut SqliteConnection,
    (id, end): (i64, End),
    (code, summary): (&str, &str),
    now: Timestamp,
) -> Result<bool, StoreError> {
    let ended = sqlx::query(
        "UPDATE outgoing SET state = ?2, code = ?3, summary = ?4, finished_at = ?5
         WHERE id = ?1 AND state IN ('queued', 'sending')",
    )
    .bind(id)
    .bind(end.as_str())
    .bind(code)
    .bind(summary)
    .bind(now.0)
    .execute(connection)
    .await?;
    Ok(ended.rows_affected() == 1)
}

/// Ends all that waits for a target; how much that was. `(code, summary)` is why.
///
/// # Errors
/// What the database says.
pub async fn abandon(
    connection: &mut SqliteConnection,
    (channel, target): (Channel, &str),
    (code, summary): (&str, &str),
    now: Timestamp,
) -> Result<u64, StoreError> {
    let ended = sqlx::query(
        "UPDATE outgoing SET state = 'failed', code = ?3, summary = ?4, finished_at = ?5
         WHERE state IN ('queued', 'sending') AND state = 'queued' AND target = ?1 AND channel = ?2",
    )
    .bind(target)
    .bind(channel.as_str())
    .bind(code)
    .bind(summary)
    .bind(now.0)
    .execute(connection)
    .await?;
    Ok(ended.rows_affected())
}

/// When the oldest delivery that a target still waits for was queued, and how many there are.
///
/// # Errors
/// What the database says.
pub async fn waiting(
    executor: impl SqliteExecutor<'_>,
    channel: Channel,
    target: &str,
) -> Result<Option<(Timestamp, i64)>, StoreError> {
    let row = sqlx::query(
        "SELECT min(created_at), count(*) FROM outgoing
         WHERE state IN ('queued', 'sending') AND target = ?1 AND channel = ?2",
    )
    .bind(target)
    .bind(channel.as_str())
    .fetch_one(executor)
    .await?;
    let oldest: Option<i64> = row.try_get(0)?;
    let count = row.try_get(1)?;
    Ok(oldest.map(|oldest| (Timestamp(oldest), count)))
}

/// Makes all that waits due now, as after a change of the configuration.
///
/// # Errors
/// What the database says.
pub async fn hasten(connection: &mut SqliteConnection, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE outgoing SET next_try_at = ?1
         WHERE state IN ('queued', 'sending') AND state = 'queued' AND next_try_at > ?1",
    )
    .bind(now.0)
    .execute(connection)
    .await?;
    Ok(())
}

/// How many deliveries are in each state.
///
/// # Errors
/// What the database says.
pub async fn counts(executor: impl SqliteExecutor<'_>) -> Result<Vec<(String, i64)>, StoreError> {
    let rows = sqlx::query(
        "SELECT s.value AS state, (SELECT count(*) FROM outgoing o WHERE o.state = s.value) AS count
         FROM json_each('[\"queued\", \"sending\", \"sent\", \"failed\", \"unknown\"]') s ORDER BY s.key",
    )
    .fetch_all(executor)
    .await?;
    rows.iter()
        .map(|row| Ok((row.try_get("state")?, row.try_get("count")?)))
        .collect()
}

fn read(row: &SqliteRow) -> Result<Outgoing, StoreError> {
    let (channel, kind): (String, String) = (row.try_get("channel")?, row.try_get("kind")?);
    Ok(Outgoing {
        id: row.try_get("id")?,
        channel: Channel::parse(&channel).ok_or(impossible("channel"))?,
        kind: OutgoingKind::parse(&kind).ok_or(impossible("kind"))?,
        target: row.try_get("target")?,
        lane: row.try_get("lane")?,
        issue: row.try_get::<Option<i64>, _>("issue")?.map(IssueId),
        payload: row.try_get("payload")?,
        attempts: u32::try_from(row.try_get::<i64, _>("attempts")?).unwrap_or(u32::MAX),
        created_at: Timestamp(row.try_get("created_at")?),
    })
}

fn impossible(column: &'static str) -> StoreError {
    StoreError::Inconsistent {
        table: "outgoing",
        column,
    }
}
