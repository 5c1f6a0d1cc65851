//! Parses a suspect message in a child process first: whatever kills a parser then kills only that.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tracing::warn;

/// The hidden command that parses a message from standard input.
pub const COMMAND: &str = "parse-probe";
/// Longest time that a parse may take.
const LIMIT: Duration = Duration::from_secs(30);

/// How a message is tried.
#[derive(Clone)]
pub struct Probe {
    program: PathBuf,
}

impl Probe {
    /// Tries by this program itself.
    pub fn own() -> Self {
        Self {
            program: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe")),
        }
    }

    /// Tries by another program, as a test does.
    pub fn by(program: PathBuf) -> Self {
        Self { program }
    }

    /// Whether a process that parses these bytes lives to tell. Where no child can be started the message
    /// is taken for sound: it must not be lost because memory is short.
    pub async fn survives(&self, bytes: &[u8]) -> bool {
        let child = Command::new(&self.program)
            .arg(COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => {
                warn!(%error, "could not start a process to try a suspect message");
                return true;
            }
        };
        let stdin = child.stdin.take();
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A child that dies early closes the pipe: its exit status says all there is to know.
                stdin.write_all(bytes).await.unwrap_or_default();
            }
            child.wait().await
        };
        match tokio::time::timeout(LIMIT, feed).await {
            Ok(Ok(status)) => status.success(),
            Ok(Err(_)) | Err(_) => false,
        }
    }
}

/// What the child does: reads a message and parses it, classes it and extracts its text.
///
/// # Errors
/// Where standard input cannot be read.
pub fn run(input: &mut impl std::io::Read) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes)?;
    if let Ok(mail) = crate::mail::parse::parse(&bytes) {
        let own = std::collections::HashSet::new();
        let facts = crate::mail::classify::Facts {
            own: &own,
            answers_ours: false,
            is_ours: false,
        };
        crate::mail::classify::classify(&mail, &facts);
        crate::mail::reply::extract(&mail.text, crate::mail::reply::is_reply(&mail), &[]);
        crate::mail::parse::fingerprint(&mail);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_that_kills_the_child_does_not_survive() {
        assert!(Probe::by("/bin/true".into()).survives(b"x").await);
        assert!(!Probe::by("/bin/false".into()).survives(&vec![b'x'; 100_000]).await);
        assert!(Probe::by("/no/such/program".into()).survives(b"x").await);
    }
}
