//! Batches on their way: one on the wire, one being read, one being committed, each as fast as it can. What is
//! committed goes back to the wire to be settled. It never has more than one batch wait before each.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{Receiver, Sender, UnboundedReceiver, UnboundedSender, channel, unbounded_channel};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::batch::total_bytes;
use super::pace::Pace;
use super::stop::grace;
use super::{Worker, WorkerError};
use crate::imap::{Fetched, Selected, Session};
use crate::intake::Batch;
use crate::mailbox::{Listed, Place, Uid};

/// Time between two rows about how many messages wait.
const TOLD_EVERY: Duration = Duration::from_millis(250);

/// A batch that was read.
struct ReadBatch {
    count: u64,
    vanished: Vec<Uid>,
    batch: Batch,
}

/// A batch that was committed.
struct Kept {
    count: u64,
    /// The UIDs whose server action is now owed.
    owed: Vec<Uid>,
}

/// Where the wire hands batches on, gets back what is owed, and tells what it has done.
struct Wire {
    to_read: Sender<Fetched>,
    owed: UnboundedReceiver<Vec<Uid>>,
    done: UnboundedSender<Vec<Uid>>,
}

/// What comes to be committed: batches, and what was done on the server.
struct Desk {
    read: Receiver<ReadBatch>,
    done: UnboundedReceiver<Vec<Uid>>,
    to_settle: UnboundedSender<Vec<Uid>>,
}

impl Worker {
    /// Fetches and takes batches. A stop ends it after those in hand.
    pub(super) async fn take_batches(
        &self,
        session: &mut Session,
        selected: &Selected,
        batches: Vec<Vec<Listed>>,
        stop: &CancellationToken,
    ) -> Result<(), WorkerError> {
        let waiting: u64 = batches.iter().map(|batch| batch.len() as u64).sum();
        let (to_read, fetched) = channel(1);
        let (to_keep, read) = channel(1);
        let (to_settle, owed) = unbounded_channel();
        let (done, is_done) = unbounded_channel();
        let wire = Wire { to_read, owed, done };
        let desk = Desk {
            read,
            done: is_done,
            to_settle,
        };
        let (brought, (), ()) = tokio::try_join!(
            // What came before the wire broke is taken all the same.
            async { Ok(self.fetch_all(session, (selected, batches), wire, stop).await) },
            self.read_all(fetched, to_keep),
            self.keep_all(selected, desk, waiting),
        )?;
        brought
    }

    /// Fetches the batches, and settles what is committed meanwhile and in the end.
    async fn fetch_all(
        &self,
        session: &mut Session,
        (selected, batches): (&Selected, Vec<Vec<Listed>>),
        wire: Wire,
        stop: &CancellationToken,
    ) -> Result<(), WorkerError> {
        let Wire {
            to_read,
            mut owed,
            done,
        } = wire;
        for wanted in batches {
            let room = loop {
                tokio::select! {
                    biased;
                    Some(uids) = owed.recv() => self.settle_and_tell(session, uids, &done, stop).await?,
                    room = to_read.reserve() => break room,
                }
            };
            // Without a reader its own error is told.
            let (Ok(room), false) = (room, stop.is_cancelled()) else {
                break;
            };
            let mut fetched = self.fetch(session, selected, wanted, stop).await?;
            let broken = fetched.broken.take();
            room.send(fetched);
            if let Some(error) = broken {
                return Err(error.into());
            }
        }
        drop(to_read);
        while let Some(uids) = owed.recv().await {
            self.settle_and_tell(session, uids, &done, stop).await?;
        }
        Ok(())
    }

    async fn settle_and_tell(
        &self,
        session: &mut Session,
        uids: Vec<Uid>,
        done: &UnboundedSender<Vec<Uid>>,
        stop: &CancellationToken,
    ) -> Result<(), WorkerError> {
        if self.settle(session, &uids, stop).await? {
            // Nobody listens once the database failed: it is owed still, and done again by the next session.
            drop(done.send(uids));
        }
        Ok(())
    }

