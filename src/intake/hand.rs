//! Which message each thread is parsing, written where it survives the death of the process, so that a
//! message that kills us is known at the next start. It never needs a disk flush: only the process may die.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::mailbox::MailboxId;

/// The file in the state directory.
const FILE_NAME: &str = "in-hand";
/// Bytes of a slot: room for a mailbox and a remote id.
const SLOT_BYTES: usize = 1024;

/// The slots, one for each thread that parses.
#[derive(Clone)]
pub struct Hand {
    file: Arc<File>,
    free: Arc<Mutex<Vec<u64>>>,
}

/// What was in hand when the process died.
pub type LeftInHand = Vec<(MailboxId, String)>;

impl Hand {
    /// Opens the slots of a state directory and empties them; returns what they held.
    ///
    /// # Errors
    /// What the disk says.
    pub fn open(state_dir: &Path) -> std::io::Result<(Self, LeftInHand)> {
        let path = state_dir.join(FILE_NAME);
        let left = match std::fs::read(&path) {
            Ok(bytes) => bytes.chunks(SLOT_BYTES).filter_map(parse_slot).collect(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)?;
        let hand = Self {
            file: Arc::new(file),
            free: Arc::default(),
        };
        Ok((hand, left))
    }

    /// Forgets what the slots held, once that is counted.
    ///
    /// # Errors
    /// What the disk says.
    pub fn clear(&self) -> std::io::Result<()> {
        self.file.set_len(0)
    }

    /// Takes a slot for one thread.
    pub fn slot(&self) -> Slot {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let index = free.pop().unwrap_or_else(|| {
            let used = self.file.metadata().map_or(0, |metadata| metadata.len());
            used.div_ceil(SLOT_BYTES as u64)
        });
        let slot = Slot {
            hand: self.clone(),
            index,
        };
        // Claims the place, so that the next slot gets another one.
        slot.release();
        slot
    }
}

/// A place to write down what is being parsed.
pub struct Slot {
    hand: Hand,
    index: u64,
}

impl Slot {
    /// Writes down that this message is being parsed.
    pub fn hold(&self, mailbox: MailboxId, remote_id: &str) {
        self.write(&format!("{} {remote_id}", mailbox.0));
    }

    /// Writes down that nothing is being parsed.
    pub fn release(&self) {
        self.write("");
    }

    fn write(&self, text: &str) {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(SLOT_BYTES, 0);
        // A full disk must not stop the parsing; the mark is then missing, which costs a second death at worst.
        if let Err(error) = self.hand.file.write_all_at(&bytes, self.index * SLOT_BYTES as u64) {
            tracing::debug!(%error, "could not write down which message is in hand");
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.release();
        let mut free = self.hand.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.push(self.index);
    }
}

fn parse_slot(bytes: &[u8]) -> Option<(MailboxId, String)> {
    let text = std::str::from_utf8(bytes).ok()?.trim_end_matches('\0');
    let (mailbox, remote_id) = text.split_once(' ')?;
    Some((MailboxId(mailbox.parse().ok()?), remote_id.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_in_hand_at_a_death_is_known_afterwards() {
        let directory = tempfile::tempdir().unwrap();
        let (hand, left) = Hand::open(directory.path()).unwrap();
        assert_eq!(left, []);
        let (one, two) = (hand.slot(), hand.slot());
        one.hold(MailboxId(1), "INBOX;UIDVALIDITY=1;UID=7");
        two.hold(MailboxId(2), "x y");
        two.release();
        let (again, left) = Hand::open(directory.path()).unwrap();
        assert_eq!(left, [(MailboxId(1), "INBOX;UIDVALIDITY=1;UID=7".to_owned())]);
        again.clear().unwrap();
        assert_eq!(Hand::open(directory.path()).unwrap().1, []);
    }

    #[test]
    fn a_slot_is_used_again() {
        let directory = tempfile::tempdir().unwrap();
        let (hand, _) = Hand::open(directory.path()).unwrap();
        for _ in 0..100 {
            hand.slot().hold(MailboxId(1), "a");
        }
        assert_eq!(
            std::fs::metadata(directory.path().join(FILE_NAME)).unwrap().len(),
            SLOT_BYTES as u64
        );
    }
}
