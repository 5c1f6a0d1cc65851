//! What stands in a folder: a Maildir, or files of one message each. It follows no link, and lists no folder
//! below but `new` and `cur`.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{FileError, FileMessage, single, unreadable};
use crate::time::Timestamp;

/// A file of a folder.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: PathBuf,
    is_maildir: bool,
}

/// What stands in a folder, in the order of the names.
pub(super) struct Entries {
    pub(super) mail: Vec<Entry>,
    pub(super) links: Vec<PathBuf>,
}

pub(super) fn list(folder: &Path) -> Result<Entries, FileError> {
    let is_real_folder =
        |path: &Path| std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_dir());
    let parts: Vec<PathBuf> = ["new", "cur"].map(|part| folder.join(part)).into_iter().collect();
    let is_maildir = parts.iter().any(|part| is_real_folder(part));
    let folders = if is_maildir {
        parts.into_iter().filter(|part| is_real_folder(part)).collect()
    } else {
        vec![folder.to_owned()]
    };
    let mut entries = Entries {
        mail: Vec::new(),
        links: Vec::new(),
    };
    for part in folders {
        list_part(&part, is_maildir, &mut entries).map_err(|source| unreadable(&part, source))?;
    }
    if !is_maildir && entries.mail.is_empty() && entries.links.is_empty() {
        return Err(FileError::NoMailInFolder {
            path: folder.display().to_string(),
        });
    }
    // The names of a Maildir begin with the time of delivery, in `new` as in `cur`.
    entries.mail.sort_by(|a, b| a.path.file_name().cmp(&b.path.file_name()));
    Ok(entries)
}

fn list_part(part: &Path, is_maildir: bool, entries: &mut Entries) -> std::io::Result<()> {
    for entry in std::fs::read_dir(part)? {
        let entry = entry?;
        let path = entry.path();
        let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
        if is_hidden || !(is_maildir || is_named_mail(&path)) {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            entries.links.push(path);
        } else if kind.is_file() {
            entries.mail.push(Entry { path, is_maildir });
        }
    }
    Ok(())
}

/// Opens a file of a folder; one that has become a link meanwhile is refused.
pub(super) fn open_entry(entry: &Entry) -> Result<File, FileError> {
    File::options()
        .read(true)
        .custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits())
        .open(&entry.path)
        .map_err(|source| unreadable(&entry.path, source))
}

pub(super) fn of_entry(entry: &Entry, limit: u64) -> Result<FileMessage, FileError> {
    let file = open_entry(entry)?;
    single(
        &entry.path,
        &file,
        limit,
        entry.is_maildir.then(|| modified(&file)).flatten(),
    )
}

/// In a Maildir the time of the file is that of the delivery.
fn modified(file: &File) -> Option<Timestamp> {
    let modified = file.metadata().ok()?.modified().ok()?;
    let since = modified.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Timestamp(i64::try_from(since.as_secs()).ok()?))
}

/// Whether a file is named as one mail.
pub(super) fn is_named_mail(path: &Path) -> bool {
    let extension = path.extension();
    extension.is_some_and(|extension| extension.eq_ignore_ascii_case("eml"))
}
