//! `backup`: a consistent copy of the database, while the daemon runs or not.

use std::fs::File;
use std::path::Path;

use super::context::{self, Database, Failure, OK};
use super::issue;
use super::print;
use crate::store::{StoreError, backup};

/// Copies the database to a new file.
///
/// # Errors
/// Any [`Failure`].
pub fn command(config: &Path, path: &Path) -> Result<u8, Failure> {
    context::with_database_and(
        config,
        |state_dir| open(state_dir, path),
        async |database, file| run(database, path, file).await,
    )
}

/// Root makes the file before it becomes somebody who may not; anybody else makes it once the copy is whole.
fn open(state_dir: &Path, path: &Path) -> Result<Option<File>, Failure> {
    if context::owns(state_dir) {
        return Ok(None);
    }
    let file = issue::create(path)?;
    let inside = |folder: &Path| Some(folder.canonicalize().ok()?.starts_with(state_dir.canonicalize().ok()?));
    let is_inside = path.parent().and_then(inside) == Some(true);
    if is_inside && let Ok(owner) = std::fs::metadata(state_dir) {
        use std::os::unix::fs::MetadataExt;
        std::os::unix::fs::fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(Some(file))
}

async fn run(database: &Database, path: &Path, file: Option<File>) -> Result<u8, Failure> {
    let store = database.store().await;
    let copied = match (store, file) {
        (Ok(store), None) => backup::to_file(&store, path)
            .await
            .map_err(|error| refused(error, path)),
        (Ok(store), Some(mut file)) => {
            let copied = backup::into_open_file(&store, (path, &mut file)).await;
            unless_copied(copied.map_err(Failure::Store), &file, path)
        }
        (Err(error), Some(file)) => unless_copied(Err(error), &file, path),
        (Err(error), None) => Err(error),
    };
    copied?;
    print::line(&format!(
        "copied to {}; the key of the tokens is not in it, keep that apart",
        path.display()
    ))?;
    Ok(OK)
}

/// A copy that is not whole leaves at most an empty file, where this user may not remove it.
fn unless_copied(copied: Result<(), Failure>, file: &File, path: &Path) -> Result<(), Failure> {
    if copied.is_err() && std::fs::remove_file(path).is_err() {
        file.set_len(0)?;
        print::aside(&format!("{} is empty; remove it", path.display()));
    }
    copied
}

fn refused(error: StoreError, path: &Path) -> Failure {
    match &error {
        StoreError::File { source, .. } if source.kind() == std::io::ErrorKind::AlreadyExists => {
            issue::already_there(path)
        }
        _ => Failure::Store(error),
    }
}
