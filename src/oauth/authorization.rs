//! The address that a person signs in at (RFC 6749 §4.1.1, RFC 7636, OpenID Connect Core §3.1.2.1), who it
//! was that signed in, and what they granted. Pure, but for randomness.
//! It never takes an identity from the browser: only the token endpoint's own answer counts.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use oauth2::PkceCodeChallenge;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use url::Url;

use super::failure::TokenFailure;
use super::http::checked_url;
use crate::grant::{Endpoints, GrantRef, Integration, Provider};

/// A sign-in that was begun.
pub struct Request {
    /// Where the person signs in.
    pub url: Url,
    /// The state that must come back, 256 bits.
    pub state: SecretString,
    /// The PKCE verifier that redeems the code.
    pub verifier: SecretString,
}

/// Makes the authorization request of a grant.
///
/// # Errors
/// [`TokenFailure`] of configuration where there is no usable authorization endpoint.
pub fn request(grant: &GrantRef, endpoints: &Endpoints, redirect_uri: &str) -> Result<Request, TokenFailure> {
    let endpoint = endpoints.authorization.as_deref().ok_or_else(no_endpoint)?;
    let mut url = checked_url(endpoint)?;
    let state = random();
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let verifier = SecretString::from(verifier.secret().as_str());
    let nonce = nonce(&verifier);
    let mut parameters: BTreeMap<&str, &str> = BTreeMap::from([
        ("response_type", "code"),
        ("client_id", grant.integration.client_id.as_str()),
        ("redirect_uri", redirect_uri),
        ("code_challenge", challenge.as_str()),
        ("code_challenge_method", challenge.method().as_str()),
        ("state", state.expose_secret()),
        ("login_hint", grant.login.as_str()),
    ]);
    let scopes = grant.integration.scopes.join(" ");
    if !scopes.is_empty() {
        parameters.insert("scope", &scopes);
    }
    if has_scope(&grant.integration, "openid") {
        parameters.insert("nonce", &nonce);
    }
    parameters.extend(habits(&grant.integration));
    for (name, value) in &grant.integration.authorization_parameters {
        parameters.insert(name, value);
    }
    // Parameters that the endpoint's own address has stay (RFC 6749 §3.1).
    url.query_pairs_mut().extend_pairs(parameters);
    Ok(Request { url, state, verifier })
}

/// What a provider wants said so that it gives a refresh token.
fn habits(integration: &Integration) -> Vec<(&'static str, &'static str)> {
    match integration.provider {
        Provider::Google => vec![("access_type", "offline"), ("prompt", "consent")],
        // OpenID Connect Core §11: offline_access is ignored without a prompt for consent.
        Provider::Custom if has_scope(integration, "offline_access") => vec![("prompt", "consent")],
        Provider::Custom
        | Provider::Microsoft
        | Provider::MicrosoftGcc
        | Provider::MicrosoftGccHigh
        | Provider::MicrosoftDod
        | Provider::MicrosoftChina
        | Provider::Yahoo
        | Provider::Fastmail => Vec::new(),
    }
}

fn has_scope(integration: &Integration, wanted: &str) -> bool {
    integration.scopes.iter().any(|scope| scope == wanted)
}

fn random() -> SecretString {
    let bytes: [u8; 32] = rand::random();
    URL_SAFE_NO_PAD.encode(bytes).into()
}

/// The nonce that belongs to a verifier, so that it needs no place of its own.
fn nonce(verifier: &SecretString) -> String {
    let digest = Sha256::new()
        .chain_update(b"nonce\0")
        .chain_update(verifier.expose_secret())
        .finalize();
    URL_SAFE_NO_PAD.encode(digest)
}

fn no_endpoint() -> TokenFailure {
    TokenFailure::configuration(
        "no-authorization-endpoint",
        "the integration has no authorization endpoint",
        "set authorization_endpoint or issuer of the integration",
    )
}

