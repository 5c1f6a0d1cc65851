//! Requests to the token endpoint: redeem a code, renew, sign in as the client (RFC 6749 §4.1.3, §6, §4.4) or as a
//! service account (RFC 7523 §2.1).
//! It never decides whether to ask: the broker does, under the lease of the grant.

use std::borrow::Cow;
use std::time::Duration;

use oauth2::basic::{BasicErrorResponse, BasicTokenType};
use oauth2::{
    AuthorizationCode, ExtraTokenFields, PkceCodeVerifier, RedirectUrl, RefreshToken, RequestTokenError, Scope,
    StandardTokenResponse, TokenResponse,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::client::Client;
use super::failure::TokenFailure;
use super::http::Exchange;
use super::{form, service_account};

/// What a token request offers.
pub enum Offer<'a> {
    /// A code that the browser brought, with its PKCE verifier and the redirect URI it was sent to.
    Code {
        /// The code.
        code: &'a SecretString,
        /// The verifier (RFC 7636 §4.1).
        verifier: &'a SecretString,
        /// The redirect URI of the authorization request.
        redirect_uri: &'a str,
    },
    /// A refresh token.
    Refresh(&'a SecretString),
    /// The client itself.
    Client,
    /// The service account, for this login.
    Login(&'a str),
}

/// What a token endpoint gave.
#[derive(Debug)]
pub struct Tokens {
    /// The access token.
    pub access_token: SecretString,
    /// Its lifetime; an hour where the provider states none.
    pub expires_in: Duration,
    /// When Microsoft wants it renewed, if before its end.
    pub refresh_in: Option<Duration>,
    /// The refresh token, if a new one was given.
    pub refresh_token: Option<SecretString>,
    /// The life of the refresh token, where Google has limited it.
    pub refresh_token_expires_in: Option<Duration>,
    /// The granted scopes; absent means all that were asked for (RFC 6749 §5.1).
    pub scopes: Option<Vec<String>>,
    /// The identity token of a sign-in.
    pub id_token: Option<SecretString>,
}

/// Lifetime of an access token where the provider states none, in seconds.
const DEFAULT_LIFE: u64 = 3600;
/// Shortest and longest lifetime that is believed, in seconds.
const LIFE: std::ops::RangeInclusive<u64> = 1..=86_400;

/// Fields beyond RFC 6749 §5.1. There is no `Debug` of the values: one of them is a token.
#[derive(Deserialize, Serialize)]
pub(super) struct Extra {
    #[serde(default)]
    id_token: Option<String>,
    #[serde(default)]
    refresh_in: Option<u64>,
    #[serde(default)]
    refresh_token_expires_in: Option<u64>,
}

impl std::fmt::Debug for Extra {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Extra")
    }
}

impl ExtraTokenFields for Extra {}

/// The answer of a token endpoint.
pub(super) type Response = StandardTokenResponse<Extra, BasicTokenType>;
type RequestError = RequestTokenError<TokenFailure, BasicErrorResponse>;

/// What came of a request.
#[derive(Debug)]
pub struct Granted {
    /// The tokens.
    pub tokens: Tokens,
    /// Why the credentials that were asked with first were refused, where it was the others that worked.
    pub refused: Option<TokenFailure>,
}

/// Asks the token endpoint once; a second time with the client's other credentials if these are refused.
///
/// # Errors
/// Any [`TokenFailure`]: that of the credentials of `client`, where both are refused.
pub async fn request(exchange: &Exchange, client: Client<'_>, offer: &Offer<'_>) -> Result<Granted, TokenFailure> {
    let refused = match send(exchange, client, offer).await {
        Ok(tokens) => return Ok(Granted { tokens, refused: None }),
        Err(failure) => failure,
    };
    let Some(other) = client.other().filter(|_| refused.is_client_refused) else {
        return Err(refused);
    };
    match send(exchange, other, offer).await {
        Ok(tokens) => Ok(Granted {
            tokens,
            refused: Some(refused),
        }),
        // The other credentials have got through: it is something else that was refused.
        Err(failure) if !failure.is_client_refused => Err(failure),
        Err(_) => Err(refused),
    }
}

async fn send(exchange: &Exchange, client: Client<'_>, offer: &Offer<'_>) -> Result<Tokens, TokenFailure> {
    let answer = match offer {
        Offer::Code {
            code,
            verifier,
            redirect_uri,
        } => send_code(exchange, client, (code, verifier, redirect_uri)).await,
        Offer::Refresh(token) => send_refresh(exchange, client, token).await,
        Offer::Client => send_client(exchange, client).await,
        Offer::Login(login) => send_login(exchange, client, login).await,
    };
    answer.map_err(|failure| client.explain(failure, exchange.now()))
}

async fn send_code(
    exchange: &Exchange,
    client: Client<'_>,
    (code, verifier, redirect_uri): (&SecretString, &SecretString, &str),
) -> Result<Tokens, TokenFailure> {
    let (oauth, proof) = client.registration(exchange.now())?;
    let redirect = RedirectUrl::new(redirect_uri.to_owned()).map_err(|_| bad_endpoint())?;
    let mut request = oauth
        .exchange_code(AuthorizationCode::new(code.expose_secret().to_owned()))
        .set_pkce_verifier(PkceCodeVerifier::new(verifier.expose_secret().to_owned()))
        .set_redirect_uri(Cow::Owned(redirect));
    for (name, value) in proof {
        request = request.add_extra_param(name, value);
    }
    understand(request.request_async(exchange).await)
}

async fn send_refresh(exchange: &Exchange, client: Client<'_>, token: &SecretString) -> Result<Tokens, TokenFailure> {
    let (oauth, proof) = client.registration(exchange.now())?;
    let token = RefreshToken::new(token.expose_secret().to_owned());
    let mut request = oauth.exchange_refresh_token(&token);
    for (name, value) in proof {
        request = request.add_extra_param(name, value);
    }
    understand(request.request_async(exchange).await)
}

async fn send_client(exchange: &Exchange, client: Client<'_>) -> Result<Tokens, TokenFailure> {
    let (oauth, proof) = client.registration(exchange.now())?;
    let scopes = client.integration.scopes.iter().cloned().map(Scope::new);
    let mut request = oauth.exchange_client_credentials().add_scopes(scopes);
    for (name, value) in proof {
        request = request.add_extra_param(name, value);
    }
    understand(request.request_async(exchange).await)
}

async fn send_login(exchange: &Exchange, client: Client<'_>, login: &str) -> Result<Tokens, TokenFailure> {
    let endpoint = client.endpoints.token.as_str();
    let assertion = service_account::assertion(client.integration, endpoint, login, exchange.now())?;
    let fields = [
        ("grant_type", service_account::GRANT_TYPE),
        ("assertion", assertion.expose_secret()),
    ];
    let answer = exchange.send(form::post_alone(endpoint, &fields)?).await?;
    let tokens = (answer.status == 200).then(|| read(&answer.body)).flatten();
    tokens.ok_or_else(|| answer.failure())
}

fn understand(answer: Result<Response, RequestError>) -> Result<Tokens, TokenFailure> {
    answer.map(|response| tokens(&response)).map_err(failure)
}

fn tokens(response: &Response) -> Tokens {
    let extra = response.extra_fields();
    let life = response.expires_in().map_or(DEFAULT_LIFE, |life| life.as_secs());
    let scopes = response
        .scopes()
        .map(|scopes| scopes.iter().map(|scope| scope.to_string()).collect());
    Tokens {
        access_token: response.access_token().secret().as_str().into(),
        expires_in: Duration::from_secs(life.clamp(*LIFE.start(), *LIFE.end())),
        refresh_in: extra.refresh_in.map(Duration::from_secs),
        refresh_token: response.refresh_token().map(|token| token.secret().as_str().into()),
        refresh_token_expires_in: extra.refresh_token_expires_in.map(Duration::from_secs),
        scopes,
        id_token: extra.id_token.as_deref().map(SecretString::from),
    }
}

/// The failure inside of an error of the `oauth2` crate, whose other variants may hold the answer itself.
fn failure(error: RequestError) -> TokenFailure {
    match error {
        RequestTokenError::Request(failure) => failure,
        RequestTokenError::ServerResponse(_) | RequestTokenError::Parse(..) | RequestTokenError::Other(_) => {
            TokenFailure::transient("broken-answer", "the provider's answer holds no usable token")
        }
    }
}

pub(super) fn bad_endpoint() -> TokenFailure {
    TokenFailure::configuration(
        "bad-endpoint",
        "an endpoint or redirect URI of the integration is no address",
        "check issuer and endpoints of the integration",
    )
}

/// The tokens of an answer, if it is one.
pub(super) fn read(body: &[u8]) -> Option<Tokens> {
    let response = serde_json::from_slice(&normalize(body)?).ok()?;
    Some(tokens(&response))
}

/// A token answer in the form that RFC 6749 §5.1 demands, made from what providers send: numbers as text,
/// no `token_type`, nulls and empty texts. `None` if there is no access token in it.
pub(super) fn normalize(body: &[u8]) -> Option<Vec<u8>> {
    let mut answer: Map<String, Value> = serde_json::from_slice(body).ok()?;
    answer.retain(|_, value| !value.is_null() && value.as_str() != Some(""));
    answer.get("access_token")?.as_str()?;
    for name in ["expires_in", "refresh_in", "refresh_token_expires_in"] {
        if let Some(value) = answer.remove(name)
            && let Some(seconds) = whole_seconds(&value)
        {
            answer.insert(name.to_owned(), seconds.into());
        }
    }
    for name in ["refresh_token", "id_token", "scope"] {
        if answer.get(name).is_some_and(|value| !value.is_string()) {
            answer.remove(name);
        }
    }
    if !answer.get("token_type").is_some_and(Value::is_string) {
        answer.insert("token_type".to_owned(), "bearer".into());
    }
    serde_json::to_vec(&answer).ok()
}

fn whole_seconds(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64().or_else(|| fraction(number.as_f64()?)),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn fraction(seconds: f64) -> Option<u64> {
    Duration::try_from_secs_f64(seconds).ok().map(|life| life.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Option<Tokens> {
        read(body.as_bytes())
    }

    #[test]
    fn odd_answers_are_read_as_they_were_meant() {
        for (body, seconds) in [
            (r#"{"access_token":"a","token_type":"Bearer","expires_in":1800}"#, 1800),
            (
                r#"{"access_token":"a","token_type":"Bearer","expires_in":"1800"}"#,
                1800,
            ),
            (
                r#"{"access_token":"a","token_type":"Bearer","expires_in":1800.5}"#,
                1800,
            ),
            (r#"{"access_token":"a","token_type":"Bearer"}"#, 3600),
            (r#"{"access_token":"a"}"#, 3600),
            (
                r#"{"access_token":"a","expires_in":null,"refresh_token":null,"scope":""}"#,
                3600,
            ),
            (r#"{"access_token":"a","expires_in":-5}"#, 3600),
            (r#"{"access_token":"a","expires_in":0}"#, 1),
            (r#"{"access_token":"a","expires_in":99999999}"#, 86_400),
        ] {
            let tokens = parse(body).unwrap();
            assert_eq!(tokens.expires_in.as_secs(), seconds, "{body}");
            assert!(tokens.refresh_token.is_none() && tokens.scopes.is_none(), "{body}");
        }
        for body in [
            "",
            "{}",
            "<html>",
            r#"{"access_token":5}"#,
            r#"{"access_token":""}"#,
            "[]",
        ] {
            assert!(parse(body).is_none(), "{body}");
        }
    }

    #[test]
    fn no_token_is_printed() {
        let tokens = parse(r#"{"access_token":"canary","refresh_token":"canary","id_token":"canary","scope":"a b"}"#);
        let shown = format!("{tokens:?}");
        assert!(!shown.contains("canary"), "{shown}");
        assert_eq!(tokens.unwrap().scopes.unwrap(), ["a", "b"]);
    }
}
