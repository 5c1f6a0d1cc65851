//! What systemd is told: ready, reloading, stopping, one line of state, and a sign of life that is earned.
//! It never fails the daemon: without systemd, or where its socket is gone, nothing is said.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use crate::mailbox::MailboxState;
use crate::time::Heartbeat;

/// Says that the daemon serves: after migrations and the lock, and again after a reload. `status` as of [`status_text`].
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Says that the configuration is read again; [`ready`] must follow, whatever comes of it.
pub fn reloading() {
    // Type=notify-reload (systemd 253) measures by this instant that the reload is newer than its signal.
    match NotifyState::monotonic_usec_now() {
        Ok(instant) => tell(&[NotifyState::Reloading, instant]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// Says that the daemon ends by intention.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// Replaces the line that `systemctl status` shows.
pub fn status(text: &str) {
    tell(&[NotifyState::Status(text)]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        debug!(error = %crate::fault::chain(&error), "could not notify systemd");
    }
}

/// The states of all mailboxes in one line: `3 mailboxes: 2 watching, 1 needs authorization`. Good news first.
pub fn status_text(states: &[MailboxState]) -> String {
    let total = match states.len() {
        0 => return "no mailboxes".to_owned(),
        1 => "1 mailbox".to_owned(),
        many => format!("{many} mailboxes"),
    };
    let counts: Vec<String> = ORDER
        .iter()
        .map(|asked| (asked, states.iter().filter(|state| *state == asked).count()))
        .filter(|(_, count)| *count > 0)
        .map(|(state, count)| format!("{count} {}", words(*state, count)))
        .collect();
    format!("{total}: {}", counts.join(", "))
}

/// The order in which states are told.
const ORDER: [MailboxState; 8] = [
    MailboxState::Watching,
    MailboxState::Fetching,
    MailboxState::Connecting,
    MailboxState::BackingOff,
    MailboxState::NeedsAuthorization,
    MailboxState::NeedsAdmin,
    MailboxState::Misconfigured,
    MailboxState::Stopped,
];

/// A state in words that follow a number.
fn words(state: MailboxState, count: usize) -> &'static str {
    match (state, count) {
        (MailboxState::Watching, _) => "watching",
        (MailboxState::Fetching, _) => "fetching",
        (MailboxState::Connecting, _) => "connecting",
        (MailboxState::BackingOff, _) => "backing off",
        (MailboxState::NeedsAuthorization, 1) => "needs authorization",
        (MailboxState::NeedsAuthorization, _) => "need authorization",
        (MailboxState::NeedsAdmin, 1) => "needs an administrator",
        (MailboxState::NeedsAdmin, _) => "need an administrator",
        (MailboxState::Misconfigured, _) => "misconfigured",
        (MailboxState::Stopped, _) => "stopped",
    }
}

/// Tells systemd that the daemon lives, while all that it vouches for shows progress. A heart that stops withholds the
/// sign, and systemd restarts the process (`WatchdogSec=`).
#[derive(Debug, Default)]
pub struct Watchdog {
    /// Within this time systemd wants a sign; `None` where it wants none.
    limit: Option<Duration>,
    hearts: Vec<Heartbeat>,
}

impl Watchdog {
    /// A watchdog as systemd asks for it by `$WATCHDOG_USEC`, in microseconds.
    pub fn from_environment() -> Self {
        Self {
            limit: sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()),
            hearts: Vec::new(),
        }
    }

    /// Vouches from now on for one more heart.
    pub fn watch(&mut self, heart: Heartbeat) {
        self.hearts.push(heart);
    }

    /// Gives signs until `stop`, a third of the limit apart, so that one may be lost. Ends at once where none is wanted.
    pub async fn run(self, stop: CancellationToken) {
        let Some(limit) = self.limit else { return };
        let mut tick = tokio::time::interval(limit / 3);
        let mut silent = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            let stalled = self.stalled(Instant::now());
            if stalled.is_none() {
                tell(&[NotifyState::Watchdog]);
            }
            report(silent, stalled);
            silent = stalled;
        }
    }

    /// The first heart that has not beaten for longer than it may.
    fn stalled(&self, now: Instant) -> Option<&'static str> {
        self.hearts.iter().find(|heart| heart.is_late(now)).map(Heartbeat::name)
    }
}

/// Logs a heart that stopped or came back, each once.
fn report(before: Option<&'static str>, now: Option<&'static str>) {
    match (before, now) {
        (None, Some(name)) => error!(
            step = name,
            "the {name} makes no progress; systemd will restart the daemon unless it recovers"
        ),
        (Some(name), None) => info!(step = name, "the {name} makes progress again"),
        (None, None) | (Some(_), Some(_)) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_counts_states_good_news_first() {
        use MailboxState::{BackingOff, Misconfigured, NeedsAuthorization, Watching};
        for (states, text) in [
            (vec![], "no mailboxes"),
            (vec![Watching], "1 mailbox: 1 watching"),
            (
                vec![NeedsAuthorization, Watching, Watching],
                "3 mailboxes: 2 watching, 1 needs authorization",
            ),
            (
                vec![Misconfigured, NeedsAuthorization, NeedsAuthorization, BackingOff],
                "4 mailboxes: 1 backing off, 2 need authorization, 1 misconfigured",
            ),
        ] {
            assert_eq!(status_text(&states), text);
        }
    }

    #[test]
    fn every_state_is_counted() {
        for state in ORDER {
            assert!(status_text(&[state]).starts_with("1 mailbox: 1 "), "{state:?}");
        }
        assert!(MailboxState::ALL.iter().all(|state| ORDER.contains(state)));
    }

    #[test]
    fn a_heart_that_stops_is_named() {
        let mut watchdog = Watchdog::default();
        let (writer, scheduler) = (
            Heartbeat::new("writer", Duration::from_mins(1)),
            Heartbeat::new("scheduler", Duration::from_secs(10)),
        );
        watchdog.watch(writer.clone());
        watchdog.watch(scheduler);
        let now = Instant::now();
        assert_eq!(watchdog.stalled(now), None);
        assert_eq!(watchdog.stalled(now + Duration::from_secs(11)), Some("scheduler"));
        assert_eq!(watchdog.stalled(now + Duration::from_secs(61)), Some("writer"));
        writer.beat();
        assert_eq!(watchdog.stalled(Instant::now()), None);
    }
}
