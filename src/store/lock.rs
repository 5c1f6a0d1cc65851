//! Locks between processes: one daemon on a state directory, one migration at a time.
//! They belong to the open file, so that the kernel ends them with the process.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::StoreError;

/// The file whose bytes are locked.
const FILE_NAME: &str = "mailintake.lock";
/// The byte that the daemon locks.
const DAEMON: libc::off_t = 0;
/// The byte that is locked while the schema is brought up to date.
const MIGRATION: libc::off_t = 1;
/// Time between looks at a lock that another process holds.
const POLL: Duration = Duration::from_millis(20);

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Takes the lock of the daemon; `None` if another one holds it.
///
/// # Errors
/// [`StoreError::File`] if the lock file cannot be used.
pub fn daemon(state_dir: &Path) -> Result<Option<Lock>, StoreError> {
    try_lock(state_dir, DAEMON)
}

/// Whether a daemon runs on this state directory. It only looks, and so disturbs none that starts.
pub fn is_daemon_running(state_dir: &Path) -> bool {
    let Ok(file) = File::open(state_dir.join(FILE_NAME)) else {
        return false;
    };
    let mut request = record(libc::F_WRLCK, DAEMON);
    match fcntl(&file, FcntlArg::F_OFD_GETLK(&mut request)) {
        Ok(_) => i32::from(request.l_type) != libc::F_UNLCK,
        Err(_) => false,
    }
}

/// Waits for the lock of the migration and takes it.
///
/// # Errors
/// [`StoreError::File`] if the lock file cannot be used.
pub(super) async fn migration(state_dir: &Path) -> Result<Lock, StoreError> {
    loop {
        if let Some(lock) = try_lock(state_dir, MIGRATION)? {
            return Ok(lock);
        }
        tokio::time::sleep(POLL).await;
    }
}

fn try_lock(state_dir: &Path, byte: libc::off_t) -> Result<Option<Lock>, StoreError> {
    let path = state_dir.join(FILE_NAME);
    let failed = |source| StoreError::File {
        path: path.clone(),
        source,
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    match fcntl(&file, FcntlArg::F_OFD_SETLK(&record(libc::F_WRLCK, byte))) {
        Ok(_) => Ok(Some(Lock { _file: file })),
        Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => Ok(None),
        Err(errno) => Err(failed(errno.into())),
    }
}

fn record(kind: libc::c_int, byte: libc::off_t) -> libc::flock {
    libc::flock {
        l_type: kind.try_into().unwrap_or_default(),
        l_whence: libc::SEEK_SET.try_into().unwrap_or_default(),
        l_start: byte,
        l_len: 1,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_finds_the_lock_taken() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!is_daemon_running(directory.path()));
        let first = daemon(directory.path()).unwrap();
        assert!(first.is_some());
        assert!(is_daemon_running(directory.path()));
        assert!(daemon(directory.path()).unwrap().is_none());
        drop(first);
        assert!(!is_daemon_running(directory.path()));
        assert!(daemon(directory.path()).unwrap().is_some());
    }
}
