//! Why a provider gave no token: its answer, or the lack of one, made into a class with a remedy. Pure.
//! It never takes an outage for a refusal, and never keeps more of an answer than its codes.

use std::time::Duration;

use chrono::DateTime;
use serde_json::{Map, Value};

use super::catalogue::{Entry, Matcher, entries};
use crate::fault::{self, Remedy};
use crate::grant::Problem;
use crate::time::Timestamp;

/// What a failure asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The provider or the network has a fault: try again.
    Transient,
    /// A person must sign in.
    Reauthorize,
    /// An administrator must act at the provider.
    Admin,
    /// Our configuration must change.
    Configuration,
    /// We did what we should not: stop for a while and say so.
    Bug,
}

/// Why there is no token.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{} ({})", .problem.summary, .problem.code)]
pub struct TokenFailure {
    /// What it asks for.
    pub class: Class,
    /// The provider's code, what is wrong, what to do; `{authorize}` in the remedy stands for the command that signs in.
    pub problem: Problem,
    /// The wait that the provider asked for.
    pub retry_after: Option<Duration>,
    /// Whether it was the grant that was refused, so that another refresh token may still work.
    pub is_invalid_grant: bool,
    /// Whether it was the client that was refused, so that its second secret may still work.
    pub is_client_refused: bool,
    /// How long a sign-in may live, where the answer states it; only what is foreseen depends on it.
    pub stated_life: Option<Duration>,
    /// Whether there was no whole answer at all, so that others will hardly get one at this provider either.
    pub is_unreachable: bool,
}

/// Shortest and longest wait that a provider may ask for.
const RETRY_AFTER: std::ops::RangeInclusive<u64> = 1..=3600;
/// AADSTS codes about the client's own credentials.
const CLIENT_CODES: [u32; 4] = [7_000_215, 7_000_222, 700_027, 700_030];

/// The fields of an error answer that we know (RFC 6749 §5.2, and Microsoft's and Google's additions).
#[derive(Default)]
struct ErrorAnswer {
    error: String,
    description: String,
    aadsts: Option<u32>,
    subtype: String,
}

impl ErrorAnswer {
    /// Takes what is there as far as it has the expected form; without `error` it is no error answer.
    fn parse(body: &[u8]) -> Option<Self> {
        let fields: Map<String, Value> = serde_json::from_slice(body).ok()?;
        let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
        let code = fields.get("error_codes").and_then(|codes| codes.get(0)?.as_u64());
        let description = text("error_description").unwrap_or_default();
        Some(Self {
            error: text("error").filter(|error| !error.is_empty())?,
            aadsts: code
                .and_then(|code| code.try_into().ok())
                .or_else(|| aadsts_in(&description)),
            subtype: text("error_subtype").unwrap_or_default(),
            description,
        })
    }
}

impl TokenFailure {
    /// A failure without an answer that can be believed: nothing is wrong with the grant.
    pub fn transient(code: &str, summary: &str) -> Self {
        Self::new(Class::Transient, code, summary, "nothing; it is tried again by itself")
    }

    /// Says also what to do if a fault that should pass does not.
    pub(super) fn lasting(mut self, check: &str) -> Self {
        self.problem.remedy = format!("it is tried again by itself; if this lasts, {check}");
        self
    }

    /// A fault of the configuration that was found here.
    pub fn configuration(code: &str, summary: &str, remedy: &str) -> Self {
        Self::new(Class::Configuration, code, summary, remedy)
    }

    fn new(class: Class, code: &str, summary: &str, remedy: &str) -> Self {
        Self {
            class,
            problem: Problem {
                code: code.to_owned(),
                summary: summary.to_owned(),
                remedy: remedy.to_owned(),
            },
            retry_after: None,
            is_invalid_grant: false,
            is_client_refused: false,
            stated_life: None,
            is_unreachable: false,
        }
    }

    /// What it asks for.
    pub fn remedy(&self) -> Remedy {
        match self.class {
            Class::Transient | Class::Bug => Remedy::Retry {
                after: self.retry_after,
            },
            Class::Reauthorize => Remedy::Reauthorize,
            Class::Admin => Remedy::AskAdministrator,
            Class::Configuration => Remedy::FixConfiguration,
        }
    }
}

/// Whether a status means "later", whatever the body says.
pub fn is_transient_status(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..=599)
}

