//! Messages, whole or by their header. Sizes are hints: the bound is enforced on what arrives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::{Pop3Error, Step};
use super::kept::{Body, Kept};
use super::refusal::Refusal;
use super::{Entry, Session, header};
use crate::fault::Remedy;
use crate::skimmed::Skimmed;

/// A message over the limit is read past, so that the next answer is found; up to this it is worth that, in bytes.
const SKIP_LIMIT: u64 = 64 << 20;

/// Time for a batch of messages; one that has begun may take its own.
const PATIENCE: Duration = Duration::from_mins(4);
/// Largest message that is read past for its header, where the server has no TOP, in bytes.
const WHOLE_LIMIT: u64 = 1 << 30;

/// A message that was asked for.
#[derive(Debug)]
pub struct Retrieved {
    /// Which.
    pub entry: Entry,
    /// What came.
    pub content: Content,
}

/// What came of a message.
#[derive(Debug)]
pub enum Content {
    /// All of it.
    Whole(Vec<u8>),
    /// All of it, on disk.
    Large(Arc<Skimmed>),
    /// Its header, since it is over the limit; how long it is.
    Header(Vec<u8>, u64),
    /// Nothing: the server refuses this one.
    Refused(Refusal),
}

/// What a retrieval brought.
#[derive(Debug, Default)]
pub struct Haul {
    /// What came, in the order in which it came.
    pub come: Vec<Retrieved>,
    /// What broke the connection then: on a bad line each session brings a few on.
    pub broken: Option<Broken>,
}

/// The end of a connection in the midst of a retrieval.
#[derive(Debug)]
pub struct Broken {
    /// The message that was on the wire.
    pub at: Option<Entry>,
    /// What happened.
    pub error: Pop3Error,
}

impl Session {
    /// Retrieves messages, with all commands sent ahead where the server allows it. What is stated to be over
    /// `limit`, or turns out to be, comes by its header.
    pub async fn retrieve(&mut self, wanted: &[Entry], limit: u64) -> Haul {
        let mut come = Vec::with_capacity(wanted.len());
        let mut at = None;
        let done = self.try_retrieve(wanted, limit, (&mut come, &mut at)).await;
        Haul {
            come,
            broken: done.err().map(|error| Broken { at, error }),
        }
    }

    async fn try_retrieve(
        &mut self,
        wanted: &[Entry],
        limit: u64,
        (come, at): (&mut Vec<Retrieved>, &mut Option<Entry>),
    ) -> Result<(), Pop3Error> {
        let (small, large): (Vec<_>, Vec<_>) = wanted
            .iter()
            .partition(|entry| entry.size <= limit && !entry.is_oversize);
        self.send_ahead(small.iter().map(|entry| format!("RETR {}", entry.number)))
            .await?;
        let mut over = Vec::new();
        let begun = Instant::now();
        for entry in small {
            // What came is to be taken before the line is declared stuck; nobody is to blame.
            if begun.elapsed() > PATIENCE {
                *at = None;
                return Err(Pop3Error::Timeout { step: Step::Fetch });
            }
            *at = Some(entry.clone());
            if !self.offer.has_pipelining {
                self.wire.send(Step::Fetch, &format!("RETR {}", entry.number)).await?;
            }
            match self.one(limit).await? {
                Ok((body, total)) if total <= limit => come.push(retrieved(entry, content(body))),
                Ok((_, total)) => over.push((entry, total)),
                Err(refusal) => come.push(retrieved(entry, Content::Refused(refusal))),
            }
        }
        over.extend(
            large
                .into_iter()
                .map(|entry| (entry, entry.size.max(limit.saturating_add(1)))),
        );
        for (entry, total) in over {
            *at = Some(entry.clone());
            let content = match self.header(entry.number).await? {
                Ok(bytes) => Content::Header(bytes, total),
                Err(refusal) => Content::Refused(refusal),
            };
            come.push(retrieved(entry, content));
        }
        Ok(())
    }

