//! Attachments and their bytes, each content once.

use sqlx::SqliteConnection;

use super::{StoreError, frame};
use crate::skimmed::Contents;
use crate::thread::IssueId;

/// An attachment to be kept.
#[derive(Debug, Clone)]
pub struct NewAttachment {
    /// Of the decoded bytes.
    pub sha256: [u8; 32],
    /// Size of the decoded bytes.
    pub size: u64,
    /// The decoded bytes.
    pub contents: Contents,
    /// A safe label.
    pub filename: Option<String>,
    /// Media type in lower case.
    pub media_type: String,
    /// Whether it is shown in the text.
    pub is_inline: bool,
    /// Content-ID without angle brackets.
    pub content_id: Option<String>,
}

/// Keeps an attachment of an issue's first mail, or of a comment.
///
/// # Errors
/// What the database says.
pub async fn insert(
    connection: &mut SqliteConnection,
    issue: IssueId,
    comment: Option<i64>,
    attachment: &NewAttachment,
) -> Result<(), StoreError> {
    let mut frames = attachment.contents.frames();
    let first = frame::next(&mut frames)?.unwrap_or_default();
    sqlx::query(
        "INSERT INTO content (sha256, size, bytes) VALUES (?3, ?8, ?9) ON CONFLICT DO NOTHING;
         INSERT INTO attachment (issue, comment, sha256, filename, media_type, is_inline, content_id)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )
    .bind(issue.0)
    .bind(comment)
    .bind(attachment.sha256.as_slice())
    .bind(attachment.filename.as_deref())
    .bind(attachment.media_type.as_str())
    .bind(attachment.is_inline)
    .bind(attachment.content_id.as_deref())
    .bind(i64::try_from(attachment.size).unwrap_or(i64::MAX))
    .bind(&*first)
    .execute(&mut *connection)
    .await?;
    drop(first);
    frame::insert_content_more(connection, &attachment.sha256, &mut frames).await
}

/// Keeps the bytes of attachments that no issue has yet, for the original message that stands without them.
///
/// # Errors
/// What the database says.
pub async fn insert_contents(
    connection: &mut SqliteConnection,
    attachments: impl Iterator<Item = &NewAttachment>,
) -> Result<(), StoreError> {
    for attachment in attachments {
        let mut frames = attachment.contents.frames();
        let first = frame::next(&mut frames)?.unwrap_or_default();
        sqlx::query("INSERT INTO content (sha256, size, bytes) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")
            .bind(attachment.sha256.as_slice())
            .bind(i64::try_from(attachment.size).unwrap_or(i64::MAX))
            .bind(&*first)
            .execute(&mut *connection)
            .await?;
        drop(first);
        frame::insert_content_more(connection, &attachment.sha256, &mut frames).await?;
    }
    Ok(())
}

/// Deletes the bytes, by their SHA-256 in hexadecimal, that no attachment and no original message has any more.
///
/// # Errors
/// What the database says.
pub(super) async fn forget_unused(connection: &mut SqliteConnection, hashes: Vec<String>) -> Result<(), StoreError> {
    sqlx::query(
        "DELETE FROM content
         WHERE sha256 IN (SELECT unhex(value) FROM json_each(?1))
           AND NOT EXISTS (SELECT 1 FROM attachment a WHERE a.sha256 = content.sha256)
           AND NOT EXISTS (SELECT 1 FROM original_part p WHERE p.sha256 = content.sha256)",
    )
    .bind(serde_json::Value::from(hashes).to_string())
    .execute(connection)
    .await?;
    Ok(())
}