/// What an answer means that holds no token. `status` is the HTTP status, 200 included: some providers
/// put errors into it, and captive portals their pages.
pub fn classify(status: u16, body: &[u8]) -> TokenFailure {
    let Some(answer) = ErrorAnswer::parse(body) else {
        if matches!(status, 301 | 302 | 303 | 307 | 308) {
            return TokenFailure::transient(
                &format!("http-{status}"),
                &format!("the provider sends us to another address, where no secret is taken (HTTP {status})"),
            )
            .lasting(
                "give the token endpoint as the provider spells it, and see whether a proxy answers in its place",
            );
        }
        return TokenFailure::transient(
            &format!("http-{status}"),
            &format!("the provider did not answer as a token endpoint does (HTTP {status})"),
        )
        .lasting("check the endpoints of the integration, and whether a proxy answers in their place");
    };
    let mut failure = meaning(&answer);
    if is_transient_status(status) {
        // Whatever it says, nobody was refused.
        (failure.is_invalid_grant, failure.is_client_refused) = (false, false);
    }
    if is_transient_status(status) && failure.class != Class::Transient {
        failure.class = Class::Transient;
        failure.problem = Problem {
            code: failure.problem.code,
            summary: format!("the provider has a fault (HTTP {status})"),
            remedy: "nothing; it is tried again by itself".to_owned(),
        };
    }
    failure
}

/// What an error means that came with the browser (RFC 6749 §4.1.2.1).
pub fn classify_callback(error: &str, description: &str) -> TokenFailure {
    meaning(&ErrorAnswer {
        error: error.to_owned(),
        aadsts: aadsts_in(description),
        description: description.to_owned(),
        subtype: String::new(),
    })
}

fn meaning(answer: &ErrorAnswer) -> TokenFailure {
    let error = fault::printable(&answer.error, 60);
    let code = answer
        .aadsts
        .map_or_else(|| error.clone(), |code| format!("AADSTS{code}"));
    let description = answer.description.to_lowercase();
    let entry = by_code(answer.aadsts).or_else(|| by_words(&error, &description, &answer.subtype));
    let mut failure = match entry {
        Some(entry) => TokenFailure::new(entry.class, &code, entry.summary, entry.remedy),
        None => TokenFailure::configuration(
            &code,
            "the provider refused for a reason that is not known to this version",
            "look the code up at the provider; for AADSTS codes at https://login.microsoftonline.com/error",
        ),
    };
    failure.is_invalid_grant = error == "invalid_grant";
    failure.stated_life = stated_life(&description);
    failure.is_client_refused =
        error == "invalid_client" || answer.aadsts.is_some_and(|code| CLIENT_CODES.contains(&code));
    failure
}

fn by_code(aadsts: Option<u32>) -> Option<&'static Entry> {
    let code = aadsts?;
    entries().find(|entry| matches!(entry.matcher, Matcher::Aadsts(codes) if codes.contains(&code)))
}

fn by_words(error: &str, description: &str, subtype: &str) -> Option<&'static Entry> {
    let is_named = |entry: &&Entry| match entry.matcher {
        Matcher::Subtype(name, wanted) => name == error && wanted == subtype,
        Matcher::Text(name, wanted) => name == error && description.contains(wanted),
        Matcher::Aadsts(_) | Matcher::Error(_) => false,
    };
    let is_plain = |entry: &&Entry| matches!(entry.matcher, Matcher::Error(name) if name == error);
    entries().find(is_named).or_else(|| entries().find(is_plain))
}

/// The life of a sign-in that Microsoft's description states, in lower case: in seconds as with AADSTS70043
/// (sign-in frequency), or as `1.00:00:00` with AADSTS700084 (single-page application).
fn stated_life(description: &str) -> Option<Duration> {
    let (_, rest) = description
        .split_once("maximum allowed lifetime for this request is ")
        .or_else(|| description.split_once("limited lifetime of "))?;
    let is_part = |c: &char| c.is_ascii_digit() || matches!(c, '.' | ':');
    let number: String = rest.chars().take_while(is_part).collect();
    let number = number.trim_end_matches(['.', ':']);
    let (days, clock) = number.split_once('.').unwrap_or(("0", number));
    let parts: Vec<u64> = clock.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let seconds = match parts.as_slice() {
        [seconds] => *seconds,
        [hours, minutes, seconds] => hours
            .checked_mul(3600)?
            .checked_add(minutes.checked_mul(60)?)?
            .checked_add(*seconds)?,
        _ => return None,
    };
    let days = days.parse::<u64>().ok()?.checked_mul(86_400)?;
    Some(Duration::from_secs(days.checked_add(seconds)?))
}

