//! What the folders of one mailbox say of themselves, as one condition, written where `status` reads it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::{info, warn};

use crate::fault::chain;
use crate::grant::Problem;
use crate::mailbox::{MailboxId, MailboxState};
use crate::store::mailbox::{self, Condition};
use crate::store::{Store, StoreError};
use crate::time::{Clock, Timestamp};

/// Shortest time between two writes of when a mailbox was last looked at, in seconds.
const CHECKED_EVERY: i64 = 5;

/// The condition of one mailbox, shared by the workers of its folders.
#[derive(Clone)]
pub struct Board {
    id: MailboxId,
    store: Store,
    clock: Clock,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    folders: BTreeMap<String, Condition>,
    written: Option<Condition>,
    checked_at: Option<Timestamp>,
    /// Another board speaks for the mailbox now.
    is_closed: bool,
}

impl Board {
    /// The board of a mailbox with these folders, all of them connecting.
    pub fn new(id: MailboxId, folders: &[String], store: Store, clock: Clock) -> Self {
        let start = Condition {
            state: MailboxState::Connecting,
            backlog: 0,
            error: None,
        };
        Self {
            id,
            store,
            clock,
            inner: Arc::new(Mutex::new(Inner {
                folders: folders.iter().map(|name| (name.clone(), start.clone())).collect(),
                ..Inner::default()
            })),
        }
    }

    /// Falls silent, as another board speaks for the mailbox from now on: workers that are told to stop still
    /// finish what they have in hand, and would overwrite what the new ones say.
    pub fn close(&self) {
        self.lock().is_closed = true;
    }

    /// The state of the mailbox as a whole.
    pub fn state(&self) -> MailboxState {
        summarize(self.lock().folders.values()).state
    }

    /// Says how a folder is; what changes is written at once.
    pub async fn set(&self, folder: &str, state: MailboxState, error: Option<Problem>) {
        let changed = self.change(folder, |condition| {
            condition.state = state;
            condition.error = error;
        });
        self.write(changed).await;
    }

    /// Says that so many messages of a folder are being taken.
    pub async fn set_fetching(&self, folder: &str, backlog: u64) {
        let changed = self.change(folder, |condition| {
            *condition = Condition {
                state: MailboxState::Fetching,
                backlog,
                error: None,
            };
        });
        self.write(changed).await;
    }

    /// Says how many messages of a folder wait.
    pub async fn set_backlog(&self, folder: &str, backlog: u64) {
        let changed = self.change(folder, |condition| condition.backlog = backlog);
        self.write(changed).await;
    }

    /// Says that a folder was looked at.
    pub async fn checked(&self) {
        let now = self.clock.now();
        {
            let mut inner = self.lock();
            if inner.checked_at.is_some_and(|at| now.0 - at.0 < CHECKED_EVERY) {
                return;
            }
            inner.checked_at = Some(now);
        }
        if let Err(error) = self.try_write_checked(now).await {
            warn!(error = %chain(&error), "could not record when the mailbox was looked at");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, folder: &str, change: impl FnOnce(&mut Condition)) -> Option<Condition> {
        let mut inner = self.lock();
        if inner.is_closed {
            return None;
        }
        if let Some(condition) = inner.folders.get_mut(folder) {
            change(condition);
        }
        let now = summarize(inner.folders.values());
        if inner.written.as_ref() == Some(&now) {
            return None;
        }
        tell_state(inner.written.as_ref(), &now);
        inner.written = Some(now.clone());
        Some(now)
    }

    async fn write(&self, changed: Option<Condition>) {
        let Some(condition) = changed else { return };
        if let Err(error) = self.try_write(&condition).await {
            // Written again at the next change.
            self.lock().written = None;
            warn!(error = %chain(&error), "could not record the state of the mailbox");
        }
    }

    async fn try_write(&self, condition: &Condition) -> Result<(), StoreError> {
        let mut write = self.store.write_lightly().await?;
        mailbox::set_condition(write.connection()?, self.id, condition, self.clock.now()).await?;
        write.commit().await
    }

    async fn try_write_checked(&self, now: Timestamp) -> Result<(), StoreError> {
        let mut write = self.store.write_lightly().await?;
        mailbox::set_checked(write.connection()?, &[(self.id, now)]).await?;
        write.commit().await
    }
}

/// Connections that come and go are told where they matter: when the mailbox is watched, and when no longer.
fn tell_state(before: Option<&Condition>, now: &Condition) {
    let was_up = before.is_some_and(|condition| is_up(condition.state));
    if is_up(now.state) && !was_up {
        info!(
            event = "mailbox.connected",
            state = now.state.as_str(),
            "the mailbox is being watched"
        );
    }
    if !is_up(now.state) && was_up {
        let summary = now
            .error
            .as_ref()
            .map_or("the session ended", |problem| problem.summary.as_str());
        info!(
            event = "mailbox.disconnected",
            state = now.state.as_str(),
            "no longer watched: {summary}"
        );
    }
}

fn is_up(state: MailboxState) -> bool {
    matches!(state, MailboxState::Watching | MailboxState::Fetching)
}

/// The worst state of any folder, with its error; the backlogs add up.
fn summarize<'c>(folders: impl Iterator<Item = &'c Condition>) -> Condition {
    let mut sum = Condition {
        state: MailboxState::Watching,
        backlog: 0,
        error: None,
    };
    for folder in folders {
        sum.backlog += folder.backlog;
        if rank(folder.state) > rank(sum.state) {
            sum.state = folder.state;
        }
        if sum.error.is_none() || rank(folder.state) == rank(sum.state) {
            sum.error = folder.error.clone().or(sum.error);
        }
    }
    sum
}

fn rank(state: MailboxState) -> u8 {
    match state {
        MailboxState::Watching => 0,
        MailboxState::Fetching => 1,
        MailboxState::Connecting => 2,
        MailboxState::BackingOff => 3,
        MailboxState::Stopped => 4,
        MailboxState::Misconfigured => 5,
        MailboxState::NeedsAdmin => 6,
        MailboxState::NeedsAuthorization => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_is_as_bad_as_its_worst_folder() {
        let condition = |state, backlog, error: Option<&str>| Condition {
            state,
            backlog,
            error: error.map(|code| Problem {
                code: code.into(),
                summary: String::new(),
                remedy: String::new(),
            }),
        };
        let folders = [
            condition(MailboxState::Watching, 1, None),
            condition(MailboxState::BackingOff, 2, Some("x")),
            condition(MailboxState::Fetching, 3, None),
        ];
        assert_eq!(
            summarize(folders.iter()),
            condition(MailboxState::BackingOff, 6, Some("x"))
        );
        assert_eq!(summarize(folders[..1].iter()).state, MailboxState::Watching);
    }
}
