//! The device flow (RFC 8628): a code that a person enters in a browser elsewhere, and looking whether they have.
//! It never waits by itself, and takes no outage for a refusal: the `oauth2` crate's own poll does both.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::client::Client;
use super::failure::TokenFailure;
use super::form;
use super::http::Exchange;
use super::token::{self, Granted};
use crate::grant::Slot;

/// Grant type of the token request (RFC 8628 §3.4).
const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// Time between looks where the provider states none (RFC 8628 §3.2), in seconds.
const DEFAULT_INTERVAL: u64 = 5;
/// Longest time between looks, and longest life of a code, that a provider may ask for, in seconds.
const LONGEST_INTERVAL: u64 = 60;
const LONGEST_LIFE: u64 = 3600;

/// What the person needs, and what we look with.
pub struct Device {
    /// Where the person goes.
    pub verification_uri: String,
    /// The same with the code in it, where the provider has that.
    pub verification_uri_complete: Option<String>,
    /// What the person enters.
    pub user_code: String,
    /// How long that is good.
    pub expires_in: Duration,
    /// Time between looks.
    pub interval: Duration,
    /// The device code (RFC 8628 §3.2).
    secret: SecretString,
    /// The credentials that the provider took.
    slot: Slot,
    /// Why the others were refused, where they were asked with first.
    refused: Option<TokenFailure>,
}

/// What a look found.
pub enum Look {
    /// Nobody has entered the code yet.
    Pending,
    /// We look too often.
    SlowDown,
    /// They have.
    Granted(Box<Granted>),
}

/// The answer of RFC 8628 §3.2; `verification_url` is Google's name of before.
#[derive(Deserialize)]
struct Begun {
    device_code: String,
    user_code: String,
    #[serde(alias = "verification_url")]
    verification_uri: String,
    verification_uri_complete: Option<String>,
    expires_in: u64,
    interval: Option<u64>,
}

/// Begins a device flow.
///
/// # Errors
/// Any [`TokenFailure`].
pub async fn begin(exchange: &Exchange, client: Client<'_>) -> Result<Device, TokenFailure> {
    let refused = match begin_with(exchange, client).await {
        Err(failure) if failure.is_client_refused => failure,
        begun => return begun,
    };
    let Some(other) = client.other() else {
        return Err(refused);
    };
    match begin_with(exchange, other).await {
        Err(failure) if failure.is_client_refused => Err(refused),
        Err(failure) => Err(failure),
        Ok(device) => Ok(Device {
            refused: Some(refused),
            ..device
        }),
    }
}

async fn begin_with(exchange: &Exchange, client: Client<'_>) -> Result<Device, TokenFailure> {
    let endpoint = client.endpoints.device_authorization.as_deref();
    let endpoint = endpoint.ok_or_else(no_endpoint)?;
    let scope = client.integration.scopes.join(" ");
    let request = form::post(client, endpoint, &[("scope", &scope)], exchange.now())?;
    let answer = exchange.send(request).await?;
    match serde_json::from_slice::<Begun>(&answer.body) {
        Ok(begun) if answer.status == 200 => Ok(Device {
            verification_uri: begun.verification_uri,
            verification_uri_complete: begun.verification_uri_complete,
            user_code: begun.user_code,
            expires_in: Duration::from_secs(begun.expires_in.min(LONGEST_LIFE)),
            interval: interval(begun.interval),
            secret: begun.device_code.into(),
            slot: client.slot,
            refused: None,
        }),
        Ok(_) | Err(_) => Err(client.explain(answer.failure(), exchange.now())),
    }
}

fn interval(stated: Option<u64>) -> Duration {
    Duration::from_secs(stated.unwrap_or(DEFAULT_INTERVAL).clamp(1, LONGEST_INTERVAL))
}

/// Looks whether the person has entered the code.
///
/// # Errors
/// Any [`TokenFailure`]; after a transient one the next look may succeed.
pub async fn look(exchange: &Exchange, client: Client<'_>, device: &Device) -> Result<Look, TokenFailure> {
    let client = Client {
        slot: device.slot,
        ..client
    };
    let fields = [
        ("grant_type", GRANT_TYPE),
        ("device_code", device.secret.expose_secret()),
    ];
    let request = form::post(client, &client.endpoints.token, &fields, exchange.now())?;
    let answer = exchange.send(request).await?;
    if answer.status == 200
        && let Some(tokens) = token::read(&answer.body)
    {
        let refused = device.refused.clone();
        return Ok(Look::Granted(Box::new(Granted { tokens, refused })));
    }
    let failure = client.explain(answer.failure(), exchange.now());
    match failure.problem.code.as_str() {
        "authorization_pending" => Ok(Look::Pending),
        "slow_down" => Ok(Look::SlowDown),
        _ => Err(failure),
    }
}

fn no_endpoint() -> TokenFailure {
    TokenFailure::configuration(
        "no-device-endpoint",
        "the provider offers no device flow",
        "set device_authorization_endpoint of the integration, or sign in with --paste",
    )
}
