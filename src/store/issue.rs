//! Issues, comments, events, participants and links.

use sqlx::{Row, SqliteConnection};

use super::StoreError;
use super::message::MessageId;
use crate::mail::Person;
use crate::thread::IssueId;
use crate::time::Timestamp;

/// An issue to be opened.
#[derive(Debug, Clone)]
pub struct NewIssue<'i> {
    /// Key of the project.
    pub project: &'i str,
    /// One line.
    pub summary: &'i str,
    /// What the reporter wrote.
    pub description: &'i str,
    /// The quoted part, kept apart.
    pub elided: Option<&'i str>,
    /// The signature, kept apart.
    pub signature: Option<&'i str>,
    /// Who wrote.
    pub reporter: &'i Person,
    /// Who takes part, and whether they watch.
    pub people: &'i [(Person, bool)],
    /// Message-ID (normalized) of its first mail.
    pub message_id: Option<&'i str>,
}

/// Opens an issue with the next number of its project, and its people.
///
/// # Errors
/// What the database says.
pub async fn open(
    connection: &mut SqliteConnection,
    issue: &NewIssue<'_>,
    now: Timestamp,
) -> Result<(IssueId, String), StoreError> {
    // In one go: each statement of its own is a way to the thread of the database and back. Parameters are named `$N`,
    // of which a statement may leave some out; of `?N` sqlx would count those, too.
    let row = sqlx::query(
        "INSERT INTO project (key, last_number) VALUES ($1, 1)
         ON CONFLICT (key) DO UPDATE SET last_number = last_number + 1;
         INSERT INTO issue (project, number, state, summary, description, description_elided, signature,
                reporter_name, reporter_address, created_at, updated_at)
         SELECT $1, last_number, 'open', $4, $5, $6, $7, $8, $9, $10, $10 FROM project WHERE key = $1;
         INSERT INTO participant (issue, address, name, is_watcher)
         SELECT i.id, p.value ->> 0, p.value ->> 1, p.value ->> 2
         FROM project k JOIN issue i ON i.project = k.key AND i.number = k.last_number, json_each($2) p
         WHERE k.key = $1
         ON CONFLICT (issue, address) DO UPDATE SET is_watcher = max(is_watcher, excluded.is_watcher);
         INSERT INTO carrier (message_id, issue)
         SELECT $3, i.id FROM project k JOIN issue i ON i.project = k.key AND i.number = k.last_number
         WHERE k.key = $1 AND $3 IS NOT NULL
         ON CONFLICT DO NOTHING;
         SELECT i.id, i.number FROM project k JOIN issue i ON i.project = k.key AND i.number = k.last_number
         WHERE k.key = $1",
    )
    .bind(issue.project)
    .bind(rows_of(issue.people))
    .bind(issue.message_id)
    .bind(issue.summary)
    .bind(issue.description)
    .bind(issue.elided)
    .bind(issue.signature)
    .bind(issue.reporter.name.as_deref())
    .bind(issue.reporter.address.as_deref())
    .bind(now.0)
    .fetch_one(connection)
    .await?;
    let number: i64 = row.try_get(1)?;
    Ok((IssueId(row.try_get(0)?), format!("{}-{number}", issue.project)))
}

/// A comment to be added.
#[derive(Debug, Clone)]
pub struct NewComment<'c> {
    /// The issue.
    pub issue: IssueId,
    /// Who wrote.
    pub author: &'c Person,
    /// How far the sender is proven.
    pub trust: &'c str,
    /// What was written.
    pub body: &'c str,
    /// The quoted part, kept apart.
    pub elided: Option<&'c str>,
    /// The signature, kept apart.
    pub signature: Option<&'c str>,
    /// Who takes part from now on, and whether they watch. Who does already stays as they are, but may become a watcher.
    pub people: &'c [(Person, bool)],
    /// Message-ID (normalized) of the mail that they stand in.
    pub message_id: Option<&'c str>,
}

