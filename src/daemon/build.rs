//! Builds what the house lives with: lock, peers, broker and listener.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::DaemonError;
use crate::authorize::Authorizer;
use crate::broker::Broker;
use crate::broker::keyring::{Configured, Keyring};
use crate::config::Config;
use crate::fault::chain;
use crate::foresight::{Foresight, Subjects};
use crate::grant::GrantRef;
use crate::http;
use crate::imap::Connector;
use crate::intake::{Intake, IntakeError};
use crate::metrics::Metrics;
use crate::notice::Notice;
use crate::oauth::http::Http;
use crate::seal::{self, Key};
use crate::store::lock::{self, Lock};
use crate::store::space::Space;
use crate::store::{Store, StoreError};
use crate::telling::Teller;
use crate::time::Clock;
use crate::worker::{Peers, Share};

/// Time that a starting daemon waits for one that is just ending.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// The lock of the state directory; a daemon that is just ending is given a moment.
pub(super) async fn take_lock(state_dir: &Path) -> Result<Lock, DaemonError> {
    let deadline = tokio::time::Instant::now() + LOCK_PATIENCE;
    loop {
        if let Some(lock) = lock::daemon(state_dir)? {
            return Ok(lock);
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(DaemonError::Running(state_dir.to_owned()));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

pub(super) async fn make_peers(config: &Config, store: &Store, clock: &Clock) -> Result<Peers, DaemonError> {
    let broker = open_broker(config, store, clock).await?;
    let settled = broker.settle_key().await;
    settled.map_err(|error| DaemonError::TokenKey(chain(&error)))?;
    let notice = Notice::new(store.clone(), clock.clone()).telling(Teller::new(config.receivers()));
    let state_dir = &config.daemon.state_dir;
    let intake = Intake::new(store.clone(), clock.clone(), notice.clone(), state_dir, config.rules())
        .await
        .map_err(|error| intake_failed(error, state_dir))?;
    Ok(Peers {
        store: store.clone(),
        clock: clock.clone(),
        intake,
        broker: Arc::new(broker),
        connector: Connector::new(config.trust.clone()).spooling_in(state_dir),
        pop3: crate::pop3::Connector::new(config.trust.clone()).spooling_in(state_dir),
        notice,
        space: Space::of(state_dir),
        share: Share::default(),
        ingest: Arc::default(),
        foresight: Foresight::new(store.clone(), clock.clone(), subjects(config)),
    })
}

/// What is looked ahead for.
pub(super) fn subjects(config: &Config) -> Subjects {
    Subjects {
        integrations: config.integrations.clone(),
        smtp: config.smtp.clone(),
        grants: config.grants().into_iter().map(|(grant, _)| grant).collect(),
    }
}

/// What the database or the disk did to the intake is a fault of those.
pub(super) fn intake_failed(error: IntakeError, state_dir: &Path) -> DaemonError {
    match error {
        IntakeError::Store(error) => DaemonError::Store(error),
        IntakeError::StateDirectory(source) => DaemonError::Store(StoreError::File {
            path: state_dir.to_owned(),
            source,
        }),
        IntakeError::Compress(_) | IntakeError::Overtaken(_) | IntakeError::Stopped => DaemonError::Intake(error),
    }
}

/// A broker with the configured token key, which must be the one that the tokens are sealed with.
///
/// # Errors
/// [`DaemonError::TokenKey`].
pub async fn open_broker(config: &Config, store: &Store, clock: &Clock) -> Result<Broker, DaemonError> {
    let keyring = Keyring::open(store, configured_keys(config)?)
        .await
        .map_err(|error| DaemonError::TokenKey(chain(&error)))?;
    Ok(broker_with(keyring, config, store, clock))
}

/// A broker whose key may not be the right one: enough to forget a grant, which is the remedy for a lost key.
///
/// # Errors
/// [`DaemonError::TokenKey`] where there is no key at all.
pub fn open_broker_unchecked(config: &Config, store: &Store, clock: &Clock) -> Result<Broker, DaemonError> {
    let keyring =
        Keyring::unchecked(store, configured_keys(config)?).map_err(|error| DaemonError::TokenKey(chain(&error)))?;
    Ok(broker_with(keyring, config, store, clock))
}

/// The token keys that are configured: those that were read with the configuration, and those that a file has now.
fn configured_keys(config: &Config) -> Result<Configured, DaemonError> {
    let path = config.daemon.token_key_source().path().map(Path::to_owned);
    let read = match &config.daemon.token_key {
        Some(secret) => Key::from_secret(secret),
        None => Key::load_or_create(&config.daemon.token_key_file()),
    };
    let read = read.map_err(|error| DaemonError::TokenKey(chain(&error)))?;
    Ok(Arc::new(move || {
        // What cannot be read at the time, as after a change of user, is as it was.
        let now = path.as_deref().and_then(|path| seal::read_again(path).ok());
        now.into_iter().flatten().chain(read.iter().cloned()).collect()
    }))
}

fn broker_with(keyring: Keyring, config: &Config, store: &Store, clock: &Clock) -> Broker {
    let http = Http::new(config.trust.clone(), clock.clone());
    let broker = Broker::new(store.clone(), keyring, http, clock.clone());
    broker.name_grants(config.grants().iter().map(|(grant, name)| (grant, name.clone())));
    broker
}

/// The grants that are configured at present, for the listener.
#[derive(Clone)]
pub(super) struct Grants(Arc<RwLock<Vec<GrantRef>>>);

impl Grants {
    pub(super) fn of(config: &Config) -> Self {
        let grants = Self(Arc::default());
        grants.set(config);
        grants
    }

    pub(super) fn set(&self, config: &Config) {
        let grants = config.grants().into_iter().map(|(grant, _)| grant).collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = grants;
    }

    pub(super) fn get(&self) -> Vec<GrantRef> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn metrics(peers: &Peers) -> Metrics {
    let (store, clock) = (peers.store.clone(), peers.clock.clone());
    Metrics::new(store, clock, peers.foresight.clone(), Arc::clone(&peers.ingest))
}

pub(super) async fn listen(
    config: &Config,
    (peers, grants): (&Peers, &Grants),
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> Result<(), DaemonError> {
    let Some(address) = config.daemon.listen else {
        return Ok(());
    };
    let failed = |source| DaemonError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let (grants, space) = (grants.clone(), peers.space.clone());
    let doors = http::Doors {
        authorizer: Authorizer::new(Arc::clone(&peers.broker)),
        grants: Arc::new(move || grants.get()),
        metrics: Some(metrics(peers)),
        health: Arc::new(move || space.check(0).map_err(|error| chain(&error))),
        public_url: config
            .daemon
            .public_url
            .as_deref()
            .and_then(|text| url::Url::parse(text).ok()),
    };
    let stop = stop.clone();
    tasks.spawn(async move {
        if let Err(error) = http::serve(listener, doors, stop).await {
            error!(error = %chain(&error), "the listener ended");
        }
    });
    Ok(())
}
