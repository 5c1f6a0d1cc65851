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
    /// Records what the first look leaves out.
    pub(super) async fn first_look(&self, session: &mut Session, entries: &[Entry]) -> Result<(), WorkerError> {
        let left_out = match self.mailbox.start {
            // POP3 has no flags: the configuration refuses `unseen`, which would mean everything here.
            Start::All | Start::Unseen => Vec::new(),
            Start::New | Start::Since(_) => self.choose_left_out(session, entries).await?,
        };
        let now = self.clock.now();
        let mut write = self.store.write().await?;
        for left_out in &left_out {
            maildrop::leave_out(write.connection()?, self.id, left_out, now).await?;
        }
        let generation = (UidValidity(0), None);
        mailbox::set_folder(write.connection()?, self.id, &self.folder, generation, now).await?;
        write.commit().await?;
        info!(
            "first listing: {} messages to take, {} from before the start",
            entries.len().saturating_sub(left_out.len()),
            left_out.len()
        );
        Ok(())
    }

    async fn choose_left_out(&self, session: &mut Session, entries: &[Entry]) -> Result<Vec<LeftOut>, WorkerError> {
        let mut left_out = Vec::new();
        for batch in batches(entries.to_vec()) {
            self.pulse.beat();
            let described = self.describe(session, batch).await?;
            left_out.extend(described.into_iter().filter(|described| !self.takes(described)));
        }
        Ok(left_out)
    }

    /// A message without any date is taken: better once too often than lost.
    fn takes(&self, described: &LeftOut) -> bool {
        match self.mailbox.start {
            Start::New => false,
            Start::All | Start::Unseen => true,
            Start::Since(since) => described.received_at.is_none_or(|at| at >= since),
        }
    }

    /// What the headers of messages say. Those without a unique id are read whole, for they are known by their bytes
    /// alone; one of them that the server refuses is left to the intake.
    async fn describe(&self, session: &mut Session, entries: Vec<Entry>) -> Result<Vec<LeftOut>, WorkerError> {
        let (named, nameless): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.uidl.is_some());
        let headers = session.headers(&named).await?;
        let mut described: Vec<_> = named
            .iter()
            .zip(headers)
            .map(|(entry, header)| description(entry, &header.unwrap_or_default(), None))
            .collect();
        let haul = session.retrieve(&nameless, self.mailbox.max_message_size).await;
        if let Some(broken) = haul.broken {
            return Err(broken.error.into());
        }
        let read = haul.come.into_iter().filter_map(|retrieved| read(retrieved).ok());
        described.extend(read.map(|read| {
            let header = header::block(read.raw.parsed());
            description(&read.entry, header, Some((read.remote_id.clone(), read.sha256)))
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
