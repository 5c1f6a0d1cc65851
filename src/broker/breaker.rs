//! Who may knock at a host that does not answer: where several grants have heard nothing, one at a time for all.
//! It never holds back a request to a host that answers, whatever it says.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use url::Url;

use crate::oauth::failure::TokenFailure;
use crate::store::grant::GrantId;
use crate::time::Timestamp;

/// So many grants must have heard nothing before the host counts as gone.
const ENOUGH: usize = 3;
/// Time between two requests to a host that is gone; longer than one may last (12 s).
const BETWEEN_PROBES: Duration = Duration::from_secs(30);

/// The hosts that do not answer. Each process has its own.
#[derive(Default)]
pub(super) struct Breaker {
    silent: Mutex<HashMap<String, Silence>>,
}

struct Silence {
    /// Who has heard nothing since the host last answered.
    grants: HashSet<GrantId>,
    /// What the last of them saw.
    failure: TokenFailure,
    /// When the next may ask, while the host counts as gone.
    probe_at: Timestamp,
}

impl Breaker {
    /// Whether a grant must not ask now, and why. Who may is the probe for all others.
    pub(super) fn held(&self, host: &str, now: Timestamp) -> Option<TokenFailure> {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        let silence = silent.get_mut(host).filter(|silence| silence.grants.len() >= ENOUGH)?;
        // The clock may have been set back meanwhile.
        let is_early = silence.probe_at > now && silence.probe_at <= now.plus(BETWEEN_PROBES);
        if is_early {
            return Some(silence.failure.clone());
        }
        silence.probe_at = now.plus(BETWEEN_PROBES);
        None
    }

    /// A grant has heard nothing.
    pub(super) fn unheard(&self, host: &str, grant: GrantId, failure: &TokenFailure, now: Timestamp) {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        let silence = silent.entry(host.to_owned()).or_insert_with(|| Silence {
            grants: HashSet::new(),
            failure: failure.clone(),
            probe_at: now,
        });
        silence.grants.insert(grant);
        silence.failure = failure.clone();
        silence.probe_at = now.plus(BETWEEN_PROBES);
    }

    /// The host has answered. `true`: it counted as gone, so that others were held back.
    pub(super) fn heard(&self, host: &str) -> bool {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        silent
            .remove(host)
            .is_some_and(|silence| silence.grants.len() >= ENOUGH)
    }

    /// Lets everybody ask again, as after a reload.
    pub(super) fn reset(&self) {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Scheme, host and port of an endpoint.
pub(super) fn host_of(endpoint: &str) -> String {
    Url::parse(endpoint).map_or_else(|_| endpoint.to_owned(), |url| url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    #[test]
    fn three_that_hear_nothing_make_one_ask_for_all() {
        let breaker = Breaker::default();
        let failure = TokenFailure::transient("timeout", "no answer");
        let (host, other) = ("https://idp.example.org", "https://other.example.org");
        let at = |seconds: i64| Timestamp(NOW.0 + seconds);
        for (grant, is_held) in [(1, false), (1, false), (1, false), (2, false), (3, true)] {
            breaker.unheard(host, GrantId(grant), &failure, NOW);
            assert_eq!(breaker.held(host, NOW).is_some(), is_held, "grant {grant}");
        }
        assert!(breaker.held(other, NOW).is_none());
        assert!(breaker.held(host, at(29)).is_some());
        assert!(breaker.held(host, at(30)).is_none(), "the probe");
        assert!(breaker.held(host, at(31)).is_some(), "beside the probe");
        assert!(breaker.held(host, at(-9999)).is_none(), "the clock was set back");
        assert!(breaker.heard(host) && !breaker.heard(host));
        assert!(breaker.held(host, NOW).is_none());
    }

    #[test]
    fn tenants_share_a_host() {
        let of = |tenant| host_of(&format!("https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token"));
        assert_eq!(of("a"), of("b"));
        assert_ne!(host_of("http://127.0.0.1:1/token"), host_of("http://127.0.0.1:2/token"));
    }
}
