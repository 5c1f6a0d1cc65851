//! How long mail takes from the moment that we learn of it until it is committed.
//! It counts in this process alone, and begins anew with it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::text::Text;

/// Upper bounds of the buckets, with their labels: from one mail under IDLE to a large backlog.
const BOUNDS: [(Duration, &str); 12] = [
    (Duration::from_millis(50), "0.05"),
    (Duration::from_millis(100), "0.1"),
    (Duration::from_millis(250), "0.25"),
    (Duration::from_millis(500), "0.5"),
    (Duration::from_secs(1), "1"),
    (Duration::from_millis(2500), "2.5"),
    (Duration::from_secs(5), "5"),
    (Duration::from_secs(10), "10"),
    (Duration::from_secs(30), "30"),
    (Duration::from_mins(1), "60"),
    (Duration::from_mins(5), "300"),
    (Duration::from_hours(1), "3600"),
];

/// A distribution of durations.
#[derive(Debug, Default)]
pub struct Histogram {
    /// How many were within each bound but not within the one before.
    buckets: [AtomicU64; BOUNDS.len()],
    count: AtomicU64,
    sum_us: AtomicU64,
}

impl Histogram {
    /// Adds `count` of a duration.
    pub fn observe(&self, duration: Duration, count: u64) {
        let place = BOUNDS
            .iter()
            .zip(&self.buckets)
            .find(|((bound, _), _)| duration <= *bound);
        if let Some((_, bucket)) = place {
            bucket.fetch_add(count, Ordering::Relaxed);
        }
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.sum_us.fetch_add(us.saturating_mul(count), Ordering::Relaxed);
        self.count.fetch_add(count, Ordering::Relaxed);
    }

    /// Writes it; buckets are cumulative.
    pub(super) fn write(&self, text: &mut Text) {
        text.histogram(
            "ingest_duration_seconds",
            "Time from the notification of a message to its commit.",
        );
        let mut within = 0;
        for ((_, label), bucket) in BOUNDS.iter().zip(&self.buckets) {
            within += bucket.load(Ordering::Relaxed);
            text.sample("ingest_duration_seconds_bucket", &[("le", label)], within);
        }
        // An observation under way may stand in a bucket and not yet in the count.
        let count = self.count.load(Ordering::Relaxed).max(within);
        text.sample("ingest_duration_seconds_bucket", &[("le", "+Inf")], count);
        let sum = Duration::from_micros(self.sum_us.load(Ordering::Relaxed));
        text.sample("ingest_duration_seconds_sum", &[], sum.as_secs_f64());
        text.sample("ingest_duration_seconds_count", &[], count);
    }
}

/// Measures from when a worker learned of mail: of one folder.
#[derive(Debug)]
pub struct Stopwatch {
    histogram: Arc<Histogram>,
    since: Mutex<Instant>,
}

impl Stopwatch {
    /// One that runs from now on.
    pub fn new(histogram: Arc<Histogram>) -> Self {
        Self {
            histogram,
            since: Mutex::new(Instant::now()),
        }
    }

    /// Mail is noticed now.
    pub fn start(&self) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// So many messages are committed now.
    pub fn lap(&self, count: u64) {
        let since = *self.since.lock().unwrap_or_else(PoisonError::into_inner);
        self.histogram.observe(since.elapsed(), count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_the_last_holds_all() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_millis(40), 2);
        histogram.observe(Duration::from_millis(300), 1);
        histogram.observe(Duration::from_hours(2), 1);
        let mut text = Text::default();
        histogram.write(&mut text);
        let text = text.finish();
        for line in [
            "_bucket{le=\"0.05\"} 2\n",
            "_bucket{le=\"0.25\"} 2\n",
            "_bucket{le=\"0.5\"} 3\n",
            "_bucket{le=\"3600\"} 3\n",
            "_bucket{le=\"+Inf\"} 4\n",
            "_sum 7200.38\n",
            "_count 4\n",
        ] {
            assert!(
                text.contains(&format!("mailintake_ingest_duration_seconds{line}")),
                "{line}{text}"
            );
        }
    }
}
