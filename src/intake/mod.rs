//! One batch of messages, once and for all: parse > [one transaction: duplicate? > thread > decide > rows] >
//! commit. The heart of the program. It never talks to a server.

pub(crate) mod act;
mod again;
mod answer;
mod attachment;
pub mod hand;
pub(crate) mod judge;
mod novelty;
pub(crate) mod origin;
pub mod prepare;
pub mod probe;
mod record;
mod report;

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use sqlx::SqliteConnection;
use tokio::sync::Semaphore;
use tracing::{Instrument as _, Span, debug, info, warn};

pub use record::Outcome;

use self::hand::Hand;
use self::novelty::Novelty;
use self::prepare::Prepared;
use self::probe::Probe;
use self::report::{quarantined, suppressed, tell_one};
use crate::fault::{Remedy, chain};
use crate::issue::{Reason, Verdict};
use crate::mailbox::{Mailbox, MailboxId, Place, RawMessage, Uid};
use crate::notice::Notice;
use crate::project::Rules;
use crate::store::message::{self, MessageId, NewMessage, ServerAction, death};
use crate::store::{Store, StoreError, mailbox};
use crate::time::{Clock, Timestamp};

/// Turns messages into rows.
#[derive(Clone)]
pub struct Intake {
    store: Store,
    clock: Clock,
    notice: Notice,
    rules: Arc<RwLock<Arc<Rules>>>,
    /// `None` in a command: the slots are the daemon's.
    hand: Option<Hand>,
    probe: Probe,
    /// Batches that are read at once, whatever the number of mailboxes; they are held in memory.
    readers: Arc<Semaphore>,
    /// One batch is committed at a time anyway: the others wait without a thread.
    keeper: Arc<Semaphore>,
}

/// Batches that are read at once.
const READERS: usize = 2;

/// Why a batch could not be taken. Nothing of it holds, or, after an unknown commit, all of it.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The database did not take it.
    #[error("could not record messages")]
    Store(#[from] StoreError),
    /// The file beside the database could not be used.
    #[error("could not use the state directory")]
    StateDirectory(#[source] std::io::Error),
    /// Memory is short.
    #[error("could not compress a message")]
    Compress(#[source] std::io::Error),
    /// Somebody else decided on the message meanwhile.
    #[error("message {} was decided on by another command meanwhile", .0.0)]
    Overtaken(MessageId),
    /// The threads that parse are gone: the process ends.
    #[error("parsing was cut short")]
    Stopped,
}

impl IntakeError {
    /// What it asks for.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Store(error) => error.remedy(),
            Self::Compress(_) | Self::Overtaken(_) | Self::Stopped => Remedy::RETRY,
            Self::StateDirectory(_) => Remedy::Abort,
        }
    }
}

/// The mailbox that a batch came from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Its settings.
    pub mailbox: Arc<Mailbox>,
    /// Its row.
    pub id: MailboxId,
    /// Remote ids of messages at which the process died while it parsed them.
    pub suspects: Arc<HashSet<String>>,
}

/// Messages that were read, with the rules that held then.
pub struct Batch {
    messages: Vec<Prepared>,
    rules: Arc<Rules>,
}

impl Intake {
    /// Builds the intake, and counts the deaths that a former process left behind.
    ///
    /// # Errors
    /// [`IntakeError::StateDirectory`], [`IntakeError::Store`].
    pub async fn new(
        store: Store,
        clock: Clock,
        notice: Notice,
        state_dir: &Path,
        rules: Rules,
    ) -> Result<Self, IntakeError> {
        let (hand, left) = Hand::open(state_dir).map_err(IntakeError::StateDirectory)?;
        if !left.is_empty() {
            let mut write = store.write().await?;
            for (mailbox, remote_id) in &left {
                warn!(remote_id, "the last process died while it parsed this message");
                death::add(write.connection()?, *mailbox, remote_id).await?;
            }
            write.commit().await?;
        }
        hand.clear().map_err(IntakeError::StateDirectory)?;
        Ok(Self {
            hand: Some(hand),
            ..Self::beside(store, clock, notice, rules)
        })
    }

    /// Builds the intake of a command, which runs beside the daemon and leaves the daemon's slots alone.
    pub fn beside(store: Store, clock: Clock, notice: Notice, rules: Rules) -> Self {
        Self {
            store,
            clock,
            notice,
            rules: Arc::new(RwLock::new(Arc::new(rules))),
            hand: None,
            probe: Probe::own(),
            readers: Arc::new(Semaphore::new(READERS)),
            keeper: Arc::new(Semaphore::new(1)),
        }
    }

