//! Issues with their comments, attachments, events, watchers and links.

use serde::Serialize;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqlitePool};

use crate::store::StoreError;
use crate::store::frame;

/// Somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PersonView {
    /// The display name.
    pub name: Option<String>,
    /// The address.
    pub address: Option<String>,
}

/// An issue in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields are those of the contract")]
pub struct IssueView {
    pub key: String,
    pub project: String,
    pub state: String,
    pub summary: String,
    pub reporter: PersonView,
    pub created_at: String,
    pub updated_at: String,
    pub comment_count: i64,
    pub attachment_count: i64,
}

/// An issue as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields are those of the contract")]
pub struct IssueDetail {
    #[serde(flatten)]
    pub issue: IssueView,
    pub description: String,
    pub description_elided: Option<String>,
    pub watchers: Vec<PersonView>,
    pub links: Vec<LinkView>,
    pub attachments: Vec<AttachmentView>,
    pub comments: Vec<CommentView>,
    pub events: Vec<EventView>,
}

/// A link to another issue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields are those of the contract")]
pub struct LinkView {
    pub kind: String,
    pub key: String,
}

/// An attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields are those of the contract")]
pub struct AttachmentView {
    pub id: i64,
    pub filename: Option<String>,
    pub media_type: String,
    pub size: i64,
    pub sha256: String,
    pub inline: bool,
    #[serde(skip)]
    pub comment: Option<i64>,
}

/// A comment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields are those of the contract")]
pub struct CommentView {
    pub id: i64,
    pub author: PersonView,
    pub trust: String,
    pub body: String,
    pub elided: Option<String>,
    pub created_at: String,
    pub message: Option<i64>,
    pub attachments: Vec<AttachmentView>,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields are those of the contract")]
pub struct EventView {
    pub kind: String,
    pub at: String,
    pub message: Option<i64>,
    pub detail: Option<String>,
}

/// Which issues are listed.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this project.
    pub project: Option<String>,
    /// In this state.
    pub state: Option<String>,
    /// At most so many.
    pub limit: i64,
}

/// The newest issues that fit, in the order of their opening.
///
/// # Errors
/// What the database says.
pub async fn list(readers: &SqlitePool, filter: &Filter) -> Result<Vec<IssueView>, StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM issues
         WHERE (?1 IS NULL OR project = ?1) AND (?2 IS NULL OR state = ?2)
         ORDER BY id DESC LIMIT ?3",
    )
    .bind(filter.project.as_deref())
    .bind(filter.state.as_deref())
    .bind(filter.limit)
    .fetch_all(readers)
    .await?;
    rows.iter().rev().map(issue_view).collect()
}

pub(in crate::store) fn issue_view(row: &SqliteRow) -> Result<IssueView, StoreError> {
    Ok(IssueView {
        key: row.try_get("key")?,
        project: row.try_get("project")?,
        state: row.try_get("state")?,
        summary: row.try_get("summary")?,
        reporter: person(row, "reporter_name", "reporter_address")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        comment_count: row.try_get("comment_count")?,
        attachment_count: row.try_get("attachment_count")?,
    })
}

fn person(row: &SqliteRow, name: &str, address: &str) -> Result<PersonView, StoreError> {
    Ok(PersonView {
        name: row.try_get(name)?,
        address: row.try_get(address)?,
    })
}

/// An issue by its key.
///
/// # Errors
/// What the database says.
pub async fn show(readers: &SqlitePool, (project, number): (&str, i64)) -> Result<Option<IssueDetail>, StoreError> {
    let row = sqlx::query(
        "SELECT * FROM issues
         WHERE id = (SELECT id FROM issue WHERE project = ?1 AND number = ?2)",
    )
    .bind(project)
    .bind(number)
    .fetch_optional(readers)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let id: i64 = row.try_get("id")?;
    let (own, of_comments) = attachments(readers, id)
        .await?
        .into_iter()
        .partition(|a| a.comment.is_none());
    Ok(Some(IssueDetail {
        issue: issue_view(&row)?,
        description: row.try_get("description")?,
        description_elided: row.try_get("description_elided")?,
        watchers: watchers(readers, id).await?,
        links: links(readers, id).await?,
        attachments: own,
        comments: comments(readers, id, of_comments).await?,
        events: events(readers, id).await?,
    }))
}

async fn attachments(readers: &SqlitePool, issue: i64) -> Result<Vec<AttachmentView>, StoreError> {
    let rows =
        sqlx::query("SELECT v.* FROM attachment a JOIN attachments v ON v.id = a.id WHERE a.issue = ?1 ORDER BY a.id")
            .bind(issue)
            .fetch_all(readers)
            .await?;
    rows.iter().map(attachment_view).collect()
}

pub(super) fn attachment_view(row: &SqliteRow) -> Result<AttachmentView, StoreError> {
    Ok(AttachmentView {
        id: row.try_get("id")?,
        filename: row.try_get("filename")?,
        media_type: row.try_get("media_type")?,
        size: row.try_get("size")?,
        sha256: row.try_get("sha256")?,
        inline: row.try_get("inline")?,
        comment: row.try_get("comment")?,
    })
}

