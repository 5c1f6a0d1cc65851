//! Ends a token at the provider (RFC 7009).
//! It never decides to: only the command `revoke --upstream` asks for it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use oauth2::http::Request;
use secrecy::{ExposeSecret, SecretString};
use url::form_urlencoded::{Serializer, byte_serialize};

use super::failure::{self, TokenFailure};
use super::http::Exchange;
use crate::grant::{ClientAuthentication, Endpoints, Integration};

/// Revokes a token, and with a refresh token what was issued for it.
///
/// # Errors
/// Any [`TokenFailure`].
pub async fn revoke(
    exchange: &Exchange,
    integration: &Integration,
    endpoints: &Endpoints,
    token: &SecretString,
) -> Result<(), TokenFailure> {
    let endpoint = endpoints.revocation.as_deref().ok_or_else(no_endpoint)?;
    let mut form = Serializer::new(String::new());
    form.append_pair("token", token.expose_secret());
    let mut request = Request::post(endpoint)
        .header("content-type", "application/x-www-form-urlencoded")
        .header("accept", "application/json");
    let secret = integration
        .client_secret
        .as_ref()
        .map(|secret| secret.value.expose_secret());
    match (integration.client_authentication, secret) {
        (ClientAuthentication::Basic, Some(secret)) => {
            request = request.header("authorization", basic(&integration.client_id, secret));
        }
        (ClientAuthentication::Post | ClientAuthentication::Basic, secret) => {
            form.append_pair("client_id", &integration.client_id);
            form.extend_pairs(secret.map(|secret| ("client_secret", secret)));
        }
        (ClientAuthentication::PrivateKeyJwt, _) => {
            return Err(TokenFailure::unsupported("client authentication by certificate"));
        }
    }
    let request = request.body(form.finish().into_bytes()).map_err(|_| no_endpoint())?;
    let answer = exchange.send(request).await?;
    if answer.status == 200 {
        Ok(())
    } else {
        Err(failure::classify(answer.status, &answer.body))
    }
}

/// HTTP Basic as RFC 6749 §2.3.1 wants it: both parts encoded as in a form.
fn basic(client_id: &str, secret: &str) -> String {
    let encode = |part: &str| byte_serialize(part.as_bytes()).collect::<String>();
    format!(
        "Basic {}",
        STANDARD.encode(format!("{}:{}", encode(client_id), encode(secret)))
    )
}

fn no_endpoint() -> TokenFailure {
    TokenFailure::configuration(
        "no-revocation-endpoint",
        "the provider offers no revocation",
        "revoke without --upstream, then remove the access on the account's page at the provider",
    )
}
