//! Everything that is on the server and not in the ledger, taken batch by batch: list > fetch > take > settle.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::info;

use super::batch::batches;
use super::stop::unless_stopped;
use super::{Worker, WorkerError};
use crate::alert::{AlertKind, Finding};
use crate::grant::Problem;
use crate::imap::{Selected, Session};
use crate::mailbox::{Listed, Uid, UidValidity};
use crate::store::message::before_start;
use crate::store::{mailbox, message};

/// Message-IDs looked up by one command.
const HEADERS_AT_ONCE: usize = 500;

/// A single batch that takes longer is told of: until then `status` says what it said before, and the commit of a mail
/// waits for no row about it.
const PATIENCE: Duration = Duration::from_millis(500);

/// Where a look at a folder begins.
pub(super) struct Look<'l> {
    /// The folder, as it was opened.
    pub(super) selected: &'l Selected,
    /// The first UID that was not looked at before; `None`: all are looked at.
    pub(super) from: Option<Uid>,
    /// It was looked at since it was opened, and the server says that there is mail.
    pub(super) is_again: bool,
}

impl Worker {
    /// Takes what is new in the selected folder. Returns the UID from which to look the next time.
    pub(super) async fn catch_up(
        &self,
        session: &mut Session,
        look: Look<'_>,
        stop: &CancellationToken,
    ) -> Result<Option<Uid>, WorkerError> {
        self.stopwatch.start();
        let selected = look.selected;
        if !look.is_again {
            self.settle_owed(session, selected, stop).await?;
        }
        let (work, next, is_renumbered) = self.work_list(session, &look, stop).await?;
        if !work.is_empty() {
            self.take_all(session, selected, work, stop).await?;
        }
        self.board.set_backlog(&self.folder, 0).await;
        // New mail does not wait for what commands decided on meanwhile. What was refused waits for the next opening.
        if look.is_again && !self.settle_refused.load(Ordering::Relaxed) {
            self.settle_owed(session, selected, stop).await?;
        }
        if is_renumbered && !stop.is_cancelled() {
            self.notice
                .resolve(AlertKind::UidvalidityChanged, &self.mailbox.name, None)
                .await;
        }
        Ok(next)
    }

    /// The messages to take, the UID from which to look the next time, and whether the folder was renumbered.
    async fn work_list(
        &self,
        session: &mut Session,
        look: &Look<'_>,
        stop: &CancellationToken,
    ) -> Result<(Vec<Listed>, Option<Uid>, bool), WorkerError> {
        let selected = look.selected;
        let known = self.known_generation(look).await?;
        let is_renumbered = known.is_some_and(|uidvalidity| uidvalidity != selected.uidvalidity);
        let first = if is_renumbered || known.is_none() {
            None
        } else {
            look.from
        };
        let mut listed = unless_stopped(session.list(first.unwrap_or(Uid::MIN)), stop).await?;
        listed.sort_by_key(|listed| listed.uid);
        let highest = listed.last().map(|listed| listed.uid);
        // Where nothing was listed it stays where it was: the next mail may get that very UID.
        let next = highest.and_then(after).max(first);
        if known.is_none() {
            let work = self.first_listing(session, selected, listed, stop).await?;
            return Ok((work, next, false));
        }
        if is_renumbered {
            self.renumber(selected, highest).await?;
        }
        let ledger = self.ledger(selected, first).await?;
        listed.retain(|listed| !ledger.contains(&listed.uid));
        let work = self.leave_out_moved(session, selected, listed, stop).await?;
        Ok((work, next, is_renumbered))
    }

    /// The generation of UIDs that the ledger has of the folder; `None` where it was never listed. A first look has
    /// written down that of the folder as it is open now.
    async fn known_generation(&self, look: &Look<'_>) -> Result<Option<UidValidity>, WorkerError> {
        if look.is_again {
            return Ok(Some(look.selected.uidvalidity));
        }
        let row = mailbox::folder(self.store.readers(), self.id, &self.folder).await?;
        Ok(row.map(|row| row.uidvalidity))
    }

    /// The UIDs that have a row. Above a UID that was looked up to before there are none yet, but for those
    /// of a commit whose outcome was unknown: that ends the session, and the next one looks at all.
    async fn ledger(&self, selected: &Selected, from: Option<Uid>) -> Result<HashSet<Uid>, WorkerError> {
        if from.is_some() {
            return Ok(HashSet::new());
        }
        Ok(message::known_uids(self.store.readers(), self.id, &self.folder, selected.uidvalidity).await?)
    }

