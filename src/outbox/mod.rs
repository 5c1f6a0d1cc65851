//! What goes out: queued > sending > sent | failed | unknown, one round per target at a time, so that a target that
//! is slow or down holds up no other. It never composes anything: whoever queued it did.

mod command;
mod fate;
mod mail;
mod pace;
mod rest;
mod target;
mod watch;
mod webhook;

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

pub(crate) use self::fate::Delivery;
use self::fate::Fate;
use self::pace::Pace;
use self::rest::Rest;
use self::target::Targets;
use crate::broker::Broker;
use crate::config::Config;
use crate::fault::chain;
use crate::notice::Notice;
use crate::outgoing::Channel;
use crate::smtp::Connector;
use crate::store::issue::{self, NewEvent};
use crate::store::outgoing::{self as rows, Outgoing};
use crate::store::{Store, StoreError};
use crate::time::{Clock, Heartbeat, Timestamp, jitter};
use crate::worker::Peers;

/// Time between looks at the queue: commands put rows there, too.
const LOOK: Duration = Duration::from_secs(1);
/// Most rows looked at at once.
const LOOK_LIMIT: u32 = 200;
/// Time that a delivery in hand may go on once the daemon is to stop.
const STOP_GRACE: Duration = Duration::from_secs(8);
/// Silence after which systemd restarts us: longer than any delivery may take.
const PATIENCE: Duration = Duration::from_mins(10);
/// Time between looks at what nobody is about any more.
const UPKEEP: Duration = Duration::from_secs(30);
/// How often it is tried to write down what came of a try, and the pause between.
const RECORD_TRIES: u32 = 5;
const RECORD_PAUSE: Duration = Duration::from_millis(500);

/// The loop.
#[derive(Clone)]
pub struct Outbox {
    store: Store,
    clock: Clock,
    broker: Arc<Broker>,
    notice: Notice,
    connector: Connector,
    pace: Arc<Pace>,
    rest: Arc<Rest>,
    targets: Arc<RwLock<Arc<Targets>>>,
    /// Set by a reload: what waits for better times is tried at once.
    is_reloaded: Arc<AtomicBool>,
}

impl Outbox {
    /// The outbox of a configuration.
    pub fn new(config: &Config, peers: &Peers) -> Self {
        Self {
            store: peers.store.clone(),
            clock: peers.clock.clone(),
            broker: Arc::clone(&peers.broker),
            notice: peers.notice.clone(),
            connector: Connector::new(config.trust.clone()),
            pace: Arc::default(),
            rest: Arc::default(),
            targets: Arc::new(RwLock::new(Arc::new(Targets::of(config)))),
            is_reloaded: Arc::default(),
        }
    }

