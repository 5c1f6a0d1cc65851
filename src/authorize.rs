//! The sign-in of a person: the address to open, and what comes back from it, once.
//! It never changes a grant before the provider itself has said who signed in and what was granted.

mod answer;
mod device;
mod error;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use tracing::{info, warn};
use url::Url;

pub use self::answer::Answer;
pub use self::error::AuthorizeError;
use crate::broker::{Broker, TokenError};
use crate::fault;
use crate::grant::{Endpoints, Flow, GrantRef, Provider};
use crate::oauth::authorization::{self, Identity};
use crate::oauth::failure::{self, TokenFailure};
use crate::oauth::token::{self, Offer, Tokens};
use crate::seal::Key;
use crate::store::authorization::{Authorization, Gone, Outcome};
use crate::store::{self, StoreError, Write};
use crate::time::Timestamp;

/// How long a person has for a sign-in.
pub const TIME_LIMIT: Duration = Duration::from_mins(15);
/// Begins and finishes sign-ins.
#[derive(Clone)]
pub struct Authorizer {
    broker: Arc<Broker>,
}

/// A sign-in that was begun.
pub struct Begun {
    /// What the person opens.
    pub url: Url,
    /// By what its outcome is found.
    pub state_sha256: Vec<u8>,
    /// When it is too late.
    pub expires_at: Timestamp,
}

/// A sign-in that has succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedIn {
    /// At which integration.
    pub integration: String,
    /// Whose grant was stored.
    pub login: String,
    /// Who signed in, as the provider says; `None` if it does not.
    pub who: Option<String>,
    /// What was granted.
    pub scopes: Vec<String>,
}

impl std::fmt::Display for SignedIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.who {
            Some(who) => write!(f, "signed in at {} as {who}", self.integration)?,
            None => write!(
                f,
                "signed in at {}, which does not say as whom; the grant is for {}",
                self.integration, self.login
            )?,
        }
        write!(f, "; granted: {}", self.scopes.join(" "))
    }
}

/// Where the browser comes back to: `BASE/oauth/callback/INTEGRATION`.
pub fn redirect_uri(base: &Url, integration: &str) -> String {
    let mut url = base.clone();
    url.set_query(None);
    url.set_fragment(None);
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(["oauth", "callback", integration]);
    }
    url.to_string()
}

/// The base of a redirect URI on this machine. Microsoft takes any port for `localhost`, and 127.0.0.1 only
/// by hand; Google and RFC 8252 §7.3 prefer 127.0.0.1.
pub fn loopback_base(provider: Provider, port: u16) -> Option<Url> {
    let host = if provider.is_microsoft() {
        "localhost"
    } else {
        "127.0.0.1"
    };
    Url::parse(&format!("http://{host}:{port}/")).ok()
}

impl Authorizer {
    /// Sign-ins whose grants this broker keeps.
    pub fn new(broker: Arc<Broker>) -> Self {
        Self { broker }
    }

    /// Begins a sign-in.
    ///
    /// # Errors
    /// [`AuthorizeError::NoPersonNeeded`], [`AuthorizeError::OtherFlow`], [`AuthorizeError::Refused`] where
    /// the integration lacks something, else of the database.
    pub async fn begin(&self, grant: &GrantRef, redirect_uri: &str) -> Result<Begun, AuthorizeError> {
        check_flow(grant)?;
        let endpoints = self.broker.endpoints(grant).await?;
        let request =
            authorization::request(grant, &endpoints, redirect_uri).map_err(|failure| self.refused(&failure, grant))?;
        let (store, clock) = self.broker.parts();
        let key = self.broker.key().await?.key;
        let now = clock.now();
        let state_sha256 = digest(&request.state);
        let begun = Authorization {
            verifier: key.seal(request.verifier.expose_secret().as_bytes(), &context(&state_sha256)),
            state_sha256: state_sha256.clone(),
            integration: grant.integration.name.clone(),
            login: grant.login.to_lowercase(),
            redirect_uri: redirect_uri.to_owned(),
            created_at: now,
            expires_at: now.plus(TIME_LIMIT),
        };
        let mut write = store.write().await?;
        store::authorization::begin(write.connection()?, &begun).await?;
        write.commit().await?;
        Ok(Begun {
            url: request.url,
            state_sha256,
            expires_at: begun.expires_at,
        })
    }

    /// What came of a sign-in, so far, perhaps in another process.
    ///
    /// # Errors
    /// Of the database.
    pub async fn outcome(&self, begun: &Begun) -> Result<Outcome, AuthorizeError> {
        let (store, _) = self.broker.parts();
        Ok(store::authorization::outcome(store.readers(), &begun.state_sha256).await?)
    }

