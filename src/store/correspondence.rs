//! What a mail to the reporter of an issue rests on: who that is, by which mailbox they wrote, and what last.
//! It never writes.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::StoreError;
use super::frame::unpack;
use crate::mail::Person;
use crate::thread::IssueId;
use crate::time::Timestamp;

/// What an issue and its reporter have said so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correspondence {
    /// Key of the project.
    pub project: String,
    /// The number in it.
    pub number: i64,
    /// One line.
    pub summary: String,
    /// Who opened it.
    pub reporter: Person,
    /// Address of the mailbox that its first message came by.
    pub mailbox: Option<String>,
    /// The last mail of the reporter.
    pub last: Option<LastMail>,
}

/// A mail to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastMail {
    /// Its Message-ID, without angle brackets.
    pub message_id: Option<String>,
    /// The words in it that were new.
    pub text: String,
    /// When it came.
    pub at: Timestamp,
    /// Its bytes, where they are kept.
    pub original: Option<Vec<u8>>,
}

/// Looks it up.
///
/// # Errors
/// What the database says.
pub async fn find(connection: &mut SqliteConnection, issue: IssueId) -> Result<Option<Correspondence>, StoreError> {
    let row = sqlx::query(
        "SELECT i.project, i.number, i.summary, i.reporter_name, i.reporter_address,
                (SELECT b.address FROM message m JOIN mailbox b ON b.id = m.mailbox
                 WHERE m.issue = i.id ORDER BY m.id LIMIT 1) AS mailbox
         FROM issue i WHERE i.id = ?1",
    )
    .bind(issue.0)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Correspondence {
        project: row.try_get("project")?,
        number: row.try_get("number")?,
        summary: row.try_get("summary")?,
        reporter: Person {
            name: row.try_get("reporter_name")?,
            address: row.try_get("reporter_address")?,
        },
        mailbox: row.try_get("mailbox")?,
        last: last(connection, issue).await?,
    }))
}

/// The last comment that the reporter mailed, else the mail that opened the issue.
async fn last(connection: &mut SqliteConnection, issue: IssueId) -> Result<Option<LastMail>, StoreError> {
    let comment = sqlx::query(
        "SELECT m.message_id, c.body AS text, c.created_at, o.bytes
         FROM issue i JOIN comment c ON c.issue = i.id JOIN message m ON m.id = c.message
            LEFT JOIN original o ON o.message = m.id
         WHERE i.id = ?1 AND lower(c.author_address) = lower(i.reporter_address)
         ORDER BY c.id DESC LIMIT 1",
    )
    .bind(issue.0)
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(row) = comment {
        return last_mail(&row).map(Some);
    }
    let opening = sqlx::query(
        "SELECT m.message_id, i.description AS text, i.created_at, o.bytes
         FROM issue i JOIN message m ON m.issue = i.id LEFT JOIN original o ON o.message = m.id
         WHERE i.id = ?1 AND m.verdict = 'issue'
         ORDER BY m.id LIMIT 1",
    )
    .bind(issue.0)
    .fetch_optional(connection)
    .await?;
    opening.as_ref().map(last_mail).transpose()
}

fn last_mail(row: &SqliteRow) -> Result<LastMail, StoreError> {
    let compressed: Option<Vec<u8>> = row.try_get("bytes")?;
    let original = compressed.map(|bytes| unpack(&bytes, "original", "bytes"));
    Ok(LastMail {
        message_id: row.try_get("message_id")?,
        text: row.try_get("text")?,
        at: Timestamp(row.try_get("created_at")?),
        original: original.transpose()?,
    })
}
