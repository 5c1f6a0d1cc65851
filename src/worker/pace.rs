//! How far a long catching-up is, told now and then in the journal.
//! It never tells of what is done in a moment.

use std::time::{Duration, Instant};

/// Time between two lines.
const EVERY: Duration = Duration::from_secs(10);

/// A backlog that is being taken.
pub(super) struct Pace {
    total: u64,
    done: u64,
    begun: Instant,
    told: Instant,
}

impl Pace {
    /// Begins with so many messages.
    pub(super) fn new(total: u64) -> Self {
        let now = Instant::now();
        Self {
            total,
            done: 0,
            begun: now,
            told: now,
        }
    }

    /// So many more are taken; gives what there is to tell, if it is time.
    pub(super) fn add(&mut self, count: u64) -> Option<String> {
        self.done = self.done.saturating_add(count);
        if self.told.elapsed() < EVERY {
            return None;
        }
        self.told = Instant::now();
        Some(text(self.done, self.total, self.begun.elapsed()))
    }
}

/// Such as `took 5000 of 10000 messages, 1250 a second, 4 s left`.
fn text(done: u64, total: u64, elapsed: Duration) -> String {
    let milliseconds = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    let rate = done.saturating_mul(1000) / milliseconds;
    let left = total.saturating_sub(done) / rate.max(1);
    format!("took {done} of {total} messages, {rate} a second, {left} s left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_says_how_much_how_fast_and_how_long() {
        assert_eq!(
            text(5_000, 10_000, Duration::from_secs(4)),
            "took 5000 of 10000 messages, 1250 a second, 4 s left"
        );
        assert_eq!(
            text(1, 2, Duration::ZERO),
            "took 1 of 2 messages, 1000 a second, 0 s left"
        );
        assert_eq!(Pace::new(5).add(1), None);
    }
}
