//! Requests to the token endpoint: redeem a code, renew, sign in as the client (RFC 6749 §4.1.3, §6, §4.4).
//! It never decides whether to ask: the broker does, under the lease of the grant.

use std::borrow::Cow;
use std::time::Duration;

use oauth2::basic::{
    BasicErrorResponse, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse, BasicTokenType,
};
use oauth2::{
    AuthType, AuthorizationCode, ClientId, ClientSecret, EndpointNotSet, EndpointSet, ExtraTokenFields,
    PkceCodeVerifier, RedirectUrl, RefreshToken, RequestTokenError, Scope, StandardRevocableToken,
    StandardTokenResponse, TokenResponse, TokenUrl,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::failure::TokenFailure;
use super::http::Exchange;
use crate::grant::{ClientAuthentication, Endpoints, Flow, Integration};
use crate::secret::Secret;

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
struct Extra {
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

type Response = StandardTokenResponse<Extra, BasicTokenType>;
type Client = oauth2::Client<
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
type RequestError = RequestTokenError<TokenFailure, BasicErrorResponse>;

/// Asks the token endpoint once; a second time with the second client secret if the first is refused.
///
/// # Errors
/// Any [`TokenFailure`].
pub async fn request(
    exchange: &Exchange,
    integration: &Integration,
    endpoints: &Endpoints,
    offer: &Offer<'_>,
) -> Result<Tokens, TokenFailure> {
    check_supported(integration)?;
    let first = send(
        exchange,
        integration,
        endpoints,
        (offer, integration.client_secret.as_ref()),
    )
    .await;
    match (first, &integration.next_client_secret) {
        (Err(failure), Some(next)) if failure.is_client_refused => {
            tracing::warn!(
                integration = integration.name,
                provider_code = failure.problem.code,
                "the client secret of {} is refused; the next one is tried",
                integration.name
            );
            send(exchange, integration, endpoints, (offer, Some(next))).await
        }
        (answer, _) => answer,
    }
}

fn check_supported(integration: &Integration) -> Result<(), TokenFailure> {
    match integration.flow {
        Flow::AuthorizationCode | Flow::DeviceCode | Flow::ClientCredentials => {}
        Flow::ServiceAccount => return Err(TokenFailure::unsupported("the flow service-account")),
    }
    match integration.client_authentication {
        ClientAuthentication::Post | ClientAuthentication::Basic => Ok(()),
        ClientAuthentication::PrivateKeyJwt => Err(TokenFailure::unsupported("client authentication by certificate")),
    }
}

async fn send(
    exchange: &Exchange,
    integration: &Integration,
    endpoints: &Endpoints,
    (offer, secret): (&Offer<'_>, Option<&Secret>),
) -> Result<Tokens, TokenFailure> {
    let client = client(integration, endpoints, secret)?;
    let answer = match offer {
        Offer::Code {
            code,
            verifier,
            redirect_uri,
        } => {
            let redirect = RedirectUrl::new((*redirect_uri).to_owned()).map_err(|_| bad_endpoint())?;
            client
                .exchange_code(AuthorizationCode::new(code.expose_secret().to_owned()))
                .set_pkce_verifier(PkceCodeVerifier::new(verifier.expose_secret().to_owned()))
                .set_redirect_uri(Cow::Owned(redirect))
                .request_async(exchange)
                .await
        }
        Offer::Refresh(token) => {
            let token = RefreshToken::new(token.expose_secret().to_owned());
            client.exchange_refresh_token(&token).request_async(exchange).await
        }
        Offer::Client => {
            let scopes = integration.scopes.iter().cloned().map(Scope::new);
            client
                .exchange_client_credentials()
                .add_scopes(scopes)
                .request_async(exchange)
                .await
        }
    };
    answer.map(|response| tokens(&response)).map_err(failure)
}

fn client(integration: &Integration, endpoints: &Endpoints, secret: Option<&Secret>) -> Result<Client, TokenFailure> {
    let token_url = TokenUrl::new(endpoints.token.clone()).map_err(|_| bad_endpoint())?;
    let auth_type = match integration.client_authentication {
        ClientAuthentication::Basic => AuthType::BasicAuth,
        ClientAuthentication::Post | ClientAuthentication::PrivateKeyJwt => AuthType::RequestBody,
    };
    let mut client = oauth2::Client::new(ClientId::new(integration.client_id.clone()))
        .set_auth_type(auth_type)
        .set_token_uri(token_url);
    if let Some(secret) = secret {
        client = client.set_client_secret(ClientSecret::new(secret.value.expose_secret().to_owned()));
    }
    Ok(client)
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

fn bad_endpoint() -> TokenFailure {
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
