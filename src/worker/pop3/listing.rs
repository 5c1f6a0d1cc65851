//! The first look at a POP3 mailbox: `start` decides what is taken, the rest is recorded unread.

use tracing::info;

use super::super::{Worker, WorkerError};
use super::plan::batches;
use super::take::read;
use crate::mailbox::{Start, UidValidity};
use crate::pop3::{Entry, Session, header};
use crate::store::mailbox;
use crate::store::message::maildrop::{self, LeftOut};

impl Worker {
    /// Records what the first look leaves out; returns what it takes.
    pub(super) async fn first_look(
        &self,
        session: &mut Session,
        entries: Vec<Entry>,
    ) -> Result<Vec<Entry>, WorkerError> {
        let (work, left_out) = match self.mailbox.start {
            // POP3 has no flags: the configuration refuses `unseen`, which would mean everything here.
            Start::All | Start::Unseen => (entries, Vec::new()),
            Start::New | Start::Since(_) => self.divide(session, entries).await?,
        };
        let now = self.clock.now();
        let mut write = self.store.write().await?;
        maildrop::insert_left_out(write.connection()?, self.id, &left_out, now).await?;
        let generation = (UidValidity(0), None);
        mailbox::set_folder(write.connection()?, self.id, &self.folder, generation, now).await?;
        write.commit().await?;
        info!(
            "first listing: {} messages to take, {} from before the start",
            work.len(),
            left_out.len()
        );
        Ok(work)
    }

    async fn divide(
        &self,
        session: &mut Session,
        entries: Vec<Entry>,
    ) -> Result<(Vec<Entry>, Vec<LeftOut>), WorkerError> {
        let (mut work, mut left_out) = (Vec::new(), Vec::new());
        for batch in batches(entries) {
            self.pulse.beat();
            for (entry, description) in self.describe(session, batch).await? {
                match description {
                    Some(description) if !self.takes(&description) => left_out.push(description),
                    Some(_) | None => work.push(entry),
                }
            }
        }
        Ok((work, left_out))
    }

    /// A message without any date is taken: better once too often than lost.
    fn takes(&self, described: &LeftOut) -> bool {
        match self.mailbox.start {
            Start::New => false,
            Start::All | Start::Unseen => true,
            Start::Since(since) => described.received_at.is_none_or(|at| at >= since),
        }
    }

    /// What the headers of messages say; of those without a unique id all is read, for they are known by their
    /// bytes alone. `None` for one of the latter that the server refuses.
    async fn describe(
        &self,
        session: &mut Session,
        entries: Vec<Entry>,
    ) -> Result<Vec<(Entry, Option<LeftOut>)>, WorkerError> {
        let (named, nameless): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.uidl.is_some());
        let headers = session.headers(&named).await?;
        let mut described: Vec<_> = named
            .into_iter()
            .zip(headers)
            .map(|(entry, header)| {
                let header = header.unwrap_or_default();
                let description = description(&entry, &header, None);
                (entry, Some(description))
            })
            .collect();
        let haul = session.retrieve(&nameless, self.mailbox.max_message_size).await;
        if let Some(broken) = haul.broken {
            return Err(broken.error.into());
        }
        described.extend(haul.come.into_iter().map(|retrieved| match read(retrieved) {
            Ok(read) => {
                let header = header::block(&read.raw.bytes);
                let description = description(&read.entry, header, Some((read.remote_id.clone(), read.sha256)));
                (read.entry, Some(description))
            }
            Err(entry) => (entry, None),
        }));
        Ok(described)
    }
}

fn description(entry: &Entry, header: &[u8], hashed: Option<(String, [u8; 32])>) -> LeftOut {
    let (remote_id, sha256) = hashed.map_or((None, None), |(id, sha256)| (Some(id), Some(sha256)));
    LeftOut {
        remote_id: remote_id.or_else(|| entry.uidl.clone()).unwrap_or_default(),
        size: entry.size,
        received_at: header::received_at(header),
        message_id: header::message_id(header),
        sha256,
    }
}
