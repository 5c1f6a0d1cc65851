//! One renewal, under the lease of its grant: ask the token endpoint, save, and only then give the token.
//! It never runs twice for one grant, and never removes a refresh token.

use secrecy::{ExposeSecret, SecretString};
use tracing::{info, warn};

use super::breaker::host_of;
use super::inner::Inner;
use super::keyring::Current;
use super::{AccessToken, TokenError, plan};
use crate::fault::chain;
use crate::grant::{Endpoints, Flow, GrantRef, GrantState, Integration, Problem, Slot};
use crate::oauth::client::Client;
use crate::oauth::failure::{Class, TokenFailure};
use crate::oauth::http::Exchange;
use crate::oauth::token::{self, Offer, Tokens};
use crate::seal::Key;
use crate::store::grant::{Failed, GrantId, GrantRow, NewTokens};
use crate::store::{self, StoreError};
use crate::time::Timestamp;

/// A renewal that is due: everything that it needs.
pub(super) struct Renewal {
    pub(super) grant: GrantRef,
    pub(super) endpoints: Endpoints,
    pub(super) settings: Vec<u8>,
    pub(super) row: GrantRow,
}

/// What the provider gave, and which refresh token it was given for.
struct Obtained {
    tokens: Tokens,
    /// The credentials that were asked with first, and why they were refused, if others have brought the tokens.
    slot: Slot,
    refused: Option<TokenFailure>,
    offered: Option<SecretString>,
    /// The token that was offered is the previous one: the current was refused.
    is_previous: bool,
}

/// A client at its provider, for the requests of one renewal.
struct Asking<'r> {
    exchange: &'r Exchange,
    client: Client<'r>,
}

impl Asking<'_> {
    async fn refresh(&self, token: SecretString) -> Result<Obtained, TokenFailure> {
        self.ask(&Offer::Refresh(&token), Some(token.clone())).await
    }

    async fn ask(&self, offer: &Offer<'_>, offered: Option<SecretString>) -> Result<Obtained, TokenFailure> {
        let granted = token::request(self.exchange, self.client, offer).await?;
        Ok(Obtained {
            tokens: granted.tokens,
            slot: self.client.slot,
            refused: granted.refused,
            offered,
            is_previous: false,
        })
    }
}

impl Renewal {
    /// Asks once and saves what came of it. `None`: look at the row again.
    pub(super) async fn run(self, inner: &Inner) -> Result<Option<AccessToken>, TokenError> {
        if !inner.lease(&self.row).await? {
            return Ok(None);
        }
        let host = host_of(&self.endpoints.token);
        if let Some(failure) = inner.breaker.held(&host, inner.clock.now()) {
            self.fail(inner, &failure).await?;
            return Ok(None);
        }
        match self.obtain(inner).await {
            Ok(Ok((obtained, key))) => {
                let saved = self.save(inner, &obtained, &key).await;
                // Nothing else is written before the tokens.
                self.note(inner, &obtained).await;
                self.heard(inner, &host).await;
                saved
            }
            Ok(Err(failure)) => {
                self.fail(inner, &failure).await?;
                if failure.is_unreachable {
                    inner.breaker.unheard(&host, self.row.id, &failure, inner.clock.now());
                } else {
                    self.heard(inner, &host).await;
                }
                Ok(None)
            }
            Err(error) => {
                inner.release(self.row.id).await?;
                if inner.is_resealed(&error, &self.row).await? {
                    return Ok(None);
                }
                Err(error)
            }
        }
    }

    async fn note(&self, inner: &Inner, obtained: &Obtained) {
        if let Some(refused) = &obtained.refused {
            let client = Client {
                integration: &self.grant.integration,
                endpoints: &self.endpoints,
                slot: obtained.slot,
            };
            inner.note(client, refused).await;
        }
    }

    /// The host has answered: those that were held back for its silence are tried again. If that fails, they wait
    /// for their own time; what was answered counts all the same.
    async fn heard(&self, inner: &Inner, host: &str) {
        if inner.breaker.heard(host)
            && let Err(error) = self.try_others(inner, host).await
        {
            warn!(error = %chain(&error), "cannot try the other grants at {host} at once");
        }
    }

    async fn try_others(&self, inner: &Inner, host: &str) -> Result<(), StoreError> {
        let mut write = inner.store.write_lightly().await?;
        store::grant::try_host(write.connection()?, host, inner.clock.now()).await?;
        write.commit().await
    }

    /// Asks the provider; gives what it answered with the key that was in use.
    async fn obtain(&self, inner: &Inner) -> Result<Result<(Obtained, Current), TokenFailure>, TokenError> {
        let current = inner.keyring.current().await?;
        let obtained = self.ask(inner, &current.key).await?;
        Ok(obtained.map(|obtained| (obtained, current)))
    }

