//! `mailintake run` beside the show: its log is shown as it comes and waited on. It never outlives the show.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::interrupt::wait;
use crate::narrator::Narrator;

/// The daemon stops within 20 s; beyond this it is stuck.
const STOP_LIMIT: Duration = Duration::from_secs(25);
/// How long a daemon may take to stop when the show is broken off.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

type Lines = Arc<Mutex<Vec<String>>>;

/// A running daemon.
pub(crate) struct Daemon {
    child: Child,
    lines: Lines,
    reader: Option<JoinHandle<()>>,
}

/// A place in the log: what came before does not count.
#[derive(Clone, Copy)]
pub(crate) struct Mark(usize);

impl Mark {
    /// The first line.
    pub(crate) const BEGINNING: Self = Self(0);
}

impl Daemon {
    /// Starts it by its command.
    pub(crate) fn start(mut command: Command, narrator: &Arc<Narrator>) -> Result<Self> {
        let command = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start the daemon")?;
        let stderr = child.stderr.take().context("the daemon has no log")?;
        let lines = Lines::default();
        let (sink, narrator) = (Arc::clone(&lines), Arc::clone(narrator));
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                narrator.log(&line);
                lock(&sink).push(line);
            }
        });
        Ok(Self {
            child,
            lines,
            reader: Some(reader),
        })
    }

    /// The present end of the log.
    pub(crate) fn mark(&self) -> Mark {
        Mark(lock(&self.lines).len())
    }

    /// The line after `mark` that has all of these words, as soon as it is there.
    pub(crate) fn line(&mut self, mark: Mark, words: &[&str], limit: Duration) -> Result<String> {
        let found = wait(limit, || match self.child.try_wait() {
            Ok(Some(status)) => Some(Err(anyhow!("the daemon ended: {status}"))),
            Ok(None) | Err(_) => self.lines_with(mark, words).into_iter().next().map(Ok),
        });
        found.with_context(|| format!("the daemon did not log `{}`", words.join(" ")))?
    }

    /// How many lines after `mark` have all of these words.
    pub(crate) fn count(&self, mark: Mark, words: &[&str]) -> usize {
        self.lines_with(mark, words).len()
    }

    fn lines_with(&self, mark: Mark, words: &[&str]) -> Vec<String> {
        let lines = lock(&self.lines);
        let after = lines.iter().skip(mark.0);
        after
            .filter(|line| words.iter().all(|word| line.contains(word)))
            .cloned()
            .collect()
    }

    /// Asks it to stop, as systemd does, and waits for that.
    pub(crate) fn stop(&mut self) -> Result<ExitStatus> {
        let status = self.end(STOP_LIMIT).context("the daemon did not stop")?;
        if let Some(reader) = self.reader.take() {
            reader
                .join()
                .map_err(|_| anyhow!("the daemon's log could not be shown"))?;
        }
        Ok(status)
    }

    fn end(&mut self, limit: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGTERM)?;
        // Not broken off by Ctrl-C: the limit is short.
        let until = std::time::Instant::now() + limit;
        while std::time::Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(anyhow!("not within {} s", limit.as_secs()))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.end(LAST_PATIENCE).is_err() {
            // What does not heed SIGTERM is killed; it may just have ended.
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

fn lock(lines: &Mutex<Vec<String>>) -> MutexGuard<'_, Vec<String>> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}
