//! Deaths of the process while it parsed a message.

use std::collections::HashSet;

use sqlx::{Row, SqliteConnection, SqlitePool};

use crate::mailbox::MailboxId;
use crate::store::StoreError;

/// Counts a death of the process while it parsed a message.
///
/// # Errors
/// What the database says.
pub async fn add(connection: &mut SqliteConnection, mailbox: MailboxId, remote_id: &str) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO attempt (mailbox, remote_id, deaths) VALUES (?1, ?2, 1)
         ON CONFLICT (mailbox, remote_id) DO UPDATE SET deaths = deaths + 1",
    )
    .bind(mailbox.0)
    .bind(remote_id)
    .execute(connection)
    .await?;
    Ok(())
}

/// The messages of a mailbox at which the process died while it parsed them.
///
/// # Errors
/// What the database says.
pub async fn suspects(readers: &SqlitePool, mailbox: MailboxId) -> Result<HashSet<String>, StoreError> {
    let rows = sqlx::query("SELECT remote_id FROM attempt WHERE mailbox = ?1")
        .bind(mailbox.0)
        .fetch_all(readers)
        .await?;
    let ids: Result<HashSet<_>, sqlx::Error> = rows.iter().map(|row| row.try_get(0)).collect();
    Ok(ids?)
}

/// Forgets the deaths at a message, once it has its row.
///
/// # Errors
/// What the database says.
pub async fn forget(connection: &mut SqliteConnection, mailbox: MailboxId, remote_id: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM attempt WHERE mailbox = ?1 AND remote_id = ?2")
        .bind(mailbox.0)
        .bind(remote_id)
        .execute(connection)
        .await?;
    Ok(())
}
