//! A message beside its skeleton: held, or on disk where it is too large for that. It is parsed by the skeleton, and
//! its long parts are read piece by piece. On disk it never holds more than a piece in memory, and its file has no name.

mod contents;
mod stretch;

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use sha2::{Digest, Sha256};

pub use self::contents::{Contents, Frames};
pub use self::stretch::{Measured, Regular, Stretch};
use crate::mail::skeleton::{Skeleton, Skimmer};

/// A message with its skeleton.
#[derive(Debug)]
pub struct Skimmed {
    bytes: Bytes,
    /// Its parts without their middles; empty where nothing was cut from bytes that are held.
    pub skeleton: Skeleton,
    /// Of all its bytes.
    pub sha256: [u8; 32],
    /// Count of all its bytes.
    pub size: u64,
}

/// Where the bytes are.
#[derive(Debug)]
enum Bytes {
    Held(Vec<u8>),
    OnDisk(File),
}

impl PartialEq for Skimmed {
    fn eq(&self, other: &Self) -> bool {
        self.sha256 == other.sha256
    }
}

impl Eq for Skimmed {}

/// A message that is being written to the disk.
pub struct Writer {
    file: File,
    skimmer: Skimmer,
    hash: Sha256,
    size: u64,
}

impl Writer {
    /// Begins a file without a name in a directory.
    ///
    /// # Errors
    /// What the disk says.
    pub fn begin(directory: &Path) -> io::Result<Self> {
        Ok(Self {
            file: tempfile::tempfile_in(directory)?,
            skimmer: Skimmer::default(),
            hash: Sha256::new(),
            size: 0,
        })
    }

    /// Adds the next piece.
    ///
    /// # Errors
    /// What the disk says.
    pub fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.file.write_all(piece)?;
        self.skimmer.push(piece);
        self.hash.update(piece);
        self.size = self.size.saturating_add(piece.len() as u64);
        Ok(())
    }

    /// Count of the bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The message.
    pub fn finish(self) -> Skimmed {
        Skimmed {
            bytes: Bytes::OnDisk(self.file),
            skeleton: self.skimmer.finish(),
            sha256: self.hash.finalize().into(),
            size: self.size,
        }
    }
}

impl Skimmed {
    /// Skims a message that is held.
    pub fn held(bytes: Vec<u8>) -> Self {
        let mut skimmer = Skimmer::default();
        skimmer.push(&bytes);
        let skeleton = skimmer.finish();
        Self {
            skeleton: if skeleton.cuts.is_empty() {
                Skeleton::default()
            } else {
                skeleton
            },
            sha256: Sha256::digest(&bytes).into(),
            size: bytes.len() as u64,
            bytes: Bytes::Held(bytes),
        }
    }

