//! What came over the line into the ledger: what is known by its id and bytes is passed over, the rest is taken.

use std::sync::atomic::Ordering;

use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::super::batch::total_bytes;
use super::super::stop::grace;
use super::super::{Worker, WorkerError};
use super::plan::{Memory, is_reused};
use crate::mailbox::{OtherSource, Place, RawMessage};
use crate::pop3::{Broken, Content, Entry, Haul, Pop3Error, Retrieved, Session, header, id_of_bytes};
use crate::store::message::MessageId;
use crate::store::message::maildrop::{self, LeftOut, Row};

/// A message that was read, with its bytes.
pub(super) struct Read {
    pub(super) entry: Entry,
    pub(super) remote_id: String,
    pub(super) sha256: [u8; 32],
    pub(super) raw: RawMessage,
}

/// A message that was read, and its row.
pub(super) struct Met {
    pub(super) entry: Entry,
    pub(super) remote_id: String,
    pub(super) row: MessageId,
    pub(super) is_owed: bool,
}

/// What became of what came.
pub(super) struct Taken {
    pub(super) met: Vec<Met>,
    /// An id turned up that has a row of another message.
    reuses_ids: bool,
    /// A size was stated that is not that of the bytes.
    has_estimates: bool,
}

impl Memory {
    /// Parts what came from what the server refused, which is counted.
    pub(super) fn sort_out(&mut self, come: Vec<Retrieved>) -> Vec<Read> {
        let mut all = Vec::with_capacity(come.len());
        for retrieved in come {
            match read(retrieved) {
                Ok(read) => all.push(read),
                Err(entry) => self.strike(&entry),
            }
        }
        all
    }

    /// Remembers at which message a session broke; returns what broke it.
    pub(super) fn endure(&mut self, broken: Option<Broken>) -> Option<Pop3Error> {
        let Broken { at, error } = broken?;
        if let Some(entry) = at {
            self.strike(&entry);
            if matches!(error, Pop3Error::OverLimit { .. }) {
                self.set_oversize(&entry);
            }
        }
        Some(error)
    }

    pub(super) fn note(&mut self, taken: &Taken) {
        self.reuses_ids |= taken.reuses_ids;
        self.has_estimates |= taken.has_estimates;
        for met in &taken.met {
            self.clear(&met.entry);
            if let Some(id) = &met.entry.uidl {
                self.accepted.insert(id.clone(), met.entry.size);
            }
        }
    }
}

impl Worker {
    /// Retrieves one batch; once the daemon is to stop, only for a short while more.
    pub(super) async fn bring(
        &self,
        session: &mut Session,
        wanted: Option<Vec<Entry>>,
        stop: &CancellationToken,
    ) -> Result<Option<Haul>, WorkerError> {
        let Some(wanted) = wanted else { return Ok(None) };
        tokio::select! {
            haul = session.retrieve(&wanted, self.mailbox.max_message_size) => Ok(Some(haul)),
            () = grace(stop) => Err(WorkerError::Stopped),
        }
    }

    /// Takes what came; when this returns, all of it is in the ledger.
    pub(super) async fn take_come(&self, mut come: Vec<Read>) -> Result<Taken, WorkerError> {
        self.know_stubs(&mut come).await?;
        let facts: Vec<_> = come
            .iter()
            .map(|read| (read.entry.clone(), read.remote_id.clone(), read.sha256))
            .collect();
        let has_estimates = come
            .iter()
            .any(|read| !read.raw.is_stub && read.raw.size() != read.entry.size);
        let before = self.rows_of(&facts).await?;
        let has_row = |read: &Read| before.iter().any(|row| is_row(row, &read.remote_id, &read.sha256));
        let new: Vec<Read> = come.into_iter().filter(|read| !has_row(read)).collect();
        let is_new = !new.is_empty();
        self.take_new(new).await?;
        let rows = if is_new { self.rows_of(&facts).await? } else { before };
        let reuses_ids = facts
            .iter()
            .filter(|(entry, ..)| entry.uidl.is_some())
            .any(|(_, id, _)| is_reused(rows.iter().filter(|row| row.remote_id == *id)));
        let met = facts.into_iter().filter_map(|(entry, remote_id, sha256)| {
            let row = rows.iter().find(|row| is_row(row, &remote_id, &sha256))?;
            Some(Met {
                entry,
                remote_id,
                row: row.id,
                is_owed: row.is_owed,
            })
        });
        Ok(Taken {
            met: met.collect(),
            reuses_ids,
            has_estimates,
        })
    }

