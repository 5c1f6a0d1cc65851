//! How many mails a server gets within a minute: a relay that is flooded refuses everything.
//! It never loses count of a burst.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Mails to one server within [`SPAN`]: what small plans of the large relays allow.
const MOST: usize = 60;
/// The time that is looked back on.
const SPAN: Duration = Duration::from_mins(1);

/// When each server got its last mails.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<HashMap<String, VecDeque<Instant>>>);

impl Pace {
    /// Whether a server may get another mail now; if so, it counts.
    pub(super) fn may(&self, server: &str, now: Instant) -> bool {
        let mut servers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = servers.entry(server.to_owned()).or_default();
        while sent.front().is_some_and(|at| now.duration_since(*at) >= SPAN) {
            sent.pop_front();
        }
        let may = sent.len() < MOST;
        if may {
            sent.push_back(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_gets_sixty_mails_a_minute() {
        let (pace, begun) = (Pace::default(), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!((0..100).filter(|_| pace.may("a", at(0))).count(), 60);
        assert!(pace.may("b", at(0)) && !pace.may("a", at(59)));
        assert_eq!((0..100).filter(|_| pace.may("a", at(60))).count(), 60);
    }
}