    /// Replaces the rules, as a reload does; batches in hand keep the old ones.
    pub fn set_rules(&self, rules: Rules) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a batch: when this returns, every message of it is in the ledger, on disk.
    /// Returns what became of each, in order, with its place.
    ///
    /// # Errors
    /// [`IntakeError`]; then the batch is taken again, and what holds already is found by its place.
    pub async fn take(&self, origin: &Origin, messages: Vec<RawMessage>) -> Result<Vec<(Place, Outcome)>, IntakeError> {
        let batch = self.read(origin, messages).await?;
        self.keep(origin, batch).await
    }

    /// The first half of [`Intake::take`]: reads a batch. The next may be read while this one is kept.
    ///
    /// # Errors
    /// [`IntakeError`]; nothing has happened.
    pub async fn read(&self, origin: &Origin, messages: Vec<RawMessage>) -> Result<Batch, IntakeError> {
        let _turn = self.readers.acquire().await.map_err(|_| IntakeError::Stopped)?;
        let rules = self.rules();
        let messages = self.prepare(origin, messages, &rules).await?;
        Ok(Batch { messages, rules })
    }

    /// The second half of [`Intake::take`]: decides on each message, and commits. It has a thread of its own, since it
    /// waits for the thread of the database some times a message: that wakes a thread faster than a task.
    ///
    /// # Errors
    /// As [`Intake::take`].
    pub async fn keep(&self, origin: &Origin, batch: Batch) -> Result<Vec<(Place, Outcome)>, IntakeError> {
        let _turn = self.keeper.acquire().await.map_err(|_| IntakeError::Stopped)?;
        let (intake, origin, runtime) = (self.clone(), origin.clone(), tokio::runtime::Handle::current());
        // What is told there names the mailbox, too.
        let span = Span::current();
        tokio::task::spawn_blocking(move || runtime.block_on(intake.keep_here(&origin, batch).instrument(span)))
            .await
            .map_err(|_| IntakeError::Stopped)?
    }

    async fn keep_here(&self, origin: &Origin, batch: Batch) -> Result<Vec<(Place, Outcome)>, IntakeError> {
        let Batch {
            messages: mut prepared,
            rules,
        } = batch;
        if prepared.is_empty() {
            return Ok(Vec::new());
        }
        self.recognize(&mut prepared, &rules).await?;
        let outcomes = match self.commit(origin, &mut prepared, &rules).await {
            Err(IntakeError::Store(error @ StoreError::Failed(_))) if prepared.len() > 1 => {
                debug!(error = %chain(&error), "a batch was refused; its messages are taken one by one");
                self.commit_singly(origin, prepared, &rules).await?
            }
            Err(error) => return Err(error),
            Ok(outcomes) => prepared.into_iter().map(|p| p.raw.place).zip(outcomes).collect(),
        };
        self.tell(origin, &outcomes).await;
        Ok(outcomes)
    }

    async fn prepare(
        &self,
        origin: &Origin,
        messages: Vec<RawMessage>,
        rules: &Arc<Rules>,
    ) -> Result<Vec<Prepared>, IntakeError> {
        let mut killers = HashSet::new();
        for raw in &messages {
            let remote_id = raw.place.remote_id();
            if origin.suspects.contains(&remote_id) && !self.probe.survives(raw.parsed()).await {
                killers.insert(remote_id);
            }
        }
        let (slot, mailbox, id, rules) = (
            self.hand.as_ref().map(Hand::slot),
            Arc::clone(&origin.mailbox),
            origin.id,
            Arc::clone(rules),
        );
        let parse = move || -> std::io::Result<Vec<Prepared>> {
            let mut prepared = Vec::with_capacity(messages.len());
            for raw in messages {
                let remote_id = raw.place.remote_id();
                if killers.contains(&remote_id) {
                    prepared.push(prepare::set_aside(raw, Reason::ParserKilled)?);
                    continue;
                }
                if let Some(slot) = &slot {
                    slot.hold(id, &remote_id);
                }
                prepared.push(prepare::prepare(raw, &mailbox, &rules)?);
            }
            drop(slot);
            Ok(prepared)
        };
        tokio::task::spawn_blocking(parse)
            .await
            .map_err(|_| IntakeError::Stopped)?
            .map_err(IntakeError::Compress)
    }

