//! Which of a client's credentials are asked with first: the second ones from when the provider has refused the
//! first and taken these, across restarts, until the first ones change. It never keeps a credential.

use std::sync::Arc;

use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use tracing::{info, warn};

use super::inner::Inner;
use super::{Broker, known_key};
use crate::fault::chain;
use crate::grant::{Endpoints, GrantRef, Integration, Problem, Proof, Slot};
use crate::oauth::client::Client;
use crate::oauth::failure::TokenFailure;
use crate::oauth::token::Granted;
use crate::store::client::RefusedClient;
use crate::store::{self, StoreError};

/// A digest of what is in a slot; nothing of it can be had back.
pub(super) fn digest_of(integration: &Integration, slot: Slot) -> [u8; 32] {
    let mut digest = Sha256::new();
    match integration.proof(slot) {
        None => {}
        Some(Proof::Public) => digest.update("public"),
        Some(Proof::Secret(secret)) => {
            digest.update("secret|");
            digest.update(secret.value.expose_secret());
        }
        Some(Proof::Certificate(certificate)) => {
            digest.update("certificate|");
            digest.update(&certificate.pem);
            digest.update(certificate.private_key.value.expose_secret());
        }
    }
    digest.finalize().into()
}

impl Inner {
    /// The client of an integration with the credentials that worked last.
    pub(super) async fn client<'c>(
        &self,
        integration: &'c Integration,
        endpoints: &'c Endpoints,
    ) -> Result<Client<'c>, StoreError> {
        let is_refused = match integration.proof(Slot::Next) {
            Some(_) => self.refusal_of(integration, &endpoints.token).await?.is_some(),
            None => false,
        };
        Ok(Client {
            integration,
            endpoints,
            slot: if is_refused { Slot::Next } else { Slot::First },
        })
    }

    /// That the first credentials, as they are now, were refused.
    async fn refusal_of(
        &self,
        integration: &Integration,
        token_endpoint: &str,
    ) -> Result<Option<RefusedClient>, StoreError> {
        let names = (integration.client_id.as_str(), token_endpoint);
        let refused = store::client::refused(self.store.readers(), names).await?;
        let present = self.keyring.cached().key.tag(&digest_of(integration, Slot::First));
        Ok(refused.filter(|refused| refused.digest == present))
    }

    /// What is wrong where the second credentials stand in for the first.
    async fn problem_of_client(&self, grant: &GrantRef) -> Result<Option<Problem>, StoreError> {
        let Some(key) = known_key(&self.store, grant).await? else {
            return Ok(None);
        };
        let refused = self.refusal_of(&grant.integration, &key.token_endpoint).await?;
        Ok(refused.and_then(|refused| problem(&grant.integration, &refused)))
    }

    /// Notes that the credentials of `client` were refused and its others taken. If it cannot be noted, that costs
    /// a request next time.
    pub(super) async fn note(&self, client: Client<'_>, refused: &TokenFailure) {
        if let Err(error) = self.promote(client, refused).await {
            let integration = client.integration.name.as_str();
            warn!(integration, error = %chain(&error), "cannot note which credentials of {integration} work");
        }
    }

    async fn promote(&self, client: Client<'_>, failure: &TokenFailure) -> Result<(), StoreError> {
        let integration = client.integration;
        let names = (integration.client_id.as_str(), client.endpoints.token.as_str());
        let is_news = match client.slot {
            Slot::First => self.refusal_of(integration, names.1).await?.is_none(),
            Slot::Next => true,
        };
        if !is_news {
            return Ok(());
        }
        let mut write = self.store.write_lightly().await?;
        match client.slot {
            Slot::First => {
                let refused = RefusedClient {
                    digest: self.keyring.cached().key.tag(&digest_of(integration, Slot::First)),
                    code: failure.problem.code.clone(),
                    refused_at: self.clock.now(),
                };
                store::client::refuse(write.connection()?, names, &refused).await?;
            }
            Slot::Next => store::client::accept(write.connection()?, names).await?,
        }
        write.commit().await?;
        tell(client, failure);
        Ok(())
    }
}

fn tell(client: Client<'_>, failure: &TokenFailure) {
    let integration = client.integration.name.as_str();
    let setting = |slot| client.integration.proof(slot).map_or("", |proof| proof.setting(slot));
    let (first, next) = (setting(Slot::First), setting(Slot::Next));
    let event = "token.client_refused";
    let provider_code = failure.problem.code.as_str();
    match client.slot {
        Slot::First => warn!(
            event,
            integration,
            provider_code,
            "{first} of {integration} is refused ({provider_code}); {next} works and is used from now on: move {next} to {first}"
        ),
        Slot::Next => info!(
            event,
            integration, provider_code, "{next} of {integration} is refused ({provider_code}); {first} works again"
        ),
    }
}

/// What a person must know about a client whose first credentials are refused.
fn problem(integration: &Integration, refused: &RefusedClient) -> Option<Problem> {
    let first = integration.proof(Slot::First)?.setting(Slot::First);
    let next = integration.proof(Slot::Next)?.setting(Slot::Next);
    Some(Problem {
        code: refused.code.clone(),
        summary: format!(
            "{first} of {} has been refused since {}; {next} is used in its place, and nothing stands behind it",
            integration.name,
            refused.refused_at.rfc3339()
        ),
        remedy: format!("move {next} to {first}, then reload mailintake; have new credentials made for {next} in time"),
    })
}

impl Broker {
    /// The client of a grant's integration, with the credentials that worked last.
    ///
    /// # Errors
    /// What the database says.
    pub(crate) async fn client<'c>(
        &self,
        grant: &'c GrantRef,
        endpoints: &'c Endpoints,
    ) -> Result<Client<'c>, StoreError> {
        self.inner.client(&grant.integration, endpoints).await
    }

    /// Notes which credentials have brought an answer, once its tokens are saved.
    pub(crate) async fn note(&self, client: Client<'_>, granted: &Granted) {
        if let Some(refused) = &granted.refused {
            self.inner.note(client, refused).await;
        }
    }

    /// Each integration of these grants, and what is wrong where its second credentials stand in for the first.
    ///
    /// # Errors
    /// What the database says.
    pub async fn refused_clients(
        &self,
        grants: &[GrantRef],
    ) -> Result<Vec<(Arc<Integration>, Option<Problem>)>, StoreError> {
        let inner = &self.inner;
        let mut clients: Vec<(Arc<Integration>, Option<Problem>)> = Vec::new();
        for grant in grants {
            let integration = &grant.integration;
            if clients.iter().any(|(known, _)| known.name == integration.name) {
                continue;
            }
            let problem = match integration.proof(Slot::Next) {
                Some(_) => inner.problem_of_client(grant).await?,
                None => None,
            };
            clients.push((Arc::clone(integration), problem));
        }
        Ok(clients)
    }
}
