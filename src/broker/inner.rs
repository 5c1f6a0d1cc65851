//! What the broker looks up and keeps: rows, leases, unsaved tokens, and the words of a refusal.
//! It never sends a token request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};

use super::breaker::Breaker;
use super::client::digest_of;
use super::directory::{Directory, DirectoryError, Turns};
use super::keyring::{Current, Keyring};
use super::plan::{self, Step};
use super::renewal::{Column, open, reseal_all};
use super::{AccessToken, TokenError};
use crate::grant::{Endpoints, GrantKey, GrantRef, GrantState, Integration, Problem, Slot};
use crate::oauth::failure::TokenFailure;
use crate::oauth::http::Http;
use crate::store::grant::{GrantId, GrantRow, NewTokens};
use crate::store::lease::LeaseOwner;
use crate::store::{self, Store};
use crate::time::{Clock, Timestamp};

/// What renewals share: it outlives them.
pub(super) struct Inner {
    pub(super) store: Store,
    pub(super) keyring: Keyring,
    pub(super) http: Http,
    pub(super) clock: Clock,
    pub(super) directory: Arc<Directory>,
    pub(super) owner: LeaseOwner,
    pub(super) turns: Turns,
    pub(super) breaker: Breaker,
    pub(super) names: Mutex<HashMap<(String, String), String>>,
    /// Tokens that could not be saved: until they are, no others are asked for.
    pub(super) unsaved: Mutex<HashMap<GrantId, Unsaved>>,
}

/// Tokens that wait to be saved.
pub(super) struct Unsaved {
    /// Generation of the row that they belong over.
    generation: i64,
    tokens: NewTokens,
    /// The key that they are sealed with.
    sealed_with: Current,
    at: Timestamp,
}

impl Inner {
    pub(super) fn new(store: Store, keyring: Keyring, http: Http, clock: Clock) -> Self {
        let directory = Arc::new(Directory::new(store.clone(), http.clone(), clock.clone()));
        Self {
            store,
            keyring,
            http,
            clock,
            directory,
            owner: lease_owner(),
            turns: Turns::default(),
            breaker: Breaker::default(),
            names: Mutex::default(),
            unsaved: Mutex::default(),
        }
    }

    pub(super) async fn endpoints(&self, grant: &GrantRef) -> Result<Endpoints, TokenError> {
        match self.directory.endpoints(&grant.integration).await {
            Ok(endpoints) => Ok(endpoints),
            Err(DirectoryError::Store(error)) => Err(error.into()),
            Err(DirectoryError::Provider(failure)) => Err(self.refused(&failure, grant)),
        }
    }

    pub(super) fn refused(&self, failure: &TokenFailure, grant: &GrantRef) -> TokenError {
        TokenError::Refused {
            state: plan::state(failure.class, grant.integration.flow),
            problem: self.problem(failure, grant),
            retry_at: None,
            retry_after: failure.retry_after,
        }
    }

    /// The row of a grant, made if need be, and what it asks for now.
    pub(super) async fn look(
        &self,
        grant: &GrantRef,
        key: &GrantKey,
        settings: &[u8],
    ) -> Result<(GrantRow, Step), TokenError> {
        let row = match store::grant::find(self.store.readers(), key).await? {
            Some(row) => row,
            None => self.ensure(grant, key).await?,
        };
        if self.save_unsaved(row.id).await? {
            return Box::pin(self.look(grant, key, settings)).await;
        }
        let step = plan::step(&row, grant.integration.flow, settings, self.clock.now());
        Ok((row, step))
    }

    pub(super) async fn ensure(&self, grant: &GrantRef, key: &GrantKey) -> Result<GrantRow, TokenError> {
        let mut write = self.store.write().await?;
        let now = self.clock.now();
        let row = store::grant::ensure(write.connection()?, key, &grant.integration.name, now).await?;
        write.commit().await?;
        Ok(row)
    }

    /// Takes the lease of a grant, if its row is still as it was read.
    pub(super) async fn lease(&self, row: &GrantRow) -> Result<bool, TokenError> {
        let mut write = self.store.write_lightly().await?;
        let now = self.clock.now();
        let is_taken = store::lease::take(write.connection()?, row, &self.owner, (now, now.plus(plan::LEASE))).await?;
        write.commit().await?;
        Ok(is_taken)
    }

    pub(super) async fn release(&self, id: GrantId) -> Result<(), TokenError> {
        let mut write = self.store.write_lightly().await?;
        store::lease::release(write.connection()?, id, &self.owner).await?;
        write.commit().await?;
        Ok(())
    }

    /// Saves new tokens; where the database fails they are kept in memory, since a provider that rotates has
    /// ended the old ones. Where the token key was rotated meanwhile, they are sealed anew.
    pub(super) async fn save(
        &self,
        (id, generation): (GrantId, i64),
        (tokens, sealed_with): (NewTokens, Current),
        at: Timestamp,
    ) -> Result<bool, TokenError> {
        let mut new = Unsaved {
            generation,
            tokens,
            sealed_with,
            at,
        };
        loop {
            match self.try_save(id, &new).await {
                Err(TokenError::Rotated) => new = self.sealed_anew(id, new).await?,
                Ok(saved) => return Ok(saved),
                Err(error) => {
                    let mut unsaved = self.unsaved.lock().unwrap_or_else(PoisonError::into_inner);
                    unsaved.insert(id, new);
                    return Err(error);
                }
            }
        }
    }

