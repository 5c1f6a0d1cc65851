//! Which issues the carriers of a message name, and who takes part in them.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::StoreError;
use crate::thread::{Candidate, Carrier, IssueId};

/// The issues that these carriers name, in the order of the carriers, with whether the sender takes part.
///
/// # Errors
/// What the database says.
pub async fn by_carriers(
    connection: &mut SqliteConnection,
    carriers: &[Carrier],
    sender: Option<&str>,
) -> Result<Vec<Candidate>, StoreError> {
    if carriers.is_empty() {
        return Ok(Vec::new());
    }
    let keys: Vec<_> = carriers
        .iter()
        .map(|carrier| match carrier {
            Carrier::Report(id) | Carrier::InReplyTo(id) | Carrier::Reference(id) => {
                serde_json::json!([id, null, null])
            }
            Carrier::SubjectKey { project, number } => serde_json::json!([null, project, number]),
            Carrier::Signed(token) => {
                let (project, number) = token.issue();
                serde_json::json!([null, project, number])
            }
        })
        .collect();
    // A merged issue stands for the one that it was merged into.
    let rows = sqlx::query(
        "WITH RECURSIVE named (rank, issue) AS (
            SELECT k.key, c.issue FROM json_each(?1) k JOIN carrier c ON c.message_id = k.value ->> 0
            UNION ALL
            SELECT k.key, i.id FROM json_each(?1) k
                JOIN issue i ON i.project = k.value ->> 1 AND i.number = k.value ->> 2
         ),
         settled (rank, issue, depth) AS (
            SELECT rank, issue, 0 FROM named
            UNION ALL
            SELECT s.rank, i.merged_into, s.depth + 1 FROM settled s JOIN issue i ON i.id = s.issue
                WHERE i.merged_into IS NOT NULL AND s.depth < 100
         )
         SELECT s.rank, i.id, i.project || '-' || i.number AS key, i.project, i.summary, i.state = 'closed' AS is_closed,
                EXISTS (SELECT 1 FROM participant p WHERE p.issue = i.id AND p.address = ?2) AS is_participant
         FROM settled s JOIN issue i ON i.id = s.issue
         WHERE i.merged_into IS NULL
         ORDER BY s.rank, i.id",
    )
    .bind(serde_json::Value::from(keys).to_string())
    .bind(sender.map(str::to_lowercase))
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| candidate(row, carriers)).collect()
}

fn candidate(row: &SqliteRow, carriers: &[Carrier]) -> Result<Candidate, StoreError> {
    let rank: i64 = row.try_get("rank")?;
    let carrier = usize::try_from(rank)
        .ok()
        .and_then(|rank| carriers.get(rank))
        .ok_or(StoreError::Inconsistent {
            table: "carrier",
            column: "rank",
        })?;
    Ok(Candidate {
        issue: IssueId(row.try_get("id")?),
        key: row.try_get("key")?,
        project: row.try_get("project")?,
        summary: row.try_get("summary")?,
        is_closed: row.try_get("is_closed")?,
        is_participant: row.try_get("is_participant")?,
        carrier: carrier.clone(),
    })
}

/// Whether an address takes part in any issue of a project.
///
/// # Errors
/// What the database says.
pub async fn is_known_sender(
    connection: &mut SqliteConnection,
    project: &str,
    address: &str,
) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "SELECT EXISTS (SELECT 1 FROM participant p JOIN issue i ON i.id = p.issue
            WHERE p.address = ?1 AND i.project = ?2)",
    )
    .bind(address.to_lowercase())
    .bind(project)
    .fetch_one(connection)
    .await?;
    Ok(row.try_get(0)?)
}

/// Remembers that mail with this Message-ID (normalized) belongs to an issue.
///
/// # Errors
/// What the database says.
pub async fn add_carrier(
    connection: &mut SqliteConnection,
    message_id: &str,
    issue: IssueId,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO carrier (message_id, issue) VALUES (?1, ?2) ON CONFLICT DO NOTHING")
        .bind(message_id)
        .bind(issue.0)
        .execute(connection)
        .await?;
    Ok(())
}
