//! An mbox, message by message (RFC 4155, quoted as mboxrd does). It holds no more than one message at a time.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;

use super::{FileError, Piece, piece, unreadable};

/// What a message begins with.
pub(super) const POSTMARK: &[u8] = b"From ";
/// Longest line that is read at once, in bytes: a file of one line must not fill the memory.
const LINE_LIMIT: u64 = 1 << 20;

/// The messages of an mbox.
pub(super) struct Mbox<R> {
    path: PathBuf,
    reader: BufReader<R>,
    limit: u64,
    index: usize,
    is_over: bool,
    /// Whether it is named as one mail (`.eml`), which may end anywhere: programs save it with its postmark.
    is_named_mail: bool,
}

impl<R: Read> Mbox<R> {
    /// Of a reader that stands at the first postmark, or at empty lines before it.
    pub(super) fn new(path: PathBuf, reader: BufReader<R>, limit: u64) -> Self {
        Self {
            is_named_mail: super::folder::is_named_mail(&path),
            path,
            reader,
            limit,
            index: 0,
            is_over: false,
        }
    }

    fn line(&mut self, line: &mut Vec<u8>) -> Result<usize, FileError> {
        line.clear();
        (&mut self.reader)
            .take(LINE_LIMIT)
            .read_until(b'\n', line)
            .map_err(|source| unreadable(&self.path, source))
    }

    /// The next message, with its number. The first line is a postmark, or has been read as one.
    fn message(&mut self) -> Result<(usize, Piece), FileError> {
        let index = self.index;
        self.index += 1;
        let mut line = Vec::new();
        if index == 0 {
            while self.line(&mut line)? > 0 && line.trim_ascii().is_empty() {}
        }
        let mut body = Body::default();
        loop {
            if self.line(&mut line)? == 0 {
                self.is_over = true;
                break;
            }
            if body.is_after_empty_line && is_postmark(&line) {
                break;
            }
            body.add(&line, self.limit);
        }
        let may_end = self.is_named_mail && index == 0;
        if self.is_over && !may_end && !body.is_whole() {
            return Err(FileError::Cut {
                path: self.path.display().to_string(),
                index,
            });
        }
        body.drop_empty_line();
        Ok((index, piece(body.bytes, body.size, self.limit)))
    }
}

impl<R: Read> Iterator for Mbox<R> {
    type Item = Result<(usize, Piece), FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let message = self.message();
        self.is_over |= message.is_err();
        Some(message)
    }
}

/// A message as it grows.
#[derive(Default)]
struct Body {
    bytes: Vec<u8>,
    size: u64,
    last_line: usize,
    /// Whether the last line has not ended yet.
    is_in_line: bool,
    is_after_empty_line: bool,
    has_header_end: bool,
}

impl Body {
    fn add(&mut self, line: &[u8], limit: u64) {
        let line = if self.is_in_line { line } else { unquoted(line) };
        let is_empty = !self.is_in_line && (line == b"\n" || line == b"\r\n");
        self.size += line.len() as u64;
        // One byte more than the limit tells that it is over; the rest is only counted.
        if self.bytes.len() as u64 <= limit {
            self.bytes.extend_from_slice(line);
        }
        self.last_line = line.len();
        self.is_in_line = !line.ends_with(b"\n");
        self.is_after_empty_line = is_empty;
        self.has_header_end |= is_empty;
    }

    /// Whether the header is over and the last line has its end.
    fn is_whole(&self) -> bool {
        self.has_header_end && !self.is_in_line
    }

    /// The empty line before a postmark belongs to the mbox.
    fn drop_empty_line(&mut self) {
        if self.is_after_empty_line && self.size == self.bytes.len() as u64 && !self.is_only_header() {
            self.bytes.truncate(self.bytes.len().saturating_sub(self.last_line));
            self.size = self.bytes.len() as u64;
        }
    }

    /// Whether the empty line is the one that ends the header.
    fn is_only_header(&self) -> bool {
        super::header_length(&self.bytes) == self.bytes.len()
    }
}

/// Takes one `>` off a quoted `From `.
fn unquoted(line: &[u8]) -> &[u8] {
    let depth = line.iter().take_while(|byte| **byte == b'>').count();
    let is_quoted = depth > 0 && line.get(depth..).is_some_and(|rest| rest.starts_with(POSTMARK));
    line.get(usize::from(is_quoted)..).unwrap_or(line)
}

/// Whether a line is a postmark: with a time and a year, for a sentence may begin with "From", too.
fn is_postmark(line: &[u8]) -> bool {
    let Some(rest) = line.strip_prefix(POSTMARK) else {
        return false;
    };
    let has_time = rest
        .windows(5)
        .any(|w| matches!(w, [a, b, b':', c, d] if [a, b, c, d].iter().all(|digit| digit.is_ascii_digit())));
    let is_year = |word: &[u8]| word.len() == 4 && word.iter().all(u8::is_ascii_digit);
    has_time && rest.split(u8::is_ascii_whitespace).any(is_year)
}
