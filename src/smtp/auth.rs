//! Signing in (RFC 4954): XOAUTH2, OAUTHBEARER, PLAIN, LOGIN. A refused token is answered as the mechanism wants it, or
//! the server would wait for ever. Nothing of this dialogue is logged, and no word that repeats a secret is kept.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};

use super::Credential;
use super::account::{Account, With};
use super::error::{SmtpError, Step};
use super::line::{Carrier, Line};
use super::offer::Offer;
use super::reply::Reply;
use crate::mailbox::Sasl;
use crate::outgoing::Smtp;

/// Longest AUTH command, in bytes (RFC 4954 §4); what is longer is sent after a challenge.
const COMMAND_LIMIT: usize = 12_288;
/// Most challenges that are answered.
const CHALLENGES: usize = 4;

/// What a server answered to a token that it refused (RFC 7628 §3.2.2, and XOAUTH2).
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Deserialize)]
pub struct Challenge {
    /// `401`, `400`, `invalid_token`, …
    #[serde(default)]
    pub status: String,
    /// The scope that it wants.
    #[serde(default)]
    pub scope: Option<String>,
}

/// A way to sign in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mechanism {
    /// RFC 4616.
    Plain,
    /// Two questions and answers; never specified, offered by many, by some alone.
    Login,
    /// Google's, which Microsoft took over.
    XOAuth2,
    /// RFC 7628.
    OAuthBearer,
}

impl Mechanism {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::XOAuth2 => "XOAUTH2",
            Self::OAuthBearer => "OAUTHBEARER",
        }
    }
}

/// The mechanisms to try, in order: what fits the credential and is offered, or the one that is configured, offered
/// or not.
fn candidates(offer: &Offer, sasl: Sasl, with: With) -> Vec<Mechanism> {
    let able = able(sasl, with);
    match sasl {
        Sasl::Auto => able
            .into_iter()
            .filter(|mechanism| offer.has(mechanism.name()))
            .collect(),
        Sasl::XOAuth2 | Sasl::OAuthBearer | Sasl::Plain | Sasl::Login => able,
    }
}

/// What fits the credential; a password never goes the way of a token.
fn able(sasl: Sasl, with: With) -> Vec<Mechanism> {
    let fitting = match with {
        With::Token => vec![Mechanism::XOAuth2, Mechanism::OAuthBearer],
        With::Password => vec![Mechanism::Plain, Mechanism::Login],
        With::Any => Vec::new(),
    };
    let forced = match sasl {
        Sasl::Auto => return fitting,
        Sasl::XOAuth2 => Mechanism::XOAuth2,
        Sasl::OAuthBearer => Mechanism::OAuthBearer,
        Sasl::Plain => Mechanism::Plain,
        Sasl::Login => Mechanism::Login,
    };
    fitting.into_iter().filter(|mechanism| *mechanism == forced).collect()
}

/// One sign-in: what is wanted, and what the server has refused as unknown so far, on this connection and on others.
pub(super) struct SignIn<'a> {
    pub(super) account: Arc<Account>,
    pub(super) server: &'a Smtp,
    pub(super) credential: &'a Credential,
    pub(super) patience: Duration,
    pub(super) unknown: Vec<Mechanism>,
}

