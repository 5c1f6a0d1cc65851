//! Signing in: PLAIN, LOGIN, XOAUTH2, OAUTHBEARER. A failed token is answered as the mechanism wants it, or the
//! server would wait for ever. Nothing of this dialogue is logged.

use std::collections::HashSet;

use async_imap::imap_proto::{Capability, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};

use super::Credential;
use super::command::lost;
use super::error::{Challenge, ImapError, Step};
use super::status::Refusal;
use super::wire::Wire;
use crate::mailbox::{Mailbox, Sasl};
use crate::secret::withhold;

/// A way to sign in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mechanism {
    Plain,
    Login,
    XOAuth2,
    OAuthBearer,
}

/// Signs in over a connection with these capabilities.
///
/// # Errors
/// [`ImapError::NoMechanism`], [`ImapError::SignInRefused`], or what ends the connection.
pub(super) async fn sign_in(
    wire: Wire,
    capabilities: &HashSet<String>,
    mailbox: &Mailbox,
    credential: &Credential,
) -> Result<async_imap::Session<Wire>, ImapError> {
    let mechanism = choose(capabilities, mailbox, credential)?;
    let client = async_imap::Client::new(wire);
    let (secret, by_token) = match credential {
        Credential::Password(secret) => (secret, false),
        Credential::Token(secret) => (secret, true),
    };
    let mut dialogue = Dialogue::new(mechanism, mailbox, secret);
    let signed_in = match mechanism {
        Mechanism::Login => client.login(&mailbox.login, secret.expose_secret()).await,
        Mechanism::Plain | Mechanism::XOAuth2 | Mechanism::OAuthBearer => {
            let opening = dialogue.opening(capabilities.contains("SASL-IR"));
            client.authenticate(opening, &mut dialogue).await
        }
    };
    signed_in.map_err(|(error, _)| refused(&error, mailbox, dialogue.challenge, (secret, by_token)))
}

fn choose(capabilities: &HashSet<String>, mailbox: &Mailbox, credential: &Credential) -> Result<Mechanism, ImapError> {
    let has = |name: &str| capabilities.contains(name);
    // Google and Microsoft are used with XOAUTH2 by everybody.
    let host = mailbox.server.host.to_lowercase();
    let prefers_xoauth2 = ["google", "gmail", "office365", "outlook"]
        .iter()
        .any(|word| host.contains(word));
    let found = match (credential, mailbox.sasl) {
        (Credential::Token(_), Sasl::XOAuth2) => Some(Mechanism::XOAuth2),
        (Credential::Token(_), Sasl::OAuthBearer) => Some(Mechanism::OAuthBearer),
        (Credential::Token(_), Sasl::Auto | Sasl::Plain | Sasl::Login) => {
            match (has("AUTH=XOAUTH2"), has("AUTH=OAUTHBEARER")) {
                (true, true) if prefers_xoauth2 => Some(Mechanism::XOAuth2),
                (_, true) => Some(Mechanism::OAuthBearer),
                (true, false) => Some(Mechanism::XOAuth2),
                (false, false) => None,
            }
        }
        (Credential::Password(_), Sasl::Plain) => Some(Mechanism::Plain),
        (Credential::Password(_), Sasl::Login) => Some(Mechanism::Login),
        (Credential::Password(_), Sasl::Auto | Sasl::XOAuth2 | Sasl::OAuthBearer) if has("AUTH=PLAIN") => {
            Some(Mechanism::Plain)
        }
        (Credential::Password(_), Sasl::Auto | Sasl::XOAuth2 | Sasl::OAuthBearer) => {
            (!has("LOGINDISABLED")).then_some(Mechanism::Login)
        }
    };
    found.ok_or_else(|| {
        let mut offered: Vec<&str> = capabilities
            .iter()
            .filter(|name| name.starts_with("AUTH=") || *name == "LOGINDISABLED")
            .map(String::as_str)
            .collect();
        offered.sort_unstable();
        ImapError::NoMechanism {
            host: mailbox.server.host.clone(),
            offered: if offered.is_empty() {
                "nothing".into()
            } else {
                offered.join(" ")
            },
        }
    })
}

/// The client's side of a SASL exchange.
struct Dialogue {
    name: &'static str,
    /// The first answer; given once.
    initial: Option<SecretString>,
    /// The answer to the challenge that tells of a failure.
    on_failure: &'static str,
    /// What that challenge said.
    challenge: Option<Challenge>,
}