    async fn try_save(&self, id: GrantId, new: &Unsaved) -> Result<bool, TokenError> {
        let mut write = self.store.write().await?;
        if store::token_key::generation(write.connection()?).await? != new.sealed_with.generation {
            return Err(TokenError::Rotated);
        }
        let saved = store::grant::save(write.connection()?, (id, new.generation), &new.tokens, new.at).await?;
        store::grant::sign_in::revive(write.connection()?, id).await?;
        write.commit().await?;
        Ok(saved)
    }

    async fn sealed_anew(&self, id: GrantId, new: Unsaved) -> Result<Unsaved, TokenError> {
        let current = self.keyring.current().await?;
        let tokens = reseal_all((&new.sealed_with.key, &current.key), id, new.tokens)?;
        Ok(Unsaved {
            tokens,
            sealed_with: current,
            ..new
        })
    }

    /// Saves what could not be saved before. `true`: the row has changed.
    pub(super) async fn save_unsaved(&self, id: GrantId) -> Result<bool, TokenError> {
        let kept = self.unsaved.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        let Some(kept) = kept else { return Ok(false) };
        self.save((id, kept.generation), (kept.tokens, kept.sealed_with), kept.at)
            .await?;
        Ok(true)
    }

    pub(super) async fn give(&self, row: &GrantRow) -> Result<AccessToken, TokenError> {
        let key = self.keyring.current().await?.key;
        let secret = open(&key, row.id, Column::AccessToken, row.access_token.as_deref())?;
        let (Some(secret), Some(expires_at)) = (secret, row.access_token_expires_at) else {
            return Err(self.refusal(row));
        };
        Ok(AccessToken {
            secret,
            generation: row.generation,
            expires_at,
        })
    }

    /// Whether a row could not be opened because its tokens were sealed anew since it was read.
    pub(super) async fn is_resealed(&self, error: &TokenError, row: &GrantRow) -> Result<bool, TokenError> {
        if !matches!(error, TokenError::Seal(_)) {
            return Ok(false);
        }
        let present = store::grant::find(self.store.readers(), &row.key).await?;
        Ok(present.is_some_and(|present| {
            (present.access_token, present.refresh_token) != (row.access_token.clone(), row.refresh_token.clone())
        }))
    }

    pub(super) fn refusal(&self, row: &GrantRow) -> TokenError {
        TokenError::Refused {
            state: row.state,
            problem: row.problem.clone().unwrap_or_else(|| Problem {
                code: "no-token".to_owned(),
                summary: "there is no token yet".to_owned(),
                remedy: "nothing; it is tried again by itself".to_owned(),
            }),
            retry_at: row.next_refresh_at,
            retry_after: row.next_refresh_at.map(|at| self.clock.now().until(at)),
        }
    }

    pub(super) fn not_signed_in(&self, grant: &GrantRef) -> TokenError {
        TokenError::Refused {
            state: GrantState::Pending,
            problem: Problem {
                code: "not-signed-in".to_owned(),
                summary: format!("nobody has signed in as {} yet", grant.login),
                remedy: format!("sign in: {}", self.command(grant)),
            },
            retry_at: None,
            retry_after: None,
        }
    }

    /// A failure's problem with the command that mends this grant.
    pub(super) fn problem(&self, failure: &TokenFailure, grant: &GrantRef) -> Problem {
        let mut problem = failure.problem.clone();
        problem.remedy = problem.remedy.replace("{authorize}", &self.command(grant));
        problem
    }

    pub(super) fn command(&self, grant: &GrantRef) -> String {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let name = names.get(&name_key(grant)).unwrap_or(&grant.login);
        format!("mailintake authorize {name}")
    }

    pub(super) fn settings(&self, integration: &Integration, endpoints: &Endpoints) -> Vec<u8> {
        self.keyring.cached().key.tag(&settings(integration, endpoints))
    }
}

/// What a token request is made of besides tokens, as one digest.
fn settings(integration: &Integration, endpoints: &Endpoints) -> [u8; 32] {
    let account = integration.service_account.as_ref();
    let account = account.map_or("", |account| account.value.expose_secret());
    let how = format!(
        "{:?} {:?}",
        integration.client_authentication, integration.assertion_algorithm
    );
    let scopes = integration.scopes.join(" ");
    let parts: [&[u8]; 8] = [
        integration.client_id.as_bytes(),
        integration.flow.as_str().as_bytes(),
        how.as_bytes(),
        scopes.as_bytes(),
        endpoints.token.as_bytes(),
        account.as_bytes(),
        &digest_of(integration, Slot::First),
        &digest_of(integration, Slot::Next),
    ];
    let digest = parts.iter().fold(Sha256::new(), |digest, part| {
        digest.chain_update(part.len().to_be_bytes()).chain_update(part)
    });
    digest.finalize().into()
}

pub(super) fn name_key(grant: &GrantRef) -> (String, String) {
    (grant.integration.name.clone(), grant.login.to_lowercase())
}

pub(super) fn turn_name(key: &GrantKey) -> String {
    format!("{}\n{}\n{}", key.client_id, key.token_endpoint, key.login)
}

fn lease_owner() -> LeaseOwner {
    // Where there is no boot id, leases still end by their time.
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    LeaseOwner {
        process: format!("{}-{:016x}", std::process::id(), rand::random::<u64>()),
        boot: boot.trim().to_owned(),
    }
}
