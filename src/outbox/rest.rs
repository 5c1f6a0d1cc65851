//! Targets that are left alone for a while, since they are not to be had or refuse us: one try is made for all that
//! waits for them, so that nobody is flooded and no account is locked. It never ends a delivery.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::fate::delay;
use crate::outgoing::Channel;
use crate::time::Timestamp;

/// Longest rest of a receiver of events.
const SHORT_REST: Duration = Duration::from_secs(10);

/// Who rests until when, after how many failures in a row.
#[derive(Debug, Default)]
pub(super) struct Rest(Mutex<HashMap<(Channel, String), (u32, Timestamp)>>);

impl Rest {
    /// Leaves a target alone until `at`, longer after each failure.
    pub(super) fn begin(&self, target: (Channel, &str), (now, at): (Timestamp, Timestamp)) {
        let mut targets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (failures, until) = targets
            .entry((target.0, target.1.to_owned()))
            .or_insert((0, Timestamp(0)));
        *until = match target.0 {
            Channel::Mail => at.max(now.plus(delay(*failures, 0.5))),
            // A receiver that chokes on one event may like the next: the wait is that event's own.
            Channel::Webhook | Channel::Command => now.plus(delay(*failures, 0.5).min(SHORT_REST)),
        };
        *failures = failures.saturating_add(1);
    }

    /// A target works.
    pub(super) fn end(&self, target: (Channel, &str)) {
        let mut targets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        targets.remove(&(target.0, target.1.to_owned()));
    }

    /// All may work again.
    pub(super) fn end_all(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Those that rest at present.
    pub(super) fn at(&self, now: Timestamp) -> Vec<(Channel, String)> {
        let targets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let resting = targets.iter().filter(|(_, (_, until))| *until > now);
        resting.map(|(target, _)| target.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_rests_longer_after_each_failure_and_not_once_it_works() {
        let (rest, relay) = (Rest::default(), (Channel::Mail, "relay"));
        let is_resting = |now| rest.at(Timestamp(now)).len() == 1;
        rest.begin(relay, (Timestamp(100), Timestamp(105)));
        assert!(is_resting(104) && !is_resting(105));
        for _ in 0..9 {
            rest.begin(relay, (Timestamp(100), Timestamp(105)));
        }
        // Half of 5 s, doubled nine times and bounded by half of 30 min.
        assert!(is_resting(100 + 899) && !is_resting(100 + 901));
        rest.end(relay);
        for _ in 0..9 {
            rest.begin((Channel::Webhook, "https://x"), (Timestamp(100), Timestamp(9_000)));
        }
        assert!(is_resting(109) && !is_resting(110));
        rest.end_all();
        assert!(!is_resting(100));
    }
}
