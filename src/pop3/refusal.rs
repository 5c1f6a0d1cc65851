//! The code and the words of `-ERR`, and what the code asks for. No branch on the words.

use std::time::Duration;

use secrecy::SecretString;

use crate::fault::{Remedy, printable};
use crate::secret::withhold;

/// Wait after `[LOGIN-DELAY]` where the server has not said how long: Gmail's is 300 s.
const LOGIN_DELAY: Duration = Duration::from_mins(5);

/// The code and the words of a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refusal {
    /// The response code (RFC 2449 §8, RFC 3206) in upper case.
    pub code: Option<String>,
    /// The server's words, printable, at most 200 characters.
    pub text: String,
}

impl Refusal {
    /// Of the words behind `-ERR`.
    pub(super) fn of_text(text: &str) -> Self {
        let text = text.trim();
        let code = text
            .strip_prefix('[')
            .and_then(|rest| rest.split_once(']'))
            .map(|(code, _)| printable(code, 60).to_uppercase());
        Self {
            code,
            text: printable(text, 200),
        }
    }

    /// Takes away what repeats the credential that the server was sent.
    pub(super) fn withhold(&mut self, user: &str, secret: &SecretString) {
        // A code that is known is not the credential.
        if withhold(&mut self.text, user, secret) && self.remedy().is_none() {
            self.code = None;
        }
    }

    /// What the code asks for, where there is one that does. Codes are hierarchical (RFC 2449 §8): of one that is
    /// not known, the part before the first slash counts.
    pub(super) fn remedy(&self) -> Option<Remedy> {
        match self.code.as_deref()? {
            "IN-USE" | "SYS/TEMP" => Some(Remedy::RETRY),
            "LOGIN-DELAY" => Some(Remedy::Retry {
                after: Some(LOGIN_DELAY),
            }),
            "SYS/PERM" => Some(Remedy::AskAdministrator),
            code => match code.split('/').next()? {
                "SYS" => Some(Remedy::RETRY),
                "AUTH" => Some(Remedy::Reauthorize),
                _ => None,
            },
        }
    }

    /// What the code means for the administrator.
    pub(super) fn advice(&self) -> Option<&'static str> {
        match self.code.as_deref()? {
            "IN-USE" => {
                Some("Another client holds the mailbox: POP3 lets in one at a time. It is tried again by itself")
            }
            "SYS/TEMP" => Some("The server has trouble of its own; it is tried again by itself"),
            "LOGIN-DELAY" => {
                Some("The server wants more time between sign-ins: set poll_interval higher, or stop other clients")
            }
            "SYS/PERM" => {
                Some("Ask the server's administrator: the mailbox cannot be opened until something is done there")
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_say_whose_turn_it_is() {
        for (text, remedy) in [
            ("[IN-USE] Do you have another POP session running?", Some(Remedy::RETRY)),
            ("[in-use] locked", Some(Remedy::RETRY)),
            ("[SYS/TEMP] Temporary authentication failure", Some(Remedy::RETRY)),
            ("[SYS/NEW] unheard of", Some(Remedy::RETRY)),
            ("[SYS/PERM] disabled", Some(Remedy::AskAdministrator)),
            ("[AUTH] Username and password not accepted.", Some(Remedy::Reauthorize)),
            ("[AUTH/X] no", Some(Remedy::Reauthorize)),
            (
                "[LOGIN-DELAY] minimum time between mail checks violation",
                Some(Remedy::Retry {
                    after: Some(Duration::from_mins(5)),
                }),
            ),
            ("[ALERT] x", None),
            ("Logon failure: unknown user name or bad password.", None),
            ("[unclosed", None),
        ] {
            assert_eq!(Refusal::of_text(text).remedy(), remedy, "{text}");
        }
    }
}