    /// A message without a unique id that was over the limit once is known by its header, now that it is read whole.
    async fn know_stubs(&self, come: &mut [Read]) -> Result<(), WorkerError> {
        let mut ids = Vec::new();
        let mut whole: Vec<_> = come
            .iter_mut()
            .filter(|read| read.entry.uidl.is_none() && !read.raw.is_stub)
            .map(|read| {
                let header = header::block(read.raw.parsed());
                let (sha256, length): ([u8; 32], _) = (Sha256::digest(header).into(), header.len());
                ids.push(id_of_bytes(&sha256));
                (read, sha256, length)
            })
            .collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let rows = maildrop::rows(self.store.readers(), self.id, &ids).await?;
        for (read, sha256, length) in &mut whole {
            if rows.iter().any(|row| row.is_stub_of(sha256, *length)) {
                read.remote_id = id_of_bytes(sha256);
                read.sha256 = *sha256;
            }
        }
        Ok(())
    }

    async fn rows_of(&self, facts: &[(Entry, String, [u8; 32])]) -> Result<Vec<Row>, WorkerError> {
        let ids: Vec<&str> = facts.iter().map(|(_, id, _)| id.as_str()).collect();
        Ok(maildrop::rows(self.store.readers(), self.id, &ids).await?)
    }

    async fn take_new(&self, new: Vec<Read>) -> Result<(), WorkerError> {
        let new = self.leave_out_renamed(new).await?;
        if new.is_empty() {
            return Ok(());
        }
        let messages: Vec<RawMessage> = new.into_iter().map(|read| read.raw).collect();
        self.gate.check(total_bytes(&messages))?;
        let origin = self.origin().await?;
        let taken = messages.len();
        self.intake.take(&origin, messages).await?;
        self.stopwatch.lap(taken as u64);
        self.has_progressed.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Mail that the first listing left out stays out when its UIDL changes.
    async fn leave_out_renamed(&self, new: Vec<Read>) -> Result<Vec<Read>, WorkerError> {
        let (mut left_out, mut rest) = (Vec::new(), Vec::with_capacity(new.len()));
        for read in new {
            let message_id = header::message_id(header::block(read.raw.parsed()));
            let identity = message_id
                .as_deref()
                .map(|id| (id, read.entry.size, read.raw.received_at));
            let is_renamed = match identity {
                Some(identity) => maildrop::was_left_out(self.store.readers(), self.id, identity).await?,
                None => false,
            };
            if is_renamed {
                left_out.push(LeftOut {
                    remote_id: read.remote_id,
                    size: read.entry.size,
                    received_at: read.raw.received_at,
                    message_id,
                    sha256: Some(read.sha256),
                });
            } else {
                rest.push(read);
            }
        }
        if !left_out.is_empty() {
            let mut write = self.store.write().await?;
            for left_out in &left_out {
                maildrop::leave_out(write.connection()?, self.id, left_out, self.clock.now()).await?;
            }
            write.commit().await?;
        }
        Ok(rest)
    }
}

fn is_row(row: &Row, remote_id: &str, sha256: &[u8; 32]) -> bool {
    row.remote_id == remote_id && row.sha256.as_ref() == Some(sha256)
}

/// What came of a message, as the intake wants it; `None` if the server refused it.
pub(super) fn read(retrieved: Retrieved) -> Result<Read, Entry> {
    let Retrieved { entry, content } = retrieved;
    let (bytes, large, stated_size, is_stub) = match content {
        Content::Whole(bytes) => (bytes, None, entry.size, false),
        Content::Large(large) => (Vec::new(), Some(large), entry.size, false),
        Content::Header(bytes, size) => (bytes, None, size, true),
        Content::Refused(_) => return Err(entry),
    };
    let sha256: [u8; 32] = match &large {
        Some(large) => large.sha256,
        None => Sha256::digest(&bytes).into(),
    };
    let remote_id = entry.uidl.clone().unwrap_or_else(|| id_of_bytes(&sha256));
    let mut raw = RawMessage {
        place: Place::Other {
            source: OtherSource::Pop3,
            remote_id: remote_id.clone(),
        },
        received_at: None,
        bytes,
        large,
        stated_size,
        server_id: None,
        is_stub,
    };
    raw.received_at = header::received_at(header::block(raw.parsed()));
    Ok(Read {
        entry,
        remote_id,
        sha256,
        raw,
    })
}
