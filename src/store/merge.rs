//! Merging one issue into another: its text goes there, replies follow, nothing is lost.
//! Who may be merged into whom is decided by the caller.

use sqlx::{Row, SqliteConnection};

use super::StoreError;
use super::issue::{self, NewEvent, Standing};
use crate::time::Timestamp;

/// Closes `one` and adds its text, files and people to `into`; links both.
///
/// # Errors
/// What the database says.
pub async fn merge(
    connection: &mut SqliteConnection,
    one: &Standing,
    into: &Standing,
    now: Timestamp,
) -> Result<(), StoreError> {
    copy_description(connection, one, into).await?;
    copy_comments(connection, one, into).await?;
    copy_people(connection, one, into).await?;
    sqlx::query("UPDATE issue SET state = 'closed', merged_into = ?2 WHERE id = ?1")
        .bind(one.id.0)
        .bind(into.id.0)
        .execute(&mut *connection)
        .await?;
    issue::link(connection, one.id, into.id, "merged").await?;
    for (changed, detail) in [
        (one, format!("into {}", into.key)),
        (into, format!("{} into this", one.key)),
    ] {
        let event = NewEvent {
            issue: changed.id,
            kind: "merged",
            message: None,
            detail: Some(&detail),
        };
        issue::event(connection, &event, now).await?;
    }
    Ok(())
}

/// The first mail becomes a comment. How far its sender was proven is known of comments alone.
async fn copy_description(
    connection: &mut SqliteConnection,
    one: &Standing,
    into: &Standing,
) -> Result<(), StoreError> {
    let row = sqlx::query(
        "INSERT INTO comment (issue, author_name, author_address, trust, body, elided, signature, created_at, merged_from)
         SELECT ?2, reporter_name, reporter_address, 'unverified',
                '[' || project || '-' || number || '] ' || summary || char(10) || char(10) || description,
                description_elided, signature, created_at, id
         FROM issue WHERE id = ?1
         RETURNING id",
    )
    .bind(one.id.0)
    .bind(into.id.0)
    .fetch_one(&mut *connection)
    .await?;
    let comment: i64 = row.try_get(0)?;
    sqlx::query(
        "INSERT INTO attachment (issue, comment, sha256, filename, media_type, is_inline, content_id)
         SELECT ?2, ?3, sha256, filename, media_type, is_inline, content_id
         FROM attachment WHERE issue = ?1 AND comment IS NULL ORDER BY id",
    )
    .bind(one.id.0)
    .bind(into.id.0)
    .bind(comment)
    .execute(connection)
    .await?;
    Ok(())
}

async fn copy_comments(connection: &mut SqliteConnection, one: &Standing, into: &Standing) -> Result<(), StoreError> {
    let rows = sqlx::query("SELECT id FROM comment WHERE issue = ?1 ORDER BY id")
        .bind(one.id.0)
        .fetch_all(&mut *connection)
        .await?;
    for row in rows {
        let comment: i64 = row.try_get(0)?;
        let copy = sqlx::query(
            "INSERT INTO comment (issue, author_name, author_address, trust, body, elided, signature, created_at,
                    merged_from)
             SELECT ?2, author_name, author_address, trust, body, elided, signature, created_at,
                    coalesce(merged_from, issue)
             FROM comment WHERE id = ?1
             RETURNING id",
        )
        .bind(comment)
        .bind(into.id.0)
        .fetch_one(&mut *connection)
        .await?;
        let copy: i64 = copy.try_get(0)?;
        sqlx::query(
            "INSERT INTO attachment (issue, comment, sha256, filename, media_type, is_inline, content_id)
             SELECT ?2, ?3, sha256, filename, media_type, is_inline, content_id
             FROM attachment WHERE issue = ?4 AND comment = ?1 ORDER BY id",
        )
        .bind(comment)
        .bind(into.id.0)
        .bind(copy)
        .bind(one.id.0)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

async fn copy_people(connection: &mut SqliteConnection, one: &Standing, into: &Standing) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO participant (issue, address, name, is_watcher)
         SELECT ?2, address, name, is_watcher FROM participant WHERE issue = ?1
         ON CONFLICT (issue, address) DO UPDATE SET is_watcher = max(is_watcher, excluded.is_watcher)",
    )
    .bind(one.id.0)
    .bind(into.id.0)
    .execute(connection)
    .await?;
    Ok(())
}
