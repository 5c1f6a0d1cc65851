//! The endpoints of an integration: fixed ones, or those of its issuer, kept in memory and in the database.
//! It never lets a provider's outage hide endpoints that are known.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::grant::{EndpointSource, Endpoints, GrantKey, GrantRef, Integration};
use crate::oauth::discovery;
use crate::oauth::failure::TokenFailure;
use crate::oauth::http::Http;
use crate::store::{self, Store, StoreError};
use crate::time::{Clock, Timestamp};

/// Age at which a discovery document is fetched again.
const FRESH: Duration = Duration::from_hours(24);
/// Least time between fetches that fail.
const BETWEEN_FAILURES: Duration = Duration::from_secs(30);
/// Longest time between them, as a provider may ask for.
const LONGEST_WAIT: Duration = Duration::from_hours(1);
/// How long a known document is used after a failed fetch before the next one.
const AFTER_FAILURE: Duration = Duration::from_mins(15);

/// Where the endpoints of integrations are looked up.
pub struct Directory {
    store: Store,
    http: Http,
    clock: Clock,
    /// By issuer: the endpoints, and until when they are taken as they are.
    known: Mutex<HashMap<String, (Endpoints, Timestamp)>>,
    /// By issuer: why the last fetch failed, and until when no other is made.
    failed: Mutex<HashMap<String, (TokenFailure, Timestamp)>>,
    /// One fetch at a time for an issuer.
    turns: Turns,
}

/// Why the endpoints are not known.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The issuer gives none.
    #[error("the endpoints of the provider are not known")]
    Provider(#[source] TokenFailure),
    /// The database failed.
    #[error("cannot look up the endpoints of the provider")]
    Store(#[from] StoreError),
}

impl Directory {
    /// A directory that fetches with `http`.
    pub fn new(store: Store, http: Http, clock: Clock) -> Self {
        Self {
            store,
            http,
            clock,
            known: Mutex::default(),
            failed: Mutex::default(),
            turns: Turns::default(),
        }
    }

    /// The endpoints of an integration.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub async fn endpoints(&self, integration: &Integration) -> Result<Endpoints, DirectoryError> {
        let issuer = match &integration.endpoints {
            EndpointSource::Fixed(endpoints) => return Ok(endpoints.clone()),
            EndpointSource::Issuer(issuer) => issuer,
        };
        let _turn = self.turns.of(issuer).lock_owned().await;
        let now = self.clock.now();
        if let Some(endpoints) = self.remembered(issuer, now) {
            return Ok(endpoints);
        }
        let kept = store::discovery::find(self.store.readers(), issuer).await?;
        if let Some((endpoints, at)) = &kept
            && at.until(now) < FRESH
        {
            return Ok(self.remember(issuer, endpoints, at.plus(FRESH)));
        }
        if kept.is_none() {
            self.wait_over(issuer, now)?;
        }
        match discovery::discover(&self.http.exchange(integration.ca_file.as_deref()), issuer).await {
            Ok(endpoints) => self.keep(issuer, &endpoints, now).await,
            Err(failure) => match kept {
                Some((endpoints, _)) => Ok(self.remember(issuer, &endpoints, now.plus(AFTER_FAILURE))),
                None => Err(DirectoryError::Provider(self.note(issuer, failure, now))),
            },
        }
    }

    /// Lets each issuer be asked again at once, as after a reload.
    pub fn try_now(&self) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn wait_over(&self, issuer: &str, now: Timestamp) -> Result<(), DirectoryError> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        match failed.get(issuer) {
            // One that would be longer was set before the clock was set back.
            Some((failure, until)) if *until > now && *until <= now.plus(LONGEST_WAIT) => {
                Err(DirectoryError::Provider(failure.clone()))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn note(&self, issuer: &str, failure: TokenFailure, now: Timestamp) -> TokenFailure {
        let wait = failure.retry_after.unwrap_or_default().max(BETWEEN_FAILURES);
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.insert(issuer.to_owned(), (failure.clone(), now.plus(wait)));
        failure
    }

    async fn keep(&self, issuer: &str, endpoints: &Endpoints, now: Timestamp) -> Result<Endpoints, DirectoryError> {
        let mut write = self.store.write_lightly().await?;
        store::discovery::save(write.connection()?, issuer, endpoints, now).await?;
        write.commit().await?;
        Ok(self.remember(issuer, endpoints, now.plus(FRESH)))
    }

    fn remembered(&self, issuer: &str, now: Timestamp) -> Option<Endpoints> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (endpoints, until) = known.get(issuer)?;
        (*until > now).then(|| endpoints.clone())
    }

    fn remember(&self, issuer: &str, endpoints: &Endpoints, until: Timestamp) -> Endpoints {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(issuer.to_owned(), (endpoints.clone(), until));
        endpoints.clone()
    }
}

/// The identity of a grant as far as it is known without the network, for who only looks.
///
/// # Errors
/// What the database says.
pub async fn known_key(store: &Store, grant: &GrantRef) -> Result<Option<GrantKey>, StoreError> {
    let token_endpoint = match &grant.integration.endpoints {
        EndpointSource::Fixed(endpoints) => endpoints.token.clone(),
        EndpointSource::Issuer(issuer) => match store::discovery::find(store.readers(), issuer).await? {
            Some((endpoints, _)) => endpoints.token,
            None => return Ok(None),
        },
    };
    Ok(Some(GrantKey::new(
        &grant.integration.client_id,
        &token_endpoint,
        &grant.login,
    )))
}

/// Locks by name, made as they are needed: one after the other for what shares a name.
#[derive(Default)]
pub(super) struct Turns {
    locks: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Turns {
    /// The lock of a name.
    pub(super) fn of(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(locks.entry(name.to_owned()).or_default())
    }
}