    /// Replaces where things go; what is under way goes on as it was.
    pub fn set(&self, config: &Config) {
        *self.targets.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Targets::of(config));
        self.connector.set_trust(config.trust.clone());
        self.is_reloaded.store(true, Ordering::Relaxed);
    }

    pub(crate) fn targets(&self) -> Arc<Targets> {
        Arc::clone(&self.targets.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A heart for the watchdog, which [`Outbox::run`] lets beat.
    pub fn heart() -> Heartbeat {
        Heartbeat::new("outbox", PATIENCE)
    }

    /// Sends until it is told to stop.
    pub async fn run(self, heart: Heartbeat, stop: CancellationToken) {
        let mut busy: HashSet<(Channel, String)> = HashSet::new();
        self.keep_up(&busy).await;
        let mut upkeep = tokio::time::interval(UPKEEP);
        // Tasks, and no futures that only this loop polls: one of those could be next in line for the database's writer
        // while the loop itself waits for it, and nobody would get it any more.
        let mut rounds = JoinSet::new();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !stop.is_cancelled() {
            let has_progressed = tokio::select! {
                () = stop.cancelled() => break,
                _ = look.tick() => true,
                _ = upkeep.tick() => {
                    self.keep_up(&busy).await;
                    false
                }
                Some(ended) = rounds.join_next() => {
                    // After a panic the program ends, as after that of any of its loops.
                    let Ok((target, has_progressed)) = ended else { return };
                    busy.remove(&target);
                    has_progressed
                }
            };
            heart.beat();
            if !has_progressed {
                continue;
            }
            if self.is_reloaded.swap(false, Ordering::Relaxed) {
                self.rest.end_all();
                self.hasten().await;
            }
            for (target, due) in self.due(&busy).await {
                busy.insert(target.clone());
                let (this, stop) = (self.clone(), stop.clone());
                rounds.spawn(async move { this.round(target, due, &stop).await });
            }
        }
        let rest = async { while rounds.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_GRACE, rest).await.is_err() {
            debug!("a delivery was cut short by the stop");
            rounds.shutdown().await;
        }
    }

    /// What is due, by target, without the targets that rest or have a round under way: however much waits for those, it
    /// must not stand before the others.
    async fn due(&self, busy: &HashSet<(Channel, String)>) -> BTreeMap<(Channel, String), Vec<Outgoing>> {
        let mut by_target: BTreeMap<_, Vec<Outgoing>> = BTreeMap::new();
        let now = self.clock.now();
        let mut but = self.rest.at(now);
        but.extend(busy.iter().cloned());
        match rows::due(self.store.readers(), &but, now, LOOK_LIMIT).await {
            Ok(due) => {
                for row in due {
                    by_target
                        .entry((row.channel, row.target.clone()))
                        .or_default()
                        .push(row);
                }
            }
            Err(error) => warn!(error = %chain(&error), "what is to be sent could not be read"),
        }
        by_target
    }

    /// Everything that is due for one target, one after the other. Says whether anything went out.
    async fn round(
        &self,
        target: (Channel, String),
        due: Vec<Outgoing>,
        stop: &CancellationToken,
    ) -> ((Channel, String), bool) {
        let targets = self.targets();
        if targets.is_gone(&target) {
            self.abandon(&target).await;
            return (target, false);
        }
        let mut has_progressed = false;
        let mut line = Line::new(self, &targets);
        for row in due {
            if stop.is_cancelled() || !self.may_go(&row) {
                break;
            }
            match self.deliver(&mut line, &row).await {
                Ok(Next::Go) => has_progressed = true,
                Ok(Next::Wait) => break,
                Err(error) => {
                    warn!(error = %chain(&error), "a delivery could not be recorded");
                    break;
                }
            }
        }
        line.close().await;
        (target, has_progressed)
    }

    /// Whether the server of a mail may get another one now.
    fn may_go(&self, row: &Outgoing) -> bool {
        row.channel != Channel::Mail || self.pace.may(&row.target, Instant::now())
    }

    /// One try. That it is under way is on disk before the first byte of it goes out, and not before there is a
    /// connection: a death while a relay does not answer makes no acknowledgement doubtful.
    async fn deliver(&self, line: &mut Line<'_>, row: &Outgoing) -> Result<Next, StoreError> {
        let ready = line.ready(row).await;
        let mut write = self.store.write().await?;
        let is_mine = rows::begin(write.connection()?, row.id).await?;
        write.commit().await?;
        if !is_mine {
            return Ok(Next::Go);
        }
        let delivery = match ready {
            Ok(()) => line.deliver(row).await,
            Err(failed) => failed,
        };
        self.conclude(row, delivery).await
    }

    /// Writes down what came of a try; more than once if need be, for what is sent must not be forgotten.
    async fn conclude(&self, row: &Outgoing, delivery: Delivery) -> Result<Next, StoreError> {
        let now = self.clock.now();
        let fate = fate::decide(row, delivery, now, jitter());
        let mut tries = 0;
        while let Err(error) = self.record(row, &fate, now).await {
            tries += 1;
            if tries == RECORD_TRIES {
                return Err(error);
            }
            tokio::time::sleep(RECORD_PAUSE).await;
        }
        let target = (row.channel, row.target.as_str());
        match &fate {
            Fate::Again {
                at, is_target: true, ..
            } => self.rest.begin(target, (now, *at)),
            // Whoever refuses one delivery for good can be had.
            Fate::Again { .. } | Fate::Ended(..) => self.rest.end(target),
        }
        match fate {
            Fate::Ended(end, problem) => {
                self.tell_end(row, end, &problem).await;
                Ok(Next::Go)
            }
            Fate::Again {
                at,
                problem,
                is_target,
                alert,
            } => {
                Self::tell_again(row, (&problem, is_target), now.until(at));
                match alert {
                    Some(kind) => self.raise(row, kind, problem).await,
                    None => self.watch_age(row, problem, is_target).await?,
                }
                Ok(if is_target { Next::Wait } else { Next::Go })
            }
        }
    }

    async fn record(&self, row: &Outgoing, fate: &Fate, now: Timestamp) -> Result<(), StoreError> {
        let mut write = self.store.write().await?;
        let connection = write.connection()?;
        match fate {
            Fate::Ended(end, problem) => {
                let why = (problem.code.as_str(), problem.summary.as_str());
                let is_told = rows::end(connection, (row.id, *end), why, now).await?;
                if let (true, Channel::Mail, Some(issue)) = (is_told, row.channel, row.issue) {
                    let (kind, detail) = fate::event(row, *end, problem);
                    let event = NewEvent {
                        issue,
                        kind,
                        message: None,
                        detail: Some(&detail),
                    };
                    issue::event(connection, &event, now).await?;
                }
            }
            Fate::Again { at, problem, .. } => {
                rows::put_back(connection, row.id, *at, (&problem.code, &problem.summary)).await?;
            }
        }
        write.commit().await
    }
}

/// Whether the round goes on.
enum Next {
    Go,
    Wait,
}

/// The way to one target for one round; connections are kept within it.
struct Line<'l> {
    mail: mail::Line<'l>,
    outbox: &'l Outbox,
    targets: &'l Targets,
}

impl<'l> Line<'l> {
    fn new(outbox: &'l Outbox, targets: &'l Targets) -> Self {
        Self {
            mail: mail::Line::new(outbox, targets),
            outbox,
            targets,
        }
    }

    async fn ready(&mut self, row: &Outgoing) -> Result<(), Delivery> {
        match row.channel {
            Channel::Mail => self.mail.ready(row).await,
            Channel::Webhook | Channel::Command => Ok(()),
        }
    }

    async fn deliver(&mut self, row: &Outgoing) -> Delivery {
        match row.channel {
            Channel::Mail => self.mail.deliver(row).await,
            Channel::Webhook => webhook::deliver(self.targets, row, self.outbox.clock.now()).await,
            Channel::Command => command::deliver(self.targets, row).await,
        }
    }

    async fn close(self) {
        self.mail.close().await;
    }
}
