//! The bound that a worker sets itself: past it, it is stuck, and its keeper starts it anew.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longest time without a sign of life: every command to a server has a far shorter bound of its own.
const BOUND: Duration = Duration::from_mins(15);

/// Until when a worker is expected to give a sign of life.
#[derive(Debug, Clone)]
pub struct Pulse {
    until: Arc<Mutex<Instant>>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            until: Arc::new(Mutex::new(Instant::now() + BOUND)),
        }
    }
}

impl Pulse {
    /// Gives a sign of life.
    pub fn beat(&self) {
        self.rest(Duration::ZERO);
    }

    /// Gives a sign of life, and says that it will rest for a while.
    pub fn rest(&self, rest: Duration) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + rest + BOUND;
    }

    /// Whether the worker is past its bound.
    pub fn is_overdue(&self) -> bool {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) < Instant::now()
    }
}
