//! Wall-clock instants, the injected clock, the delays between tries, and signs of life.
//! It never sleeps.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Local, SecondsFormat, Utc};

/// An instant of the wall clock in whole seconds since 1970-01-01T00:00:00Z, as the database keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The instant as RFC 3339 in UTC, such as `2026-11-02T10:00:00Z`.
    pub fn rfc3339(self) -> String {
        DateTime::<Utc>::from_timestamp(self.0, 0)
            .unwrap_or_default()
            .to_rfc3339_opts(SecondsFormat::Secs, true)
    }

    /// The day on which it is here, such as `2026-11-02`: dates of the configuration are local, too.
    pub fn local_day(self) -> String {
        let utc = DateTime::<Utc>::from_timestamp(self.0, 0).unwrap_or_default();
        utc.with_timezone(&Local).format("%Y-%m-%d").to_string()
    }

    /// This instant and a duration, whole seconds, saturating.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)),
        )
    }

    /// The time from this instant until a later one, zero if that has passed.
    pub fn until(self, later: Self) -> Duration {
        Duration::from_secs(u64::try_from(later.0.saturating_sub(self.0)).unwrap_or(0))
    }
}

/// The source of the wall clock: the system's, or one that a test moves.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    /// Seconds added to the system's clock; tests shift it.
    shift: Arc<AtomicI64>,
}

impl Clock {
    /// The clock of the system.
    pub fn system() -> Self {
        Self::default()
    }

    /// The present instant.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    pub fn now(&self) -> Timestamp {
        Timestamp(Utc::now().timestamp() + self.shift.load(Ordering::Relaxed))
    }

    /// Moves this clock and all its clones by `seconds`, as a test does.
    pub fn shift(&self, seconds: i64) {
        self.shift.fetch_add(seconds, Ordering::Relaxed);
    }
}

/// The sign of life of one loop: it beats after each round that made progress, and the watchdog asks when it last did.
/// All clones are one heart.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    name: &'static str,
    patience: Duration,
    last: Arc<Mutex<Instant>>,
}

impl Heartbeat {
    /// A heart that may be silent for `patience`, beating now. `name` is a noun for the log, such as `writer`.
    pub fn new(name: &'static str, patience: Duration) -> Self {
        Self {
            name,
            patience,
            last: Arc::new(Mutex::new(Instant::now())),
        }
    }

    /// What it is the heart of.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Says that a round went well.
    pub fn beat(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Whether it has been silent for longer than it may. By the monotonic clock, which stands still in a suspend.
    pub fn is_late(&self, now: Instant) -> bool {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        now.saturating_duration_since(last) > self.patience
    }
}

/// First delay between tries to connect, in seconds.
const BACKOFF_FIRST: u64 = 2;
/// Longest delay between tries to connect: at most one login in 15 minutes locks no account.
const BACKOFF_LAST: u64 = 15 * 60;

/// Delay before retry `attempt` (0 = the first): 2 s, doubled up to 15 min,
/// then scaled by `jitter` in 0.5..=1.0 so that mailboxes do not knock together.
pub fn backoff(attempt: u32, jitter: f64) -> Duration {
    let seconds = BACKOFF_FIRST.saturating_mul(1_u64 << attempt.min(20)).min(BACKOFF_LAST);
    Duration::from_secs(seconds).mul_f64(jitter.clamp(0.5, 1.0))
}

/// A random factor for [`backoff`], in 0.5..=1.0.
pub fn jitter() -> f64 {
    rand::random_range(0.5..=1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_fifteen_minutes() {
        let seconds: Vec<u64> = (0..12).map(|n| backoff(n, 1.0).as_secs()).collect();
        assert_eq!(seconds, [2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900]);
        assert_eq!(backoff(0, 0.0), Duration::from_secs(1));
        assert_eq!(backoff(u32::MAX, 1.0), Duration::from_mins(15));
    }

    #[test]
    fn a_timestamp_is_printed_in_utc() {
        assert_eq!(Timestamp(0).rfc3339(), "1970-01-01T00:00:00Z");
        assert_eq!(Timestamp(10).until(Timestamp(5)), Duration::ZERO);
        assert_eq!(Timestamp(5).plus(Duration::from_secs(5)), Timestamp(10));
    }
}
