//! A new file that a command was told to write. It is whole, or it is not there; a file that is there is never
//! written over.
//!
//! Root makes the file before it becomes somebody who may not remove it again. So a process that stays root waits
//! until the file is whole; where it never is, because the command fails or dies, that process removes it.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use clap::Args;

use super::context::{self, Failure};
use super::print;

/// The hidden command of the process that waits.
pub const COMMAND: &str = "remove-unless-whole";
/// What it is told once the file is whole.
const WHOLE: &[u8] = b"whole";

/// A file on its way.
#[derive(Debug)]
pub struct Output {
    file: File,
    path: PathBuf,
    keeper: Option<Child>,
    is_whole: bool,
}

impl Output {
    /// Makes a file to write, for nobody else to read.
    ///
    /// # Errors
    /// [`Failure::Failed`] if it is there already, or cannot be made.
    pub fn create(path: &Path, state_dir: &Path) -> Result<Self, Failure> {
        let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = created.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => already_there(path),
            _ => cannot_write(path, &error),
        })?;
        let mut output = Self {
            file,
            path: path.to_owned(),
            keeper: None,
            is_whole: false,
        };
        if !context::owns(state_dir) {
            let keeper = output.keeper().map_err(|error| cannot_write(path, &error))?;
            output.keeper = Some(keeper);
        }
        Ok(output)
    }

    fn keeper(&self) -> std::io::Result<Child> {
        let metadata = self.file.metadata()?;
        // A key that interrupts the command must not end this one, too.
        Command::new("/proc/self/exe")
            .arg(COMMAND)
            .arg(&self.path)
            .args([metadata.dev().to_string(), metadata.ino().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
    }

    /// The file.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file is whole and stays.
    ///
    /// # Errors
    /// [`Failure::Failed`] if it cannot be written to the disk.
    pub fn keep(mut self) -> Result<(), Failure> {
        self.file.sync_all().map_err(|error| cannot_write(&self.path, &error))?;
        if let Some(stdin) = self.keeper.as_mut().and_then(|keeper| keeper.stdin.as_mut()) {
            stdin
                .write_all(WHOLE)
                .map_err(|error| cannot_write(&self.path, &error))?;
        }
        self.is_whole = true;
        Ok(())
    }
}

/// Without [`Output::keep`] the file is removed.
impl Drop for Output {
    fn drop(&mut self) {
        let keeper = self.keeper.take();
        let is_settled = keeper.map(|mut keeper| {
            drop(keeper.stdin.take());
            keeper.wait().is_ok_and(|status| status.success())
        });
        let is_settled = is_settled.unwrap_or_else(|| self.is_whole || std::fs::remove_file(&self.path).is_ok());
        if !self.is_whole && !is_settled {
            print::aside(&format!("{} is not complete; remove it", self.path.display()));
        }
    }
}

/// What is said of a file that would be overwritten.
pub fn already_there(path: &Path) -> Failure {
    Failure::Failed(format!(
        "{} is there already; name a new file, or remove it first",
        path.display()
    ))
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Failed(format!("cannot write {}: {error}", path.display()))
}

/// The file that is waited for.
#[derive(Debug, Args)]
pub struct Waited {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// Waits until standard input ends, and removes the file unless that said it is whole. A file that has taken its
/// place is left alone.
///
/// # Errors
/// [`Failure::Failed`] if it cannot be removed.
pub fn remove_unless_whole(waited: &Waited) -> Result<(), Failure> {
    let mut told = Vec::new();
    let heard = std::io::stdin().lock().read_to_end(&mut told);
    if heard.is_ok() && told == WHOLE {
        return Ok(());
    }
    let metadata = std::fs::symlink_metadata(&waited.path);
    let is_it = metadata.is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == (waited.device, waited.inode));
    if !is_it {
        return Ok(());
    }
    std::fs::remove_file(&waited.path).map_err(|error| cannot_write(&waited.path, &error))
}
