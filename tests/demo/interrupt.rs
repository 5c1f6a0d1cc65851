//! Ctrl-C and its like end the show in order: every wait looks here, and leaving it cleans up.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(10);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Why a wait ended without what it waited for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Ended {
    /// The person or the system wants the show to end.
    #[error("interrupted")]
    Interrupted,
    /// It did not come in time.
    #[error("not within {} s", .0.as_secs())]
    TooLate(Duration),
}

/// Takes over SIGINT, SIGTERM and SIGHUP; returns once they are.
pub(crate) fn watch() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (ready, is_ready) = mpsc::channel();
    std::thread::spawn(move || {
        runtime.block_on(async {
            let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
            let signals: io::Result<Vec<_>> = kinds.into_iter().map(signal).collect();
            let mut signals = match signals {
                Ok(signals) => signals,
                Err(error) => return drop(ready.send(Err(error))),
            };
            drop(ready.send(Ok(())));
            let any = signals.iter_mut().map(|signal| Box::pin(signal.recv()));
            futures::future::select_all(any).await;
            INTERRUPTED.store(true, Ordering::SeqCst);
        });
    });
    is_ready.recv().map_err(io::Error::other)?
}

/// Looks until `look` finds something, for `limit` at most.
pub(crate) fn wait<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Result<T, Ended> {
    let until = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if INTERRUPTED.load(Ordering::SeqCst) {
            return Err(Ended::Interrupted);
        }
        if Instant::now() >= until {
            return Err(Ended::TooLate(limit));
        }
        std::thread::sleep(POLL);
    }
}
