//! One POP3 mailbox for ever: token > connect > list > take > delete > QUIT > wait. A visit each time, for a POP3
//! session sees only what was there at its beginning, and keeps others out.
//! It never decides what a message becomes: `intake` does.

mod listing;
mod plan;
mod take;

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub(super) use plan::Memory;

use self::plan::{Plan, batches, ids_to_look_up, plan};
use self::take::Met;
use super::stop::grace;
use super::streak::Streak;
use super::{Worker, WorkerError};
use crate::alert::{AlertKind, Finding};
use crate::fault::{Remedy, chain};
use crate::grant::Problem;
use crate::mailbox::{After, MailboxState, OtherSource, Place};
use crate::pop3::{Entry, Haul, Pop3Error, Session, Step, is_of_bytes};
use crate::store::mailbox;
use crate::store::message::MessageId;
use crate::store::message::maildrop;

/// What a visit has done so far.
#[derive(Default)]
struct Visit {
    /// Rows of the messages that are marked for deletion.
    deleting: Vec<MessageId>,
    /// Rows of the messages that were read.
    met: HashSet<MessageId>,
    /// Their ids on the server.
    read: HashSet<String>,
    /// How many of them have no unique id.
    nameless: usize,
}

impl Visit {
    fn note(&mut self, met: Vec<Met>) {
        for met in met {
            self.nameless += usize::from(met.entry.uidl.is_none());
            self.met.insert(met.row);
            self.read.insert(met.remote_id);
        }
    }

    /// Of the rows that are owed those whose messages are on the server no more: the id is not listed, or is that
    /// of another message now.
    fn lost(&self, owed: Vec<(MessageId, String)>, entries: &[Entry]) -> Vec<MessageId> {
        let listed: HashSet<&str> = entries.iter().filter_map(|entry| entry.uidl.as_deref()).collect();
        let nameless = entries.iter().filter(|entry| entry.uidl.is_none()).count();
        let is_lost = |(row, remote_id): &(MessageId, String)| {
            let is_elsewhere = if is_of_bytes(remote_id) {
                nameless == self.nameless
            } else {
                !listed.contains(remote_id.as_str()) || self.read.contains(remote_id)
            };
            is_elsewhere && !self.met.contains(row)
        };
        owed.into_iter().filter(is_lost).map(|(row, _)| row).collect()
    }
}

impl Worker {
    /// Visits the mailbox until the daemon stops.
    pub(super) async fn visits(
        &self,
        memory: &mut Memory,
        streak: &mut Streak,
        stop: &CancellationToken,
    ) -> Result<(), WorkerError> {
        if streak.failures == 0 && streak.well_since.is_none() {
            self.board.set(&self.folder, MailboxState::Connecting, None).await;
        }
        loop {
            self.pulse.beat();
            if !self.keep_distance(memory, stop).await {
                return Ok(());
            }
            let session = tokio::select! {
                session = self.enter() => session?,
                () = stop.cancelled() => return Ok(()),
            };
            memory.signed_in_at = Some(Instant::now());
            memory.login_delay = session.offer().login_delay;
            let goes_on = self.visit(session, memory, stop).await?;
            if stop.is_cancelled() {
                return Ok(());
            }
            if goes_on {
                continue;
            }
            self.caught_up(streak).await;
            self.tell_stuck(memory).await;
            if !self.rest(self.mailbox.poll_interval, stop).await {
                return Ok(());
            }
        }
    }

    /// Waits as long as the server wants between two sign-ins; `false` if the daemon stops meanwhile.
    async fn keep_distance(&self, memory: &Memory, stop: &CancellationToken) -> bool {
        let since = memory.signed_in_at.map(|at| at.elapsed());
        let left = since.map_or(Duration::ZERO, |since| memory.login_delay.saturating_sub(since));
        self.rest(left, stop).await
    }

    /// `false` if the daemon stops meanwhile.
    async fn rest(&self, time: Duration, stop: &CancellationToken) -> bool {
        self.pulse.rest(time);
        tokio::select! {
            () = stop.cancelled() => false,
            () = tokio::time::sleep(time) => !stop.is_cancelled(),
        }
    }

    /// Connects and signs in; a refused token is renewed once.
    async fn enter(&self) -> Result<Session, WorkerError> {
        let (credential, generation) = self.credential().await?;
        let refused = match self.pop3.connect(&self.mailbox, &credential).await {
            Err(error) if error.is_credential_refused() => error,
            other => return Ok(other?),
        };
        let Some(credential) = self.renewed(generation, &chain(&refused)).await? else {
            return Err(refused.into());
        };
        Ok(self.pop3.connect(&self.mailbox, &credential).await?)
    }