    /// The broker that keeps the grants.
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// Finishes the sign-in that an answer belongs to, and stores the grant in the place of the old one. It
    /// goes on to its end even if the caller goes away.
    ///
    /// # Errors
    /// Any [`AuthorizeError`]; the old grant stays, and the waiting command is told.
    pub async fn finish(
        &self,
        grants: &[GrantRef],
        integration: &str,
        answer: Answer,
    ) -> Result<SignedIn, AuthorizeError> {
        let (store, clock) = self.broker.parts();
        let mut write = store.write().await?;
        let state = digest(&answer.state);
        let connection = write.connection()?;
        let taken = store::authorization::take(connection, &state, integration, clock.now()).await?;
        let Some(begun) = taken else {
            return Err(gone(store::authorization::gone(connection, &state, integration).await?));
        };
        write.commit().await?;
        let grant = grants
            .iter()
            .find(|grant| grant.integration.name == begun.integration && grant.login.to_lowercase() == begun.login)
            .cloned();
        let Some(grant) = grant else {
            return self.give_up(&begun, AuthorizeError::Unknown).await;
        };
        let this = self.clone();
        let finishing = async move { this.settle(&grant, &begun, answer).await };
        let finished = self.broker.to_the_end(finishing).await;
        finished.unwrap_or(Err(AuthorizeError::Token(TokenError::Stopped)))
    }

    /// Redeems the answer and records the outcome, good or bad.
    async fn settle(
        &self,
        grant: &GrantRef,
        begun: &Authorization,
        answer: Answer,
    ) -> Result<SignedIn, AuthorizeError> {
        let integration = grant.integration.name.as_str();
        match self.redeem(grant, begun, answer).await {
            Ok(signed_in) => {
                info!(integration, "{}: {signed_in}", grant.login);
                Ok(signed_in)
            }
            Err(error) => self.give_up(begun, error).await,
        }
    }

    async fn give_up<T>(&self, begun: &Authorization, error: AuthorizeError) -> Result<T, AuthorizeError> {
        let text = fault::printable(&error.to_string(), 600);
        let integration = begun.integration.as_str();
        warn!(integration, error = %fault::chain(&error), "the sign-in of {} failed", begun.login);
        let (store, _) = self.broker.parts();
        let mut write = store.write().await?;
        store::authorization::settle(write.connection()?, &begun.state_sha256, &Outcome::Failed(text)).await?;
        write.commit().await?;
        Err(error)
    }

    async fn redeem(
        &self,
        grant: &GrantRef,
        begun: &Authorization,
        answer: Answer,
    ) -> Result<SignedIn, AuthorizeError> {
        let endpoints = self.broker.endpoints(grant).await?;
        check_issuer(&answer, &endpoints)?;
        let code = match (answer.code, answer.error) {
            (_, Some(error)) => {
                let failure = failure::classify_callback(&error, &answer.error_description);
                return Err(self.refused(&failure, grant));
            }
            (Some(code), None) => code,
            (None, None) => return Err(AuthorizeError::NoAnswer),
        };
        let (store, _) = self.broker.parts();
        let verifier = open_verifier(&self.broker.key().await?.key, begun)?;
        let offer = Offer::Code {
            code: &code,
            verifier: &verifier,
            redirect_uri: &begun.redirect_uri,
        };
        let client = self.broker.client(grant, &endpoints).await?;
        let granted = token::request(&self.broker.exchange(grant), client, &offer)
            .await
            .map_err(|failure| self.refused(&failure, grant))?;
        let tokens = &granted.tokens;
        let signed_in = self.examine(grant, &endpoints, tokens, &verifier)?;
        let mut write = store.write().await?;
        self.broker.replace(&mut write, grant, &endpoints, tokens).await?;
        let outcome = Outcome::Done(signed_in.to_string());
        store::authorization::settle(write.connection()?, &begun.state_sha256, &outcome).await?;
        write.commit().await?;
        self.broker.note(client, &granted).await;
        Ok(signed_in)
    }

