//! A form sent to an endpoint of the provider with the client's own proof (RFC 6749 §2.3.1), for what the
//! `oauth2` crate does not do or hides. It never sends a secret that the integration does not have.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use oauth2::HttpRequest;
use oauth2::http::Request;
use secrecy::ExposeSecret;
use url::form_urlencoded::{Serializer, byte_serialize};

use super::failure::TokenFailure;
use crate::grant::{ClientAuthentication, Integration};

/// A POST of `fields` to an endpoint.
///
/// # Errors
/// [`TokenFailure`] of configuration.
pub(super) fn post(
    integration: &Integration,
    endpoint: &str,
    fields: &[(&str, &str)],
) -> Result<HttpRequest, TokenFailure> {
    let mut form = Serializer::new(String::new());
    form.extend_pairs(fields);
    let mut request = Request::post(endpoint)
        .header("content-type", "application/x-www-form-urlencoded")
        .header("accept", "application/json");
    let secret = integration.client_secret.as_ref();
    let secret = secret.map(|secret| secret.value.expose_secret());
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
    request.body(form.finish().into_bytes()).map_err(|_| {
        TokenFailure::configuration(
            "bad-endpoint",
            "an endpoint of the integration is no address",
            "check issuer and endpoints of the integration",
        )
    })
}

/// HTTP Basic as RFC 6749 §2.3.1 wants it: both parts encoded as in a form.
fn basic(client_id: &str, secret: &str) -> String {
    let encode = |part: &str| byte_serialize(part.as_bytes()).collect::<String>();
    format!(
        "Basic {}",
        STANDARD.encode(format!("{}:{}", encode(client_id), encode(secret)))
    )
}
