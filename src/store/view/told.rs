//! One issue, comment or message as JSON lists show it, read through the connection of the transaction that made it.
//! Read only.

use sqlx::{Row, SqliteConnection};

use super::issue::{self, CommentView, IssueView};
use super::message::{self, MessageView};
use crate::store::StoreError;
use crate::store::message::MessageId;
use crate::thread::IssueId;

/// An issue by its row.
///
/// # Errors
/// What the database says.
pub async fn issue(connection: &mut SqliteConnection, id: IssueId) -> Result<Option<IssueView>, StoreError> {
    let row = sqlx::query("SELECT * FROM issues WHERE id = ?1")
        .bind(id.0)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(issue::issue_view).transpose()
}

/// A comment by its row, with the key and the row of its issue.
///
/// # Errors
/// What the database says.
pub async fn comment(
    connection: &mut SqliteConnection,
    id: i64,
) -> Result<Option<(IssueId, String, CommentView)>, StoreError> {
    let row = sqlx::query(
        "SELECT v.*, c.issue AS issue_row FROM comment c JOIN comments v ON v.id = c.id
         WHERE c.id = ?1",
    )
    .bind(id)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let issue = IssueId(row.try_get("issue_row")?);
    let attached = sqlx::query(
        "SELECT v.* FROM attachment a JOIN attachments v ON v.id = a.id
         WHERE a.issue = ?1 AND a.comment = ?2 ORDER BY a.id",
    )
    .bind(issue.0)
    .bind(id)
    .fetch_all(connection)
    .await?;
    let attachments = attached.iter().map(issue::attachment_view).collect::<Result<_, _>>()?;
    let view = issue::comment_view(&row, attachments)?;
    Ok(Some((issue, row.try_get("issue")?, view)))
}

/// A message by its row, with the row of its issue.
///
/// # Errors
/// What the database says.
pub async fn message(
    connection: &mut SqliteConnection,
    id: MessageId,
) -> Result<Option<(Option<IssueId>, MessageView)>, StoreError> {
    let row = sqlx::query(
        "SELECT v.*, m.issue AS issue_row FROM message m JOIN messages v ON v.id = m.id
         WHERE m.id = ?1",
    )
    .bind(id.0)
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let issue: Option<i64> = row.try_get("issue_row")?;
    Ok(Some((issue.map(IssueId), message::message_view(&row)?)))
}