    /// What is to be parsed.
    pub fn parsed(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Held(bytes) if self.skeleton.cuts.is_empty() => bytes,
            Bytes::Held(_) | Bytes::OnDisk(_) => &self.skeleton.bytes,
        }
    }

    /// All its bytes, in memory: for the few messages whose skeleton is not enough.
    ///
    /// # Errors
    /// What the disk says.
    pub fn read(&self) -> io::Result<Cow<'_, [u8]>> {
        match &self.bytes {
            Bytes::Held(bytes) => Ok(Cow::Borrowed(bytes)),
            Bytes::OnDisk(file) => {
                let mut bytes = vec![0; usize::try_from(self.size).map_err(io::Error::other)?];
                file.read_exact_at(&mut bytes, 0)?;
                Ok(Cow::Owned(bytes))
            }
        }
    }

    fn is_held(&self) -> bool {
        matches!(self.bytes, Bytes::Held(_))
    }

    /// As [`std::os::unix::fs::FileExt::read_at`].
    fn read_at(&self, out: &mut [u8], at: u64) -> io::Result<usize> {
        match &self.bytes {
            Bytes::Held(bytes) => {
                let from = usize::try_from(at).map_err(io::Error::other)?;
                bytes.get(from..).unwrap_or_default().read(out)
            }
            Bytes::OnDisk(file) => file.read_at(out, at),
        }
    }

    /// The bytes between two places, by way of a buffer where they are on disk; fewer at the end of the message.
    fn between<'b>(&'b self, (from, to): (u64, u64), buffer: &'b mut Vec<u8>) -> io::Result<&'b [u8]> {
        let length = usize::try_from(to.min(self.size).saturating_sub(from)).map_err(io::Error::other)?;
        match &self.bytes {
            Bytes::Held(bytes) => {
                let from = usize::try_from(from).map_err(io::Error::other)?;
                Ok(bytes.get(from..from.saturating_add(length)).unwrap_or_default())
            }
            Bytes::OnDisk(file) => {
                buffer.resize(length, 0);
                file.read_exact_at(buffer, from)?;
                Ok(buffer)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::sync::Arc;

    use super::*;
    use crate::mail::parse::parse;

    /// A message with one file whose base64 is `text`, held and on disk.
    fn messages(text: &str) -> [Arc<Skimmed>; 2] {
        let message = format!(
            "Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: application/zip\r\n\
             Content-Transfer-Encoding: base64\r\n\r\n{text}--b--\r\n"
        );
        // A header that is made longer before it is parsed: places must lead to the message all the same.
        let message = [&b"From: caf\xe9 <a@b.example>\r\n"[..], message.as_bytes()].concat();
        let mut writer = Writer::begin(&std::env::temp_dir()).unwrap();
        writer.write(&message).unwrap();
        [Skimmed::held(message), writer.finish()].map(Arc::new)
    }

    #[test]
    fn a_file_is_measured_and_read_alike_wherever_the_message_is() {
        let lines = |count: usize| "QUJD".repeat(19) + &("\r\n".to_owned() + &"QUJD".repeat(19)).repeat(count);
        // 840 lines of 78 bytes are what is decoded at once.
        for count in [839, 840, 1_679, 1_700] {
            for (after, is_regular) in [
                ("\r\n", true),
                ("\r\n\r\n", true),
                ("\r\nQUI=\r\n", true),
                ("\r\nQUI=\r\nQUJD\r\n", false),
                ("\r\n-\r\n", false),
                ("\n", true),
            ] {
                let text = lines(count) + after;
                let decoded = (count + 1) * 57 + if after.contains("QUI=") { 2 } else { 0 };
                for message in messages(&text) {
                    let mail = parse(message.parsed()).unwrap();
                    let encoded = mail.attachments[0].encoded.unwrap();
                    let part = Stretch::part(Arc::clone(&message), &encoded);
                    let measured = part.clone().measure().unwrap();
                    assert_eq!(measured.size, decoded as u64, "{count} {after:?}");
                    assert_eq!(measured.regular.is_some(), is_regular, "{count} {after:?}");
                    let mut frames = Vec::new();
                    let mut several = measured.contents.frames();
                    while let Some(frame) = several.next_frame().unwrap() {
                        frames.extend_from_slice(&frame);
                    }
                    let bytes = zstd::stream::decode_all(&*frames).unwrap();
                    assert_eq!(*Sha256::digest(&bytes), measured.sha256, "{count} {after:?}");
                    let Some(regular) = measured.regular else { continue };
                    let mut again = Vec::new();
                    regular.lines.encode(&bytes, &mut again);
                    let whole = message.read().unwrap();
                    let [from, to] = [regular.span.0, regular.span.1].map(|at| usize::try_from(at).unwrap());
                    assert!(whole[from..to] == *again, "{count} {after:?}");
                    let mut rest = Vec::new();
                    let holes = std::iter::once(regular.span);
                    Stretch::without(Arc::clone(&message), holes)
                        .reader()
                        .read_to_end(&mut rest)
                        .unwrap();
                    assert_eq!(rest, [&whole[..from], &whole[to..]].concat(), "{count} {after:?}");
                }
            }
        }
    }
}
