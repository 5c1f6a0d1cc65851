//! Which mailboxes cannot be reached at present, as their workers said last.
//! It never ends an alert for want of news: after a start or reload it waits until all have spoken, for a while.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::fold::{self, Outage, Wanted};
use crate::grant::Problem;

/// Time within which a worker finds out whether its server is there; one that waits for a token says nothing.
const FIRST_WORD: Duration = Duration::from_mins(2);

/// What the workers said.
#[derive(Default)]
pub(super) struct Outages {
    /// The server of each watched mailbox, as `host:port`.
    hosts: BTreeMap<String, String>,
    since: Option<Instant>,
    said: HashMap<String, Said>,
    /// Something was said since the alerts were last settled.
    is_new: bool,
}

enum Said {
    Reached,
    Unreachable(Problem, bool),
}

impl Outages {
    /// Watches these mailboxes, each with its server.
    pub(super) fn watch(&mut self, hosts: BTreeMap<String, String>) {
        self.said.retain(|mailbox, _| hosts.contains_key(mailbox));
        self.hosts = hosts;
        self.since = Some(Instant::now());
        self.is_new = true;
    }

    /// Whether a mailbox is watched.
    pub(super) fn knows(&self, mailbox: &str) -> bool {
        self.hosts.contains_key(mailbox)
    }

    /// A mailbox cannot be reached.
    pub(super) fn unreachable(&mut self, mailbox: &str, problem: Problem, is_lasting: bool) {
        let was_lasting = matches!(self.said.get(mailbox), Some(Said::Unreachable(_, true)));
        let said = Said::Unreachable(problem, is_lasting || was_lasting);
        self.said.insert(mailbox.to_owned(), said);
        self.is_new = true;
    }

    /// A mailbox is reached.
    pub(super) fn reached(&mut self, mailbox: &str) {
        self.said.insert(mailbox.to_owned(), Said::Reached);
        self.is_new = true;
    }

    /// Whether there is something to settle.
    pub(super) fn is_new(&self) -> bool {
        self.is_new
    }

    /// The alerts could not be settled: once more.
    pub(super) fn repeat(&mut self) {
        self.is_new = true;
    }

    /// The alerts that should be open. `None`: what is open stays as it is, since not all have spoken.
    pub(super) fn wanted(&mut self, is_any_open: bool) -> Option<Vec<Wanted>> {
        let is_early = self.since.is_none_or(|since| since.elapsed() < FIRST_WORD);
        let is_silent = |mailbox: &String| !self.said.contains_key(mailbox);
        if is_any_open && is_early && self.hosts.keys().any(is_silent) {
            return None;
        }
        self.is_new = false;
        let mut mailboxes: BTreeMap<String, usize> = BTreeMap::new();
        for host in self.hosts.values() {
            *mailboxes.entry(host.clone()).or_default() += 1;
        }
        let outages = self
            .hosts
            .iter()
            .filter_map(|(mailbox, host)| self.outage(mailbox, host));
        Some(fold::outages(&outages.collect::<Vec<_>>(), &mailboxes))
    }

    fn outage(&self, mailbox: &str, host: &str) -> Option<Outage> {
        match self.said.get(mailbox)? {
            Said::Reached => None,
            Said::Unreachable(problem, is_lasting) => Some(Outage {
                mailbox: mailbox.to_owned(),
                host: host.to_owned(),
                problem: problem.clone(),
                is_lasting: *is_lasting,
            }),
        }
    }
}
