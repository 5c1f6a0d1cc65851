//! Whether a file is a database of ours, before anything is done to it. It changes nothing in it.

use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, Row, SqliteConnection};

use super::{BUSY_TIMEOUT, StoreError, error};

/// The first migration's name, by which other programs that use the same library differ.
const FIRST: &str = "mailbox";

/// Refuses the file of another program: opened as ours it would get our tables.
///
/// # Errors
/// [`StoreError::Foreign`]. What cannot be looked at is left to whoever opens it.
pub(super) async fn check(path: &Path) -> Result<(), StoreError> {
    let is_foreign = match look(path).await {
        Ok(is_ours) => !is_ours,
        Err(error) => error::is_no_database(&error),
    };
    match is_foreign {
        true => Err(StoreError::Foreign { path: path.to_owned() }),
        false => Ok(()),
    }
}

/// An empty file may become ours.
async fn look(path: &Path) -> Result<bool, sqlx::Error> {
    if !path.exists() {
        return Ok(true);
    }
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .busy_timeout(BUSY_TIMEOUT);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let row = sqlx::query(
        "SELECT count(*), count(*) FILTER (WHERE type = 'table' AND name = '_sqlx_migrations') FROM sqlite_schema",
    )
    .fetch_one(&mut connection)
    .await?;
    let is_ours = match (row.try_get::<i64, _>(0)?, row.try_get::<i64, _>(1)?) {
        (0, _) => true,
        (_, 0) => false,
        (_, _) => is_first_ours(&mut connection).await?,
    };
    connection.close().await?;
    Ok(is_ours)
}

/// Whether the first migration, if there was one yet, is ours.
async fn is_first_ours(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    let row = sqlx::query("SELECT description FROM _sqlx_migrations WHERE version = 1")
        .fetch_optional(connection)
        .await?;
    row.map_or(Ok(true), |row| Ok(row.try_get::<String, _>(0)? == FIRST))
}