    async fn send_ahead(&mut self, commands: impl Iterator<Item = String>) -> Result<(), Pop3Error> {
        let lines = commands.collect::<Vec<_>>().join("\r\n");
        if self.offer.has_pipelining && !lines.is_empty() {
            self.wire.send(Step::Fetch, &lines).await?;
        }
        Ok(())
    }

    /// The answer to a RETR: the message as far as it is within the limit, and how long it is.
    async fn one(&mut self, limit: u64) -> Result<Result<(Body, u64), Refusal>, Pop3Error> {
        match self.wire.status(Step::Fetch).await? {
            Ok(_) => {
                let mut kept = Kept::new(limit.saturating_add(1), self.spool.as_deref());
                let most = limit.saturating_add(SKIP_LIMIT);
                let total = self.wire.message(Step::Fetch, &mut kept, most).await?;
                Ok(Ok((kept.finish().map_err(Pop3Error::Spool)?, total)))
            }
            Err(refusal) => lasting(refusal).map(Err),
        }
    }

    /// The header of a message: by TOP, where the server has it, else the beginning of the whole.
    ///
    /// # Errors
    /// What ends the session; a refusal of this one message is none.
    pub async fn header(&mut self, number: u32) -> Result<Result<Vec<u8>, Refusal>, Pop3Error> {
        if self.offer.has_top {
            match self.wire.ask(Step::Fetch, &format!("TOP {number} 0")).await? {
                Ok(_) => return self.rest_of_header(SKIP_LIMIT).await.map(Ok),
                Err(refusal) if self.offer.is_told => return lasting(refusal).map(Err),
                Err(_) => self.offer.has_top = false,
            }
        }
        match self.wire.ask(Step::Fetch, &format!("RETR {number}")).await? {
            Ok(_) => self.rest_of_header(WHOLE_LIMIT).await.map(Ok),
            Err(refusal) => lasting(refusal).map(Err),
        }
    }

    /// The headers of several messages, in their order; `None` for one that the server refuses.
    ///
    /// # Errors
    /// What ends the session.
    pub async fn headers(&mut self, entries: &[Entry]) -> Result<Vec<Option<Vec<u8>>>, Pop3Error> {
        let mut headers = Vec::with_capacity(entries.len());
        let is_ahead = self.offer.has_pipelining && self.offer.has_top;
        if !is_ahead {
            for entry in entries {
                headers.push(self.header(entry.number).await?.ok());
            }
            return Ok(headers);
        }
        self.send_ahead(entries.iter().map(|entry| format!("TOP {} 0", entry.number)))
            .await?;
        for _ in entries {
            headers.push(match self.wire.status(Step::Fetch).await? {
                Ok(_) => Some(self.rest_of_header(SKIP_LIMIT).await?),
                Err(refusal) => lasting(refusal).map(|_| None)?,
            });
        }
        Ok(headers)
    }

    async fn rest_of_header(&mut self, most: u64) -> Result<Vec<u8>, Pop3Error> {
        let mut kept = Kept::new(header::LIMIT as u64, None);
        self.wire.message(Step::Fetch, &mut kept, most).await?;
        match kept.finish().map_err(Pop3Error::Spool)? {
            Body::Held(bytes) => Ok(header::block(&bytes).to_vec()),
            Body::OnDisk(large) => Ok(header::block(&large.skeleton.bytes).to_vec()),
        }
    }
}

fn content(body: Body) -> Content {
    match body {
        Body::Held(bytes) => Content::Whole(bytes),
        Body::OnDisk(large) => Content::Large(Arc::new(large)),
    }
}

fn retrieved(entry: &Entry, content: Content) -> Retrieved {
    Retrieved {
        entry: entry.clone(),
        content,
    }
}

/// A refusal of one message; trouble of the server as a whole is an error.
fn lasting(refusal: Refusal) -> Result<Refusal, Pop3Error> {
    match refusal.remedy() {
        Some(Remedy::Retry { .. }) => Err(Pop3Error::Refused {
            step: Step::Fetch,
            refusal,
        }),
        Some(_) | None => Ok(refusal),
    }
}