    /// Whether the right person has granted enough.
    fn examine(
        &self,
        grant: &GrantRef,
        endpoints: &Endpoints,
        tokens: &Tokens,
        verifier: &SecretString,
    ) -> Result<SignedIn, AuthorizeError> {
        let who = match authorization::identity(tokens.id_token.as_ref(), grant, endpoints, verifier) {
            Identity::Unstated => None,
            Identity::Expected(name) => Some(name),
            Identity::Forged(fault) => return Err(AuthorizeError::Forged(fault)),
            Identity::Other(names) => {
                return Err(AuthorizeError::WrongAccount {
                    expected: grant.login.clone(),
                    found: fault::printable(names.first().map_or("somebody else", String::as_str), 100),
                    command: self.broker.command(grant),
                });
            }
        };
        let missing = authorization::missing_scopes(&grant.integration.scopes, tokens.scopes.as_deref());
        if !missing.is_empty() {
            return Err(AuthorizeError::MissingScopes {
                scopes: missing.join(" "),
                command: self.broker.command(grant),
            });
        }
        if tokens.refresh_token.is_none() {
            return Err(AuthorizeError::NoRefreshToken);
        }
        Ok(SignedIn {
            integration: grant.integration.name.clone(),
            login: grant.login.clone(),
            who,
            scopes: tokens
                .scopes
                .clone()
                .unwrap_or_else(|| grant.integration.scopes.clone()),
        })
    }

    fn refused(&self, failure: &TokenFailure, grant: &GrantRef) -> AuthorizeError {
        let problem = self.broker.problem(failure, grant);
        AuthorizeError::Refused {
            code: problem.code,
            summary: problem.summary,
            remedy: problem.remedy,
            asks: failure.remedy(),
        }
    }
}

fn check_flow(grant: &GrantRef) -> Result<(), AuthorizeError> {
    let integration = grant.integration.name.clone();
    match grant.integration.flow {
        Flow::AuthorizationCode => Ok(()),
        Flow::ClientCredentials | Flow::ServiceAccount => Err(AuthorizeError::NoPersonNeeded { integration }),
        flow @ Flow::DeviceCode => Err(AuthorizeError::OtherFlow {
            integration,
            flow: flow.as_str(),
            instead: "--device",
        }),
    }
}

fn gone(gone: Gone) -> AuthorizeError {
    match gone {
        Gone::Unknown => AuthorizeError::Unknown,
        Gone::Used => AuthorizeError::Used,
        Gone::TooOld => AuthorizeError::TooOld,
    }
}

/// An answer that names another issuer was meant for another client, and so was one that names none where the
/// issuer always names itself (RFC 9207 §2.4).
fn check_issuer(answer: &Answer, endpoints: &Endpoints) -> Result<(), AuthorizeError> {
    match (&answer.iss, &endpoints.issuer) {
        (Some(given), Some(expected)) if !expected.contains('{') && given != expected => {
            Err(AuthorizeError::Forged("it names another issuer"))
        }
        (None, Some(_)) if endpoints.names_itself => Err(AuthorizeError::Forged(
            "it does not name its issuer, which this provider always does",
        )),
        (Some(_) | None, Some(_) | None) => Ok(()),
    }
}

fn digest(state: &SecretString) -> Vec<u8> {
    Sha256::digest(state.expose_secret()).to_vec()
}

fn context(state_sha256: &[u8]) -> String {
    format!("authorization|{}|verifier", URL_SAFE_NO_PAD.encode(state_sha256))
}

/// Seals the sign-ins under way anew, when the token key is rotated.
///
/// # Errors
/// [`TokenError`].
pub async fn reseal(write: &mut Write, old: &Key, new: &Key) -> Result<(), TokenError> {
    for (state_sha256, sealed) in store::authorization::verifiers(write.connection()?).await? {
        let context = context(&state_sha256);
        let verifier = new.seal(&old.open(&sealed, &context)?, &context);
        store::authorization::set_verifier(write.connection()?, &state_sha256, &verifier).await?;
    }
    Ok(())
}

fn open_verifier(key: &Key, begun: &Authorization) -> Result<SecretString, AuthorizeError> {
    let plain = key
        .open(&begun.verifier, &context(&begun.state_sha256))
        .map_err(TokenError::Seal)?;
    let text = std::str::from_utf8(&plain).map_err(|_| StoreError::Inconsistent {
        table: "authorization",
        column: "verifier",
    })?;
    Ok(SecretString::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_uri_is_one_per_integration() {
        for (base, name, uri) in [
            (
                "https://intake.example.org",
                "idp",
                "https://intake.example.org/oauth/callback/idp",
            ),
            (
                "https://example.org/intake/",
                "a b",
                "https://example.org/intake/oauth/callback/a%20b",
            ),
        ] {
            assert_eq!(redirect_uri(&Url::parse(base).unwrap(), name), uri);
        }
        let base = |provider| loopback_base(provider, 8080).unwrap();
        assert_eq!(base(Provider::Microsoft).as_str(), "http://localhost:8080/");
        assert_eq!(base(Provider::Custom).as_str(), "http://127.0.0.1:8080/");
    }
}
