//! A copy of the database back in its place: checked first, and what is there is kept beside it.
//! It never runs beside the daemon, nor beside a command that has the database open.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection, Row};

use super::backup::{check, file_error, remove, sync_folder};
use super::{FILE_NAME, StoreError, lock, migrate};
use crate::time::Timestamp;

/// Puts a copy in the place of the database; returns where the one that was there is now. The caller holds
/// the daemon's lock.
///
/// # Errors
/// [`StoreError::Corrupt`] for a copy that is damaged or none of ours, [`StoreError::Newer`] for one of a newer
/// version, [`StoreError::Busy`] while a command has the database open. Nothing is changed then.
pub async fn run(state_dir: &Path, copy: &mut File, now: Timestamp) -> Result<Option<PathBuf>, StoreError> {
    let _migrating = lock::migration(state_dir).await?;
    let incoming = state_dir.join("mailintake.db.restoring");
    remove_all(&incoming)?;
    let prepared = prepare(&incoming, copy).await;
    let done = match prepared {
        Ok(()) => swap(state_dir, &incoming, now).await,
        Err(error) => Err(error),
    };
    remove_all(&incoming)?;
    done
}

/// The copy as a file of ours, sound, of a known schema and brought up to date.
async fn prepare(incoming: &Path, copy: &mut File) -> Result<(), StoreError> {
    let created = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(incoming);
    let mut file = created.map_err(file_error(incoming))?;
    io::copy(copy, &mut file).map_err(file_error(incoming))?;
    check(incoming).await?;
    let mut connection = open(incoming).await?;
    let row = sqlx::query(
        "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name IN ('_sqlx_migrations', 'message', 'issue')",
    )
    .fetch_one(&mut connection)
    .await?;
    let found: i64 = row.try_get(0)?;
    if found != 3 {
        let what = "it is not a database of mailintake".to_owned();
        return Err(StoreError::Corrupt(sqlx::Error::Protocol(what)));
    }
    migrate::run(&mut connection, incoming).await?;
    leave_wal(&mut connection).await?;
    connection.close().await?;
    file.sync_all().map_err(file_error(incoming))
}

/// What is there moves aside and the copy into its place.
async fn swap(state_dir: &Path, incoming: &Path, now: Timestamp) -> Result<Option<PathBuf>, StoreError> {
    let database = state_dir.join(FILE_NAME);
    let kept = if database.exists() {
        let time: String = now.rfc3339().chars().filter(|c| !matches!(c, '-' | ':')).collect();
        let kept = state_dir.join(format!("{FILE_NAME}.before-restore-{time}"));
        fold(&database).await?;
        for (from, to) in with_companions(&database).into_iter().zip(with_companions(&kept)) {
            rename(&from, &to)?;
        }
        Some(kept)
    } else {
        // A log without its database would be taken for that of the copy.
        remove_all(&database)?;
        None
    };
    rename(incoming, &database)?;
    sync_folder(&database)?;
    Ok(kept)
}

/// Folds the write-ahead log of the old database back, which nobody else may have open for that. One that is
/// damaged is kept as it is, with its log.
async fn fold(database: &Path) -> Result<(), StoreError> {
    let folded = async {
        let mut connection = open(database).await?;
        leave_wal(&mut connection).await?;
        connection.close().await?;
        Ok(())
    };
    match folded.await {
        Err(StoreError::Busy(source)) => Err(StoreError::Busy(source)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Ends WAL mode, for which SQLite asks that no other connection is open
/// (<https://www.sqlite.org/wal.html#persistence_of_wal_mode>).
async fn leave_wal(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    sqlx::query("PRAGMA journal_mode = DELETE").execute(connection).await?;
    Ok(())
}

async fn open(path: &Path) -> Result<SqliteConnection, StoreError> {
    let options = SqliteConnectOptions::new().filename(path).foreign_keys(true);
    Ok(SqliteConnection::connect_with(&options).await?)
}

fn with_companions(path: &Path) -> [PathBuf; 3] {
    ["", "-wal", "-shm"].map(|end| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    })
}

fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_error(from)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn remove_all(path: &Path) -> Result<(), StoreError> {
    with_companions(path).iter().try_for_each(|path| remove(path))
}
