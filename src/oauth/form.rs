//! A form sent to an endpoint of the provider with the client's own proof (RFC 6749 §2.3.1, RFC 7523 §2.2), for
//! what the `oauth2` crate does not do or hides. It never sends a secret that the integration does not have.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use oauth2::HttpRequest;
use oauth2::http::Request;
use oauth2::http::request::Builder;
use secrecy::ExposeSecret;
use url::form_urlencoded::{Serializer, byte_serialize};

use super::assertion::ASSERTION_TYPE;
use super::client::{Client, Sent};
use super::failure::TokenFailure;
use crate::grant::ClientAuthentication;
use crate::time::Timestamp;

/// A POST of `fields` to an endpoint by a client.
///
/// # Errors
/// [`TokenFailure`] of configuration.
pub(super) fn post(
    client: Client<'_>,
    endpoint: &str,
    fields: &[(&str, &str)],
    now: Timestamp,
) -> Result<HttpRequest, TokenFailure> {
    let id = client.integration.client_id.as_str();
    let mut form = Serializer::new(String::new());
    form.extend_pairs(fields);
    let mut request = begin(endpoint);
    match (client.sent(now)?, client.integration.client_authentication) {
        (Sent::Secret(secret), ClientAuthentication::Basic) => {
            request = request.header("authorization", basic(id, secret.expose_secret()));
        }
        (Sent::Secret(secret), ClientAuthentication::Post | ClientAuthentication::PrivateKeyJwt) => {
            form.append_pair("client_id", id);
            form.append_pair("client_secret", secret.expose_secret());
        }
        (Sent::Assertion(assertion), _) => {
            form.append_pair("client_id", id);
            form.append_pair("client_assertion_type", ASSERTION_TYPE);
            form.append_pair("client_assertion", assertion.expose_secret());
        }
        (Sent::Nothing, _) => {
            form.append_pair("client_id", id);
        }
    }
    finish(request, form.finish())
}

/// A POST that proves itself by what is in its fields.
///
/// # Errors
/// [`TokenFailure`] of configuration.
pub(super) fn post_alone(endpoint: &str, fields: &[(&str, &str)]) -> Result<HttpRequest, TokenFailure> {
    let mut form = Serializer::new(String::new());
    form.extend_pairs(fields);
    finish(begin(endpoint), form.finish())
}

fn begin(endpoint: &str) -> Builder {
    Request::post(endpoint)
        .header("content-type", "application/x-www-form-urlencoded")
        .header("accept", "application/json")
}

fn finish(request: Builder, form: String) -> Result<HttpRequest, TokenFailure> {
    request.body(form.into_bytes()).map_err(|_| {
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
