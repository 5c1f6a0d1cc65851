//! A large message on disk while it is taken: written piece by piece, parsed by its skeleton, read again piece by
//! piece. It never holds more than a piece of it in memory, and its file has no name.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::mail::skeleton::{Skeleton, Skimmer};
use crate::mail::{Encoded, transfer};

/// Bytes of a piece: what one frame holds.
const PIECE: usize = 1 << 20;
/// Zstandard level: the fastest; mail that is worth more is mostly compressed already.
const COMPRESSION_LEVEL: i32 = 1;

/// A message on disk.
#[derive(Debug)]
pub struct Large {
    file: File,
    /// Its parts without their middles.
    pub skeleton: Skeleton,
    /// Of all its bytes.
    pub sha256: [u8; 32],
    /// Count of all its bytes.
    pub size: u64,
}

impl PartialEq for Large {
    fn eq(&self, other: &Self) -> bool {
        self.sha256 == other.sha256
    }
}

impl Eq for Large {}

/// A message that is being written.
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
    pub fn finish(self) -> Large {
        Large {
            file: self.file,
            skeleton: self.skimmer.finish(),
            sha256: self.hash.finalize().into(),
            size: self.size,
        }
    }
}

impl Large {
    /// All its bytes, in memory: for the few messages whose skeleton is not enough.
    ///
    /// # Errors
    /// What the disk says.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.size).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}

/// A part of a large message, or all of it.
#[derive(Debug, Clone)]
pub struct Stretch {
    large: Arc<Large>,
    from: u64,
    to: u64,
    encoding: transfer::Encoding,
}

impl Stretch {
    /// The whole message.
    pub fn whole(large: Arc<Large>) -> Self {
        Self {
            from: 0,
            to: large.size,
            encoding: transfer::Encoding::Identity,
            large,
        }
    }

    /// The contents of a part that the skeleton shows, decoded.
    pub fn part(large: Arc<Large>, encoded: &Encoded) -> Self {
        Self {
            from: large.skeleton.in_message(encoded.start),
            to: large.skeleton.in_message(encoded.end),
            encoding: encoded.encoding,
            large,
        }
    }

    /// Its decoded bytes.
    pub fn reader(&self) -> impl Read + '_ {
        let raw = Section {
            file: &self.large.file,
            at: self.from,
            to: self.to,
        };
        transfer::Decoder::new(raw, self.encoding)
    }

    /// SHA-256 and count of its decoded bytes.
    ///
    /// # Errors
    /// What the disk says.
    pub fn digest(&self) -> io::Result<([u8; 32], u64)> {
        let mut hash = Sha256::new();
        let size = io::copy(&mut self.reader(), &mut hash)?;
        Ok((hash.finalize().into(), size))
    }
}

/// Bytes of a file from one place to another.
struct Section<'f> {
    file: &'f File,
    at: u64,
    to: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.to.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let count = self
            .file
            .read_at(buffer.get_mut(..wanted).unwrap_or_default(), self.at)?;
        self.at = self.at.saturating_add(count as u64);
        Ok(count)
    }
}

thread_local! {
    /// To make one costs more than to pack a small mail.
    static PACKER: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
}

/// A Zstandard frame of some bytes.
fn pack(bytes: &[u8]) -> io::Result<Vec<u8>> {
    PACKER.with_borrow_mut(|packer| {
        let packer = match packer {
            Some(packer) => packer,
            None => packer.insert(zstd::bulk::Compressor::new(COMPRESSION_LEVEL)?),
        };
        packer.compress(bytes)
    })
}

/// Bytes that go into the database: packed, or still on disk.
#[derive(Debug, Clone)]
pub enum Contents {
    /// A Zstandard frame.
    Packed(Vec<u8>),
    /// Packed piece by piece when they are written.
    OnDisk(Stretch),
}

impl Contents {
    /// Packs bytes.
    ///
    /// # Errors
    /// Only where memory is short.
    pub fn packed(bytes: &[u8]) -> io::Result<Self> {
        pack(bytes).map(Self::Packed)
    }

    /// Zstandard frames that together are the bytes; never none.
    pub fn frames(&self) -> Frames<'_> {
        match self {
            Self::Packed(frame) => Frames::One(Some(frame)),
            Self::OnDisk(stretch) => Frames::Several {
                reader: Box::new(stretch.reader()),
                is_first: true,
            },
        }
    }
}

/// Frames, one after the other.
pub enum Frames<'c> {
    /// One that is there.
    One(Option<&'c [u8]>),
    /// Those of a stretch.
    Several {
        /// What is left of it.
        reader: Box<dyn Read + Send + 'c>,
        /// Even nothing has one frame.
        is_first: bool,
    },
}

impl Frames<'_> {
    /// The next frame.
    ///
    /// # Errors
    /// What the disk says.
    pub fn next_frame(&mut self) -> io::Result<Option<std::borrow::Cow<'_, [u8]>>> {
        match self {
            Self::One(frame) => Ok(frame.take().map(std::borrow::Cow::Borrowed)),
            Self::Several { reader, is_first } => {
                let mut piece = Vec::with_capacity(PIECE);
                let count = reader.take(PIECE as u64).read_to_end(&mut piece)?;
                let is_over = count == 0 && !std::mem::take(is_first);
                *is_first = false;
                if is_over {
                    return Ok(None);
                }
                Ok(Some(std::borrow::Cow::Owned(pack(&piece)?)))
            }
        }
    }
}
