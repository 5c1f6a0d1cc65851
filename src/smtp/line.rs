//! The dialogue over a connection: one command, one whole reply, within bounds of time and size.
//! It never reads past a reply, so that nothing from before TLS is taken for what came after.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use super::error::{SmtpError, Step};
use super::reply::{Reply, parse_line};
use crate::fault::printable;

/// Longest line of a reply, in bytes; RFC 5321 §4.5.3.1.5 says 512, challenges are longer.
const LINE_LIMIT: usize = 8 * 1024;
/// Most lines of a reply.
const LINES_LIMIT: usize = 100;
/// Time to read what a server said before it hung up.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Read at once, in bytes.
const PIECE: usize = 2 * 1024;
/// Written at once, in bytes: each such piece must be taken within the deadline.
const CHUNK: usize = 64 * 1024;

/// Anything that carries bytes both ways.
pub(super) trait Carrier: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Carrier for T {}

/// A connection, and what was received and not yet read.
pub(super) struct Line<S> {
    stream: S,
    received: Vec<u8>,
}

impl<S: Carrier> Line<S> {
    pub(super) fn over(stream: S) -> Self {
        Self {
            stream,
            received: Vec::new(),
        }
    }

    /// The connection itself, and whether more was received than was read.
    pub(super) fn into_inner(self) -> (S, bool) {
        (self.stream, !self.received.is_empty())
    }

    /// Sends a command and reads the reply.
    pub(super) async fn ask(&mut self, step: Step, command: &[u8], patience: Duration) -> Result<Reply, SmtpError> {
        let deadline = Instant::now() + patience;
        let asking = async {
            // A reply from before the question answers nothing, unless it is why the server hangs up.
            if !self.received.is_empty() {
                let early = self.last_words(step).await;
                return early.ok_or_else(|| garbled(step, "a reply that nobody asked for"));
            }
            match self.put(step, command).await {
                Ok(()) => self.reply(step).await,
                Err(error) => self.last_words(step).await.ok_or(error),
            }
        };
        tokio::time::timeout_at(deadline, asking)
            .await
            .unwrap_or(Err(SmtpError::Timeout { step }))
    }

    /// Reads a reply that nobody asked for: the greeting.
    pub(super) async fn hear(&mut self, step: Step, patience: Duration) -> Result<Reply, SmtpError> {
        tokio::time::timeout(patience, self.reply(step))
            .await
            .unwrap_or(Err(SmtpError::Timeout { step }))
    }

    /// Sends what may be long, each piece within `patience` and all of it within `limit`. `Some`: the server has
    /// refused it and hung up in the middle.
    pub(super) async fn pour(
        &mut self,
        step: Step,
        content: &[u8],
        (patience, limit): (Duration, Duration),
    ) -> Result<Option<Reply>, SmtpError> {
        let end = Instant::now() + limit;
        for piece in content.chunks(CHUNK) {
            let deadline = end.min(Instant::now() + patience);
            let put = tokio::time::timeout_at(deadline, self.put(step, piece)).await;
            if let Err(error) = put.unwrap_or(Err(SmtpError::Timeout { step })) {
                let words = tokio::time::timeout(LAST_WORDS, self.last_words(step)).await;
                return words.ok().flatten().map(Some).ok_or(error);
            }
        }
        Ok(None)
    }

    /// What a server has said before it hung up on us, if that was a refusal.
    async fn last_words(&mut self, step: Step) -> Option<Reply> {
        self.reply(step).await.ok().filter(|reply| reply.code >= 400)
    }

    async fn put(&mut self, step: Step, bytes: &[u8]) -> Result<(), SmtpError> {
        let put = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        put.await.map_err(|error| lost(step, &error))
    }

    async fn reply(&mut self, step: Step) -> Result<Reply, SmtpError> {
        let mut reply: Option<Reply> = None;
        loop {
            let line = self.line(step).await?;
            let Some((code, has_more, text)) = parse_line(&line) else {
                return Err(garbled(step, &line));
            };
            let reply = reply.get_or_insert_with(|| Reply {
                code,
                lines: Vec::new(),
            });
            if reply.code != code || reply.lines.len() >= LINES_LIMIT {
                return Err(garbled(step, &line));
            }
            reply.lines.push(text.to_owned());
            if !has_more {
                return Ok(reply.clone());
            }
        }
    }

    async fn line(&mut self, step: Step) -> Result<String, SmtpError> {
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
            }
            if self.received.len() > LINE_LIMIT {
                return Err(SmtpError::Lost {
                    step,
                    reason: "a line over the limit".into(),
                });
            }
            let mut piece = [0; PIECE];
            let count = self.stream.read(&mut piece).await.map_err(|error| lost(step, &error))?;
            if count == 0 {
                return Err(SmtpError::Lost {
                    step,
                    reason: "the server closed it".into(),
                });
            }
            self.received.extend(piece.iter().take(count));
        }
    }
}

impl<S: Carrier + 'static> Line<S> {
    /// The same, whatever the stream is.
    pub(super) fn boxed(self) -> Line<Box<dyn Carrier>> {
        Line {
            stream: Box::new(self.stream),
            received: self.received,
        }
    }
}

fn lost(step: Step, error: &std::io::Error) -> SmtpError {
    SmtpError::Lost {
        step,
        reason: printable(&error.to_string(), 120),
    }
}

fn garbled(step: Step, line: &str) -> SmtpError {
    // What comes during the sign-in may repeat what we sent.
    let text = if step == Step::SignIn {
        String::new()
    } else {
        printable(line, 80)
    };
    SmtpError::Garbled { step, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A line to a server that has said this and gone.
    async fn after(words: &str) -> Line<tokio::io::DuplexStream> {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        theirs.write_all(words.as_bytes()).await.unwrap();
        drop(theirs);
        Line::over(ours)
    }

    #[tokio::test]
    async fn a_server_that_refuses_and_hangs_up_is_heard() {
        let refusal = "421-4.7.0 too many\r\n421 4.7.0 connections\r\n";
        let reply = after(refusal)
            .await
            .ask(Step::Sender, b"MAIL\r\n", SECOND)
            .await
            .unwrap();
        assert_eq!(reply.refusal().to_string(), "421 4.7.0 too many connections");
        let poured = after("552 5.3.4 too big\r\n")
            .await
            .pour(Step::Content, b"x", (SECOND, SECOND))
            .await;
        assert_eq!(poured.unwrap().unwrap().code, 552);
        // Nobody says yes to what was not taken.
        for words in ["250 fine\r\n", "552 5.3.4 too", ""] {
            let asked = after(words).await.ask(Step::Answer, b".\r\n", SECOND).await;
            assert!(matches!(asked, Err(SmtpError::Lost { .. })), "{words:?}: {asked:?}");
        }
    }

    #[tokio::test]
    async fn a_message_that_is_taken_in_drips_has_an_end() {
        let (ours, mut theirs) = tokio::io::duplex(16);
        let drip = async {
            let mut piece = [0; 16];
            loop {
                tokio::time::sleep(Duration::from_millis(5)).await;
                theirs.read_exact(&mut piece).await.unwrap();
            }
        };
        let content = vec![b'x'; 1 << 20];
        let mut line = Line::over(ours);
        let limits = (SECOND, Duration::from_millis(200));
        let poured = tokio::select! {
            poured = line.pour(Step::Content, &content, limits) => poured,
            () = drip => unreachable!(),
        };
        assert!(
            matches!(poured, Err(SmtpError::Timeout { step: Step::Content })),
            "{poured:?}"
        );
    }
}