/// The claims of an identity token that we look at (OpenID Connect Core §2, Microsoft's `upn`).
#[derive(Deserialize)]
struct Claims {
    iss: Option<String>,
    aud: Option<Audience>,
    nonce: Option<String>,
    sub: Option<String>,
    email: Option<String>,
    preferred_username: Option<String>,
    upn: Option<String>,
    unique_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// Who signed in.
#[derive(Debug, PartialEq, Eq)]
pub enum Identity {
    /// The provider did not say.
    Unstated,
    /// The login that was expected.
    Expected(String),
    /// Somebody else, by these names.
    Other(Vec<String>),
    /// The identity token is not for us or not for this sign-in.
    Forged(&'static str),
}

/// Who signed in, by the identity token of the token endpoint's answer. Its signature is not looked at: it
/// came over TLS from the token endpoint itself (OpenID Connect Core §3.1.3.7, 6).
pub fn identity(
    id_token: Option<&SecretString>,
    grant: &GrantRef,
    endpoints: &Endpoints,
    verifier: &SecretString,
) -> Identity {
    let Some(id_token) = id_token else {
        return Identity::Unstated;
    };
    let Some(claims) = claims(id_token.expose_secret()) else {
        return Identity::Forged("it cannot be read");
    };
    if let Some(fault) = misfit(&claims, grant, endpoints, verifier) {
        return Identity::Forged(fault);
    }
    let names: Vec<String> = [
        claims.email,
        claims.preferred_username,
        claims.upn,
        claims.unique_name,
        claims.sub,
    ]
    .into_iter()
    .flatten()
    .filter(|name| name.contains('@'))
    .collect();
    let login = grant.login.to_lowercase();
    if names.is_empty() {
        return Identity::Unstated;
    }
    match names.iter().find(|name| name.to_lowercase() == login) {
        Some(name) => Identity::Expected(name.clone()),
        None => Identity::Other(names),
    }
}

fn claims(id_token: &str) -> Option<Claims> {
    let payload = id_token.split('.').nth(1)?;
    let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&payload).ok()
}

fn misfit(claims: &Claims, grant: &GrantRef, endpoints: &Endpoints, verifier: &SecretString) -> Option<&'static str> {
    let is_for_us = match &claims.aud {
        None => true,
        Some(Audience::One(audience)) => *audience == grant.integration.client_id,
        Some(Audience::Many(audiences)) => audiences.contains(&grant.integration.client_id),
    };
    // Microsoft's document for `common` names a template instead of an issuer.
    let expected = endpoints.issuer.as_deref().filter(|issuer| !issuer.contains('{'));
    let is_other = |issuer: &String| {
        expected.is_some_and(|expected| expected.trim_end_matches('/') != issuer.trim_end_matches('/'))
    };
    if !is_for_us {
        Some("it is for another client")
    } else if claims.iss.as_ref().is_some_and(is_other) {
        Some("it is from another issuer")
    } else if claims.nonce.as_ref().is_some_and(|given| *given != nonce(verifier)) {
        Some("it is of another sign-in")
    } else {
        None
    }
}

/// Scopes that say nothing about mail; providers leave them out of their answers or rename them.
const SILENT_SCOPES: [&str; 4] = ["openid", "profile", "email", "offline_access"];

