//! A connection that reads alone: of the database where there is one, else of an empty one in memory.

use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, SqliteConnection};

use super::{FILE_NAME, Store, StoreError, migrate};

/// Opens it.
///
/// # Errors
/// As [`Store::open`].
pub async fn open(state_dir: &Path) -> Result<SqliteConnection, StoreError> {
    if !state_dir.join(FILE_NAME).exists() {
        return empty().await;
    }
    let store = Store::open_existing(state_dir).await?;
    Ok(store.readers().acquire().await?.detach())
}

async fn empty() -> Result<SqliteConnection, StoreError> {
    let options = SqliteConnectOptions::new().in_memory(true);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    migrate::run(&mut connection, &PathBuf::from(":memory:")).await?;
    Ok(connection)
}
