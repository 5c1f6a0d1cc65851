//! Which messages of a POP3 mailbox have to be looked at. Pure.
//!
//! A unique id alone is no identity: servers have given one to another message, or number from 1 anew. So a message
//! is taken for known, without being read, only while nothing speaks against it. It is read, and known by its bytes,
//! where its id has no row; has a row of another size; was gone at the last look; belongs to a message that was
//! deleted, or is about to be; or at a server that was caught giving one id to two messages. What cannot be noticed is
//! an id that passes to another message of the same size between two looks, at a server that was never caught.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::pop3::Entry;
use crate::store::message::MessageId;
use crate::store::message::maildrop::Row;

/// Most messages of a batch, which is what a session deletes: what a cut line may undo (fetchmail's `--expunge`).
pub(super) const BATCH_MESSAGES: usize = 50;
/// Most bytes of a batch, as the server states the sizes.
const BATCH_BYTES: u64 = 4 << 20;
/// Messages that are read because of their size alone before it is clear whether this server's sizes mean anything.
const PROBES: usize = 8;
/// Failures at one message before it has to wait.
const STRIKES: u32 = 3;
/// Time that a message has to wait which the server did not hand over again and again.
const STRUCK_REST: Duration = Duration::from_hours(1);

/// What a worker remembers of a mailbox between its visits.
#[derive(Debug, Default)]
pub(in crate::worker) struct Memory {
    /// The unique ids that were known at the last look, with the size that was stated then.
    pub(super) accepted: HashMap<String, u64>,
    /// The unique ids that were listed at the last look; `None` before the first.
    pub(super) listed: Option<HashSet<String>>,
    /// The server states sizes that are not those of the bytes.
    pub(super) has_estimates: bool,
    /// The server gave one id to two messages.
    pub(super) reuses_ids: bool,
    /// Messages that are over the limit, whatever size is stated.
    oversize: HashSet<String>,
    /// Messages that the server did not hand over: how often in a row, and when last.
    struck: HashMap<String, (u32, Instant)>,
    /// Shortest time between two sign-ins that the server wants.
    pub(super) login_delay: Duration,
    /// When we signed in last.
    pub(super) signed_in_at: Option<Instant>,
    /// It was told that messages are stuck.
    pub(super) has_told_stuck: bool,
}

impl Memory {
    /// Counts a failure at a message.
    pub(super) fn strike(&mut self, entry: &Entry) {
        let (count, at) = self.struck.entry(identity(entry)).or_insert((0, Instant::now()));
        (*count, *at) = (*count + 1, Instant::now());
    }

    /// A message turned out to be without end: only its header is asked for from now on.
    pub(super) fn set_oversize(&mut self, entry: &Entry) {
        self.oversize.insert(identity(entry));
    }

    /// A message was handed over.
    pub(super) fn clear(&mut self, entry: &Entry) {
        if !self.struck.is_empty() {
            self.struck.remove(&identity(entry));
        }
    }

    /// How often the server did not hand a message over.
    pub(super) fn strikes(&self, entry: &Entry) -> u32 {
        self.struck.get(&identity(entry)).map_or(0, |(count, _)| *count)
    }

    fn is_resting(&self, entry: &Entry) -> bool {
        let struck = self.struck.get(&identity(entry));
        struck.is_some_and(|(count, at)| *count >= STRIKES && at.elapsed() < STRUCK_REST)
    }

    /// Those that were struck and are on the server no more, by their unique ids.
    pub(super) fn forget_gone(&mut self, listed: &[Entry]) -> Vec<String> {
        if self.struck.is_empty() {
            return Vec::new();
        }
        let present: HashSet<String> = listed.iter().map(identity).collect();
        let gone = self.struck.keys().filter(|id| !present.contains(*id)).cloned();
        let gone: Vec<String> = gone.collect();
        self.struck.retain(|id, _| present.contains(id));
        gone.into_iter().filter(|id| !id.starts_with('#')).collect()
    }