    async fn ask(&self, inner: &Inner, key: &Key) -> Result<Result<Obtained, TokenFailure>, TokenError> {
        let exchange = &inner.http.exchange(self.grant.integration.ca_file.as_deref());
        let asking = Asking {
            exchange,
            client: inner.client(&self.grant.integration, &self.endpoints).await?,
        };
        match self.grant.integration.flow {
            Flow::ClientCredentials => return Ok(asking.ask(&Offer::Client, None).await),
            Flow::ServiceAccount => return Ok(asking.ask(&Offer::Login(&self.grant.login), None).await),
            Flow::AuthorizationCode | Flow::DeviceCode => {}
        }
        let current = self.refresh_token(key, self.row.refresh_token.as_deref())?;
        let first = asking.refresh(current).await;
        let Err(refused) = first else { return Ok(first) };
        // An answer may have got lost after a rotation that was not meant to be, or a backup was restored.
        let is_new = refused.is_invalid_grant
            && refused.class == Class::Reauthorize
            && self.row.state != GrantState::NeedsAuthorization;
        let previous = self.row.previous_refresh_token.as_deref();
        let Some(previous) = previous.filter(|_| is_new) else {
            return Ok(Err(refused));
        };
        let previous = self.refresh_token(key, Some(previous))?;
        match asking.refresh(previous).await {
            Ok(obtained) => Ok(Ok(Obtained {
                is_previous: true,
                ..obtained
            })),
            Err(_) => Ok(Err(refused)),
        }
    }

    fn refresh_token(&self, key: &Key, sealed: Option<&[u8]>) -> Result<SecretString, TokenError> {
        let token = open(key, self.row.id, Column::RefreshToken, sealed)?;
        Ok(token.ok_or(StoreError::Inconsistent {
            table: "grant",
            column: "refresh_token",
        })?)
    }

    async fn save(
        &self,
        inner: &Inner,
        obtained: &Obtained,
        current: &Current,
    ) -> Result<Option<AccessToken>, TokenError> {
        let now = inner.clock.now();
        let new = self.new_tokens(&current.key, obtained, now);
        let at = (self.row.id, self.row.generation);
        let saved = inner.save(at, (new, current.clone()), now).await?;
        if !saved {
            return Ok(None);
        }
        let integration = &self.grant.integration.name;
        let expires_at = now.plus(obtained.tokens.expires_in);
        info!(
            event = "token.refreshed",
            integration,
            "the token of {} at {integration} was renewed; it is good until {}",
            self.grant.login,
            expires_at.rfc3339()
        );
        Ok(Some(AccessToken {
            secret: obtained.tokens.access_token.clone(),
            generation: self.row.generation + 1,
            expires_at,
        }))
    }

    fn new_tokens(&self, key: &Key, obtained: &Obtained, now: Timestamp) -> NewTokens {
        let tokens = &obtained.tokens;
        let row = &self.row;
        let offered = obtained.offered.as_ref();
        let rotated = tokens
            .refresh_token
            .as_ref()
            .filter(|new| offered.is_none_or(|old| old.expose_secret() != new.expose_secret()));
        let sealed = |token: &SecretString| seal(key, row.id, Column::RefreshToken, token);
        let (refresh_token, previous) = match (rotated, obtained.is_previous) {
            // The one that was offered has just worked: it is the one to fall back on.
            (Some(new), _) => (Some(sealed(new)), offered.map(sealed)),
            (None, true) => (row.previous_refresh_token.clone(), row.refresh_token.clone()),
            (None, false) => (row.refresh_token.clone(), row.previous_refresh_token.clone()),
        };
        let integration = &self.grant.integration;
        let is_rotated = rotated.is_some();
        NewTokens {
            access_token: seal(key, row.id, Column::AccessToken, &tokens.access_token),
            access_token_expires_at: now.plus(tokens.expires_in),
            // A client signs in by itself: what a provider gives it besides is of no use.
            refresh_token: refresh_token.filter(|_| integration.flow.needs_person()),
            previous_refresh_token: previous.filter(|_| integration.flow.needs_person()),
            refresh_token_issued_at: if is_rotated {
                Some(now)
            } else {
                row.refresh_token_issued_at
            },
            scopes: tokens
                .scopes
                .as_ref()
                .map(|scopes| scopes.join(" "))
                .or_else(|| row.scopes.clone()),
            next_refresh_at: plan::renew_at(tokens, integration.provider.is_microsoft(), now, rand::random()),
            expected_end_at: plan::expected_end(integration, tokens, now)
                .filter(|_| is_rotated)
                .or(row.expected_end_at),
            settings: self.settings.clone(),
            is_forced: row.is_rejected,
        }
    }

