//! A webhook call, signed as Standard Webhooks are.
//! It never follows a redirect, and calls nothing but what is configured.

use std::error::Error as _;
use std::sync::OnceLock;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, Mac as _};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use secrecy::ExposeSecret as _;
use sha2::Sha256;

use super::{Delivery, Targets};
use crate::fault;
use crate::grant::Problem;
use crate::oauth::failure::retry_after;
use crate::oauth::http::{checked_url, is_loopback};
use crate::outgoing::Webhook;
use crate::store::outgoing::Outgoing;
use crate::time::Timestamp;
use crate::tls::Trust;

/// Time for DNS, TCP and TLS.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for the whole call: what a receiver does with an event is to be done after its answer.
const CALL: Duration = Duration::from_secs(15);
/// Most of an answer that is read so that the connection can be kept, in bytes. Nobody looks at it.
const ANSWER_LIMIT: usize = 16 * 1024;
/// Least wait after an answer that says that the call is wrong: only a change at the receiver helps.
const REFUSED_WAIT: Duration = Duration::from_mins(15);
/// A secret that begins so is base64 (Standard Webhooks, "Signature scheme").
const SECRET_PREFIX: &str = "whsec_";
/// Base64 as people paste it: with and without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The HTTP clients, made when they are first needed: with and without the proxy of the environment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clients {
    near: OnceLock<reqwest::Client>,
    far: OnceLock<reqwest::Client>,
}

impl Clients {
    fn get(&self, is_near: bool, trust: &Trust) -> reqwest::Result<reqwest::Client> {
        let cell = if is_near { &self.near } else { &self.far };
        if let Some(client) = cell.get() {
            return Ok(client.clone());
        }
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(CALL)
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(Duration::from_secs(20))
            .user_agent(concat!("mailintake/", env!("CARGO_PKG_VERSION")));
        if is_near {
            builder = builder.no_proxy();
        }
        for der in trust.extra_der(None) {
            builder = builder.add_root_certificate(reqwest::Certificate::from_der(&der)?);
        }
        let client = builder.build()?;
        Ok(cell.get_or_init(|| client).clone())
    }
}

pub(super) async fn deliver(targets: &Targets, row: &Outgoing, now: Timestamp) -> Delivery {
    let Some(webhook) = targets.webhooks.iter().find(|webhook| webhook.url == row.target) else {
        return Delivery::Refused(problem(
            "not-configured",
            "the webhook is not configured any more".to_owned(),
            "Nothing is to be done",
        ));
    };
    let Some(id) = id_of(&row.payload) else {
        return Delivery::Refused(problem(
            "erased",
            "what was to be sent has been erased".to_owned(),
            "Nothing is to be done",
        ));
    };
    match call(targets, webhook, (&id, &row.payload), now).await {
        Ok((status, wait)) => judge(status, wait),
        Err(error) => Delivery::Retry {
            problem: unreachable(&error),
            after: None,
            is_target: true,
        },
    }
}

/// Posts an event; the status, and the wait that the receiver asks for.
async fn call(
    targets: &Targets,
    webhook: &Webhook,
    (id, body): (&str, &str),
    now: Timestamp,
) -> Result<(u16, Option<Duration>), CallError> {
    let url = checked_url(&webhook.url).map_err(|_| CallError::Address)?;
    let client = targets.clients.get(is_loopback(&url), &targets.trust)?;
    let mut request = client
        .post(url)
        .header(CONTENT_TYPE, "application/json")
        .header("webhook-id", id)
        .header("webhook-timestamp", now.0.to_string());
    if let Some(secret) = &webhook.secret {
        let signature = sign(secret.value.expose_secret(), id, now, body).ok_or(CallError::Secret)?;
        request = request.header("webhook-signature", signature);
    }
    let mut response = request.body(body.to_owned()).send().await?;
    let wait = response.headers().get(RETRY_AFTER);
    let wait = wait
        .and_then(|value| value.to_str().ok())
        .and_then(|value| retry_after(value, now));
    let status = response.status().as_u16();
    let mut read = 0;
    // An answer that breaks off after its status is an answer all the same.
    while let Ok(Some(chunk)) = response.chunk().await {
        read += chunk.len();
        if read > ANSWER_LIMIT {
            break;
        }
    }
    Ok((status, wait))
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("its address is neither https nor on loopback")]
    Address,
    #[error("its secret cannot be used as a key")]
    Secret,
    #[error("no answer")]
    Http(#[from] reqwest::Error),
}

