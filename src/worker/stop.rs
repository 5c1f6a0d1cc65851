//! How a stop ends what waits for a server: at once what can be given up, after a while what should not.
//! It never cuts short what is being committed.

use tokio_util::sync::CancellationToken;

use super::WorkerError;

/// Time that a step may go on once the daemon is to stop.
const STOP_GRACE: std::time::Duration = std::time::Duration::from_secs(5);

/// A step that may be given up anywhere: it ends with the stop.
pub(super) async fn unless_stopped<T, E>(
    wait: impl Future<Output = Result<T, E>>,
    stop: &CancellationToken,
) -> Result<T, WorkerError>
where
    WorkerError: From<E>,
{
    tokio::select! {
        done = wait => Ok(done?),
        () = stop.cancelled() => Err(WorkerError::Stopped),
    }
}

/// Ends a short while after the stop.
pub(super) async fn grace(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(STOP_GRACE).await;
}
