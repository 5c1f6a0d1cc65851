//! What recurs: tokio-cron-scheduler is the clock, and only sends chores; each kind has a task of its own that
//! does them one after the other, so that none blocks another, overlaps itself or outlives the stop.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::broker::Broker;
use crate::config::Config;
use crate::fault::chain;
use crate::foresight::Foresight;
use crate::grant::{GrantRef, Integration};
use crate::notice::Notice;
use crate::store::{Store, StoreError, backup, maintenance, retention};
use crate::time::{Clock, Heartbeat};
use crate::worker::Peers;

/// Tokens that are due are renewed; seconds field first, UTC.
const REFRESH: &str = "*/5 * * * * *";
/// Grants that nothing uses are renewed before they end of disuse.
const KEEP_ALIVE: &str = "0 27 * * * *";
/// Open alerts are told again when that is due.
const REMIND: &str = "30 * * * * *";
/// Mailboxes that cannot be reached are told together.
const TELL: &str = "*/2 * * * * *";
/// What ends soon is told: a day is the least notice for most, an hour for a sign-in that lives for some.
const FORESEE: &str = "15 */10 * * * *";
/// Statistics for the query planner, and the write-ahead log folded back.
const MAINTAIN: &str = "0 17 3 * * *";
/// Original bytes whose time is over are deleted.
const RETAIN: &str = "0 37 * * * *";
/// The copy of the night, at the first of these times that finds none of this day: after a night that the machine
/// slept, too.
const BACK_UP: &str = "0 47 * * * *";
/// Silence of the clock after which systemd restarts us.
const PATIENCE: Duration = Duration::from_mins(1);

/// What the chores work with; a reload replaces it.
#[derive(Clone)]
struct Settings {
    grants: Vec<GrantRef>,
    integrations: Vec<Arc<Integration>>,
    remind_after: Vec<Duration>,
    raw_messages: Duration,
}

/// The chores.
pub struct Schedule {
    store: Store,
    broker: Arc<Broker>,
    notice: Notice,
    clock: Clock,
    settings: Arc<RwLock<Settings>>,
    foresight: Foresight,
    /// A look ahead is due before its time: after a start or reload.
    is_changed: Arc<Notify>,
}

/// A kind of chore.
#[derive(Debug, Clone, Copy)]
enum Chore {
    Refresh,
    KeepAlive,
    Remind,
    Tell,
    Foresee,
    Maintain,
    Retain,
    BackUp,
}

impl Schedule {
    /// The chores of a configuration.
    pub fn new(config: &Config, peers: &Peers) -> Self {
        Self {
            store: peers.store.clone(),
            broker: Arc::clone(&peers.broker),
            notice: peers.notice.clone(),
            clock: peers.clock.clone(),
            settings: Arc::new(RwLock::new(settings(config))),
            foresight: peers.foresight.clone(),
            is_changed: Arc::default(),
        }
    }

    /// Replaces what the chores work with.
    pub fn set(&self, config: &Config) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings(config);
        self.is_changed.notify_one();
    }

    /// Starts the clock and a task for each kind; returns the heart of the clock.
    ///
    /// # Errors
    /// If the clock does not start.
    pub async fn start(
        &self,
        stop: &CancellationToken,
        tasks: &mut JoinSet<()>,
    ) -> Result<Heartbeat, JobSchedulerError> {
        let mut clock = JobScheduler::new().await?;
        let heart = Heartbeat::new("scheduler", PATIENCE);
        for (chore, times) in [
            (Chore::Refresh, REFRESH),
            (Chore::KeepAlive, KEEP_ALIVE),
            (Chore::Remind, REMIND),
            (Chore::Tell, TELL),
            (Chore::Foresee, FORESEE),
            (Chore::Maintain, MAINTAIN),
            (Chore::Retain, RETAIN),
            (Chore::BackUp, BACK_UP),
        ] {
            // A full channel means that the last one is still under way: this one is left out.
            let (sender, receiver) = mpsc::channel(1);
            let beating = heart.clone();
            let job = Job::new_async(times, move |_, _| {
                let sender = sender.clone();
                beating.beat();
                Box::pin(async move {
                    sender.try_send(()).unwrap_or_default();
                })
            });
            clock.add(job?).await?;
            tasks.spawn(self.chores().work(chore, receiver, stop.clone()));
        }
        self.is_changed.notify_one();
        clock.start().await?;
        let stop = stop.clone();
        tasks.spawn(async move {
            stop.cancelled().await;
            if let Err(error) = clock.shutdown().await {
                warn!(error = %chain(&error), "the scheduler did not stop cleanly");
            }
        });
        Ok(heart)
    }

    fn chores(&self) -> Chores {
        Chores {
            store: self.store.clone(),
            broker: Arc::clone(&self.broker),
            notice: self.notice.clone(),
            clock: self.clock.clone(),
            settings: Arc::clone(&self.settings),
            foresight: self.foresight.clone(),
            is_changed: Arc::clone(&self.is_changed),
        }
    }
}

