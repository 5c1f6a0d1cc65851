//! Bytes that go into the database: Zstandard frames, packed already or piece by piece while they are written.

use std::cell::RefCell;
use std::io::{self, Read};

use super::Stretch;

/// Bytes of a piece: what one frame holds.
const PIECE: usize = 1 << 20;
/// Zstandard level: the fastest; mail that is worth more is mostly compressed already.
const COMPRESSION_LEVEL: i32 = 1;

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
        let mut frame = packer.compress(bytes)?;
        // It was made with room for bytes that do not get shorter.
        frame.shrink_to_fit();
        Ok(frame)
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
                reader: stretch.reader(),
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