    /// What the server keeps from us for now.
    pub(super) fn stuck(&self) -> usize {
        self.struck.values().filter(|(count, _)| *count >= STRIKES).count()
    }
}

/// What a message is called while it has no bytes; without a unique id that is a guess.
fn identity(entry: &Entry) -> String {
    let guess = || format!("#{}/{}", entry.number, entry.size);
    entry.uidl.clone().unwrap_or_else(guess)
}

/// What is to be read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// The messages to read, in their order.
    pub(super) work: Vec<Entry>,
    /// There is more, for another visit at once.
    pub(super) is_partial: bool,
}

/// What speaks against taking a message for known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    /// Nothing.
    None,
    /// Its size alone.
    Size,
    /// Anything else, or it is new.
    Any,
}

/// The unique ids whose rows have to be looked up: a mailbox that was accepted as it stands costs the database nothing.
pub(super) fn ids_to_look_up<'e>(entries: &'e [Entry], owed: &[(MessageId, String)], memory: &Memory) -> Vec<&'e str> {
    let owed: HashSet<&str> = owed.iter().map(|(_, id)| id.as_str()).collect();
    let is_settled = |entry: &Entry, id: &str| {
        !memory.reuses_ids && memory.accepted.get(id) == Some(&entry.size) && !owed.contains(id)
    };
    let ids = entries.iter().filter_map(|entry| Some((entry, entry.uidl.as_deref()?)));
    ids.filter(|(entry, id)| !is_settled(entry, id))
        .map(|(_, id)| id)
        .collect()
}

/// Chooses what is to be read; what needs no reading is remembered as accepted.
pub(super) fn plan(entries: &[Entry], rows: &[Row], memory: &mut Memory) -> Plan {
    let mut by_id: HashMap<&str, Vec<&Row>> = HashMap::new();
    for row in rows {
        by_id.entry(&row.remote_id).or_default().push(row);
    }
    memory.reuses_ids |= by_id.values().any(|rows| is_reused(rows.iter().copied()));
    let (mut work, mut by_size, mut accepted) = (Vec::new(), Vec::new(), HashMap::new());
    for entry in entries {
        let rows = entry.uidl.as_deref().and_then(|id| by_id.get(id));
        match doubt(entry, rows.map(Vec::as_slice).unwrap_or_default(), memory) {
            Doubt::None => accepted.extend(entry.uidl.clone().map(|id| (id, entry.size))),
            Doubt::Size => by_size.push(entry.clone()),
            Doubt::Any => work.push(entry.clone()),
        }
    }
    memory.accepted = accepted;
    memory.listed = Some(entries.iter().filter_map(|entry| entry.uidl.clone()).collect());
    let mut is_partial = by_size.len() > PROBES;
    by_size.truncate(PROBES);
    work.extend(by_size);
    work.retain(|entry| !memory.is_resting(entry));
    let (struck, sound): (Vec<_>, Vec<_>) = work.into_iter().partition(|entry| memory.strikes(entry) > 0);
    // What broke a session before has one of its own, once the others are through.
    is_partial |= !struck.is_empty() && !sound.is_empty();
    let mut work = if sound.is_empty() { struck } else { sound };
    work.sort_unstable_by_key(|entry| entry.number);
    for entry in &mut work {
        entry.is_oversize = memory.oversize.contains(&identity(entry));
    }
    Plan { work, is_partial }
}

fn doubt(entry: &Entry, rows: &[&Row], memory: &Memory) -> Doubt {
    let Some(id) = &entry.uidl else {
        return Doubt::Any;
    };
    let is_owed = rows.iter().any(|row| row.is_owed);
    if is_owed || memory.reuses_ids {
        return Doubt::Any;
    }
    match memory.accepted.get(id) {
        Some(size) if *size == entry.size => return Doubt::None,
        Some(_) => return Doubt::Any,
        None if rows.is_empty() => return Doubt::Any,
        None => {}
    }
    let was_gone = memory.listed.as_ref().is_some_and(|listed| !listed.contains(id));
    if was_gone || rows.iter().any(|row| row.is_deleted) {
        return Doubt::Any;
    }
    let has_size = rows.iter().any(|row| row.size == entry.size);
    if has_size || memory.has_estimates {
        Doubt::None
    } else {
        Doubt::Size
    }
}