/// Adds a comment, and its people; returns its row.
///
/// # Errors
/// What the database says.
pub async fn comment(
    connection: &mut SqliteConnection,
    comment: &NewComment<'_>,
    now: Timestamp,
) -> Result<i64, StoreError> {
    // In one go, as in `open`.
    let row = sqlx::query(
        "INSERT INTO comment (issue, author_name, author_address, trust, body, elided, signature, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8);
         UPDATE issue SET updated_at = $8 WHERE id = $1;
         INSERT INTO participant (issue, address, name, is_watcher)
         SELECT $1, value ->> 0, value ->> 1, value ->> 2 FROM json_each($9) WHERE true
         ON CONFLICT (issue, address) DO UPDATE SET is_watcher = max(is_watcher, excluded.is_watcher);
         INSERT INTO carrier (message_id, issue) SELECT $10, $1 WHERE $10 IS NOT NULL ON CONFLICT DO NOTHING;
         SELECT max(id) FROM comment",
    )
    .bind(comment.issue.0)
    .bind(comment.author.name.as_deref())
    .bind(comment.author.address.as_deref())
    .bind(comment.trust)
    .bind(comment.body)
    .bind(comment.elided)
    .bind(comment.signature)
    .bind(now.0)
    .bind(rows_of(comment.people))
    .bind(comment.message_id)
    .fetch_one(connection)
    .await?;
    Ok(row.try_get(0)?)
}

/// What happened to an issue and is no comment.
#[derive(Debug, Clone)]
pub struct NewEvent<'e> {
    /// The issue.
    pub issue: IssueId,
    /// What happened: `bounce`, `receipt`, `reopened`, `closed`, `linked`, …
    pub kind: &'e str,
    /// The message that it came by.
    pub message: Option<MessageId>,
    /// More, for people.
    pub detail: Option<&'e str>,
}

/// Adds an event to an issue.
///
/// # Errors
/// What the database says.
pub async fn event(connection: &mut SqliteConnection, event: &NewEvent<'_>, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO event (issue, kind, at, message, detail) VALUES (?1, ?2, ?3, ?4, ?5)")
        .bind(event.issue.0)
        .bind(event.kind)
        .bind(now.0)
        .bind(event.message.map(|message| message.0))
        .bind(event.detail)
        .execute(&mut *connection)
        .await?;
    touch(connection, event.issue, now).await
}

async fn touch(connection: &mut SqliteConnection, issue: IssueId, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query("UPDATE issue SET updated_at = ?2 WHERE id = ?1")
        .bind(issue.0)
        .bind(now.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// Opens a closed issue again.
///
/// # Errors
/// What the database says.
pub async fn reopen(connection: &mut SqliteConnection, issue: IssueId) -> Result<(), StoreError> {
    sqlx::query("UPDATE issue SET state = 'open' WHERE id = ?1 AND merged_into IS NULL")
        .bind(issue.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// Closes an issue.
///
/// # Errors
/// What the database says.
pub async fn close(connection: &mut SqliteConnection, issue: IssueId) -> Result<(), StoreError> {
    sqlx::query("UPDATE issue SET state = 'closed' WHERE id = ?1")
        .bind(issue.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// Where an issue stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its row.
    pub id: IssueId,
    /// Its key.
    pub key: String,
    /// Whether it is closed.
    pub is_closed: bool,
    /// Key of the issue that it was merged into.
    pub merged_into: Option<String>,
}

/// An issue by its project and number.
///
/// # Errors
/// What the database says.
pub async fn find(
    connection: &mut SqliteConnection,
    (project, number): (&str, i64),
) -> Result<Option<Standing>, StoreError> {
    let row = sqlx::query(
        "SELECT i.id, i.project || '-' || i.number AS key, i.state = 'closed' AS is_closed,
                t.project || '-' || t.number AS merged_into
         FROM issue i LEFT JOIN issue t ON t.id = i.merged_into
         WHERE i.project = ?1 AND i.number = ?2",
    )
    .bind(project)
    .bind(number)
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Standing {
        id: IssueId(row.try_get("id")?),
        key: row.try_get("key")?,
        is_closed: row.try_get("is_closed")?,
        merged_into: row.try_get("merged_into")?,
    }))
}

/// Links two issues in both directions.
///
/// # Errors
/// What the database says.
pub async fn link(
    connection: &mut SqliteConnection,
    one: IssueId,
    other: IssueId,
    kind: &str,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO link (issue, other, kind) VALUES (?1, ?2, ?3), (?2, ?1, ?3) ON CONFLICT DO NOTHING")
        .bind(one.0)
        .bind(other.0)
        .bind(kind)
        .execute(connection)
        .await?;
    Ok(())
}

/// People as JSON: address in lower case, name, whether they watch. Who has no address cannot take part.
fn rows_of(people: &[(Person, bool)]) -> String {
    let rows: Vec<_> = people
        .iter()
        .filter_map(|(person, is_watcher)| {
            let address = person.address.as_deref()?.to_lowercase();
            Some(serde_json::json!([address, person.name, i64::from(*is_watcher)]))
        })
        .collect();
    serde_json::Value::from(rows).to_string()
}
