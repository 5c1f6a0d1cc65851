//! A work list in batches, bounded by count and by bytes.
//! It never reorders it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::mailbox::{Listed, RawMessage};

/// Most messages of a batch.
const BATCH_MESSAGES: usize = 100;
/// Most bytes of a batch that are held, as the server states the sizes: three batches of a mailbox are held at once.
const HELD_MOST: u64 = 1 << 20;
/// The same where very many mailboxes catch up at once.
const HELD_LEAST: u64 = 128 << 10;
/// What the batches of all mailboxes that catch up may hold together, three of each.
const HELD_BY_ALL: u64 = 4 << 20;
/// A message from here on is on disk, and counts as little: its skeleton is held.
const LARGE: u64 = 1 << 20;
/// What is held of such a message, mostly much less.
const LARGE_HELD: u64 = 128 << 10;
/// Most bytes of a batch, on disk and held.
const BATCH_BYTES: u64 = 32 << 20;

pub(super) fn total_bytes(messages: &[RawMessage]) -> u64 {
    messages.iter().map(RawMessage::size).sum()
}

/// How many mailboxes catch up at once. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Share(Arc<AtomicU64>);

/// A mailbox that catches up, as long as this lives.
pub(super) struct Seat(Share);

impl Share {
    pub(super) fn join(&self) -> Seat {
        self.0.fetch_add(1, Ordering::Relaxed);
        Seat(self.clone())
    }
}

impl Seat {
    /// Most bytes that a batch of the mailbox may hold.
    pub(super) fn held(&self) -> u64 {
        let share = HELD_BY_ALL / self.0.0.load(Ordering::Relaxed).max(1);
        share.clamp(HELD_LEAST, HELD_MOST)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A batch that grows.
#[derive(Default)]
struct Growing {
    messages: Vec<Listed>,
    held: u64,
    bytes: u64,
}

impl Growing {
    fn has_room_for(&self, size: u64, most: u64) -> bool {
        self.messages.is_empty()
            || self.messages.len() < BATCH_MESSAGES
                && self.held.saturating_add(held_of(size)) <= most
                && self.bytes.saturating_add(size) <= BATCH_BYTES
    }

    fn add(&mut self, listed: Listed) {
        self.held = self.held.saturating_add(held_of(listed.size));
        self.bytes = self.bytes.saturating_add(listed.size);
        self.messages.push(listed);
    }
}

fn held_of(size: u64) -> u64 {
    if size < LARGE { size } else { LARGE_HELD }
}

/// The work list in batches, bounded by count, by bytes and by what may be held; a message over a bound is a batch of
/// its own.
pub(super) fn batches(work: Vec<Listed>, held: u64) -> Vec<Vec<Listed>> {
    let mut batches = Vec::new();
    let mut batch = Growing::default();
    for listed in work {
        if !batch.has_room_for(listed.size, held) {
            batches.push(std::mem::take(&mut batch).messages);
        }
        batch.add(listed);
    }
    if !batch.messages.is_empty() {
        batches.push(batch.messages);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::Uid;

    #[test]
    fn batches_are_bounded_by_count_and_bytes() {
        let listed = |uid, size| Listed {
            uid: Uid::new(uid).unwrap(),
            size,
            received_at: None,
            is_seen: false,
            is_deleted: false,
        };
        let sizes = |batches: Vec<Vec<Listed>>| batches.iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(
            sizes(batches((1..=250).map(|uid| listed(uid, 10)).collect(), 2 << 20)),
            [100, 100, 50]
        );
        for (mails, expected) in [
            (&[900_000, 900_000, 900_000, 10][..], &[2, 2][..]),
            (&[10, 40 << 20, 10], &[1, 1, 1]),
            (&[2 << 20; 20], &[16, 4]),
            (&[10 << 20; 4], &[3, 1]),
            (&[2 << 20, 1_000_000, 1_000_000], &[2, 1]),
        ] {
            let work = (1..).zip(mails).map(|(uid, size)| listed(uid, *size)).collect();
            assert_eq!(sizes(batches(work, 2 << 20)), expected, "{mails:?}");
        }
        assert_eq!(sizes(batches(Vec::new(), 2 << 20)), [] as [usize; 0]);
    }

    #[test]
    fn mailboxes_that_catch_up_share_what_is_held() {
        let share = Share::default();
        let seats: Vec<_> = (0..4).map(|_| share.join()).collect();
        assert_eq!(seats[0].held(), HELD_BY_ALL / 4);
        drop(seats);
        let alone = share.join();
        assert_eq!(alone.held(), HELD_MOST);
        let seats: Vec<_> = (0..99).map(|_| share.join()).collect();
        assert_eq!(seats[0].held(), HELD_LEAST);
    }
}
