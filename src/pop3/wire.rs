//! Lines, lists and messages over one connection, each within its bound and its time.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use super::Timeouts;
use super::error::{Pop3Error, Step};
use super::kept::Kept;
use super::refusal::Refusal;
use super::stuffing::Unstuffer;
use crate::dial::Carrier;
use crate::fault::printable;

/// Longest line outside of messages, in bytes; RFC 2449 §4 allows 512.
const LINE_LIMIT: usize = 64 * 1024;

/// A connection.
#[derive(Debug)]
pub(super) struct Wire {
    stream: BufReader<Box<dyn Carrier>>,
    timeouts: Timeouts,
}

/// `+OK` with its words, or `-ERR`.
pub(super) type Status = Result<String, Refusal>;

impl Wire {
    pub(super) fn over(stream: Box<dyn Carrier>, timeouts: Timeouts) -> Self {
        Self {
            stream: BufReader::with_capacity(16 * 1024, stream),
            timeouts,
        }
    }

    /// The stream itself; `None` if something was sent that nobody asked for.
    pub(super) fn into_inner(self) -> Option<Box<dyn Carrier>> {
        self.stream.buffer().is_empty().then(|| self.stream.into_inner())
    }

    pub(super) fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// Sends lines, the last without its end.
    pub(super) async fn send(&mut self, step: Step, lines: &str) -> Result<(), Pop3Error> {
        let bytes = format!("{lines}\r\n");
        let sent = async {
            self.stream.write_all(bytes.as_bytes()).await?;
            self.stream.flush().await
        };
        match tokio::time::timeout(self.timeouts.silence, sent).await {
            Ok(sent) => sent.map_err(|error| lost(step, &error)),
            Err(_) => Err(Pop3Error::Timeout { step }),
        }
    }

    /// Sends a command and reads its status.
    pub(super) async fn ask(&mut self, step: Step, command: &str) -> Result<Status, Pop3Error> {
        self.send(step, command).await?;
        self.status(step).await
    }

    /// The same, with `-ERR` for an error.
    pub(super) async fn command(&mut self, step: Step, command: &str) -> Result<String, Pop3Error> {
        let status = self.ask(step, command).await?;
        status.map_err(|refusal| Pop3Error::Refused { step, refusal })
    }

    /// Reads a status line.
    pub(super) async fn status(&mut self, step: Step) -> Result<Status, Pop3Error> {
        let line = self.line(step).await?;
        status_of(&line).ok_or(Pop3Error::Garbled { step })
    }

    /// Reads a line, without its end.
    pub(super) async fn line(&mut self, step: Step) -> Result<String, Pop3Error> {
        let mut line = Vec::new();
        let deadline = tokio::time::Instant::now() + self.timeouts.command;
        loop {
            let chunk = fill(&mut self.stream, step, self.timeouts.silence).await?;
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let piece = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or_default();
            line.extend_from_slice(piece);
            let used = piece.len() + usize::from(end.is_some());
            self.stream.consume(used);
            if line.len() > LINE_LIMIT {
                return Err(Pop3Error::OverLimit { step, what: "a line" });
            }
            if end.is_some() {
                let text = String::from_utf8_lossy(&line);
                return Ok(text.trim_end_matches('\r').to_owned());
            }
            expired(step, deadline)?;
        }
    }

    /// Reads the lines of a list up to its end, and hands each to `on`; more than `most` are refused.
    pub(super) async fn list(
        &mut self,
        step: Step,
        most: usize,
        mut on: impl FnMut(&str) + Send,
    ) -> Result<(), Pop3Error> {
        let deadline = tokio::time::Instant::now() + self.timeouts.command;
        for _ in 0..=most {
            let line = self.line(step).await?;
            if line == "." {
                return Ok(());
            }
            on(line.strip_prefix('.').unwrap_or(&line));
            expired(step, deadline)?;
        }
        Err(Pop3Error::OverLimit { step, what: "a list" })
    }

    /// Reads a message to its end and keeps the first bytes of it, as far as there is room; one of more than `most`
    /// bytes is refused. Returns how long it is.
    pub(super) async fn message(&mut self, step: Step, kept: &mut Kept<'_>, most: u64) -> Result<u64, Pop3Error> {
        let deadline = tokio::time::Instant::now() + self.timeouts.command;
        let mut unstuffer = Unstuffer::new();
        let mut total = 0_u64;
        loop {
            let chunk = fill(&mut self.stream, step, self.timeouts.silence).await?;
            let (used, is_end) = unstuffer.feed(chunk, |piece| {
                total += piece.len() as u64;
                kept.push(piece);
            });
            self.stream.consume(used);
            kept.relieve().map_err(Pop3Error::Spool)?;
            if is_end {
                return Ok(total);
            }
            if total > most {
                return Err(Pop3Error::OverLimit {
                    step,
                    what: "a message",
                });
            }
            expired(step, deadline)?;
        }
    }
}

/// What the server has sent, at least a byte, once it comes.
async fn fill(stream: &mut BufReader<Box<dyn Carrier>>, step: Step, silence: Duration) -> Result<&[u8], Pop3Error> {
    match tokio::time::timeout(silence, stream.fill_buf()).await {
        Ok(Ok([])) => Err(Pop3Error::Lost {
            step,
            reason: "the server closed it".into(),
        }),
        Ok(Ok(chunk)) => Ok(chunk),
        Ok(Err(error)) => Err(lost(step, &error)),
        Err(_) => Err(Pop3Error::Timeout { step }),
    }
}

fn expired(step: Step, deadline: tokio::time::Instant) -> Result<(), Pop3Error> {
    if tokio::time::Instant::now() > deadline {
        return Err(Pop3Error::Timeout { step });
    }
    Ok(())
}

fn lost(step: Step, error: &std::io::Error) -> Pop3Error {
    Pop3Error::Lost {
        step,
        reason: printable(&error.to_string(), 120),
    }
}

fn status_of(line: &str) -> Option<Status> {
    let (word, text) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    match word.to_ascii_uppercase().as_str() {
        "+OK" => Some(Ok(text.trim().to_owned())),
        "-ERR" => Some(Err(Refusal::of_text(text))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_of_two() {
        assert_eq!(status_of("+OK"), Some(Ok(String::new())));
        assert_eq!(status_of("+ok  2 320"), Some(Ok("2 320".into())));
        assert_eq!(
            status_of("-ERR [AUTH] no"),
            Some(Err(Refusal {
                code: Some("AUTH".into()),
                text: "[AUTH] no".into()
            }))
        );
        for line in ["* OK IMAP", "220 smtp", "", "+OKAY"] {
            assert_eq!(status_of(line), None, "{line}");
        }
    }
}
