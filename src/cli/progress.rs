//! How far long work is, on the terminal of standard error; nothing where that is none.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Time between two looks.
const EVERY: Duration = Duration::from_millis(200);

/// Work that takes long.
pub struct Progress {
    is_shown: bool,
    total: Option<usize>,
    done: usize,
    begun: Instant,
    told: Option<Instant>,
}

impl Progress {
    /// Begins; `total` is what is to be done, where that is known.
    pub fn new(total: Option<usize>) -> Self {
        Self {
            is_shown: std::io::stderr().is_terminal(),
            total,
            done: 0,
            begun: Instant::now(),
            told: None,
        }
    }

    /// Whether anybody sees it.
    pub fn is_shown(&self) -> bool {
        self.is_shown
    }

    /// So many more are to be done.
    pub fn expect(&mut self, count: usize) {
        self.total = Some(self.total.unwrap_or_default() + count);
    }

    /// So many more are done.
    pub fn add(&mut self, count: usize) {
        self.done += count;
        if self.is_shown && self.told.unwrap_or(self.begun).elapsed() >= EVERY {
            self.told = Some(Instant::now());
            // A terminal that is gone misses nothing.
            let line = text(self.done, self.total, self.begun.elapsed());
            write!(std::io::stderr(), "\r\x1b[K{line}").unwrap_or_default();
        }
    }
}

/// Leaves the line empty.
impl Drop for Progress {
    fn drop(&mut self) {
        if self.told.is_some() {
            write!(std::io::stderr(), "\r\x1b[K").unwrap_or_default();
        }
    }
}

/// Such as `[#####.....] 5000 of 10000, 1250/s, 4 s left`.
fn text(done: usize, total: Option<usize>, elapsed: Duration) -> String {
    const WIDTH: usize = 30;
    let rate = done as u128 * 1000 / elapsed.as_millis().max(1);
    let Some(total) = total.filter(|total| *total >= done && *total > 0) else {
        return format!("{done} messages, {rate}/s");
    };
    let filled = done * WIDTH / total;
    let left = (total - done) as u128 / rate.max(1);
    format!(
        "[{}{}] {done} of {total}, {rate}/s, {left} s left",
        "#".repeat(filled),
        ".".repeat(WIDTH - filled)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_says_how_much_how_fast_and_how_long() {
        let second = Duration::from_secs(4);
        assert_eq!(
            text(5000, Some(10000), second),
            format!("[{}{}] 5000 of 10000, 1250/s, 4 s left", "#".repeat(15), ".".repeat(15))
        );
        assert_eq!(text(8, None, second), "8 messages, 2/s");
        assert_eq!(text(0, Some(0), Duration::ZERO), "0 messages, 0/s");
    }
}
