//! Messages from files: `.eml`, mbox, Maildir folders, folders of `.eml`, and standard input.
//! It never writes, and never follows a link out of a folder.

mod folder;
mod mbox;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use self::folder::{Entry, list, of_entry, open_entry};
use self::mbox::Mbox;
use crate::mailbox::{OtherSource, Place, RawMessage};
use crate::time::Timestamp;

/// What is looked at of a file to tell whether it is mail, in bytes: more than any header that is read.
const HEADER_LIMIT: usize = 256 * 1024;
/// Headers of which mail has at least one (RFC 5322 §3.6, and what servers add).
const KNOWN_HEADERS: [&str; 14] = [
    "from",
    "to",
    "cc",
    "subject",
    "date",
    "message-id",
    "received",
    "return-path",
    "reply-to",
    "sender",
    "mime-version",
    "content-type",
    "delivered-to",
    "in-reply-to",
];

/// Why a file gave no message.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is missing, closed to us, or the disk failed.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is a device or a socket.
    #[error("{path} is no file, pipe or folder")]
    NoFile {
        /// What was named.
        path: String,
    },
    /// It has no header of a mail.
    #[error("{path} is no mail: it has no header such as From or Subject")]
    NoMail {
        /// The file.
        path: String,
    },
    /// An mbox that does not end with the end of a message.
    #[error("{path} is cut off in the middle of message {index}; copy it again")]
    Cut {
        /// The file.
        path: String,
        /// The number of the message in it.
        index: usize,
    },
    /// A folder in which there is no mail.
    #[error("{path} is no Maildir (it has neither new nor cur), and has no .eml file")]
    NoMailInFolder {
        /// The folder.
        path: String,
    },
    /// Standard input had nothing, or more than may be.
    #[error("standard input is {0}")]
    Pipe(&'static str),
}

/// A message from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMessage {
    /// The file as it was named; `-` for standard input.
    pub file: String,
    /// The number in an mbox, from 0 on; 0 elsewhere.
    pub index: usize,
    /// The message.
    pub raw: RawMessage,
}

/// What a command was given, opened while it still could be.
#[derive(Debug)]
pub enum Opened {
    /// A file.
    File(PathBuf, File),
    /// A folder, read later by its name.
    Folder(PathBuf),
}

/// Opens a file or finds a folder.
///
/// # Errors
/// [`FileError::Read`], [`FileError::NoFile`].
pub fn open(path: &Path) -> Result<Opened, FileError> {
    let named = std::fs::metadata(path).map_err(|source| unreadable(path, source))?;
    let kind = named.file_type();
    if !kind.is_file() && !kind.is_dir() && !kind.is_fifo() {
        return Err(FileError::NoFile {
            path: path.display().to_string(),
        });
    }
    let file = File::open(path).map_err(|source| unreadable(path, source))?;
    let metadata = file.metadata().map_err(|source| unreadable(path, source))?;
    Ok(if metadata.is_dir() {
        Opened::Folder(path.to_owned())
    } else {
        Opened::File(path.to_owned(), file)
    })
}

/// What a look at all of a file or folder found.
#[derive(Debug, Default)]
pub struct Checked {
    /// The messages that can be taken.
    pub messages: usize,
    /// All that is wrong.
    pub faults: Vec<FileError>,
}

impl Checked {
    fn of(parts: impl IntoIterator<Item = Result<usize, FileError>>) -> Self {
        let mut checked = Self::default();
        for part in parts {
            match part {
                Ok(messages) => checked.messages += messages,
                Err(fault) => checked.faults.push(fault),
            }
        }
        checked
    }
}

/// A message after another.
pub type Messages = Box<dyn Iterator<Item = Result<FileMessage, FileError>> + Send>;

impl Opened {
    /// The messages in it. One over `limit` bytes becomes a stub of its header. What looks like no mail is
    /// given out all the same: [`Opened::check`] tells.
    ///
    /// # Errors
    /// [`FileError::Read`], [`FileError::NoMailInFolder`].
    pub fn messages(self, limit: u64) -> Result<Messages, FileError> {
        match self {
            Self::File(path, file) => of_file(path, file, limit),
            Self::Folder(path) => {
                let entries = list(&path)?;
                let read = move |entry: Entry| of_entry(&entry, limit);
                Ok(Box::new(entries.mail.into_iter().map(read)))
            }
        }
    }