/// The scopes that were asked for and not granted. An answer without scopes means all.
pub fn missing_scopes(asked: &[String], granted: Option<&[String]>) -> Vec<String> {
    let Some(granted) = granted else {
        return Vec::new();
    };
    asked
        .iter()
        .filter(|scope| !SILENT_SCOPES.contains(&scope.as_str()))
        .filter(|scope| !granted.iter().any(|given| given.eq_ignore_ascii_case(scope)))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints() -> Endpoints {
        Endpoints {
            issuer: Some("https://idp.example.org".into()),
            authorization: Some("https://idp.example.org/auth?realm=a".into()),
            token: "https://idp.example.org/token".into(),
            device_authorization: None,
            revocation: None,
            names_itself: false,
        }
    }

    fn grant(provider: Provider, scopes: &[&str]) -> GrantRef {
        let mut integration = crate::oauth::tests::integration(provider);
        integration.scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        integration.authorization_parameters = BTreeMap::from([("audience".into(), "mail & more".into())]);
        GrantRef {
            integration: integration.into(),
            login: "ann@example.org".into(),
        }
    }

    fn query(request: &Request) -> BTreeMap<String, String> {
        request.url.query_pairs().into_owned().collect()
    }

    #[test]
    fn the_address_has_pkce_state_and_what_the_provider_wants() {
        let google = request(
            &grant(Provider::Google, &["https://mail.google.com/"]),
            &endpoints(),
            "http://127.0.0.1:1/x",
        );
        let google = query(&google.unwrap());
        let custom = request(
            &grant(Provider::Custom, &["openid", "offline_access"]),
            &endpoints(),
            "http://127.0.0.1:1/x",
        )
        .unwrap();
        let verifier_digest = URL_SAFE_NO_PAD.encode(Sha256::digest(custom.verifier.expose_secret()));
        let custom = query(&custom);
        assert_eq!(google["access_type"], "offline");
        assert_eq!(custom["code_challenge"], verifier_digest);
        for (parameters, name, value) in [
            (&google, "prompt", "consent"),
            (&google, "scope", "https://mail.google.com/"),
            (&custom, "prompt", "consent"),
            (&custom, "realm", "a"),
            (&custom, "audience", "mail & more"),
            (&custom, "code_challenge_method", "S256"),
            (&custom, "login_hint", "ann@example.org"),
        ] {
            assert_eq!(parameters[name], value, "{name}");
        }
        assert!(custom["state"].len() >= 43 && custom["state"] != google["state"]);
        assert!(custom.contains_key("nonce") && !google.contains_key("nonce"));
    }

    fn token(claims: &serde_json::Value) -> SecretString {
        format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims.to_string())).into()
    }

    #[test]
    fn who_signed_in_is_known_by_any_of_their_names() {
        let verifier = SecretString::from("verifier");
        let good_nonce = nonce(&verifier);
        let cases = [
            (serde_json::json!({"sub": "1"}), Identity::Unstated),
            (
                serde_json::json!({"email": "Ann@Example.org"}),
                Identity::Expected("Ann@Example.org".into()),
            ),
            (
                serde_json::json!({"email": "a@example.com", "upn": "ann@example.org", "nonce": good_nonce}),
                Identity::Expected("ann@example.org".into()),
            ),
            (
                serde_json::json!({"email": "bob@example.org"}),
                Identity::Other(vec!["bob@example.org".into()]),
            ),
            (
                serde_json::json!({"email": "ann@example.org", "aud": "x"}),
                Identity::Forged("it is for another client"),
            ),
            (
                serde_json::json!({"email": "ann@example.org", "aud": ["client", "x"], "iss": "https://evil.example"}),
                Identity::Forged("it is from another issuer"),
            ),
            (
                serde_json::json!({"email": "ann@example.org", "nonce": "old"}),
                Identity::Forged("it is of another sign-in"),
            ),
        ];
        let grant = grant(Provider::Custom, &["openid"]);
        for (claims, expected) in cases {
            assert_eq!(
                identity(Some(&token(&claims)), &grant, &endpoints(), &verifier),
                expected,
                "{claims}"
            );
        }
        assert_eq!(identity(None, &grant, &endpoints(), &verifier), Identity::Unstated);
        let broken = SecretString::from("no token");
        assert!(matches!(
            identity(Some(&broken), &grant, &endpoints(), &verifier),
            Identity::Forged(_)
        ));
    }

    #[test]
    fn a_mail_scope_that_was_unticked_is_missed() {
        let asked = ["openid", "offline_access", "https://mail.google.com/"].map(String::from);
        let granted = |scopes: &[&str]| scopes.iter().map(|scope| (*scope).to_owned()).collect::<Vec<_>>();
        assert!(missing_scopes(&asked, None).is_empty());
        assert!(missing_scopes(&asked, Some(&granted(&["HTTPS://mail.google.com/"]))).is_empty());
        assert_eq!(
            missing_scopes(&asked, Some(&granted(&["openid"]))),
            ["https://mail.google.com/"]
        );
    }
}
