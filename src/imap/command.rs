//! One command and its whole answer: tag, status, `BYE`, silence and a closed connection are all looked at.

use async_imap::imap_proto::{RequestId, Response, Status};

use super::Session;
use super::error::{ImapError, Step};
use super::status::Refusal;
use crate::fault::printable;

/// Most bytes of the answer to one command.
const ANSWER_LIMIT: u64 = 512 << 20;

/// What a response means for the command under way.
enum Heard {
    /// Its end, and how.
    End(Result<(), ImapError>),
    /// Something before its end.
    More,
}

impl Session {
    /// Sends a command and hands each untagged response to `on`, until the tagged one says OK.
    pub(super) async fn command(
        &mut self,
        step: Step,
        command: &str,
        mut on: impl FnMut(&Response<'_>) + Send,
    ) -> Result<(), ImapError> {
        let deadline = tokio::time::Instant::now() + self.timeouts.command;
        let begun = self.received.get();
        let tag = self.send(step, command).await?;
        loop {
            let heard = self.next(step, |response| hear(response, step, &tag, &mut on)).await?;
            if let Heard::End(end) = heard {
                return end;
            }
            if tokio::time::Instant::now() > deadline {
                return Err(ImapError::Timeout { step });
            }
            if self.received.get() - begun > ANSWER_LIMIT {
                return Err(lost(step, &"the answer is over the limit"));
            }
        }
    }

    /// Sends a command; returns its tag.
    pub(super) async fn send(&mut self, step: Step, command: &str) -> Result<RequestId, ImapError> {
        match tokio::time::timeout(self.timeouts.silence, self.inner.run_command(command)).await {
            Ok(sent) => sent.map_err(|error| lost(step, &error)),
            Err(_) => Err(ImapError::Timeout { step }),
        }
    }

    /// What `on` makes of the next response. However slow, that may go on for as long as bytes come.
    pub(super) async fn next<T: Send>(
        &mut self,
        step: Step,
        on: impl FnOnce(&Response<'_>) -> T + Send,
    ) -> Result<T, ImapError> {
        let received = self.received.clone();
        let silence = self.timeouts.silence;
        let mut read = std::pin::pin!(self.inner.read_response());
        loop {
            let before = received.get();
            match tokio::time::timeout(silence, &mut read).await {
                Ok(Ok(Some(response))) => return Ok(on(response.parsed())),
                Ok(Ok(None)) => return Err(lost(step, &"the server closed it")),
                Ok(Err(error)) => return Err(lost(step, &error)),
                Err(_) if received.get() == before => return Err(ImapError::Timeout { step }),
                Err(_) => {}
            }
        }
    }
}

fn hear(response: &Response<'_>, step: Step, tag: &RequestId, on: &mut impl FnMut(&Response<'_>)) -> Heard {
    match response {
        Response::Done {
            tag: done,
            status,
            outcome,
        } if done == tag => Heard::End(check(step, status, Refusal::of(outcome))),
        Response::Data {
            status: Status::Bye,
            outcome,
        } => Heard::End(Err(ImapError::Bye {
            step,
            refusal: Refusal::of(outcome),
        })),
        other => {
            on(other);
            Heard::More
        }
    }
}

fn check(step: Step, status: &Status, refusal: Refusal) -> Result<(), ImapError> {
    match status {
        Status::Ok | Status::PreAuth => Ok(()),
        Status::No => Err(ImapError::No { step, refusal }),
        Status::Bad => Err(ImapError::Bad { step, refusal }),
        Status::Bye => Err(ImapError::Bye { step, refusal }),
    }
}

/// Longest copy of a library's words, in bytes.
const WORDS_LIMIT: usize = 200;

/// A lost connection. The library quotes what it received, mail included: only the beginning is kept.
pub(super) fn lost(step: Step, error: &dyn std::fmt::Display) -> ImapError {
    use std::fmt::Write;
    let mut words = Bounded(String::new());
    // The writer refuses once it is full, which ends the copy.
    write!(words, "{error}").unwrap_or_default();
    ImapError::Lost {
        step,
        reason: printable(&words.0, 120),
    }
}

/// A text that stops to grow.
struct Bounded(String);

impl std::fmt::Write for Bounded {
    fn write_str(&mut self, piece: &str) -> std::fmt::Result {
        self.0.extend(piece.chars().take(WORDS_LIMIT));
        if self.0.len() > WORDS_LIMIT {
            Err(std::fmt::Error)
        } else {
            Ok(())
        }
    }
}