fn settings(config: &Config) -> Settings {
    Settings {
        grants: config.grants().into_iter().map(|(grant, _)| grant).collect(),
        integrations: config.integrations.clone(),
        remind_after: config.alerts.remind_after.clone(),
        raw_messages: config.retention.raw_messages,
    }
}

struct Chores {
    store: Store,
    broker: Arc<Broker>,
    notice: Notice,
    clock: Clock,
    settings: Arc<RwLock<Settings>>,
    foresight: Foresight,
    is_changed: Arc<Notify>,
}

impl Chores {
    async fn work(self, chore: Chore, mut due: mpsc::Receiver<()>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(()) = due.recv() => self.run(chore, &stop).await,
                () = self.is_changed.notified(), if matches!(chore, Chore::Foresee) => self.run(chore, &stop).await,
            }
        }
    }

    async fn run(&self, chore: Chore, stop: &CancellationToken) {
        let settings = self.settings.read().unwrap_or_else(PoisonError::into_inner).clone();
        let done = match chore {
            Chore::Refresh => {
                self.broker.refresh_due(&settings.grants).await;
                self.watch(&settings.grants).await
            }
            Chore::Remind => self.notice.remind(&settings.remind_after).await,
            Chore::Tell => self.notice.watch_outages().await,
            Chore::Foresee => self.foresight.foresee(&self.broker, &self.notice).await,
            Chore::Maintain => maintenance::run(&self.store).await,
            // Each can take minutes. Given up at any point they leave nothing that the next one does not mend.
            Chore::Retain => tokio::select! {
                () = stop.cancelled() => return,
                done = self.retain(settings.raw_messages) => done,
            },
            Chore::KeepAlive => tokio::select! {
                () = stop.cancelled() => return,
                done = self.keep_alive(&settings) => done,
            },
            Chore::BackUp => tokio::select! {
                () = stop.cancelled() => return,
                done = self.back_up() => done,
            },
        };
        if let Err(error) = done {
            warn!(error = %chain(&error), ?chore, "a chore failed; it is tried again when it is due");
        }
    }

    async fn watch(&self, grants: &[GrantRef]) -> Result<(), StoreError> {
        self.notice.watch_grants(grants, &self.broker).await?;
        self.notice.watch_clients(grants, &self.broker).await
    }

    async fn keep_alive(&self, settings: &Settings) -> Result<(), StoreError> {
        let renewed = self.broker.keep_alive(&settings.integrations, &settings.grants).await?;
        if renewed > 0 {
            info!("renewed {renewed} grants that nothing uses at present, so that they do not end of disuse");
        }
        Ok(())
    }

    async fn retain(&self, kept: Duration) -> Result<(), StoreError> {
        let deleted = retention::run(&self.store, kept, self.clock.now()).await?;
        if deleted > 0 {
            info!("deleted the original bytes of {deleted} messages, whose retention has ended");
        }
        Ok(())
    }

    async fn back_up(&self) -> Result<(), StoreError> {
        if let Some(path) = backup::nightly(&self.store, self.clock.now()).await? {
            info!("copied the database to {}", path.display());
        }
        Ok(())
    }
}
