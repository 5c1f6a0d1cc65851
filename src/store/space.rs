//! Room on the disk: intake pauses before the last megabytes, so that alerts, settled marks and checkpoints
//! still find room. On a full disk SQLite can neither delete nor checkpoint.

use std::path::{Path, PathBuf};

use super::StoreError;

/// Free bytes below which nothing is taken in.
const RESERVE: u64 = 8 << 20;

/// Looks at the free room before each batch.
#[derive(Debug, Clone)]
pub struct Space {
    state_dir: PathBuf,
}

impl Space {
    /// Watches the file system of a state directory.
    pub fn of(state_dir: &Path) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
        }
    }

    /// Whether there is room for so many bytes of mail, which take up to three times as much for a while:
    /// compressed original, attachments, and the write-ahead log.
    ///
    /// # Errors
    /// [`StoreError::Low`] if there is not.
    pub fn check(&self, bytes: u64) -> Result<(), StoreError> {
        self.check_for_file(bytes.saturating_mul(3))
    }

    /// Whether there is room for a file of so many bytes.
    ///
    /// # Errors
    /// [`StoreError::Low`] if there is not.
    pub fn check_for_file(&self, bytes: u64) -> Result<(), StoreError> {
        let Ok(state) = nix::sys::statvfs::statvfs(&self.state_dir) else {
            return Ok(());
        };
        let free = state.blocks_available().saturating_mul(state.fragment_size());
        if free < RESERVE.saturating_add(bytes) {
            return Err(StoreError::Low {
                path: self.state_dir.clone(),
                free,
            });
        }
        Ok(())
    }
}
