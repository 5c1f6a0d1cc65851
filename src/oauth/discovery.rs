//! Endpoints from an issuer's own document (OpenID Connect Discovery 1.0 §4, RFC 8414 §3).
//! It never believes a document that names another issuer.

use serde::Deserialize;
use url::Url;

use super::failure::{self, TokenFailure};
use super::http::{Exchange, checked_url};
use crate::grant::Endpoints;

#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: Option<String>,
    token_endpoint: String,
    device_authorization_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
    /// Anything but `true` is no promise.
    #[serde(default)]
    authorization_response_iss_parameter_supported: serde_json::Value,
}

/// Asks an issuer for its endpoints: OpenID's address first, then RFC 8414's.
///
/// # Errors
/// A transient [`TokenFailure`] where nothing sound is answered; one of configuration where the document is
/// for another issuer or names an endpoint that is not https.
pub async fn discover(exchange: &Exchange, issuer: &str) -> Result<Endpoints, TokenFailure> {
    let mut status = 0;
    for address in addresses(issuer)? {
        let answer = exchange.get(&address).await?;
        status = answer.status;
        if failure::is_transient_status(status) {
            let mut failure = failure::classify(status, &[]);
            failure.retry_after = answer.retry_after;
            return Err(failure);
        }
        if status == 200 {
            return read(&answer.body, issuer);
        }
    }
    Err(TokenFailure::transient(
        &format!("http-{status}"),
        &format!("the issuer has no discovery document (HTTP {status})"),
    )
    .lasting("check issuer of the integration, or give its endpoints"))
}

fn addresses(issuer: &str) -> Result<[String; 2], TokenFailure> {
    let url = checked_url(issuer)?;
    let base = issuer.trim_end_matches('/');
    let mut inserted: Url = url.clone();
    let path = url.path().trim_end_matches('/');
    inserted.set_path(&format!("/.well-known/oauth-authorization-server{path}"));
    Ok([format!("{base}/.well-known/openid-configuration"), inserted.to_string()])
}

fn read(body: &[u8], issuer: &str) -> Result<Endpoints, TokenFailure> {
    let Ok(document) = serde_json::from_slice::<Document>(body) else {
        return Err(
            TokenFailure::transient("discovery-broken", "the issuer's discovery document cannot be read")
                .lasting("check issuer of the integration"),
        );
    };
    if document.issuer.trim_end_matches('/') != issuer.trim_end_matches('/') {
        return Err(TokenFailure::configuration(
            "issuer-mismatch",
            "the discovery document is for another issuer",
            "set issuer of the integration exactly as the provider spells it",
        ));
    }
    checked_url(&document.token_endpoint)?;
    let others = [
        &document.authorization_endpoint,
        &document.device_authorization_endpoint,
        &document.revocation_endpoint,
    ];
    for endpoint in others.into_iter().flatten() {
        checked_url(endpoint)?;
    }
    Ok(Endpoints {
        issuer: Some(document.issuer),
        authorization: document.authorization_endpoint,
        token: document.token_endpoint,
        device_authorization: document.device_authorization_endpoint,
        revocation: document.revocation_endpoint,
        names_itself: document.authorization_response_iss_parameter_supported == serde_json::Value::Bool(true),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::failure::Class;

    #[test]
    fn a_document_is_for_its_issuer_and_names_https() {
        let document = |issuer: &str, token: &str| {
            serde_json::json!({"issuer": issuer, "token_endpoint": token})
                .to_string()
                .into_bytes()
        };
        let issuer = "https://idp.example.org/realm";
        assert!(read(&document(issuer, "https://idp.example.org/token"), issuer).is_ok());
        assert!(
            read(
                &document("https://idp.example.org/realm/", "https://x.example/t"),
                issuer
            )
            .is_ok()
        );
        for body in [
            document("https://evil.example.org", "https://idp.example.org/token"),
            document(issuer, "http://idp.example.org/token"),
        ] {
            assert_eq!(read(&body, issuer).unwrap_err().class, Class::Configuration);
        }
        assert_eq!(read(b"<html>", issuer).unwrap_err().class, Class::Transient);
    }

    #[test]
    fn both_addresses_of_a_document_are_known() {
        let [openid, oauth] = addresses("https://idp.example.org/realm/").unwrap();
        assert_eq!(openid, "https://idp.example.org/realm/.well-known/openid-configuration");
        assert_eq!(
            oauth,
            "https://idp.example.org/.well-known/oauth-authorization-server/realm"
        );
    }
}
