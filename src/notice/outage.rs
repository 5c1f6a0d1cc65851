//! Which mailboxes cannot be reached at present or are refused, as their workers said last.
//! It never ends an alert for want of news: after a start or reload it waits until all have spoken, for a while.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::fold::{self, Outage, Refused, Wanted};
use crate::alert::{AlertKind, Finding};
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
    /// Why a server refuses a mailbox.
    refused: BTreeMap<(AlertKind, String), Problem>,
    /// Something was said about refusals that stand in one alert, or now do.
    are_refusals_new: bool,
}

enum Said {
    Reached,
    Unreachable(Problem, bool),
}

impl Outages {
    /// Watches these mailboxes, each with its server.
    pub(super) fn watch(&mut self, hosts: BTreeMap<String, String>) {
        self.said.retain(|mailbox, _| hosts.contains_key(mailbox));
        self.refused.retain(|(_, mailbox), _| hosts.contains_key(mailbox));
        self.are_refusals_new = true;
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

    /// Whether another mailbox of the same server was reached when it was looked at last.
    pub(super) fn is_server_well(&self, mailbox: &str) -> bool {
        let host = self.hosts.get(mailbox);
        let is_well = |(other, its): (&String, &String)| {
            let is_refused = self.refused.keys().any(|(_, refused)| refused == other);
            other != mailbox && Some(its) == host && !is_refused && matches!(self.said.get(other), Some(Said::Reached))
        };
        host.is_some() && self.hosts.iter().any(is_well)
    }

    /// The server of a watched mailbox.
    pub(super) fn host_of(&self, mailbox: &str) -> Option<String> {
        self.hosts.get(mailbox).cloned()
    }

    /// Whether an alert may be about several mailboxes of one server.
    pub(super) fn is_host(&self, subject: &str) -> bool {
        self.hosts.values().any(|host| host == subject)
    }

    /// A mailbox is refused; gives how many of its server are refused alike.
    pub(super) fn refuse(&mut self, finding: &Finding) -> usize {
        let place = (finding.kind, finding.subject.clone());
        self.refused.insert(place, finding.problem.clone());
        let host = self.hosts.get(&finding.subject);
        let is_alike = |((kind, mailbox), problem): &(&(AlertKind, String), &Problem)| {
            *kind == finding.kind && problem.code == finding.problem.code && self.hosts.get(mailbox) == host
        };
        self.refused.iter().filter(is_alike).count()
    }

    /// A mailbox is refused no longer.
    pub(super) fn accept(&mut self, kind: AlertKind, mailbox: &str) {
        self.refused.remove(&(kind, mailbox.to_owned()));
    }

    /// Whether an alert about a refusal is settled here: that of a server, or of a mailbox that has said so itself.
    pub(super) fn is_of_refusals(&self, open: &Finding) -> bool {
        let place = (open.kind, open.subject.clone());
        self.is_host(&open.subject) || self.refused.contains_key(&place)
    }

    /// Whether there are refusals to settle.
    pub(super) fn are_refusals_new(&self) -> bool {
        self.are_refusals_new
    }

    /// The refusals are to be settled.
    pub(super) fn settle_refusals(&mut self) {
        self.are_refusals_new = true;
    }

    /// What is refused. `None`: one alert tells of several, and not all have spoken yet.
    pub(super) fn refusals(&mut self, is_any_open: bool) -> Option<Vec<Refused>> {
        let is_silent = |mailbox: &String| {
            let has_refused = self.refused.keys().any(|(_, refused)| refused == mailbox);
            !self.said.contains_key(mailbox) && !has_refused
        };
        let is_early = self.since.is_none_or(|since| since.elapsed() < FIRST_WORD);
        if is_any_open && is_early && self.hosts.keys().any(is_silent) {
            return None;
        }
        self.are_refusals_new = false;
        let of_host = |((kind, mailbox), problem): (&(AlertKind, String), &Problem)| {
            Some(Refused {
                kind: *kind,
                mailbox: mailbox.clone(),
                host: self.hosts.get(mailbox)?.clone(),
                problem: problem.clone(),
            })
        };
        Some(self.refused.iter().filter_map(of_host).collect())
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