    /// What the database knows of mails of ours was committed before they went out: it may be read beforehand.
    async fn recognize(&self, prepared: &mut [Prepared], rules: &Rules) -> Result<(), StoreError> {
        let mut connection = self.store.readers().acquire().await?;
        origin::recognize(&mut connection, prepared, rules).await
    }

    async fn commit(
        &self,
        origin: &Origin,
        prepared: &mut [Prepared],
        rules: &Rules,
    ) -> Result<Vec<Outcome>, IntakeError> {
        let now = self.clock.now();
        let context = judge::Context {
            mailbox: &origin.mailbox,
            id: origin.id,
            rules,
            now,
            again: None,
        };
        let mut write = self.store.write().await?;
        let mut novelty = Novelty::look(write.connection()?, origin.id, prepared).await?;
        let mut outcomes = Vec::with_capacity(prepared.len());
        for (index, message) in prepared.iter_mut().enumerate() {
            message.is_new = novelty.is_new(index, message);
            let connection = write.connection()?;
            let outcome = record::record(connection, &context, message).await?;
            self.queue_told(connection, &outcome, now).await?;
            outcomes.push(outcome);
            let remote_id = message.raw.place.remote_id();
            if origin.suspects.contains(&remote_id) {
                death::forget(connection, origin.id, &remote_id).await?;
            }
        }
        mailbox::set_last_message(write.connection()?, origin.id, now).await?;
        write.commit().await?;
        Ok(outcomes)
    }

    /// One transaction a message: the one that the database refuses is quarantined, the others go on.
    async fn commit_singly(
        &self,
        origin: &Origin,
        prepared: Vec<Prepared>,
        rules: &Rules,
    ) -> Result<Vec<(Place, Outcome)>, IntakeError> {
        let mut outcomes = Vec::with_capacity(prepared.len());
        for mut message in prepared {
            let place = message.raw.place.clone();
            let mut taken = self.commit(origin, std::slice::from_mut(&mut message), rules).await;
            if let Err(IntakeError::Store(StoreError::Failed(_))) = taken {
                message.content = Err(Reason::CannotBeStored);
                taken = self.commit(origin, std::slice::from_mut(&mut message), rules).await;
            }
            outcomes.extend(taken?.into_iter().map(|outcome| (place.clone(), outcome)));
        }
        Ok(outcomes)
    }

    /// Records messages that another client removed before they could be read.
    ///
    /// # Errors
    /// [`IntakeError::Store`].
    pub async fn record_vanished(&self, origin: &Origin, places: &[Place]) -> Result<(), IntakeError> {
        let now = self.clock.now();
        let mut write = self.store.write().await?;
        for place in places {
            let row = NewMessage {
                mailbox: origin.id,
                place,
                server_id: None,
                message_id: None,
                sha256: None,
                fingerprint: None,
                size: 0,
                class: None,
                verdict: Verdict::Vanished,
                reason: Reason::GoneBeforeRead,
                issue: None,
                comment: None,
                original: None,
                received_at: None,
                server_action: ServerAction::None,
                trace: None,
            };
            let id = message::insert(write.connection()?, &row, None, now).await?;
            let told = (id, Verdict::Vanished, None);
            self.notice.teller().ingested(write.connection()?, told, now).await?;
        }
        write.commit().await?;
        for place in places {
            let mail_uid = place.uid().map(Uid::get);
            info!(
                event = "message.ingested",
                mail_uid,
                verdict = "vanished",
                "another client removed a message"
            );
        }
        Ok(())
    }

    /// Queues what those outside are told of a message, in the transaction of its row.
    async fn queue_told(
        &self,
        connection: &mut SqliteConnection,
        outcome: &Outcome,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Some(message) = outcome.message else { return Ok(()) };
        let told = (message, outcome.verdict, outcome.comment);
        self.notice.teller().ingested(connection, told, now).await
    }

    async fn tell(&self, origin: &Origin, outcomes: &[(Place, Outcome)]) {
        for (place, outcome) in outcomes {
            if outcome.message.is_some() {
                tell_one(place, outcome);
            }
            if outcome.verdict == Verdict::Quarantined {
                self.notice.raise(&quarantined(origin, place, outcome)).await;
            }
            if outcome.is_suppressed {
                self.notice.raise(&suppressed(origin)).await;
            }
        }
    }
}