    /// Fetches one batch; once the daemon is to stop, only for a short while more.
    async fn fetch(
        &self,
        session: &mut Session,
        selected: &Selected,
        wanted: Vec<Listed>,
        stop: &CancellationToken,
    ) -> Result<Fetched, WorkerError> {
        // Large messages are on disk before they are taken.
        self.gate
            .check(wanted.iter().map(|listed| listed.size).fold(0, u64::saturating_add))?;
        let place = (self.folder.as_str(), selected.uidvalidity);
        tokio::select! {
            fetched = session.fetch(place, &wanted, self.mailbox.max_message_size) => Ok(fetched?),
            () = grace(stop) => Err(WorkerError::Stopped),
        }
    }

    async fn read_all(&self, mut fetched: Receiver<Fetched>, to_keep: Sender<ReadBatch>) -> Result<(), WorkerError> {
        // Room first: what is read is taken at once.
        while let Ok(room) = to_keep.reserve().await {
            let Some(fetched) = fetched.recv().await else { break };
            room.send(self.read(fetched).await?);
        }
        Ok(())
    }

    /// Reads one batch.
    async fn read(&self, fetched: Fetched) -> Result<ReadBatch, WorkerError> {
        self.gate.check(total_bytes(&fetched.messages))?;
        let origin = self.origin().await?;
        Ok(ReadBatch {
            count: (fetched.messages.len() + fetched.vanished.len()) as u64,
            vanished: fetched.vanished,
            batch: self.intake.read(&origin, fetched.messages).await?,
        })
    }

    async fn keep_all(&self, selected: &Selected, desk: Desk, mut waiting: u64) -> Result<(), WorkerError> {
        let Desk {
            mut read,
            mut done,
            to_settle,
        } = desk;
        let mut pace = Pace::new(waiting);
        let mut told = Instant::now();
        loop {
            let batch = tokio::select! {
                biased;
                Some(uids) = done.recv() => {
                    self.note_settled(selected, &uids).await?;
                    continue;
                }
                batch = read.recv() => batch,
            };
            let Some(batch) = batch else { break };
            let kept = self.keep(selected, batch).await?;
            // Nobody listens once the wire broke: it is owed still.
            drop(to_settle.send(kept.owed));
            waiting = waiting.saturating_sub(kept.count);
            if told.elapsed() >= TOLD_EVERY {
                told = Instant::now();
                self.board.set_backlog(&self.folder, waiting).await;
                self.board.checked().await;
            }
            if let Some(text) = pace.add(kept.count) {
                info!("{text}");
            }
        }
        drop(to_settle);
        while let Some(uids) = done.recv().await {
            self.note_settled(selected, &uids).await?;
        }
        self.board.checked().await;
        Ok(())
    }

    /// Commits one batch.
    async fn keep(&self, selected: &Selected, read: ReadBatch) -> Result<Kept, WorkerError> {
        self.pulse.beat();
        let origin = self.origin().await?;
        if !read.vanished.is_empty() {
            let places: Vec<_> = read.vanished.iter().map(|uid| self.place(selected, *uid)).collect();
            self.intake.record_vanished(&origin, &places).await?;
        }
        let outcomes = self.intake.keep(&origin, read.batch).await?;
        let taken = outcomes.iter().filter(|(_, outcome)| outcome.message.is_some()).count();
        self.stopwatch.lap(taken as u64);
        if !outcomes.is_empty() {
            self.has_progressed.store(true, Ordering::Relaxed);
        }
        let owed = outcomes.iter().filter(|(_, outcome)| outcome.is_owed);
        Ok(Kept {
            count: read.count,
            owed: owed.filter_map(|(place, _)| place.uid()).collect(),
        })
    }

    fn place(&self, selected: &Selected, uid: Uid) -> Place {
        Place::Imap {
            folder: self.folder.clone(),
            uidvalidity: selected.uidvalidity,
            uid,
        }
    }
}