impl Dialogue {
    fn new(mechanism: Mechanism, mailbox: &Mailbox, secret: &SecretString) -> Self {
        let token = secret.expose_secret();
        let user = &mailbox.sasl_user;
        let (name, initial, on_failure) = match mechanism {
            Mechanism::Plain | Mechanism::Login => ("PLAIN", format!("\0{}\0{token}", mailbox.login), ""),
            Mechanism::XOAuth2 => ("XOAUTH2", format!("user={user}\x01auth=Bearer {token}\x01\x01"), ""),
            Mechanism::OAuthBearer => {
                let (host, port) = (&mailbox.server.host, mailbox.server.port);
                let user = user.replace('=', "=3D").replace(',', "=2C");
                let initial = format!("n,a={user},\x01host={host}\x01port={port}\x01auth=Bearer {token}\x01\x01");
                ("OAUTHBEARER", initial, "\x01")
            }
        };
        Self {
            name,
            initial: Some(SecretString::from(initial)),
            on_failure,
            challenge: None,
        }
    }

    /// The argument of AUTHENTICATE: with the first answer at once where the server takes it (RFC 4959).
    fn opening(&mut self, takes_initial: bool) -> String {
        match self.initial.take_if(|_| takes_initial) {
            Some(initial) => format!("{} {}", self.name, STANDARD.encode(initial.expose_secret())),
            None => self.name.to_owned(),
        }
    }
}

impl async_imap::Authenticator for &mut Dialogue {
    type Response = String;

    fn process(&mut self, challenge: &[u8]) -> String {
        if let Some(initial) = self.initial.take() {
            return initial.expose_secret().to_owned();
        }
        self.challenge = serde_json::from_slice(challenge).ok();
        self.on_failure.to_owned()
    }
}

fn refused(
    error: &async_imap::error::Error,
    mailbox: &Mailbox,
    challenge: Option<Challenge>,
    (secret, by_token): (&SecretString, bool),
) -> ImapError {
    let refusal = |text: &str| {
        let mut refusal = Refusal::of_text(&words(text));
        refusal.withhold(&mailbox.sasl_user, secret);
        refusal
    };
    match error {
        async_imap::error::Error::No(text) => ImapError::SignInRefused {
            host: mailbox.server.host.clone(),
            refusal: refusal(text),
            challenge: challenge.map(|mut challenge| {
                withhold(&mut challenge.status, &mailbox.sasl_user, secret);
                challenge
            }),
            by_token,
        },
        async_imap::error::Error::Bad(text) => ImapError::Bad {
            step: Step::SignIn,
            refusal: refusal(text),
        },
        async_imap::error::Error::Validate(_) => ImapError::BadName("user name or password".into()),
        // What the library could not read, it quotes.
        other => match lost(Step::SignIn, other) {
            ImapError::Lost { step, mut reason } => {
                withhold(&mut reason, &mailbox.sasl_user, secret);
                ImapError::Lost { step, reason }
            }
            other => other,
        },
    }
}

/// The server's words out of the crate's `code: …, info: Some("…")`.
fn words(text: &str) -> String {
    let info = text.split_once("info: Some(\"").map_or(text, |(_, info)| info);
    let info = info.strip_suffix("\")").unwrap_or(info);
    let is_alert = text.starts_with("code: Some(Alert)");
    let prefix = if is_alert { "[ALERT] " } else { "" };
    format!("{prefix}{}", info.replace("\\\"", "\""))
}

/// Collects what a CAPABILITY response tells, in upper case.
pub(super) fn note_capabilities(capabilities: &mut HashSet<String>, response: &Response<'_>) {
    let Response::Capabilities(told) = response else { return };
    capabilities.extend(told.iter().map(|capability| match capability {
        Capability::Imap4rev1 => "IMAP4REV1".to_owned(),
        Capability::Auth(name) => format!("AUTH={}", name.to_uppercase()),
        Capability::Atom(name) => name.to_uppercase(),
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_words_are_taken_out() {
        for (text, expected) in [
            ("code: None, info: Some(\"[UNAVAILABLE] later\")", "[UNAVAILABLE] later"),
            (
                "code: Some(Alert), info: Some(\"use a \\\"browser\\\"\")",
                "[ALERT] use a \"browser\"",
            ),
            ("something else", "something else"),
        ] {
            assert_eq!(words(text), expected);
        }
    }
}
