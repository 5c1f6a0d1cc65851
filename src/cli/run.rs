//! `run`: the daemon in the foreground, as systemd wants it.

use std::os::unix::process::CommandExt as _;
use std::path::Path;

use tracing::error;

use super::context::{self, Failure, OK};
use crate::daemon::{self, DaemonError};
use crate::fault::chain;
use crate::log;

/// Stack of a worker thread in bytes: hostile MIME nests deeply, and only touched pages count.
const STACK_BYTES: usize = 8 << 20;
/// Threads that run tasks; waiting costs none.
const THREADS: usize = 4;
/// Threads that parse.
const BLOCKING_THREADS: usize = 16;

/// Runs the daemon until it is told to stop. In the journal a failure is an entry of its own, with its
/// priority; at a terminal it is a complaint like that of any command.
///
/// # Errors
/// Any [`Failure`].
pub fn run(path: &Path) -> Result<u8, Failure> {
    share_heap();
    let log =
        log::init(tracing::Level::INFO).map_err(|error| Failure::Failed(format!("cannot start the log: {error}")))?;
    match try_run(path, log) {
        Err(failure) if log::leads_to_journal() => {
            match &failure {
                Failure::Configuration(_) => error!(event = "config.refused", "{failure}"),
                other => error!("{other}"),
            }
            Ok(failure.code())
        }
        other => other,
    }
}

/// Begins anew with one heap for all threads. The C library gives each thread one of its own, and a thread that takes
/// mail seldom gives its back: of a backlog a fifth more would be held. The limit is read when a process begins, and only
/// then. Where that fails it goes on as it is.
fn share_heap() {
    const LIMIT: &str = "MALLOC_ARENA_MAX";
    if cfg!(target_env = "gnu")
        && std::env::var_os(LIMIT).is_none()
        && let Ok(program) = std::env::current_exe()
    {
        let mut arguments = std::env::args_os();
        let name = arguments.next().unwrap_or_else(|| program.clone().into());
        let error = std::process::Command::new(program)
            .arg0(name)
            .args(arguments)
            .env(LIMIT, "1")
            .exec();
        tracing::debug!(%error, "could not begin anew with one heap");
    }
}

fn try_run(path: &Path, log: log::Handle) -> Result<u8, Failure> {
    let config = context::load_or_explain(path)?;
    context::become_owner(&config.daemon.state_dir)?;
    context::make_state_dir(&config.daemon.state_dir)?;
    log.set_level(config.daemon.log.into());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(1, usize::from).min(THREADS))
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("cannot start the runtime: {error}")))?;
    let ended = runtime.block_on(daemon::run(config, log));
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    ended.map(|()| OK).map_err(failure)
}

fn failure(error: DaemonError) -> Failure {
    match error {
        DaemonError::Running(state_dir) => Failure::Running(state_dir),
        DaemonError::Store(error) => Failure::Store(error),
        DaemonError::TokenKey(text) => Failure::Unusable(text),
        other => Failure::Failed(chain(&other)),
    }
}
