//! Failures of a worker in a row, and when they have lasted long enough to tell of them.

use std::time::{Duration, Instant};

use super::Worker;
use super::error::{self, Consequence, WorkerError};
use crate::mailbox::MailboxState;
use crate::store::mailbox;

/// Time that an outage must last before it is an alert, beside a third failed try.
const LASTING: Duration = Duration::from_secs(20);
/// Failed tries before an outage is an alert.
const LASTING_TRIES: u32 = 3;
/// A connection that holds for so long is healthy.
const HEALTHY: Duration = Duration::from_mins(1);

/// Failures in a row.
#[derive(Default)]
pub(super) struct Streak {
    /// How many.
    pub(super) failures: u32,
    since: Option<Instant>,
    /// What the failures had in common.
    state: Option<MailboxState>,
    /// Since when all is well.
    pub(super) well_since: Option<Instant>,
}

impl Streak {
    /// Counts a failure. One of another kind, or after a while of health, is a first one again: a
    /// connection that comes up and dies at once is not healthy.
    pub(super) fn count(&mut self, state: MailboxState) {
        let was_well = self.well_since.take().is_some_and(|since| since.elapsed() > HEALTHY);
        if was_well || self.state != Some(state) {
            *self = Self::default();
        }
        self.state = Some(state);
        self.failures += 1;
        self.since.get_or_insert_with(Instant::now);
    }

    /// Whether an outage has lasted long enough to tell of it.
    pub(super) fn is_lasting(&self) -> bool {
        self.failures >= LASTING_TRIES && self.since.is_some_and(|since| since.elapsed() >= LASTING)
    }
}

impl Worker {
    /// What follows from a failure that has come so often that it is no outage any more.
    pub(super) async fn lasting(&self, error: &WorkerError, failures: u32) -> Option<Consequence> {
        // Asked only where the answer matters.
        error::unopened(error, failures, true)?;
        let listed = mailbox::folder(self.store.readers(), self.id, &self.folder).await;
        let has_worked = matches!(listed, Ok(Some(_)));
        error::unopened(
            error,
            failures,
            !has_worked || self.notice.is_server_well(&self.mailbox.name),
        )
    }
}
