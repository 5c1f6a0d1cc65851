//! The sign-in of a person at another machine: shows a code and looks until it was entered (RFC 8628).
//! It never looks more often than the provider wants.

use std::time::Duration;

use secrecy::SecretString;
use tokio::time::Instant;

use super::{AuthorizeError, Authorizer, SignedIn};
use crate::broker::TokenError;
use crate::grant::{Flow, GrantRef};
use crate::oauth::client::Client;
use crate::oauth::device::{self, Device, Look};
use crate::oauth::failure::Class;
use crate::oauth::token::Granted;

/// What `slow_down` adds to the time between looks (RFC 8628 §3.5).
const SLOWER: Duration = Duration::from_secs(5);
/// Longest time between looks while the provider has a fault.
const SLOWEST: Duration = Duration::from_mins(1);

impl Authorizer {
    /// Signs a person in by the device flow: gives what they need to `show`, waits for them, and stores the
    /// grant in the place of the old one.
    ///
    /// # Errors
    /// Any [`AuthorizeError`]; the old grant stays.
    pub async fn device(
        &self,
        grant: &GrantRef,
        show: &mut (dyn FnMut(&Device) + Send),
    ) -> Result<SignedIn, AuthorizeError> {
        match grant.integration.flow {
            Flow::DeviceCode | Flow::AuthorizationCode => {}
            Flow::ClientCredentials | Flow::ServiceAccount => {
                return Err(AuthorizeError::NoPersonNeeded {
                    integration: grant.integration.name.clone(),
                });
            }
        }
        let endpoints = self.broker.endpoints(grant).await?;
        let client = self.broker.client(grant, &endpoints).await?;
        let device = device::begin(&self.broker.exchange(grant), client)
            .await
            .map_err(|failure| self.refused(&failure, grant))?;
        show(&device);
        self.await_person(grant, client, &device).await
    }

    async fn await_person(
        &self,
        grant: &GrantRef,
        client: Client<'_>,
        device: &Device,
    ) -> Result<SignedIn, AuthorizeError> {
        let deadline = Instant::now() + device.expires_in;
        let mut interval = device.interval;
        while Instant::now() < deadline {
            tokio::time::sleep(interval).await;
            let exchange = self.broker.exchange(grant);
            match device::look(&exchange, client, device).await {
                Ok(Look::Granted(granted)) => return self.store(grant, client, &granted).await,
                Ok(Look::Pending) => {}
                Ok(Look::SlowDown) => interval += SLOWER,
                Err(failure) if failure.class == Class::Transient => interval = (interval * 2).min(SLOWEST),
                Err(failure) => return Err(self.refused(&failure, grant)),
            }
        }
        Err(AuthorizeError::TooLate)
    }

    async fn store(&self, grant: &GrantRef, client: Client<'_>, granted: &Granted) -> Result<SignedIn, AuthorizeError> {
        let (endpoints, tokens) = (client.endpoints, &granted.tokens);
        // There is no browser of ours that a nonce could come back from.
        let signed_in = self.examine(grant, endpoints, tokens, &SecretString::default())?;
        let (store, _) = self.broker.parts();
        let mut write = store.write().await?;
        self.broker.replace(&mut write, grant, endpoints, tokens).await?;
        write.commit().await.map_err(TokenError::Store)?;
        self.broker.note(client, granted).await;
        Ok(signed_in)
    }
}