/// The number after the first `AADSTS` of a description.
fn aadsts_in(description: &str) -> Option<u32> {
    let (_, rest) = description.split_once("AADSTS")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// The wait of a `Retry-After` header, in seconds or as a date (RFC 9110 §10.2.3), between 1 s and 1 h.
pub fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let seconds = match value.trim().parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) => now
            .until(Timestamp(DateTime::parse_from_rfc2822(value.trim()).ok()?.timestamp()))
            .as_secs(),
    };
    Some(Duration::from_secs(
        seconds.clamp(*RETRY_AFTER.start(), *RETRY_AFTER.end()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(error: &str, description: &str, subtype: &str) -> Vec<u8> {
        serde_json::json!({"error": error, "error_description": description, "error_subtype": subtype})
            .to_string()
            .into_bytes()
    }

    #[test]
    fn the_life_that_an_answer_states_is_kept() {
        for (description, expected) in [
            (
                "AADSTS70043: The refresh token has expired or is invalid due to sign-in frequency checks by conditional \
                 access. The token was issued on 2026-05-03T07:38:23.3264163Z and the maximum allowed lifetime for this \
                 request is 43200. Trace ID: 1-2",
                Some(43_200),
            ),
            (
                "AADSTS700084: The refresh token was issued to a single page app (SPA), and therefore has a fixed, \
                 limited lifetime of 1.00:00:00, which can't be extended.",
                Some(86_400),
            ),
            ("a limited lifetime of 12:30:15.", Some(45_015)),
            ("a limited lifetime of 99999999999999999999.1:1:1", None),
            ("a limited lifetime of little", None),
            ("AADSTS50173: The provided grant has expired", None),
        ] {
            let found = classify(400, &answer("invalid_grant", description, "")).stated_life;
            assert_eq!(found.map(|life| life.as_secs()), expected, "{description}");
        }
    }

    #[test]
    fn every_row_of_the_catalogue_is_found_by_its_own_words() {
        for entry in entries() {
            let bodies: Vec<Vec<u8>> = match entry.matcher {
                Matcher::Aadsts(codes) => codes
                    .iter()
                    .flat_map(|code| {
                        let text = format!("AADSTS{code}: something.\r\nTrace ID: 0");
                        [
                            answer("invalid_grant", &text, ""),
                            format!(r#"{{"error":"invalid_client","error_codes":[{code},1]}}"#).into_bytes(),
                        ]
                    })
                    .collect(),
                Matcher::Subtype(error, subtype) => vec![answer(error, "Bad Request", subtype)],
                Matcher::Text(error, text) => vec![answer(error, &text.to_uppercase(), "")],
                Matcher::Error(error) => vec![answer(error, "something", "")],
            };
            for body in bodies {
                let failure = classify(400, &body);
                let shown = String::from_utf8_lossy(&body).into_owned();
                assert_eq!(failure.class, entry.class, "{shown}");
                assert_eq!(failure.problem.summary, entry.summary, "{shown}");
                assert!(!failure.problem.code.is_empty() && !failure.problem.remedy.is_empty());
            }
        }
    }

    #[test]
    fn no_code_stands_in_two_rows() {
        let mut seen = std::collections::HashSet::new();
        for entry in entries() {
            if let Matcher::Aadsts(codes) = entry.matcher {
                assert!(codes.iter().all(|code| seen.insert(*code)), "{codes:?}");
            }
        }
        assert!(seen.len() > 80);
    }

    #[test]
    fn what_means_later_is_never_a_refusal() {
        let refusal = answer("invalid_grant", "AADSTS50173: revoked", "");
        for status in [408, 425, 429, 500, 502, 503, 504] {
            assert_eq!(classify(status, &refusal).class, Class::Transient, "{status}");
        }
        for status in [200, 302, 400, 401, 403, 404, 503] {
            for body in [&b"<html>Wi-Fi sign-in</html>"[..], b"", b"[]", b"{}", b"{\"error\":{}}"] {
                assert_eq!(classify(status, body).class, Class::Transient, "{status}");
            }
        }
        assert_eq!(classify(200, &refusal).class, Class::Reauthorize);
        let odd = br#"{"error":"invalid_grant","error_description":null,"error_codes":["x"],"error_subtype":7}"#;
        assert_eq!(classify(400, odd).class, Class::Reauthorize);
        assert_eq!(classify(400, &answer("brand_new", "", "")).class, Class::Configuration);
    }

    #[test]
    fn a_wait_is_seconds_or_a_date() {
        let now = Timestamp(1_700_000_000);
        for (value, seconds) in [
            ("7", Some(7)),
            ("0", Some(1)),
            ("99999999", Some(3600)),
            ("Tue, 14 Nov 2023 22:13:50 GMT", Some(30)),
            ("Tue, 14 Nov 2000 22:13:50 GMT", Some(1)),
            ("soon", None),
        ] {
            assert_eq!(retry_after(value, now).map(|d| d.as_secs()), seconds, "{value}");
        }
    }
}