    async fn fail(&self, inner: &Inner, failure: &TokenFailure) -> Result<(), TokenError> {
        let integration = &self.grant.integration;
        let now = inner.clock.now();
        let failures = self.row.failures.saturating_add(1);
        let state = plan::state(failure.class, integration.flow);
        // Another kind of failure begins its own row of delays.
        let tries = if state == self.row.state { failures } else { 1 };
        let delay = plan::retry_delay(failure.class, tries, failure.retry_after, rand::random());
        let failed = Failed {
            state,
            problem: inner.problem(failure, &self.grant),
            failures: tries,
            next_refresh_at: now.plus(delay),
            settings: self.settings.clone(),
        };
        self.log(&failed.problem, state, delay.as_secs());
        let mut write = inner.store.write().await?;
        store::grant::fail(write.connection()?, (self.row.id, self.row.generation), &failed, now).await?;
        if state == GrantState::NeedsAuthorization {
            let end = (failed.problem.code.as_str(), failure.stated_life);
            store::grant::sign_in::end(write.connection()?, self.row.id, end, now).await?;
        }
        write.commit().await?;
        Ok(())
    }

    fn log(&self, problem: &Problem, state: GrantState, delay_s: u64) {
        let integration = &self.grant.integration.name;
        warn!(
            event = "token.refresh_failed",
            integration,
            provider_code = problem.code,
            delay_ms = delay_s.saturating_mul(1000),
            "the token of {} at {integration} could not be renewed: {} ({}); the grant is {}; next try in {delay_s} s",
            self.grant.login,
            problem.summary,
            problem.code,
            state.as_str(),
        );
    }
}

/// The tokens of a sign-in, sealed for the row of its grant.
pub(super) fn of_sign_in(
    (key, id): (&Key, GrantId),
    integration: &Integration,
    tokens: &Tokens,
    (settings, now): (Vec<u8>, Timestamp),
) -> NewTokens {
    NewTokens {
        access_token: seal(key, id, Column::AccessToken, &tokens.access_token),
        access_token_expires_at: now.plus(tokens.expires_in),
        refresh_token: tokens
            .refresh_token
            .as_ref()
            .map(|token| seal(key, id, Column::RefreshToken, token)),
        previous_refresh_token: None,
        refresh_token_issued_at: Some(now),
        scopes: Some(tokens.scopes.as_ref().unwrap_or(&integration.scopes).join(" ")),
        next_refresh_at: plan::renew_at(tokens, integration.provider.is_microsoft(), now, rand::random()),
        expected_end_at: plan::expected_end(integration, tokens, now),
        settings,
        is_forced: false,
    }
}

/// A sealed column of the table `grant`. Both refresh tokens count as one, so that they may change places.
#[derive(Clone, Copy)]
pub(super) enum Column {
    AccessToken,
    RefreshToken,
}

fn context(id: GrantId, column: Column) -> String {
    let column = match column {
        Column::AccessToken => "access_token",
        Column::RefreshToken => "refresh_token",
    };
    format!("grant|{}|{column}", id.0)
}

/// Seals a token for its place.
pub(super) fn seal(key: &Key, id: GrantId, column: Column, token: &SecretString) -> Vec<u8> {
    key.seal(token.expose_secret().as_bytes(), &context(id, column))
}

/// The token of a place, sealed with the second of two keys instead of the first.
pub(super) fn reseal(
    (old, new): (&Key, &Key),
    id: GrantId,
    column: Column,
    sealed: Option<&[u8]>,
) -> Result<Option<Vec<u8>>, TokenError> {
    let token = open(old, id, column, sealed)?;
    Ok(token.map(|token| seal(new, id, column, &token)))
}

/// New tokens, sealed with the second of two keys instead of the first.
pub(super) fn reseal_all(keys: (&Key, &Key), id: GrantId, tokens: NewTokens) -> Result<NewTokens, TokenError> {
    let refresh = |sealed: Option<Vec<u8>>| reseal(keys, id, Column::RefreshToken, sealed.as_deref());
    let access = reseal(keys, id, Column::AccessToken, Some(&tokens.access_token))?;
    Ok(NewTokens {
        access_token: access.unwrap_or_default(),
        refresh_token: refresh(tokens.refresh_token)?,
        previous_refresh_token: refresh(tokens.previous_refresh_token)?,
        ..tokens
    })
}

/// Opens the token of a place, if there is one.
pub(super) fn open(
    key: &Key,
    id: GrantId,
    column: Column,
    sealed: Option<&[u8]>,
) -> Result<Option<SecretString>, TokenError> {
    let Some(sealed) = sealed else { return Ok(None) };
    let plain = key.open(sealed, &context(id, column))?;
    let text = std::str::from_utf8(&plain).map_err(|_| store::StoreError::Inconsistent {
        table: "grant",
        column: "access_token",
    })?;
    Ok(Some(SecretString::from(text)))
}
