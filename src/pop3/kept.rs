//! What is kept of a message while it comes: its beginning in memory, or all of it on disk once it is large.
//! It never holds more than a piece of a message that has a place on disk.

use std::io;
use std::path::Path;

use crate::skimmed::{Skimmed, Writer};

/// From here on a message is on disk, where there is a place, and goes there in pieces of this size, in bytes.
const PIECE: usize = 1 << 20;

/// What is kept so far.
pub(super) struct Kept<'s> {
    bytes: Vec<u8>,
    /// Bytes that may still come.
    room: u64,
    spool: Option<&'s Path>,
    writer: Option<Writer>,
}

/// What was kept.
#[derive(Debug)]
pub(super) enum Body {
    Held(Vec<u8>),
    OnDisk(Skimmed),
}

impl<'s> Kept<'s> {
    /// The first `room` bytes, on disk once they are many and there is a place.
    pub(super) fn new(room: u64, spool: Option<&'s Path>) -> Self {
        Self {
            bytes: Vec::new(),
            room,
            spool,
            writer: None,
        }
    }

    pub(super) fn push(&mut self, piece: &[u8]) {
        let count = usize::try_from(self.room).unwrap_or(usize::MAX).min(piece.len());
        self.bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
        self.room = self.room.saturating_sub(count as u64);
    }

    /// Writes what is a piece already.
    pub(super) fn relieve(&mut self) -> io::Result<()> {
        match self.spool {
            Some(spool) if self.bytes.len() >= PIECE => self.write(spool),
            Some(_) | None => Ok(()),
        }
    }

    fn write(&mut self, spool: &Path) -> io::Result<()> {
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => Writer::begin(spool)?,
        };
        writer.write(&self.bytes)?;
        self.bytes.clear();
        self.writer = Some(writer);
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<Body> {
        let Some(mut writer) = self.writer.take() else {
            return Ok(Body::Held(self.bytes));
        };
        writer.write(&self.bytes)?;
        Ok(Body::OnDisk(writer.finish()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_large_and_has_a_place_is_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        let message: Vec<u8> = (0..(3 << 20) + 5_u32).map(|at| at.to_le_bytes()[0]).collect();
        for (length, has_place) in [(10, true), (3 << 20, true), ((3 << 20) + 5, true), (3 << 20, false)] {
            let mut kept = Kept::new(u64::MAX, has_place.then_some(folder.path()));
            for piece in message[..length].chunks(16 * 1024) {
                kept.push(piece);
                kept.relieve().unwrap();
                assert!(!has_place || kept.bytes.len() < PIECE + 16 * 1024);
            }
            let (bytes, is_large) = match kept.finish().unwrap() {
                Body::Held(bytes) => (bytes, false),
                Body::OnDisk(large) => (large.read().unwrap().into_owned(), true),
            };
            assert!(bytes == message[..length], "{length}");
            assert_eq!(is_large, has_place && length > PIECE, "{length}");
        }
    }

    #[test]
    fn what_there_is_no_room_for_is_left() {
        let mut kept = Kept::new(4, None);
        kept.push(b"abc");
        kept.push(b"def");
        assert!(matches!(kept.finish().unwrap(), Body::Held(bytes) if bytes == b"abcd"));
    }
}