    /// Looks at all of it, before anything of it is taken. What can be read only once is not looked at.
    pub fn check(&mut self) -> Checked {
        match self {
            Self::File(path, file) if is_plain(file) => {
                let found = check_file(path, file);
                let rewound = file.rewind().map_err(|source| unreadable(path, source));
                Checked::of([found, rewound.map(|()| 0)])
            }
            Self::File(..) => Checked::of([Ok(1)]),
            Self::Folder(path) => match list(path) {
                Ok(entries) => Checked::of(entries.mail.iter().map(|entry| check_entry(entry).map(|()| 1))),
                Err(error) => Checked::of([Err(error)]),
            },
        }
    }

    /// The links in a folder, which are left out.
    ///
    /// # Errors
    /// [`FileError::Read`], [`FileError::NoMailInFolder`].
    pub fn links(&self) -> Result<Vec<PathBuf>, FileError> {
        match self {
            Self::File(..) => Ok(Vec::new()),
            Self::Folder(path) => Ok(list(path)?.links),
        }
    }
}

/// The message on standard input, whose name is the hash of its bytes: a mail system that tries again gives
/// the same.
///
/// # Errors
/// [`FileError::Read`], [`FileError::Pipe`] where it is empty or over the limit.
pub fn pipe(input: impl Read, limit: u64) -> Result<FileMessage, FileError> {
    let mut bytes = Vec::new();
    let read = input.take(limit.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|source| FileError::Read {
        path: "standard input".to_owned(),
        source,
    })?;
    if bytes.is_empty() {
        return Err(FileError::Pipe("empty"));
    }
    if bytes.len() as u64 > limit {
        return Err(FileError::Pipe("larger than max_message_size"));
    }
    let remote_id = format!("{:x}", Sha256::digest(&bytes));
    Ok(FileMessage {
        file: "-".to_owned(),
        index: 0,
        raw: RawMessage {
            place: Place::Other {
                source: OtherSource::Pipe,
                remote_id,
            },
            stated_size: bytes.len() as u64,
            bytes,
            received_at: None,
            server_id: None,
            large: None,
            is_stub: false,
        },
    })
}

fn of_file(path: PathBuf, file: File, limit: u64) -> Result<Messages, FileError> {
    let is_pipe = !is_plain(&file);
    let mut reader = BufReader::new(file);
    if is_pipe
        && reader
            .fill_buf()
            .map_err(|source| unreadable(&path, source))?
            .is_empty()
    {
        return Err(FileError::NoMail {
            path: path.display().to_string(),
        });
    }
    if starts_with_postmark(&mut reader).map_err(|source| unreadable(&path, source))? {
        let messages = Mbox::new(path.clone(), reader, limit);
        return Ok(Box::new(messages.map(move |message| {
            let (index, piece) = message?;
            let remote_id = format!("{}#{index}", absolute(&path));
            Ok(message_of(&path, (index, remote_id), piece, None))
        })));
    }
    Ok(Box::new(std::iter::once_with(move || {
        single(&path, reader, limit, None)
    })))
}

/// Bytes of a message, or of its header where it is over the limit.
#[derive(Debug, Default)]
struct Piece {
    bytes: Vec<u8>,
    size: u64,
    is_stub: bool,
}

fn single(
    path: &Path,
    mut reader: impl Read,
    limit: u64,
    received_at: Option<Timestamp>,
) -> Result<FileMessage, FileError> {
    let mut bytes = Vec::new();
    let read = reader.by_ref().take(limit.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|source| unreadable(path, source))?;
    let mut size = bytes.len() as u64;
    if size > limit {
        size += std::io::copy(&mut reader, &mut std::io::sink()).map_err(|source| unreadable(path, source))?;
    }
    let piece = piece(bytes, size, limit);
    Ok(message_of(path, (0, absolute(path)), piece, received_at))
}

fn piece(mut bytes: Vec<u8>, size: u64, limit: u64) -> Piece {
    let is_stub = size > limit;
    if is_stub {
        bytes.truncate(header_length(&bytes));
    }
    Piece { bytes, size, is_stub }
}

/// Length of the header with the empty line after it, at most [`HEADER_LIMIT`].
fn header_length(bytes: &[u8]) -> usize {
    let mut length = 0;
    let mut has_begun = false;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        length += line.len();
        if has_begun && (line == b"\n" || line == b"\r\n") {
            break;
        }
        has_begun |= !line.trim_ascii().is_empty();
    }
    length.min(HEADER_LIMIT)
}

fn message_of(
    path: &Path,
    (index, remote_id): (usize, String),
    piece: Piece,
    received_at: Option<Timestamp>,
) -> FileMessage {
    FileMessage {
        file: path.display().to_string(),
        index,
        raw: RawMessage {
            place: Place::Other {
                source: OtherSource::File,
                remote_id,
            },
            stated_size: piece.size,
            bytes: piece.bytes,
            received_at,
            server_id: None,
            large: None,
            is_stub: piece.is_stub,
        },
    }
}