    /// The first listing of a folder: `start` decides what is taken, the rest is recorded unread.
    async fn first_listing(
        &self,
        session: &mut Session,
        selected: &Selected,
        listed: Vec<Listed>,
        stop: &CancellationToken,
    ) -> Result<Vec<Listed>, WorkerError> {
        let highest = listed.last().map(|listed| listed.uid);
        let (work, left_out): (Vec<_>, Vec<_>) =
            listed.into_iter().partition(|listed| self.mailbox.start.takes(listed));
        let count = left_out.len();
        let left_out = unless_stopped(with_message_ids(session, left_out), stop).await?;
        let now = self.clock.now();
        let place = (self.folder.as_str(), selected.uidvalidity);
        let mut write = self.store.write().await?;
        before_start::insert(write.connection()?, self.id, place, &left_out, now).await?;
        let generation = (selected.uidvalidity, highest);
        mailbox::set_folder(write.connection()?, self.id, &self.folder, generation, now).await?;
        write.commit().await?;
        info!(
            "first listing of {}: {} messages to take, {count} from before the start",
            self.folder,
            work.len()
        );
        Ok(work)
    }

    /// The server gave the folder new UIDs: everything is looked at again and recognized by its contents.
    async fn renumber(&self, selected: &Selected, highest: Option<Uid>) -> Result<(), WorkerError> {
        self.notice
            .raise(&Finding {
                kind: AlertKind::UidvalidityChanged,
                subject: self.mailbox.name.clone(),
                login: None,
                problem: Problem {
                    code: "uidvalidity-changed".into(),
                    summary: format!("the server renumbered the folder {}", self.folder),
                    remedy: "Nothing is to be done: its mail is read again and recognized, nothing is doubled".into(),
                },
            })
            .await;
        let mut write = self.store.write().await?;
        let place = (self.folder.as_str(), selected.uidvalidity);
        message::forget_owed(write.connection()?, self.id, place).await?;
        let generation = (selected.uidvalidity, highest);
        mailbox::set_folder(write.connection()?, self.id, &self.folder, generation, self.clock.now()).await?;
        write.commit().await?;
        Ok(())
    }

    /// Mail that the first listing left out stays out when it gets another UID: it is recognized by size,
    /// date and Message-ID, for it was never read.
    async fn leave_out_moved(
        &self,
        session: &mut Session,
        selected: &Selected,
        work: Vec<Listed>,
        stop: &CancellationToken,
    ) -> Result<Vec<Listed>, WorkerError> {
        let alike = before_start::resembling(self.store.readers(), self.id, &work).await?;
        if alike.is_empty() {
            return Ok(work);
        }
        let (alike, ids): (Vec<_>, Vec<_>) = alike.into_iter().unzip();
        let moved: Vec<_> = unless_stopped(with_message_ids(session, alike), stop)
            .await?
            .into_iter()
            .zip(ids)
            .filter(|((_, id), ids)| ids.contains(id))
            .map(|(listed, _)| listed)
            .collect();
        let place = (self.folder.as_str(), selected.uidvalidity);
        let mut write = self.store.write().await?;
        before_start::insert(write.connection()?, self.id, place, &moved, self.clock.now()).await?;
        write.commit().await?;
        let moved: HashSet<Uid> = moved.into_iter().map(|(listed, _)| listed.uid).collect();
        Ok(work.into_iter().filter(|listed| !moved.contains(&listed.uid)).collect())
    }

    /// Fetches and takes a work list, and tells of it: at once where it is long, else where it lasts.
    async fn take_all(
        &self,
        session: &mut Session,
        selected: &Selected,
        work: Vec<Listed>,
        stop: &CancellationToken,
    ) -> Result<(), WorkerError> {
        let count = work.len() as u64;
        let seat = self.share.join();
        let batches = batches(work, seat.held());
        let is_long = batches.len() > 1;
        // It is large, and would be held twice in the future of the worker.
        let mut taking = Box::pin(self.take_batches(session, selected, batches, stop));
        if is_long {
            self.board.set_fetching(&self.folder, count).await;
            return taking.await;
        }
        tokio::select! {
            taken = &mut taking => return taken,
            () = tokio::time::sleep(PATIENCE) => {}
        }
        let ((), taken) = tokio::join!(self.board.set_fetching(&self.folder, count), taking);
        taken
    }
}

fn after(uid: Uid) -> Option<Uid> {
    Uid::new(uid.get().saturating_add(1))
}

async fn with_message_ids(
    session: &mut Session,
    listed: Vec<Listed>,
) -> Result<Vec<(Listed, Option<String>)>, WorkerError> {
    let mut ids = std::collections::HashMap::new();
    for chunk in listed.chunks(HEADERS_AT_ONCE) {
        let uids: Vec<Uid> = chunk.iter().map(|listed| listed.uid).collect();
        ids.extend(session.headers(&uids).await?);
    }
    let id = |listed: &Listed| ids.get(&listed.uid).cloned().flatten();
    Ok(listed
        .into_iter()
        .map(|listed| {
            let id = id(&listed);
            (listed, id)
        })
        .collect())
}
