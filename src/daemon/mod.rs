//! The house: builds everything from the configuration, keeps it running, reloads it, and stops it in order.
//! It knows no mail and no token.

mod build;
mod keeper;

use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use self::build::{Grants, listen, make_peers, subjects, take_lock};
pub use self::build::{open_broker, open_broker_unchecked};
use self::keeper::Keeper;
use crate::config::{self, Config};
use crate::fault::chain;
use crate::intake::IntakeError;
use crate::log;
use crate::outbox::Outbox;
use crate::schedule::Schedule;
use crate::service::{self, Watchdog};
use crate::store::lock::Lock;
use crate::store::{Store, StoreError, mailbox};
use crate::telling::HEARD;
use crate::time::{Clock, Heartbeat};
use crate::worker::Peers;

/// Time between looks after the workers, and between lines of state for systemd.
const ROUND: Duration = Duration::from_secs(2);
/// Time that the tasks have to come to their end: below the 20 s that are promised.
const STOP_LIMIT: Duration = Duration::from_secs(16);
/// Silence of the writer after which systemd restarts us.
const WRITER_PATIENCE: Duration = Duration::from_secs(45);

/// Why the daemon ends.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Another one runs on the state directory.
    #[error("another mailintake runs on {0} already")]
    Running(PathBuf),
    /// The database.
    #[error("the database cannot be used")]
    Store(#[from] StoreError),
    /// The intake could not begin, or not go on.
    #[error("the intake failed")]
    Intake(#[source] IntakeError),
    /// The token key cannot be used.
    #[error("{0}")]
    TokenKey(String),
    /// The listener.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Signals or the scheduler.
    #[error("cannot begin: {0}")]
    Begin(String),
    /// The listener, a chore or the watchdog ended, mostly by a panic, which was logged where it happened.
    #[error("a task of the daemon ended")]
    TaskEnded,
}

/// Runs until it is told to stop.
///
/// # Errors
/// [`DaemonError`] where it cannot begin, or cannot go on.
pub async fn run(config: Config, log: log::Handle) -> Result<(), DaemonError> {
    let signals = Signals::new()?;
    let house = House::build(config, log).await?;
    house.live(signals).await
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self, DaemonError> {
        let begin = |kind| signal(kind).map_err(|error| DaemonError::Begin(error.to_string()));
        Ok(Self {
            terminate: begin(SignalKind::terminate())?,
            interrupt: begin(SignalKind::interrupt())?,
            hangup: begin(SignalKind::hangup())?,
        })
    }
}

struct House {
    config: Config,
    log: log::Handle,
    clock: Clock,
    peers: Peers,
    keeper: Keeper,
    schedule: Schedule,
    outbox: Outbox,
    grants: Grants,
    tasks: JoinSet<()>,
    stop: CancellationToken,
    /// Kept while we live, so that no second daemon starts.
    _lock: Lock,
}

impl House {
    async fn build(config: Config, log: log::Handle) -> Result<Self, DaemonError> {
        let state_dir = config.daemon.state_dir.clone();
        let lock = take_lock(&state_dir).await?;
        let clock = Clock::system();
        let store = Store::open(&state_dir).await?;
        let peers = make_peers(&config, &store, &clock).await?;
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let grants = Grants::of(&config);
        listen(&config, (&peers, &grants), &stop, &mut tasks).await?;
        let schedule = Schedule::new(&config, &peers);
        let outbox = Outbox::new(&config, &peers);
        let mut house = Self {
            keeper: Keeper::new(peers.clone(), stop.child_token()),
            log,
            clock,
            peers,
            schedule,
            outbox,
            grants,
            tasks,
            stop,
            config,
            _lock: lock,
        };
        house.begin().await?;
        Ok(house)
    }

    async fn begin(&mut self) -> Result<(), DaemonError> {
        self.tell_outside(&self.config);
        let now = self.clock.now();
        let mut write = self.peers.store.write().await?;
        mailbox::stop_all(write.connection()?, now).await?;
        mailbox::set_daemon(write.connection()?, std::process::id(), now).await?;
        write.commit().await?;
        for warning in &self.config.warnings {
            warn!("{warning}");
        }
        let mailboxes = self.config.mailboxes.len();
        info!(
            event = "daemon.started",
            mailboxes,
            "mailintake {} started",
            env!("CARGO_PKG_VERSION")
        );
        self.keeper.follow(&self.config).await?;
        let started = self.schedule.start(&self.stop, &mut self.tasks).await;
        self.prepare_grants().await;
        let heart = started.map_err(|error| DaemonError::Begin(chain(&error)))?;
        let mut watchdog = Watchdog::from_environment();
        watchdog.watch(heart);
        watchdog.watch(self.watch_writer());
        let sending = Outbox::heart();
        watchdog.watch(sending.clone());
        self.tasks.spawn(self.outbox.clone().run(sending, self.stop.clone()));
        if let Some(heard) = self.log.heard() {
            let (teller, base) = (
                self.peers.notice.teller().clone(),
                (self.peers.store.clone(), self.clock.clone()),
            );
            self.tasks.spawn(teller.listen(base, heard, self.stop.clone()));
        }
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            watchdog.run(stop.clone()).await;
            // Without a watchdog that ends at once; a task of ours ends with us.
            stop.cancelled().await;
        });
        service::ready(&service::status_text(&self.keeper.states()));
        Ok(())
    }

    /// Somebody may have mended what the configuration or a secret lacked.
    async fn try_grants_now(&self) {
        if let Err(error) = self.peers.broker.try_now(&self.grants.get()).await {
            warn!(error = %chain(&error), "the grants are tried when they are due");
        }
    }

    /// From now on those of this configuration are told what happens.
    fn tell_outside(&self, config: &Config) {
        let receivers = config.receivers();
        self.log.let_hear(HEARD.into_iter().any(|event| receivers.want(event)));
        self.peers.notice.teller().set(receivers);
    }

    /// Makes the rows of the grants.
    async fn prepare_grants(&self) {
        if let Err(error) = self.peers.broker.prepare(&self.grants.get()).await {
            warn!(error = %chain(&error), "the grants could not be prepared; they are tried when they are due");
        }
    }

    /// A heart that beats while the database takes transactions.
    fn watch_writer(&mut self) -> Heartbeat {
        let heart = Heartbeat::new("writer", WRITER_PATIENCE);
        let (beating, store, stop) = (heart.clone(), self.peers.store.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            while !stop.is_cancelled() {
                // A busy or full database still answers; only one that does not come back is dead.
                let answered = match store.write_lightly().await {
                    Ok(write) => write.commit().await,
                    Err(error) => Err(error),
                };
                if let Err(error) = answered {
                    debug!(error = %chain(&error), "the database answered with an error");
                }
                beating.beat();
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(WRITER_PATIENCE / 5) => {}
                }
            }
        });
        heart
    }

    async fn live(mut self, mut signals: Signals) -> Result<(), DaemonError> {
        let mut round = tokio::time::interval(ROUND);
        let mut said = String::new();
        let ended = loop {
            tokio::select! {
                _ = signals.terminate.recv() => break Ok(()),
                _ = signals.interrupt.recv() => break Ok(()),
                _ = signals.hangup.recv() => self.reload().await,
                _ = round.tick() => {
                    if let Err(error) = self.keeper.look_after().await {
                        break Err(error);
                    }
                    let text = service::status_text(&self.keeper.states());
                    if text != said {
                        service::status(&text);
                        said = text;
                    }
                }
                Some(_) = self.tasks.join_next() => break Err(DaemonError::TaskEnded),
            }
        };
        self.end().await;
        ended
    }

    /// Reads the configuration again. A bad one changes nothing.
    async fn reload(&mut self) {
        service::reloading();
        match config::load(&self.config.path) {
            Err(refused) => {
                error!(
                    event = "config.refused",
                    "the configuration is refused, the old one stays in force: {refused}"
                );
            }
            Ok(config) => self.adopt(config).await,
        }
        service::ready(&service::status_text(&self.keeper.states()));
    }

    async fn adopt(&mut self, config: Config) {
        if config.daemon.state_dir != self.config.daemon.state_dir
            || config.daemon.listen != self.config.daemon.listen
            || config.daemon.public_url != self.config.daemon.public_url
            || config.daemon.token_key_source() != self.config.daemon.token_key_source()
        {
            warn!(
                "state_dir, listen, public_url and token_key take effect at a restart: `systemctl restart mailintake`"
            );
        }
        let grants = config.grants();
        self.peers
            .broker
            .name_grants(grants.iter().map(|(grant, name)| (grant, name.clone())));
        self.peers.broker.set_trust(config.trust.clone());
        self.log.set_level(config.daemon.log.into());
        self.peers.intake.set_rules(config.rules());
        self.peers.connector.set_trust(config.trust.clone());
        self.peers.foresight.set(subjects(&config));
        self.peers.pop3.set_trust(config.trust.clone());
        self.schedule.set(&config);
        self.outbox.set(&config);
        self.tell_outside(&config);
        self.grants.set(&config);
        self.prepare_grants().await;
        self.try_grants_now().await;
        match self.keeper.follow(&config).await {
            Ok(()) => {
                let mailboxes = config.mailboxes.len();
                info!(event = "config.reloaded", mailboxes, "the configuration was read again");
                self.config = config;
            }
            Err(error) => {
                error!(event = "config.refused", error = %chain(&error), "the configuration could not be adopted");
            }
        }
    }

    /// Stops in order: workers finish their batch, tasks end, the database is closed.
    async fn end(mut self) {
        service::stopping();
        info!("stopping");
        self.stop.cancel();
        let deadline = tokio::time::Instant::now() + STOP_LIMIT;
        if tokio::time::timeout_at(deadline, self.keeper.end()).await.is_err() {
            warn!("workers did not end in time; what they had not committed is taken again at the next start");
        }
        if tokio::time::timeout_at(deadline, self.peers.broker.finish())
            .await
            .is_err()
        {
            warn!("a renewal did not end in time");
        }
        let drain = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout_at(deadline, drain).await.is_err() {
            warn!("tasks did not end in time");
        }
        self.tasks.abort_all();
        if let Err(error) = self.say_stopped().await {
            warn!(error = %chain(&error), "could not record the stop");
        }
        self.peers.store.clone().close().await;
        info!("stopped");
    }

    async fn say_stopped(&self) -> Result<(), StoreError> {
        let mut write = self.peers.store.write().await?;
        mailbox::stop_all(write.connection()?, self.clock.now()).await?;
        write.commit().await
    }
}