/// Whether one id was given to different messages. Some servers rewrite the bytes of a mail: that is none.
pub(super) fn is_reused<'r>(rows: impl Iterator<Item = &'r Row>) -> bool {
    let of_mails = rows.filter(|row| !row.is_rewritten);
    let hashes: HashSet<_> = of_mails.filter_map(|row| row.sha256).collect();
    hashes.len() > 1
}

/// The work in batches, bounded by count and by bytes; a message over the bound is a batch of its own.
pub(super) fn batches(work: Vec<Entry>) -> Vec<Vec<Entry>> {
    let mut batches: Vec<Vec<Entry>> = Vec::new();
    let mut bytes = 0_u64;
    for entry in work {
        bytes = bytes.saturating_add(entry.size);
        match batches.last_mut() {
            Some(batch) if batch.len() < BATCH_MESSAGES && bytes <= BATCH_BYTES => batch.push(entry),
            Some(_) | None => {
                bytes = entry.size;
                batches.push(vec![entry]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: [u32; 0] = [];

    fn entry(number: u32, size: u64, uidl: &str) -> Entry {
        Entry {
            number,
            size,
            uidl: (!uidl.is_empty()).then(|| uidl.to_owned()),
            is_oversize: false,
        }
    }

    fn row(id: i64, remote_id: &str, size: u64) -> Row {
        Row {
            id: MessageId(id),
            remote_id: remote_id.to_owned(),
            size,
            sha256: Some([u8::try_from(id).unwrap(); 32]),
            is_rewritten: false,
            is_owed: false,
            is_deleted: false,
        }
    }

    fn numbers(plan: &Plan) -> Vec<u32> {
        plan.work.iter().map(|entry| entry.number).collect()
    }

    #[test]
    fn what_has_a_row_and_nothing_against_it_is_not_read() {
        let entries = [
            entry(1, 10, "a"),
            entry(2, 20, "b"),
            entry(3, 30, "c"),
            entry(4, 10, ""),
        ];
        let rows = [row(1, "a", 10), row(2, "b", 21)];
        let mut memory = Memory::default();
        assert_eq!(numbers(&plan(&entries, &rows, &mut memory)), [2, 3, 4]);
        let deleted = Row {
            is_deleted: true,
            ..row(1, "a", 10)
        };
        let owed = Row {
            is_owed: true,
            ..row(1, "a", 10)
        };
        for row in [deleted, owed] {
            assert_eq!(numbers(&plan(&entries[..1], &[row], &mut Memory::default())), [1]);
        }
    }

    #[test]
    fn an_id_that_was_gone_or_changed_its_size_is_read_again() {
        let rows = [row(1, "a", 10), row(2, "b", 20)];
        let both = [entry(1, 10, "a"), entry(2, 20, "b")];
        let mut memory = Memory::default();
        assert_eq!(numbers(&plan(&both, &rows, &mut memory)), NOTHING);
        assert_eq!(numbers(&plan(&both[..1], &rows, &mut memory)), NOTHING);
        assert_eq!(numbers(&plan(&both, &rows, &mut memory)), [2], "it was gone");
        let mut memory = Memory {
            has_estimates: true,
            ..Memory::default()
        };
        assert_eq!(
            numbers(&plan(&[entry(1, 11, "a")], &rows, &mut memory)),
            NOTHING,
            "an estimate"
        );
        assert_eq!(
            numbers(&plan(&[entry(1, 12, "a")], &rows, &mut memory)),
            [1],
            "it changed"
        );
    }

    #[test]
    fn what_was_accepted_is_not_looked_up_again_unless_it_is_owed() {
        let entries = [entry(1, 10, "a"), entry(2, 20, "b"), entry(3, 30, "")];
        let mut memory = Memory::default();
        assert_eq!(ids_to_look_up(&entries, &[], &memory), ["a", "b"]);
        plan(&entries, &[row(1, "a", 10), row(2, "b", 20)], &mut memory);
        assert_eq!(ids_to_look_up(&entries, &[], &memory), [] as [&str; 0]);
        assert_eq!(numbers(&plan(&entries, &[], &mut memory)), [3]);
        let owed = [(MessageId(2), "b".to_owned())];
        assert_eq!(ids_to_look_up(&entries, &owed, &memory), ["b"]);
        let is_owed = Row {
            is_owed: true,
            ..row(2, "b", 20)
        };
        assert_eq!(numbers(&plan(&entries, &[is_owed], &mut memory)), [2, 3]);
        memory.reuses_ids = true;
        assert_eq!(ids_to_look_up(&entries, &[], &memory), ["a", "b"]);
    }

    #[test]
    fn a_server_caught_at_reuse_is_read_whole() {
        let rows = [row(1, "a", 10), row(2, "a", 12), row(3, "b", 20)];
        let entries = [entry(1, 10, "a"), entry(2, 20, "b")];
        let mut memory = Memory::default();
        assert_eq!(numbers(&plan(&entries, &rows, &mut memory)), [1, 2]);
        assert!(memory.reuses_ids);
        let rewritten = Row {
            is_rewritten: true,
            ..row(2, "a", 12)
        };
        let rows = [row(1, "a", 10), rewritten, row(3, "b", 20)];
        assert_eq!(numbers(&plan(&entries, &rows, &mut Memory::default())), NOTHING);
    }

    #[test]
    fn sizes_that_differ_everywhere_are_tried_on_a_few_messages() {
        let entries: Vec<_> = (1..=100).map(|n| entry(n, 11, &format!("u{n}"))).collect();
        let rows: Vec<_> = (1..=100).map(|n| row(n, &format!("u{n}"), 10)).collect();
        let plan = plan(&entries, &rows, &mut Memory::default());
        assert_eq!((plan.work.len(), plan.is_partial), (PROBES, true));
    }

    #[test]
    fn a_message_that_breaks_sessions_comes_last_alone_and_then_seldom() {
        let entries = [entry(1, 10, "a"), entry(2, 20, "b")];
        let mut memory = Memory::default();
        memory.strike(&entries[0]);
        let first = plan(&entries, &[], &mut memory);
        assert_eq!((numbers(&first), first.is_partial), (vec![2], true));
        let rows = [row(2, "b", 20)];
        memory.accepted.insert("b".into(), 20);
        assert_eq!(numbers(&plan(&entries, &rows, &mut memory)), [1]);
        memory.strike(&entries[0]);
        memory.strike(&entries[0]);
        assert_eq!(numbers(&plan(&entries, &rows, &mut memory)), NOTHING);
        assert_eq!(memory.stuck(), 1);
        assert_eq!(memory.forget_gone(&entries[1..]), ["a"]);
        assert_eq!(memory.stuck(), 0);
    }

    #[test]
    fn batches_are_bounded_by_count_and_bytes() {
        let sizes = |sizes: &[u64]| {
            let work = sizes.iter().enumerate();
            let work = work.map(|(n, size)| entry(u32::try_from(n).unwrap() + 1, *size, "x"));
            batches(work.collect()).iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&[10; 120]), [50, 50, 20]);
        assert_eq!(sizes(&[10, 30 << 20, 10, 3 << 20, 2 << 20]), [1, 1, 2, 1]);
        assert_eq!(sizes(&[]), [] as [usize; 0]);
    }
}
