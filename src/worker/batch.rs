//! A work list in batches, bounded by count and by bytes.
//! It never reorders it.

use crate::mailbox::{Listed, RawMessage};

/// Most messages of a batch.
const BATCH_MESSAGES: usize = 100;
/// Most bytes of a batch, as the server states the sizes: three are held at once, and each a few times.
const BATCH_BYTES: u64 = 2 << 20;
pub(super) fn total_bytes(messages: &[RawMessage]) -> u64 {
    messages.iter().map(RawMessage::size).sum()
}

/// The work list in batches, bounded by count and by bytes; a message over the bound is a batch of its own.
pub(super) fn batches(work: Vec<Listed>) -> Vec<Vec<Listed>> {
    let mut batches = Vec::new();
    let mut batch: Vec<Listed> = Vec::new();
    let mut bytes = 0_u64;
    for listed in work {
        let is_full = batch.len() == BATCH_MESSAGES || bytes.saturating_add(listed.size) > BATCH_BYTES;
        if is_full && !batch.is_empty() {
            batches.push(std::mem::take(&mut batch));
            bytes = 0;
        }
        bytes = bytes.saturating_add(listed.size);
        batch.push(listed);
    }
    if !batch.is_empty() {
        batches.push(batch);
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
            sizes(batches((1..=250).map(|uid| listed(uid, 10)).collect())),
            [100, 100, 50]
        );
        let large = [(1, 10), (2, 30 << 20), (3, 10), (4, 1 << 20), (5, 3 << 19)];
        assert_eq!(
            sizes(batches(large.iter().map(|&(uid, size)| listed(uid, size)).collect())),
            [1, 1, 2, 1]
        );
        assert_eq!(sizes(batches(Vec::new())), [] as [usize; 0]);
    }
}