    /// One session; whether another is to follow at once.
    async fn visit(
        &self,
        mut session: Session,
        memory: &mut Memory,
        stop: &CancellationToken,
    ) -> Result<bool, WorkerError> {
        let listing = session.list();
        let entries = tokio::select! {
            entries = listing => entries?,
            () = stop.cancelled() => return Err(WorkerError::Stopped),
        };
        self.record_gone(memory.forget_gone(&entries)).await?;
        if mailbox::folder(self.store.readers(), self.id, &self.folder)
            .await?
            .is_none()
        {
            tokio::select! {
                done = self.first_look(&mut session, &entries) => done?,
                () = stop.cancelled() => return Err(WorkerError::Stopped),
            }
        }
        let owed = self.owed().await?;
        let ids = ids_to_look_up(&entries, &owed, memory);
        let rows = maildrop::rows(self.store.readers(), self.id, &ids).await?;
        let reused = memory.reuses_ids;
        let Plan { work, is_partial } = plan(&entries, &rows, memory);
        let mut visit = Visit::default();
        let more = self.take_work(&mut session, memory, (work, &mut visit), stop).await?;
        if memory.reuses_ids && !reused {
            warn!(
                "the server gives one UIDL to different messages: each is read at every look, and known by its bytes"
            );
        }
        self.leave(session, &visit, stop).await?;
        self.settle_gone(visit.lost(owed, &entries)).await?;
        self.board.set_backlog(&self.folder, memory.stuck() as u64).await;
        Ok((more || is_partial) && !self.settle_refused.load(Ordering::Relaxed))
    }

    /// What a former visit, or a former process, still owed. It is done once nothing is to be deleted any more.
    async fn owed(&self) -> Result<Vec<(MessageId, String)>, WorkerError> {
        let owed = maildrop::owed(self.store.readers(), self.id).await?;
        if self.mailbox.after == After::Delete || owed.is_empty() {
            return Ok(owed);
        }
        self.set_done(&owed.iter().map(|(row, _)| *row).collect::<Vec<_>>())
            .await?;
        Ok(Vec::new())
    }

    /// Takes the work batch by batch; whether some of it is left for another visit.
    ///
    /// With `after = "delete"` a visit ends with the first batch that has something to delete, since only QUIT does;
    /// unless the server wants time between visits: then it ends with the last.
    async fn take_work(
        &self,
        session: &mut Session,
        memory: &mut Memory,
        (work, visit): (Vec<Entry>, &mut Visit),
        stop: &CancellationToken,
    ) -> Result<bool, WorkerError> {
        let deletes = self.mailbox.after == After::Delete;
        self.stopwatch.start();
        let mut waiting = work.len() as u64;
        let mut batches = batches(work).into_iter();
        if waiting > 0 {
            self.board.set_fetching(&self.folder, waiting).await;
        }
        let mut ahead = self.bring(session, batches.next(), stop).await?;
        while let Some(Haul { come, broken }) = ahead {
            self.pulse.beat();
            waiting = waiting.saturating_sub(come.len() as u64);
            // What is deleted needs the line to itself.
            let goes_on = broken.is_none() && !deletes && !stop.is_cancelled();
            let next = if goes_on { batches.next() } else { None };
            let bringing = self.bring(session, next, stop);
            let (brought, taken) = tokio::join!(bringing, self.take_come(memory.sort_out(come)));
            let taken = taken?;
            memory.note(&taken);
            if let Some(error) = memory.endure(broken) {
                return Err(error.into());
            }
            ahead = brought?;
            if deletes {
                self.mark(session, &taken.met, visit).await?;
                let is_full = !visit.deleting.is_empty() && memory.login_delay.is_zero();
                let next = if is_full || stop.is_cancelled() {
                    None
                } else {
                    batches.next()
                };
                ahead = self.bring(session, next, stop).await?;
            }
            visit.note(taken.met);
            self.board.set_backlog(&self.folder, waiting).await;
            self.board.checked().await;
        }
        Ok(batches.len() > 0 && !stop.is_cancelled())
    }

