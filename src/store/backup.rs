//! Copies of the database, consistent while others write, checked before they get their name.
//! They never hold the token key, and never take the place of another file.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection, Row};

use super::space::Space;
use super::{BUSY_TIMEOUT, Store, StoreError};
use crate::time::Timestamp;

/// Folder of the nightly copies in the state directory.
pub const FOLDER: &str = "backups";
/// Nightly copies that are kept.
const KEPT: usize = 7;
/// What a copy is called until it is whole.
const PARTIAL: &str = ".partial";

/// Copies the database to a file that must not be there yet, mode 0600.
///
/// # Errors
/// [`StoreError::File`] where the file is there already or cannot be written; [`StoreError::Corrupt`] for a
/// copy that is not sound; what the database says.
pub async fn to_file(store: &Store, path: &Path) -> Result<(), StoreError> {
    if path.symlink_metadata().is_ok() {
        return Err(file_error(path)(io::ErrorKind::AlreadyExists.into()));
    }
    let partial = partial(path);
    let made = make(store, &partial).await.and_then(|()| publish(&partial, path));
    // Whatever happened: the copy has its name now, or is worth nothing.
    remove(&partial)?;
    made
}

/// Copies the database into an open, empty file, by way of a file in the state directory. `path` is what the
/// file is called.
///
/// # Errors
/// As [`to_file`].
pub async fn into_open_file(store: &Store, (path, file): (&Path, &mut File)) -> Result<(), StoreError> {
    let between = partial(&store.path().with_extension("backup"));
    remove(&between)?;
    let copied = make(store, &between).await.and_then(|()| {
        let mut copy = File::open(&between).map_err(file_error(&between))?;
        let written = io::copy(&mut copy, file).and_then(|_| file.sync_all());
        written.map_err(file_error(path))
    });
    remove(&between)?;
    copied
}

/// Makes the copy of a night, once, and removes those beyond the seven newest. Returns the new one.
///
/// # Errors
/// As [`to_file`]; [`StoreError::Low`] if the disk has no room for it.
pub async fn nightly(store: &Store, now: Timestamp) -> Result<Option<PathBuf>, StoreError> {
    let state_dir = store.path().parent().unwrap_or(Path::new("."));
    let folder = state_dir.join(FOLDER);
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.map_err(file_error(&folder))?;
    let day: String = now.rfc3339().chars().take(10).collect();
    let path = folder.join(format!("mailintake-{day}.db"));
    if path.exists() {
        return Ok(None);
    }
    // Left by a process that died.
    remove(&partial(&path))?;
    let size = std::fs::metadata(store.path()).map_or(0, |metadata| metadata.len());
    Space::of(state_dir).check_for_file(size)?;
    to_file(store, &path).await?;
    remove_oldest(&folder)?;
    Ok(Some(path))
}

fn remove_oldest(folder: &Path) -> Result<(), StoreError> {
    let entries = std::fs::read_dir(folder).map_err(file_error(folder))?;
    let mut copies: Vec<_> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| is_nightly(path))
        .collect();
    copies.sort_unstable();
    copies.iter().rev().skip(KEPT).try_for_each(|path| remove(path))
}

/// Whether a file is one of ours: nothing else in the folder is touched.
fn is_nightly(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let day = name
        .strip_prefix("mailintake-")
        .and_then(|rest| rest.strip_suffix(".db"))
        .unwrap_or_default();
    day.len() == 10 && day.chars().all(|c| c.is_ascii_digit() || c == '-')
}

/// `VACUUM INTO` reads under one snapshot and stops no writer. It takes an empty file as its target, which
/// so has its mode from the beginning.
async fn make(store: &Store, target: &Path) -> Result<(), StoreError> {
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(target);
    let file = created.map_err(file_error(target))?;
    let options = SqliteConnectOptions::new()
        .filename(store.path())
        .busy_timeout(BUSY_TIMEOUT);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    sqlx::query("VACUUM INTO ?1")
        .bind(target.to_string_lossy())
        .execute(&mut connection)
        .await?;
    connection.close().await?;
    check(target).await?;
    file.sync_all().map_err(file_error(target))
}

/// Whether a database is sound in itself.
///
/// # Errors
/// [`StoreError::Corrupt`] if it is not.
pub(super) async fn check(path: &Path) -> Result<(), StoreError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .pragma("cell_size_check", "on");
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let row = sqlx::query("PRAGMA integrity_check(1)")
        .fetch_one(&mut connection)
        .await?;
    let said: String = row.try_get(0)?;
    connection.close().await?;
    match said.as_str() {
        "ok" => Ok(()),
        _ => Err(StoreError::Corrupt(sqlx::Error::Protocol(said))),
    }
}

/// Gives a whole copy its name. A link, unlike a rename, never replaces what is there; FAT and some network file
/// systems have none, and are looked at beforehand.
fn publish(partial: &Path, path: &Path) -> Result<(), StoreError> {
    let named = match std::fs::hard_link(partial, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists && path.symlink_metadata().is_err() => {
            std::fs::rename(partial, path)
        }
        other => other,
    };
    named.map_err(file_error(path))?;
    sync_folder(path)
}

/// Makes a name in a folder last.
pub(super) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(file_error(folder))
}

fn partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(PARTIAL);
    PathBuf::from(name)
}

/// Removes a file that may be missing.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_error(path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

pub(super) fn file_error(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::File { path, source }
}
