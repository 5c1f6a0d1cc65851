//! The only way to an access token: one renewal per grant at a time, also between processes, saved before
//! it is used. It never asks a provider twice for what another caller or process has just obtained.

mod breaker;
mod client;
mod directory;
mod error;
mod inner;
mod keep_alive;
pub mod keyring;
pub mod plan;
mod renewal;
pub mod rotate;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use secrecy::SecretString;
use tokio::sync::{OwnedMutexGuard, oneshot};
use tokio::task::JoinSet;

pub use self::directory::{Directory, DirectoryError, known_key};
pub use self::error::TokenError;
use self::inner::{Inner, name_key, turn_name};
use self::keyring::{Current, Keyring};
use self::plan::Step;
use self::renewal::{Column, Renewal, open};
use crate::grant::{Endpoints, GrantKey, GrantRef, Problem};
use crate::oauth::failure::TokenFailure;
use crate::oauth::http::{Exchange, Http};
use crate::oauth::revocation;
use crate::oauth::token::Tokens;
use crate::store::grant::GrantRow;
use crate::store::{self, Store, StoreError, Write};
use crate::time::{Clock, Timestamp};
use crate::tls::Trust;

/// Time between looks at a grant that another process renews.
const POLL: Duration = Duration::from_millis(100);
/// Time within which a mail server's refusal forces no second renewal: it is not the token, then.
const BETWEEN_FORCED: Duration = Duration::from_mins(1);
/// Grants that are renewed at once by the sweep.
const ABREAST: usize = 8;

/// Gives access tokens. It is shared by reference or in an `Arc`.
pub struct Broker {
    inner: Arc<Inner>,
    /// Renewals under way: they outlive a caller that goes away.
    renewals: Mutex<JoinSet<()>>,
}

/// An access token.
#[derive(Debug, Clone)]
pub struct AccessToken {
    /// The token.
    pub secret: SecretString,
    /// Which one it is, for [`Broker::reject`].
    pub generation: i64,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// What became of a grant that was due.
pub struct Swept {
    /// The grant.
    pub grant: GrantRef,
    /// Whether it has a token now.
    pub outcome: Result<(), TokenError>,
}

impl Broker {
    /// A broker over a database, whose tokens the keyring opens.
    pub fn new(store: Store, keyring: Keyring, http: Http, clock: Clock) -> Self {
        Self {
            inner: Arc::new(Inner::new(store, keyring, http, clock)),
            renewals: Mutex::default(),
        }
    }