fn check_entry(entry: &Entry) -> Result<(), FileError> {
    check_header(&entry.path, open_entry(entry)?)
}

/// The messages in a file, which all must look like mail.
fn check_file(path: &Path, file: &File) -> Result<usize, FileError> {
    let mut reader = BufReader::new(file);
    if !starts_with_postmark(&mut reader).map_err(|source| unreadable(path, source))? {
        return check_header(path, reader).map(|()| 1);
    }
    let mut count = 0;
    for message in Mbox::new(path.to_owned(), reader, HEADER_LIMIT as u64) {
        let (index, piece) = message?;
        if !is_mail(&piece.bytes) {
            return Err(FileError::NoMail {
                path: format!("message {index} of {}", path.display()),
            });
        }
        count += 1;
    }
    Ok(count)
}

fn check_header(path: &Path, reader: impl Read) -> Result<(), FileError> {
    let mut header = Vec::new();
    let read = reader.take(HEADER_LIMIT as u64).read_to_end(&mut header);
    read.map_err(|source| unreadable(path, source))?;
    if is_mail(&header) {
        return Ok(());
    }
    Err(FileError::NoMail {
        path: path.display().to_string(),
    })
}

/// Whether some bytes begin with a header that mail has; empty lines before it are skipped, as the parser does.
fn is_mail(bytes: &[u8]) -> bool {
    let lines = bytes.trim_ascii_start().split(|byte| *byte == b'\n');
    let header = lines.take_while(|line| !line.trim_ascii().is_empty());
    header
        .filter_map(|line| line.split(|byte| *byte == b':').next())
        .filter_map(|name| std::str::from_utf8(name).ok())
        .any(|name| KNOWN_HEADERS.contains(&name.trim_end().to_ascii_lowercase().as_str()))
}

fn starts_with_postmark(reader: &mut impl BufRead) -> std::io::Result<bool> {
    let buffer = reader.fill_buf()?;
    let begin = buffer.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
    Ok(begin
        .and_then(|begin| buffer.get(begin..))
        .is_some_and(|rest| rest.starts_with(mbox::POSTMARK)))
}

fn is_plain(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_file())
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path)
        .unwrap_or_else(|_| path.to_owned())
        .display()
        .to_string()
}

