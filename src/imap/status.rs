//! What a status response says beside OK: its code, its words, and what these ask for.

use std::time::Duration;

use async_imap::imap_proto::{Outcome, ResponseCode};

use secrecy::SecretString;

use crate::fault::{Remedy, printable};
use crate::secret::withhold;

/// The code and the words of a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refusal {
    /// The response code (RFC 5530 and others) in upper case.
    pub code: Option<String>,
    /// The server's words, printable, at most 200 characters.
    pub text: String,
}

impl Refusal {
    /// Of a parsed response.
    pub(super) fn of(outcome: &Outcome<'_>) -> Self {
        let text = outcome.information.as_deref().unwrap_or_default();
        let mut refusal = Self::of_text(text);
        if refusal.code.is_none() {
            refusal.code = match &outcome.code {
                Some(ResponseCode::TryCreate) => Some("TRYCREATE".into()),
                Some(ResponseCode::Alert) => Some("ALERT".into()),
                Some(_) | None => None,
            };
        }
        refusal
    }

    /// Of the words alone: codes that the parser does not know stand in front of them.
    pub(super) fn of_text(text: &str) -> Self {
        let text = text.trim();
        let code = text
            .strip_prefix('[')
            .and_then(|rest| rest.split(']').next())
            .and_then(|code| code.split(' ').next())
            .map(str::to_uppercase);
        Self {
            code,
            text: printable(text, 200),
        }
    }

    /// Whether the code is one of these.
    pub(super) fn is(&self, codes: &[&str]) -> bool {
        self.code.as_deref().is_some_and(|code| codes.contains(&code))
    }

    /// Takes away what repeats the credential that the server was sent.
    pub(super) fn withhold(&mut self, user: &str, secret: &SecretString) {
        // A code that is known is not the credential.
        if withhold(&mut self.text, user, secret) && self.remedy().is_none() {
            self.code = None;
        }
    }

    /// What the code asks for, where it says so (RFC 5530 §3): trouble of the server, or somebody's turn.
    pub(super) fn remedy(&self) -> Option<Remedy> {
        if let Some(after) = self.stated_wait() {
            return Some(Remedy::Retry { after: Some(after) });
        }
        let after = |minutes: u64| Some(Duration::from_mins(minutes));
        match self.code.as_deref()? {
            "UNAVAILABLE" | "INUSE" | "SERVERBUG" | "LIMIT" => Some(Remedy::RETRY),
            "THROTTLED" => Some(Remedy::Retry { after: after(5) }),
            "OVERQUOTA" => Some(Remedy::Retry { after: after(60) }),
            "CONTACTADMIN" | "AUTHORIZATIONFAILED" => Some(Remedy::AskAdministrator),
            "PRIVACYREQUIRED" => Some(Remedy::FixConfiguration),
            "EXPIRED" | "AUTHENTICATIONFAILED" | "WEBALERT" => Some(Remedy::Reauthorize),
            _ => None,
        }
    }

    /// Exchange states how long it wants to be left alone, at most an hour of which is believed.
    fn stated_wait(&self) -> Option<Duration> {
        let (_, rest) = self.text.split_once("Suggested Backoff Time: ")?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let wait = Duration::from_millis(digits.parse().ok()?);
        Some(wait.min(Duration::from_hours(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_say_whose_turn_it_is() {
        let seconds = |s| Remedy::Retry {
            after: Some(Duration::from_secs(s)),
        };
        for (text, remedy) in [
            ("[UNAVAILABLE] Temporary authentication failure", Some(Remedy::RETRY)),
            ("[INUSE] Mailbox is locked", Some(Remedy::RETRY)),
            (
                "[AUTHENTICATIONFAILED] Invalid credentials (Failure)",
                Some(Remedy::Reauthorize),
            ),
            ("[CONTACTADMIN] disabled", Some(Remedy::AskAdministrator)),
            (
                "[OVERQUOTA] Account exceeded command or bandwidth limits.",
                Some(seconds(3600)),
            ),
            (
                "Request is throttled. Suggested Backoff Time: 92415 milliseconds",
                Some(Remedy::Retry {
                    after: Some(Duration::from_millis(92415)),
                }),
            ),
            ("Suggested Backoff Time: 999999999 milliseconds", Some(seconds(3600))),
            ("[ALERT] Please log in via your web browser", None),
            ("AUTHENTICATE failed.", None),
        ] {
            assert_eq!(Refusal::of_text(text).remedy(), remedy, "{text}");
        }
        assert_eq!(
            Refusal::of_text("[WEBALERT https://x] y").code.as_deref(),
            Some("WEBALERT")
        );
    }
}
