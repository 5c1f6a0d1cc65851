//! A client at its provider's endpoints, and what it proves itself with there.
//! It never sends anything, and never chooses between its credentials: the broker does.

use oauth2::basic::{BasicErrorResponse, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse};
use oauth2::{AuthType, ClientId, ClientSecret, EndpointNotSet, EndpointSet, StandardRevocableToken, TokenUrl};
use secrecy::{ExposeSecret, SecretString};

use super::assertion::{self, ASSERTION_TYPE};
use super::failure::TokenFailure;
use super::token::{Response, bad_endpoint};
use crate::grant::{ClientAuthentication, Endpoints, Integration, Proof, Slot};
use crate::time::Timestamp;

/// A client as the `oauth2` crate knows it.
pub(super) type Registration = oauth2::Client<
    BasicErrorResponse,
    Response,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;
/// What is added to its requests.
pub(super) type Parameters = Vec<(&'static str, String)>;

/// Who asks, and where.
#[derive(Clone, Copy)]
pub struct Client<'a> {
    /// The registration.
    pub integration: &'a Integration,
    /// The provider's endpoints.
    pub endpoints: &'a Endpoints,
    /// Which of its credentials it uses.
    pub slot: Slot,
}

/// What a client sends to prove itself.
pub(super) enum Sent<'a> {
    Nothing,
    Secret(&'a SecretString),
    Assertion(SecretString),
}

impl<'a> Client<'a> {
    /// The same client with its other credentials, if it has any.
    pub(super) fn other(self) -> Option<Self> {
        let slot = self.slot.other();
        self.integration.proof(slot)?;
        Some(Self { slot, ..self })
    }

    /// What to send now: an assertion is good once.
    pub(super) fn sent(self, now: Timestamp) -> Result<Sent<'a>, TokenFailure> {
        let integration = self.integration;
        match integration.proof(self.slot) {
            None | Some(Proof::Public) => Ok(Sent::Nothing),
            Some(Proof::Secret(secret)) => Ok(Sent::Secret(&secret.value)),
            Some(Proof::Certificate(certificate)) => {
                let names = (integration.client_id.as_str(), self.endpoints.token.as_str());
                assertion::of_client(certificate, integration.assertion_algorithm, names, now).map(Sent::Assertion)
            }
        }
    }

    /// A refusal, with what the dates of the certificate say about it.
    pub(super) fn explain(self, failure: TokenFailure, now: Timestamp) -> TokenFailure {
        match self.integration.proof(self.slot) {
            Some(Proof::Certificate(certificate)) => assertion::explain(failure, certificate, now),
            Some(Proof::Secret(_) | Proof::Public) | None => failure,
        }
    }

    /// The client as the `oauth2` crate knows it, and what is added to its requests: the crate signs nothing.
    pub(super) fn registration(self, now: Timestamp) -> Result<(Registration, Parameters), TokenFailure> {
        let integration = self.integration;
        let token_url = TokenUrl::new(self.endpoints.token.clone()).map_err(|_| bad_endpoint())?;
        let auth_type = match integration.client_authentication {
            ClientAuthentication::Basic => AuthType::BasicAuth,
            ClientAuthentication::Post | ClientAuthentication::PrivateKeyJwt => AuthType::RequestBody,
        };
        let oauth = oauth2::Client::new(ClientId::new(integration.client_id.clone()))
            .set_auth_type(auth_type)
            .set_token_uri(token_url);
        match self.sent(now)? {
            Sent::Nothing => Ok((oauth, Vec::new())),
            Sent::Secret(secret) => {
                let secret = ClientSecret::new(secret.expose_secret().to_owned());
                Ok((oauth.set_client_secret(secret), Vec::new()))
            }
            Sent::Assertion(assertion) => {
                let proof = vec![
                    ("client_assertion_type", ASSERTION_TYPE.to_owned()),
                    ("client_assertion", assertion.expose_secret().to_owned()),
                ];
                Ok((oauth, proof))
            }
        }
    }
}
