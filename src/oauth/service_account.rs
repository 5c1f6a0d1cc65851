//! Google's service accounts (RFC 7523 §2.1): a token for any mailbox of a domain that has delegated that to the
//! account. It never keeps a key, and asks for no mailbox but the login of the grant.
//!
//! Source: <https://developers.google.com/identity/protocols/oauth2/service-account>.

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;

use super::assertion::{self, KeyFault, SigningKey};
use super::failure::TokenFailure;
use crate::grant::{AssertionAlgorithm, Integration};
use crate::secret::Secret;
use crate::time::Timestamp;

/// Grant type of the request.
pub(super) const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// How long the assertion is good, in seconds; Google takes no more than an hour.
const LIFE: i64 = 3600;
/// How far our clock may be ahead of the provider's, in seconds.
const SKEW: i64 = 60;
/// The token endpoints that keys of former years name for the one that Google has now.
const FORMER_ENDPOINTS: [&str; 2] = [
    "https://accounts.google.com/o/oauth2/token",
    "https://www.googleapis.com/oauth2/v4/token",
];
/// Google's token endpoint.
const ENDPOINT: &str = "https://oauth2.googleapis.com/token";

/// The key of a service account, as Google's console gives it: JSON.
pub struct ServiceAccountKey {
    /// The account: who signs.
    pub client_email: String,
    /// The number that domain-wide delegation is entered for.
    pub client_id: Option<String>,
    /// Where tokens are obtained.
    pub token_uri: String,
    /// Which of the account's keys it is.
    private_key_id: Option<String>,
    private_key: SecretString,
}

/// What is wrong with the key of a service account.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceAccountFault {
    /// It is something else.
    #[error("is no key of a service account; download it as JSON from Google's console")]
    NotOne,
    /// A field is not there.
    #[error("lacks {0}; download the key again as JSON from Google's console")]
    Lacks(&'static str),
    /// Its private key cannot sign.
    #[error("{0}")]
    Key(KeyFault),
}

#[derive(Deserialize)]
struct Document {
    r#type: Option<String>,
    client_email: Option<String>,
    client_id: Option<String>,
    token_uri: Option<String>,
    private_key_id: Option<String>,
    private_key: Option<String>,
}

impl ServiceAccountKey {
    /// Reads a key.
    ///
    /// # Errors
    /// [`ServiceAccountFault`].
    pub fn parse(secret: &Secret) -> Result<Self, ServiceAccountFault> {
        let document: Document =
            serde_json::from_str(secret.value.expose_secret()).map_err(|_| ServiceAccountFault::NotOne)?;
        if document.r#type.as_deref() != Some("service_account") {
            return Err(ServiceAccountFault::NotOne);
        }
        let lacks = ServiceAccountFault::Lacks;
        let private_key = SecretString::from(document.private_key.ok_or(lacks("private_key"))?);
        assertion::check_key(&private_key).map_err(ServiceAccountFault::Key)?;
        Ok(Self {
            client_email: document.client_email.ok_or(lacks("client_email"))?,
            client_id: document.client_id,
            token_uri: document.token_uri.ok_or(lacks("token_uri"))?,
            private_key_id: document.private_key_id,
            private_key,
        })
    }

    /// Whether it is for this token endpoint.
    pub fn is_for(&self, token_endpoint: &str) -> bool {
        self.token_uri == token_endpoint
            || (token_endpoint == ENDPOINT && FORMER_ENDPOINTS.contains(&self.token_uri.as_str()))
    }

    /// What asks for a token for the mailbox of `login`.
    fn assertion(
        &self,
        (integration, token_endpoint): (&Integration, &str),
        login: &str,
        now: Timestamp,
    ) -> Result<SecretString, TokenFailure> {
        let key = SigningKey::new(&self.private_key, AssertionAlgorithm::Rs256)
            .map_err(|fault| unusable(&ServiceAccountFault::Key(fault)))?;
        let claims = json!({
            "iss": self.client_email,
            "sub": login,
            "scope": integration.scopes.join(" "),
            "aud": token_endpoint,
            "iat": now.0 - SKEW,
            "exp": now.0 - SKEW + LIFE,
        });
        let kid = self.private_key_id.as_deref().map(|id| ("kid", id));
        key.jwt(kid, &claims)
    }
}

/// The assertion of an integration for the mailbox of `login`.
///
/// # Errors
/// [`TokenFailure`] of configuration.
pub(super) fn assertion(
    integration: &Integration,
    token_endpoint: &str,
    login: &str,
    now: Timestamp,
) -> Result<SecretString, TokenFailure> {
    let secret = integration.service_account.as_ref().ok_or_else(missing)?;
    let key = ServiceAccountKey::parse(secret).map_err(|fault| unusable(&fault))?;
    key.assertion((integration, token_endpoint), login, now)
}

fn missing() -> TokenFailure {
    TokenFailure::configuration(
        "service-account",
        "the integration names no key of a service account",
        "set service_account = { file = \"key.json\" } of the integration, then reload mailintake",
    )
}

fn unusable(fault: &ServiceAccountFault) -> TokenFailure {
    TokenFailure::configuration(
        "service-account",
        &format!("the key of the service account {fault}"),
        "put a key as Google's console gives it into service_account of the integration, then reload mailintake",
    )
}