fn unreadable(path: &Path, source: std::io::Error) -> FileError {
    FileError::Read {
        path: path.display().to_string(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> Vec<FileMessage> {
        let messages = open(path).unwrap().messages(1000).unwrap();
        messages.map(Result::unwrap).collect()
    }

    fn texts(messages: &[FileMessage]) -> Vec<&str> {
        messages
            .iter()
            .map(|message| std::str::from_utf8(&message.raw.bytes).unwrap())
            .collect()
    }

    #[test]
    fn an_mbox_gives_its_messages_without_its_quoting() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("m.mbox");
        let text = "From a@b Mon Nov  2 10:00:00 2026\nSubject: one\n\n>From here\n>>From there\n\nFrom me to you\n\n\
                    From c@d Mon Nov  2 10:00:00 2026\nSubject: two\n\nwords\n\n";
        std::fs::write(&path, text).unwrap();
        let messages = read(&path);
        assert_eq!(
            texts(&messages),
            [
                "Subject: one\n\nFrom here\n>From there\n\nFrom me to you\n",
                "Subject: two\n\nwords\n"
            ]
        );
        assert_eq!(messages[1].index, 1);
        assert!(messages[1].raw.place.remote_id().ends_with("/m.mbox#1"));
        assert!(open(&path).unwrap().check().faults.is_empty());
        std::fs::write(&path, text.replace('\n', "\r\n")).unwrap();
        assert_eq!(texts(&read(&path))[1], "Subject: two\r\n\r\nwords\r\n");
        for (end, is_sound) in [
            (text.len() - 1, true),
            (text.len() - 4, false),
            (text.len() - 10, false),
        ] {
            std::fs::write(&path, &text.as_bytes()[..end]).unwrap();
            let faults = open(&path).unwrap().check().faults;
            assert_eq!(faults.is_empty(), is_sound, "{end}: {faults:?}");
            assert!(faults.iter().all(|fault| fault.to_string().contains("m.mbox")));
        }
    }

    #[test]
    fn a_mail_with_a_postmark_may_end_anywhere_but_a_second_one_is_cut() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("saved.eml");
        let text = "From a@b Mon Nov  2 10:00:00 2026\nSubject: one\n\nwords";
        std::fs::write(&path, text).unwrap();
        assert_eq!(texts(&read(&path)), ["Subject: one\n\nwords"]);
        assert!(open(&path).unwrap().check().faults.is_empty());
        std::fs::write(&path, format!("{text}\n\n{text}")).unwrap();
        let faults = open(&path).unwrap().check().faults;
        assert!(matches!(faults[..], [FileError::Cut { index: 1, .. }]), "{faults:?}");
    }

    #[test]
    fn empty_lines_before_a_mail_or_a_postmark_are_skipped() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        let mbox = "From a@b Mon Nov  2 10:00:00 2026\nSubject: one\n\nwords\n\n";
        for (text, count) in [
            ("\r\n  \r\nSubject: one\r\n\r\nwords".to_owned(), Some(1)),
            (format!("\n\r\n{mbox}{mbox}"), Some(2)),
            ("\n\nwords: and more\n\nSubject: one\n".to_owned(), None),
        ] {
            std::fs::write(&path, &text).unwrap();
            let checked = open(&path).unwrap().check();
            match count {
                Some(count) => {
                    assert_eq!((checked.messages, checked.faults.len()), (count, 0), "{text:?}");
                    assert_eq!(read(&path).len(), count, "{text:?}");
                }
                None => assert!(matches!(checked.faults[..], [FileError::NoMail { .. }]), "{text:?}"),
            }
        }
        std::fs::write(&path, format!("\n\nSubject: big\n\n{}", "words ".repeat(1000))).unwrap();
        assert_eq!(texts(&read(&path)), ["\n\nSubject: big\n\n"]);
    }

    #[test]
    fn a_maildir_gives_what_is_new_and_seen_and_follows_no_link() {
        let home = tempfile::tempdir().unwrap();
        for part in ["new", "cur", "tmp"] {
            std::fs::create_dir(home.path().join(part)).unwrap();
        }
        std::fs::write(home.path().join("new/2.x"), "Subject: two\n\n").unwrap();
        std::fs::write(home.path().join("cur/1.x:2,S"), "Subject: one\n\n").unwrap();
        std::fs::write(home.path().join("tmp/3.x"), "Subject: three\n\n").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", home.path().join("new/4.x")).unwrap();
        let messages = read(home.path());
        assert_eq!(texts(&messages), ["Subject: one\n\n", "Subject: two\n\n"]);
        assert!(messages[0].raw.received_at.is_some());
        let links = open(home.path()).unwrap().links().unwrap();
        assert_eq!(links, [home.path().join("new/4.x")]);
    }

    #[test]
    fn a_folder_gives_its_eml_files() {
        let home = tempfile::tempdir().unwrap();
        let faults = open(home.path()).unwrap().check().faults;
        assert!(matches!(faults[..], [FileError::NoMailInFolder { .. }]), "{faults:?}");
        std::fs::write(home.path().join("b.eml"), "Subject: b\n\n").unwrap();
        std::fs::write(home.path().join("a.EML"), "Subject: a\n\n").unwrap();
        std::fs::write(home.path().join("c.txt"), "words").unwrap();
        assert_eq!(texts(&read(home.path())), ["Subject: a\n\n", "Subject: b\n\n"]);
    }

    #[test]
    fn what_is_no_mail_or_missing_is_named() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("x.png");
        for (bytes, is_sound) in [
            (&b"\x89PNG\r\n\x1a\n"[..], false),
            (b"", false),
            (b"{\"from\": 1}\n", false),
            (b"Subject: x\r\n\r\n", true),
            (b"X-Odd: 1\nfrom : a@b\n", true),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let faults = open(&path).unwrap().check().faults;
            assert_eq!(faults.is_empty(), is_sound, "{bytes:?}: {faults:?}");
            assert!(faults.iter().all(|fault| fault.to_string().contains("x.png")));
        }
        let missing = open(&home.path().join("missing.eml")).unwrap_err();
        assert!(missing.to_string().contains("missing.eml"));
    }

    #[test]
    fn over_the_limit_only_the_header_is_kept() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("big.eml");
        std::fs::write(&path, format!("Subject: big\n\n{}", "words ".repeat(1000))).unwrap();
        let messages = read(&path);
        assert_eq!(texts(&messages), ["Subject: big\n\n"]);
        assert!(messages[0].raw.is_stub);
        assert_eq!(messages[0].raw.stated_size, 6014);
        assert!(pipe(&b"123"[..], 2).is_err());
        assert!(pipe(&b""[..], 2).is_err());
        let piped = pipe(&b"12"[..], 2).unwrap();
        assert_eq!(piped.raw.place.remote_id().len(), 64);
    }
}
