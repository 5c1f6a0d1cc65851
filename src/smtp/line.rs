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
            self.put(step, command).await?;
            self.reply(step).await
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

    /// Sends what may be long, each piece within the deadline.
    pub(super) async fn pour(&mut self, step: Step, content: &[u8], patience: Duration) -> Result<(), SmtpError> {
        for piece in content.chunks(CHUNK) {
            tokio::time::timeout(patience, self.put(step, piece))
                .await
                .unwrap_or(Err(SmtpError::Timeout { step }))?;
        }
        Ok(())
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