async fn comments(
    readers: &SqlitePool,
    issue: i64,
    mut attachments: Vec<AttachmentView>,
) -> Result<Vec<CommentView>, StoreError> {
    let rows = sqlx::query("SELECT v.* FROM comment c JOIN comments v ON v.id = c.id WHERE c.issue = ?1 ORDER BY c.id")
        .bind(issue)
        .fetch_all(readers)
        .await?;
    let mut comments = Vec::with_capacity(rows.len());
    for row in &rows {
        let id: i64 = row.try_get("id")?;
        let (own, others) = attachments
            .into_iter()
            .partition(|a: &AttachmentView| a.comment == Some(id));
        attachments = others;
        comments.push(comment_view(row, own)?);
    }
    Ok(comments)
}

pub(super) fn comment_view(row: &SqliteRow, attachments: Vec<AttachmentView>) -> Result<CommentView, StoreError> {
    Ok(CommentView {
        id: row.try_get("id")?,
        author: person(row, "author_name", "author_address")?,
        trust: row.try_get("trust")?,
        body: row.try_get("body")?,
        elided: row.try_get("elided")?,
        created_at: row.try_get("created_at")?,
        message: row.try_get("message")?,
        attachments,
    })
}

async fn events(readers: &SqlitePool, issue: i64) -> Result<Vec<EventView>, StoreError> {
    let rows = sqlx::query(
        "SELECT kind, strftime('%Y-%m-%dT%H:%M:%SZ', at, 'unixepoch') AS at, message, detail
         FROM event WHERE issue = ?1 ORDER BY id",
    )
    .bind(issue)
    .fetch_all(readers)
    .await?;
    let view = |row: &SqliteRow| -> Result<EventView, StoreError> {
        Ok(EventView {
            kind: row.try_get("kind")?,
            at: row.try_get("at")?,
            message: row.try_get("message")?,
            detail: row.try_get("detail")?,
        })
    };
    rows.iter().map(view).collect()
}

async fn watchers(readers: &SqlitePool, issue: i64) -> Result<Vec<PersonView>, StoreError> {
    let rows =
        sqlx::query("SELECT name, address FROM participant WHERE issue = ?1 AND is_watcher = 1 ORDER BY address")
            .bind(issue)
            .fetch_all(readers)
            .await?;
    rows.iter().map(|row| person(row, "name", "address")).collect()
}

async fn links(readers: &SqlitePool, issue: i64) -> Result<Vec<LinkView>, StoreError> {
    let rows = sqlx::query(
        "SELECT l.kind, i.project || '-' || i.number AS key FROM link l JOIN issue i ON i.id = l.other
         WHERE l.issue = ?1 ORDER BY l.other",
    )
    .bind(issue)
    .fetch_all(readers)
    .await?;
    let view = |row: &SqliteRow| -> Result<LinkView, StoreError> {
        Ok(LinkView {
            kind: row.try_get("kind")?,
            key: row.try_get("key")?,
        })
    };
    rows.iter().map(view).collect()
}

/// Keys of issues in the order of their opening, after the row `after`; at most 200. With each its row.
///
/// # Errors
/// What the database says.
pub async fn keys(readers: &SqlitePool, after: i64) -> Result<Vec<(i64, String)>, StoreError> {
    let rows = sqlx::query("SELECT id, project || '-' || number AS key FROM issue WHERE id > ?1 ORDER BY id LIMIT 200")
        .bind(after)
        .fetch_all(readers)
        .await?;
    let key = |row: &SqliteRow| Ok((row.try_get("id")?, row.try_get("key")?));
    rows.iter().map(key).collect()
}

/// The bytes of an attachment.
///
/// # Errors
/// What the database says; [`StoreError::Inconsistent`] if they cannot be unpacked.
pub async fn attachment(readers: &SqlitePool, id: i64) -> Result<Option<Vec<u8>>, StoreError> {
    let row =
        sqlx::query("SELECT k.bytes, k.sha256 FROM attachment a JOIN content k ON k.sha256 = a.sha256 WHERE a.id = ?1")
            .bind(id)
            .fetch_optional(readers)
            .await?;
    let Some(row) = row else { return Ok(None) };
    let compressed: Vec<u8> = row.try_get(0)?;
    frame::content(readers, row.try_get(1)?, compressed).await.map(Some)
}

/// The key of an issue, if it is there.
///
/// # Errors
/// What the database says.
pub async fn key_of(
    connection: &mut sqlx::SqliteConnection,
    issue: crate::thread::IssueId,
) -> Result<Option<String>, StoreError> {
    let row = sqlx::query("SELECT key FROM issues WHERE id = ?1")
        .bind(issue.0)
        .fetch_optional(connection)
        .await?;
    row.map_or(Ok(None), |row| Ok(row.try_get(0)?))
}
