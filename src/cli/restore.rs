//! `restore`: a copy of the database back in its place, checked first.

use std::fs::File;
use std::path::Path;

use super::context::{self, Database, Failure, OK};
use super::print;
use crate::store::{StoreError, lock, restore};

/// Puts a copy in the place of the database.
///
/// # Errors
/// Any [`Failure`]; [`Failure::Running`] while the daemon runs.
pub fn command(config: &Path, path: &Path) -> Result<u8, Failure> {
    let open = |_: &Path| {
        if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(Failure::Failed(format!("{} is no file", path.display())));
        }
        let opened = File::open(path);
        opened.map_err(|error| Failure::Failed(format!("cannot read {}: {error}", path.display())))
    };
    context::with_database_and(config, open, async |database, copy| run(database, path, copy).await)
}

async fn run(database: &Database, path: &Path, mut copy: File) -> Result<u8, Failure> {
    let state_dir = database.state_dir();
    context::make_state_dir(state_dir)?;
    let Some(_lock) = lock::daemon(state_dir)? else {
        print::aside("stop the daemon first: `systemctl stop mailintake`");
        return Err(Failure::Running(state_dir.to_owned()));
    };
    let restored = restore::run(state_dir, &mut copy, database.clock.now()).await;
    let kept = restored.map_err(|error| refused(error, path, state_dir))?;
    if let Some(kept) = kept {
        print::aside(&format!("the database that was there is now {}", kept.display()));
    }
    print::line(&format!("restored {}; start the daemon again", path.display()))?;
    Ok(OK)
}

fn refused(error: StoreError, path: &Path, state_dir: &Path) -> Failure {
    match error {
        StoreError::Corrupt(source) => Failure::Failed(format!(
            "{} is damaged, or no copy of a database of mailintake ({source}); nothing was changed",
            path.display()
        )),
        StoreError::Newer { .. } => Failure::Failed(format!(
            "{} was made by a newer mailintake; install that version first. Nothing was changed",
            path.display()
        )),
        StoreError::Busy(_) => {
            print::aside("another command uses the database; nothing was changed, try again once it has ended");
            Failure::Running(state_dir.to_owned())
        }
        other => Failure::Store(other),
    }
}