/// What an answer means for a delivery (Standard Webhooks, "Deliverability and reliability").
fn judge(status: u16, wait: Option<Duration>) -> Delivery {
    let answered = format!("the receiver answered with status {status}");
    let (after, is_target, remedy) = match status {
        200..=299 => return Delivery::Sent(answered),
        410 => {
            return Delivery::Refused(problem(
                "410",
                "the receiver says that it is gone (status 410)".to_owned(),
                "take the webhook out of the configuration, or write its new url",
            ));
        }
        408 | 425 | 429 | 500..=599 => (wait, true, "see what the receiver has against it; it is tried again"),
        300..=399 => (
            wait.max(Some(REFUSED_WAIT)),
            true,
            "the receiver redirects elsewhere, which is not followed: write the address it means into url",
        ),
        _ => (
            wait.max(Some(REFUSED_WAIT)),
            false,
            "see whether url and secret are those that the receiver expects; it is tried again",
        ),
    };
    Delivery::Retry {
        problem: problem(&status.to_string(), answered, remedy),
        after,
        is_target,
    }
}

/// `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`.
fn sign(secret: &str, id: &str, at: Timestamp, body: &str) -> Option<String> {
    let decoded = secret
        .strip_prefix(SECRET_PREFIX)
        .and_then(|rest| LENIENT.decode(rest).ok());
    let key = decoded.as_deref().unwrap_or(secret.as_bytes());
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(format!("{id}.{}.{body}", at.0).as_bytes());
    Some(format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes())))
}

fn id_of(body: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(body).ok()?;
    Some(value.get("id")?.as_str()?.to_owned())
}

fn unreachable(error: &CallError) -> Problem {
    let code = match error {
        CallError::Address => "address",
        CallError::Secret => "secret",
        CallError::Http(error) if error.is_timeout() => "timeout",
        CallError::Http(error) if error.is_connect() => "unreachable",
        CallError::Http(_) => "broken-answer",
    };
    // The outermost message holds the address, which is nothing new; the causes say what happened.
    let cause = match error {
        CallError::Http(error) => error.source().map_or_else(|| "no answer".to_owned(), fault::chain),
        CallError::Address | CallError::Secret => fault::chain(error),
    };
    problem(
        code,
        format!("the webhook cannot be called: {cause}"),
        "check that the receiver runs, and the network, DNS and proxy of this server; ca_file if its certificate is private",
    )
}

fn problem(code: &str, summary: String, remedy: &str) -> Problem {
    Problem {
        code: code.to_owned(),
        summary,
        remedy: remedy.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks libraries, whose tests all use it.
    #[test]
    fn a_call_is_signed_as_the_standard_says() {
        let (id, at) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", Timestamp(1_614_265_330));
        let body = r#"{"test": 2432232314}"#;
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let secret = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        for secret in [format!("whsec_{secret}"), format!("whsec_{secret}==")] {
            let signed = sign(&secret, id, at, body);
            if secret.ends_with("==") {
                // Wrong padding is no base64: then the bytes are the key.
                assert_ne!(signed.as_deref(), Some(expected));
            } else {
                assert_eq!(signed.as_deref(), Some(expected));
            }
        }
        assert_ne!(sign(secret, id, at, body).as_deref(), Some(expected));
    }

    #[test]
    fn each_answer_has_its_meaning() {
        for (status, wait, meaning) in [
            (200, None, "sent"),
            (204, None, "sent"),
            (301, None, "900 target"),
            (400, None, "900 event"),
            (401, Some(1_800), "1800 event"),
            (404, Some(3), "900 event"),
            (410, None, "refused"),
            (429, Some(7), "7 target"),
            (500, None, "0 target"),
            (503, Some(120), "120 target"),
        ] {
            let found = match judge(status, wait.map(Duration::from_secs)) {
                Delivery::Sent(_) => "sent".to_owned(),
                Delivery::Refused(_) => "refused".to_owned(),
                Delivery::Retry { after, is_target, .. } => {
                    let whose = if is_target { "target" } else { "event" };
                    format!("{} {whose}", after.unwrap_or_default().as_secs())
                }
                Delivery::Lost(problem) | Delivery::Parked { problem, .. } => panic!("{problem:?}"),
            };
            assert_eq!(found, meaning, "{status} {wait:?}");
        }
    }
}
