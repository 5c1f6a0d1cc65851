//! Whether a file is a database of ours, before anything is done to it. It changes nothing in it.

use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, Row, SqliteConnection};

use super::{BUSY_TIMEOUT, StoreError, error, migrate};

/// The first migration's name, by which other programs that use the same library differ.
const FIRST: &str = "mailbox";

/// Whose database a file is.
enum Found {
    Ours,
    Newer,
    Foreign,
}

/// Refuses the file of another program, which would get our tables if it was opened as ours, and one that a newer
/// version made.
///
/// # Errors
/// [`StoreError::Foreign`], [`StoreError::Newer`], [`StoreError::Corrupt`]. What else keeps it from being looked at
/// is left to whoever opens it.
pub(super) async fn check(path: &Path) -> Result<(), StoreError> {
    if !path.exists() {
        return Ok(());
    }
    let path = path.to_owned();
    match look(&path).await {
        Ok(Found::Ours) => Ok(()),
        Ok(Found::Newer) => Err(StoreError::Newer { path }),
        Ok(Found::Foreign) => Err(StoreError::Foreign { path }),
        Err(error) if error::is_no_database(&error) => Err(StoreError::Foreign { path }),
        Err(error) => match StoreError::from(error) {
            StoreError::Corrupt(source) => Err(StoreError::Corrupt(source)),
            _ => Ok(()),
        },
    }
}

/// An empty file may become ours.
async fn look(path: &Path) -> Result<Found, sqlx::Error> {
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
    let found = match (row.try_get::<i64, _>(0)?, row.try_get::<i64, _>(1)?) {
        (0, _) => Found::Ours,
        (_, 0) => Found::Foreign,
        (_, _) => by_migrations(&mut connection).await?,
    };
    connection.close().await?;
    Ok(found)
}

/// Of which program's migrations it is, and whether we know all of them.
async fn by_migrations(connection: &mut SqliteConnection) -> Result<Found, sqlx::Error> {
    let row = sqlx::query(
        "SELECT coalesce(max(version), 0), coalesce(max(description) FILTER (WHERE version = 1), ?1)
         FROM _sqlx_migrations",
    )
    .bind(FIRST)
    .fetch_one(connection)
    .await?;
    let (newest, first): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
    Ok(if first != FIRST {
        Found::Foreign
    } else if newest > migrate::newest() {
        Found::Newer
    } else {
        Found::Ours
    })
}
