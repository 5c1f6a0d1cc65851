//! `backup`: a consistent copy of the database, while the daemon runs or not.

use std::path::Path;

use super::context::{self, Database, Failure, OK};
use super::output::{Output, already_there};
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
fn open(state_dir: &Path, path: &Path) -> Result<Option<Output>, Failure> {
    if context::owns(state_dir) {
        return Ok(None);
    }
    let mut output = Output::create(path, state_dir)?;
    let inside = |folder: &Path| Some(folder.canonicalize().ok()?.starts_with(state_dir.canonicalize().ok()?));
    let is_inside = path.parent().and_then(inside) == Some(true);
    if is_inside && let Ok(owner) = std::fs::metadata(state_dir) {
        use std::os::unix::fs::MetadataExt;
        std::os::unix::fs::fchown(output.file(), Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(Some(output))
}

async fn run(database: &Database, path: &Path, output: Option<Output>) -> Result<u8, Failure> {
    let store = database.store().await?;
    match output {
        None => backup::to_file(&store, path)
            .await
            .map_err(|error| refused(error, path))?,
        Some(mut output) => {
            backup::into_open_file(&store, (path, output.file())).await?;
            output.keep()?;
        }
    }
    print::line(&format!(
        "copied to {}; the key of the tokens is not in it, keep that apart",
        path.display()
    ))?;
    Ok(OK)
}

fn refused(error: StoreError, path: &Path) -> Failure {
    match &error {
        StoreError::File { source, .. } if source.kind() == std::io::ErrorKind::AlreadyExists => already_there(path),
        _ => Failure::Store(error),
    }
}