    /// Where it looks up endpoints.
    pub fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.inner.directory)
    }

    /// Trusts other roots from now on, as after a reload.
    pub fn set_trust(&self, trust: Trust) {
        self.inner.http.trust(trust);
    }

    /// Tells which name mends a grant: `mailintake authorize NAME`. Without one it is the login, which is
    /// what a mailbox is called by default.
    pub fn name_grants<'g>(&self, names: impl IntoIterator<Item = (&'g GrantRef, String)>) {
        let names = names.into_iter().map(|(grant, name)| (name_key(grant), name));
        *self.inner.names.lock().unwrap_or_else(PoisonError::into_inner) = names.collect();
    }

    /// An access token that was good at the last look: the saved one, or a new one where that is due.
    /// While the provider has a fault, the saved one until its end.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn access_token(&self, grant: &GrantRef) -> Result<AccessToken, TokenError> {
        let inner = &self.inner;
        let endpoints = inner.endpoints(grant).await?;
        let key = GrantKey::new(&grant.integration.client_id, &endpoints.token, &grant.login);
        let settings = inner.settings(&grant.integration, &endpoints);
        loop {
            let (row, step) = inner.look(grant, &key, &settings).await?;
            match step {
                Step::Give => match inner.give(&row).await {
                    Err(error) if inner.is_resealed(&error, &row).await? => {}
                    other => return other,
                },
                Step::SignIn => return Err(inner.not_signed_in(grant)),
                Step::Refuse => return Err(inner.refusal(&row)),
                Step::Wait => tokio::time::sleep(POLL).await,
                Step::Renew => {
                    let turn = inner.turns.of(&turn_name(&key)).lock_owned().await;
                    let (row, step) = inner.look(grant, &key, &settings).await?;
                    if step != Step::Renew {
                        continue;
                    }
                    let renewal = Renewal {
                        grant: grant.clone(),
                        endpoints: endpoints.clone(),
                        settings: settings.clone(),
                        row,
                    };
                    if let Some(token) = self.run(renewal, turn).await? {
                        return Ok(token);
                    }
                }
            }
        }
    }

    /// Runs a renewal to its end, whether or not the caller stays.
    async fn run(&self, renewal: Renewal, turn: OwnedMutexGuard<()>) -> Result<Option<AccessToken>, TokenError> {
        let inner = Arc::clone(&self.inner);
        let renewing = async move {
            let outcome = renewal.run(&inner).await;
            drop(turn);
            outcome
        };
        self.to_the_end(renewing).await.unwrap_or(Err(TokenError::Stopped))
    }

    /// Runs what must not be cut short between a provider's answer and its commit, whether or not the
    /// caller stays. `None`: the program stops.
    pub(crate) async fn to_the_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (done, result) = oneshot::channel();
        {
            let mut renewals = self.renewals.lock().unwrap_or_else(PoisonError::into_inner);
            while renewals.try_join_next().is_some() {}
            renewals.spawn(async move {
                // The caller may have gone away; what matters is saved.
                drop(done.send(work.await));
            });
        }
        result.await.ok()
    }

    /// Puts the tokens of a sign-in in the place of a grant's old ones, within the caller's transaction.
    ///
    /// # Errors
    /// [`TokenError`].
    pub(crate) async fn replace(
        &self,
        write: &mut Write,
        grant: &GrantRef,
        endpoints: &Endpoints,
        tokens: &Tokens,
    ) -> Result<(), TokenError> {
        let inner = &self.inner;
        let now = inner.clock.now();
        let key = GrantKey::new(&grant.integration.client_id, &endpoints.token, &grant.login);
        let connection = write.connection()?;
        let row = store::grant::ensure(connection, &key, &grant.integration.name, now).await?;
        let settings = inner.settings(&grant.integration, endpoints);
        let key = inner.keyring.current().await?.key;
        let new = renewal::of_sign_in((&key, row.id), &grant.integration, tokens, (settings, now));
        store::grant::save(connection, (row.id, row.generation), &new, now).await?;
        store::grant::sign_in::begin(connection, row.id, now).await?;
        Ok(())
    }

    /// Forgets the tokens of a grant here, and before that at the provider if asked to. `false`: there were none.
    ///
    /// # Errors
    /// [`TokenError`]; where the provider does not revoke, nothing is forgotten.
    pub async fn revoke(&self, grant: &GrantRef, is_upstream: bool) -> Result<bool, TokenError> {
        let inner = &self.inner;
        let Some(key) = known_key(&inner.store, grant).await? else {
            return Ok(false);
        };
        let Some(row) = store::grant::find(inner.store.readers(), &key).await? else {
            return Ok(false);
        };
        if is_upstream {
            self.revoke_upstream(grant, &row).await?;
        }
        let mut write = inner.store.write().await?;
        store::grant::forget(write.connection()?, row.id, inner.clock.now()).await?;
        write.commit().await?;
        Ok(row.refresh_token.is_some() || row.access_token.is_some())
    }

    async fn revoke_upstream(&self, grant: &GrantRef, row: &GrantRow) -> Result<(), TokenError> {
        let inner = &self.inner;
        let endpoints = inner.endpoints(grant).await?;
        let key = inner.keyring.current().await?.key;
        let refresh_token = open(&key, row.id, Column::RefreshToken, row.refresh_token.as_deref())?;
        let access_token = open(&key, row.id, Column::AccessToken, row.access_token.as_deref())?;
        let Some(token) = refresh_token.or(access_token) else {
            return Ok(());
        };
        let exchange = inner.http.exchange(grant.integration.ca_file.as_deref());
        let client = inner.client(&grant.integration, &endpoints).await?;
        revocation::revoke(&exchange, client, &token)
            .await
            .map_err(|failure| inner.refused(&failure, grant))
    }

    /// The command that signs in for a grant.
    pub fn command(&self, grant: &GrantRef) -> String {
        self.inner.command(grant)
    }

    /// A failure's problem with the command that mends this grant.
    pub(crate) fn problem(&self, failure: &TokenFailure, grant: &GrantRef) -> Problem {
        self.inner.problem(failure, grant)
    }

    /// The endpoints of a grant.
    pub(crate) async fn endpoints(&self, grant: &GrantRef) -> Result<Endpoints, TokenError> {
        self.inner.endpoints(grant).await
    }

    /// An exchange with the provider of a grant.
    pub(crate) fn exchange(&self, grant: &GrantRef) -> Exchange {
        self.inner.http.exchange(grant.integration.ca_file.as_deref())
    }

    /// What a sign-in shares with it.
    pub(crate) fn parts(&self) -> (&Store, &Clock) {
        (&self.inner.store, &self.inner.clock)
    }

    /// The token key of the present.
    ///
    /// # Errors
    /// [`TokenError::Seal`], [`TokenError::Store`].
    pub async fn key(&self) -> Result<Current, TokenError> {
        self.inner.keyring.current().await
    }

    /// Ends a rotation of the token key: the copy that the database kept until the restart is forgotten.
    ///
    /// # Errors
    /// [`TokenError::Store`].
    pub async fn settle_key(&self) -> Result<(), TokenError> {
        self.inner.keyring.settle().await
    }

    /// Notes that a mail server refused the token of `generation`. `true`: the next
    /// [`Broker::access_token`] gives a newer one. `false`: it was renewed for that reason less than a minute
    /// ago, so the token is not to blame.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn reject(&self, grant: &GrantRef, generation: i64) -> Result<bool, TokenError> {
        let inner = &self.inner;
        let Some(key) = known_key(&inner.store, grant).await? else {
            return Ok(true);
        };
        let Some(row) = store::grant::find(inner.store.readers(), &key).await? else {
            return Ok(true);
        };
        if row.generation != generation {
            return Ok(true);
        }
        let now = inner.clock.now();
        let is_recent = |at: Timestamp| at <= now && at.until(now) < BETWEEN_FORCED;
        if row.forced_at.is_some_and(is_recent) {
            return Ok(false);
        }
        let mut write = inner.store.write_lightly().await?;
        store::grant::reject(write.connection()?, row.id, generation).await?;
        write.commit().await?;
        Ok(true)
    }

    /// Renews those of `grants` that are due, and tells what became of them. For the sweep.
    pub async fn refresh_due(&self, grants: &[GrantRef]) -> Vec<Swept> {
        // Boxed, since the compiler cannot see that futures borrowing through a closure are Send.
        let sweeps: Vec<_> = grants.iter().map(|grant| self.sweep(grant).boxed()).collect();
        futures::stream::iter(sweeps)
            .buffer_unordered(ABREAST)
            .filter_map(std::future::ready)
            .collect()
            .await
    }

    async fn sweep(&self, grant: &GrantRef) -> Option<Swept> {
        match self.is_due(grant).await {
            Ok(false) => None,
            Ok(true) => Some(Swept {
                grant: grant.clone(),
                outcome: self.access_token(grant).await.map(drop),
            }),
            Err(error) => Some(Swept {
                grant: grant.clone(),
                outcome: Err(error),
            }),
        }
    }

    async fn is_due(&self, grant: &GrantRef) -> Result<bool, TokenError> {
        let inner = &self.inner;
        let endpoints = inner.endpoints(grant).await?;
        let key = GrantKey::new(&grant.integration.client_id, &endpoints.token, &grant.login);
        let settings = inner.settings(&grant.integration, &endpoints);
        let (_, step) = inner.look(grant, &key, &settings).await?;
        Ok(step == Step::Renew)
    }

    /// Makes the rows of these grants, so that they are seen before they are first used: after a start or reload.
    ///
    /// # Errors
    /// [`TokenError`] of the database; a provider that does not answer is left for later.
    pub async fn prepare(&self, grants: &[GrantRef]) -> Result<(), TokenError> {
        for grant in grants {
            if let Some(key) = known_key(&self.inner.store, grant).await? {
                self.inner.ensure(grant, &key).await?;
            }
        }
        Ok(())
    }

    /// Lets those of `grants` that are not well be tried at once: after a reload and for a test, since whoever
    /// asks for that has mended something. A start alone does not, or a crash loop would hammer the provider.
    ///
    /// # Errors
    /// [`TokenError`] of the database.
    pub async fn try_now(&self, grants: &[GrantRef]) -> Result<(), TokenError> {
        let inner = &self.inner;
        inner.directory.try_now();
        inner.breaker.reset();
        for (_, row) in overview(&inner.store, grants).await? {
            if let Some(row) = row {
                let mut write = inner.store.write_lightly().await?;
                store::grant::try_now(write.connection()?, row.id, inner.clock.now()).await?;
                write.commit().await?;
            }
        }
        Ok(())
    }

    /// Waits for renewals under way. Each ends within 12 s.
    pub async fn finish(&self) {
        let mut renewals = std::mem::take(&mut *self.renewals.lock().unwrap_or_else(PoisonError::into_inner));
        while renewals.join_next().await.is_some() {}
    }
}

/// The rows of these grants, without the network: for `status` and alerts. `None`: it has none yet, which is
/// the state `pending`.
///
/// # Errors
/// What the database says.
pub async fn overview<'g>(
    store: &Store,
    grants: &'g [GrantRef],
) -> Result<Vec<(&'g GrantRef, Option<GrantRow>)>, StoreError> {
    let mut rows = Vec::new();
    for grant in grants {
        let row = match known_key(store, grant).await? {
            Some(key) => store::grant::find(store.readers(), &key).await?,
            None => None,
        };
        rows.push((grant, row));
    }
    Ok(rows)
}