    /// Marks for deletion what is committed and owed. A server that refuses does not stop the intake.
    async fn mark(&self, session: &mut Session, met: &[Met], visit: &mut Visit) -> Result<(), WorkerError> {
        let owed: Vec<&Met> = met.iter().filter(|met| met.is_owed).collect();
        let numbers: Vec<u32> = owed.iter().map(|met| met.entry.number).collect();
        let refused = session.delete(&numbers).await?;
        let is_refused = |met: &Met| refused.iter().any(|(number, _)| *number == met.entry.number);
        visit
            .deleting
            .extend(owed.iter().filter(|met| !is_refused(met)).map(|met| met.row));
        if let Some((_, refusal)) = refused.into_iter().next() {
            let step = Step::Settle;
            self.not_deleted(Pop3Error::Refused { step, refusal }).await?;
        }
        Ok(())
    }

    /// Ends a session. What was marked is deleted once QUIT is answered, and done in the ledger then.
    async fn leave(&self, session: Session, visit: &Visit, stop: &CancellationToken) -> Result<(), WorkerError> {
        if visit.deleting.is_empty() {
            session.leave().await;
            return Ok(());
        }
        let answered = tokio::select! {
            answered = session.quit() => answered,
            () = grace(stop) => return Err(WorkerError::Stopped),
        };
        match answered {
            Ok(()) => self.deleted(&visit.deleting).await,
            Err(error @ Pop3Error::Refused { .. }) => self.not_deleted(error).await,
            Err(error) => Err(error.into()),
        }
    }

    async fn deleted(&self, rows: &[MessageId]) -> Result<(), WorkerError> {
        self.set_done(rows).await?;
        let count = rows.len();
        info!(event = "server_action.done", count, "deleted on the server");
        if self.settle_refused.swap(false, Ordering::Relaxed) {
            let name = &self.mailbox.name;
            self.notice.resolve(AlertKind::ConfigurationRefused, name, None).await;
        }
        Ok(())
    }

    async fn set_done(&self, rows: &[MessageId]) -> Result<(), WorkerError> {
        let mut write = self.store.write_lightly().await?;
        maildrop::set_settled(write.connection()?, rows).await?;
        write.commit().await?;
        Ok(())
    }

    async fn not_deleted(&self, error: Pop3Error) -> Result<(), WorkerError> {
        if matches!(error.remedy(), Remedy::Retry { .. }) {
            return Err(error.into());
        }
        self.settle_refused.store(true, Ordering::Relaxed);
        warn!(error = %chain(&error), "the server refused to delete after the commit; it is tried again later");
        self.tell(AlertKind::ConfigurationRefused, error.problem()).await;
        Ok(())
    }

    /// What was owed and is on the server no more: the answer to a QUIT was lost, or another client deleted it.
    async fn settle_gone(&self, gone: Vec<MessageId>) -> Result<(), WorkerError> {
        if gone.is_empty() {
            return Ok(());
        }
        self.set_done(&gone).await?;
        let count = gone.len();
        info!(event = "server_action.done", count, "gone from the server");
        Ok(())
    }

    /// Records messages that the server never handed over, and that are gone now.
    async fn record_gone(&self, ids: Vec<String>) -> Result<(), WorkerError> {
        if ids.is_empty() {
            return Ok(());
        }
        let place = |remote_id| Place::Other {
            source: OtherSource::Pop3,
            remote_id,
        };
        let places: Vec<Place> = ids.into_iter().map(place).collect();
        let origin = self.origin().await?;
        Ok(self.intake.record_vanished(&origin, &places).await?)
    }

    /// Tells of messages that the server lists and does not hand over.
    async fn tell_stuck(&self, memory: &mut Memory) {
        let count = memory.stuck();
        if count > 0 && !memory.has_told_stuck {
            let problem = Problem {
                code: "message-withheld".into(),
                summary: format!("the server lists {count} messages and does not hand them over"),
                remedy: "Look at the mailbox with another client, and delete or move what cannot be opened; the other mail goes on, and these are tried every hour".into(),
            };
            self.tell(AlertKind::MailboxStalled, problem).await;
        } else if count == 0 && memory.has_told_stuck {
            let name = &self.mailbox.name;
            self.notice.resolve(AlertKind::MailboxStalled, name, None).await;
        }
        memory.has_told_stuck = count > 0;
    }

    async fn tell(&self, kind: AlertKind, problem: Problem) {
        let subject = self.mailbox.name.clone();
        self.notice
            .raise(&Finding {
                kind,
                subject,
                login: None,
                problem,
            })
            .await;
    }
}