impl SignIn<'_> {
    /// Signs in over a connection whose server offers this.
    ///
    /// # Errors
    /// [`SmtpError::NoMechanism`], [`SmtpError::SignInRefused`], or what ends the connection.
    pub(super) async fn run<S: Carrier>(&mut self, line: &mut Line<S>, offer: &Offer) -> Result<(), SmtpError> {
        let with = self.account.with;
        if with == With::Any {
            return Ok(());
        }
        for mechanism in candidates(offer, self.server.sasl, with) {
            if self.unknown.contains(&mechanism) {
                continue;
            }
            let (reply, challenge) = self.attempt(line, mechanism).await?;
            match reply.code {
                200..=299 => return Ok(()),
                // Offered, but not meant: "unrecognized authentication type".
                504 => self.unknown.push(mechanism),
                _ => {
                    let mut refusal = reply.refusal();
                    self.withhold(&mut refusal.text);
                    return Err(SmtpError::SignInRefused {
                        account: Arc::clone(&self.account),
                        refusal,
                        challenge,
                    });
                }
            }
        }
        Err(self.none_fits(offer))
    }

    fn none_fits(&self, offer: &Offer) -> SmtpError {
        let names = |mechanisms: &[Mechanism]| {
            let names: Vec<&str> = mechanisms.iter().map(|mechanism| mechanism.name()).collect();
            names.join(", ")
        };
        let mut offered = offer.words();
        if !self.unknown.is_empty() {
            offered = format!("{offered} (and refuses {} with 504)", names(&self.unknown));
        }
        let mut able = names(&able(self.server.sasl, self.account.with));
        if self.server.sasl != Sasl::Auto {
            able = format!("{able} (as sasl says)");
        }
        SmtpError::NoMechanism {
            account: Arc::clone(&self.account),
            offered,
            able,
        }
    }

    /// One mechanism, to the last reply.
    async fn attempt<S: Carrier>(
        &self,
        line: &mut Line<S>,
        mechanism: Mechanism,
    ) -> Result<(Reply, Option<Challenge>), SmtpError> {
        let mut dialogue = Dialogue::new(mechanism, self.server, self.credential);
        let opening = dialogue.opening();
        let mut reply = line
            .ask(Step::SignIn, opening.expose_secret().as_bytes(), self.patience)
            .await?;
        for _ in 0..CHALLENGES {
            if !reply.is_waiting() {
                return Ok((reply, dialogue.challenge));
            }
            let answer = dialogue.answer(&reply);
            reply = line
                .ask(Step::SignIn, answer.expose_secret().as_bytes(), self.patience)
                .await?;
        }
        if reply.is_waiting() {
            return Err(SmtpError::Garbled {
                step: Step::SignIn,
                text: "it asks without end".into(),
            });
        }
        Ok((reply, dialogue.challenge))
    }

    /// Takes words away that repeat the secret.
    fn withhold(&self, text: &mut String) {
        let (user, secret) = match self.credential {
            Credential::None => return,
            Credential::Password { username, password } => (username, password),
            Credential::Token { user, token } => (user, token),
        };
        crate::secret::withhold(text, user, secret);
    }
}

/// The client's side of a SASL exchange.
struct Dialogue {
    mechanism: Mechanism,
    /// What is still to be said, in order.
    answers: std::collections::VecDeque<SecretString>,
    /// What the challenge said that tells of a failure.
    challenge: Option<Challenge>,
}

impl Dialogue {
    fn new(mechanism: Mechanism, server: &Smtp, credential: &Credential) -> Self {
        let (user, secret) = match credential {
            Credential::None => ("", ""),
            Credential::Password { username, password } => (username.as_str(), password.expose_secret()),
            Credential::Token { user, token } => (user.as_str(), token.expose_secret()),
        };
        let plain = match mechanism {
            Mechanism::Plain => vec![format!("\0{user}\0{secret}")],
            Mechanism::Login => vec![user.to_owned(), secret.to_owned()],
            Mechanism::XOAuth2 => vec![format!("user={user}\x01auth=Bearer {secret}\x01\x01")],
            Mechanism::OAuthBearer => {
                let (host, port) = (&server.host, server.port);
                let user = user.replace('=', "=3D").replace(',', "=2C");
                vec![format!(
                    "n,a={user},\x01host={host}\x01port={port}\x01auth=Bearer {secret}\x01\x01"
                )]
            }
        };
        Self {
            mechanism,
            answers: plain
                .iter()
                .map(|text| SecretString::from(STANDARD.encode(text)))
                .collect(),
            challenge: None,
        }
    }

    /// The AUTH command, with the first answer where it fits; LOGIN waits for the question, which all servers ask.
    fn opening(&mut self) -> SecretString {
        let name = self.mechanism.name();
        let fits = |answer: &SecretString| answer.expose_secret().len() + name.len() + 8 <= COMMAND_LIMIT;
        let is_at_once = self.mechanism != Mechanism::Login && self.answers.front().is_some_and(fits);
        let command = match self.answers.front() {
            Some(answer) if is_at_once => format!("AUTH {name} {}\r\n", answer.expose_secret()),
            Some(_) | None => format!("AUTH {name}\r\n"),
        };
        if is_at_once {
            self.answers.pop_front();
        }
        SecretString::from(command)
    }

    /// The answer to a challenge.
    fn answer(&mut self, reply: &Reply) -> SecretString {
        if let Some(answer) = self.answers.pop_front() {
            return SecretString::from(format!("{}\r\n", answer.expose_secret()));
        }
        let text = reply.lines.join("");
        if let Ok(decoded) = STANDARD.decode(text.trim()) {
            self.challenge = self.challenge.take().or_else(|| serde_json::from_slice(&decoded).ok());
        }
        SecretString::from(match self.mechanism {
            Mechanism::XOAuth2 => "\r\n",
            Mechanism::OAuthBearer => "AQ==\r\n",
            // Nothing is left to say: the exchange is called off (RFC 4954 §4).
            Mechanism::Plain | Mechanism::Login => "*\r\n",
        })
    }
}
