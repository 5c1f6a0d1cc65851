//! Signing in: USER and PASS, PLAIN, XOAUTH2, OAUTHBEARER (RFC 5034). A failed token is answered as the mechanism
//! wants it, or the server would wait for ever. Nothing of this dialogue is logged.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};

use super::error::{Pop3Error, Step};
use super::offer::Offer;
use super::refusal::Refusal;
use super::wire::Wire;
use crate::fault::printable;
use crate::mailbox::{Credential, Mailbox, Sasl};
use crate::secret::withhold;

/// A way to sign in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    UserPass,
    Plain,
    XOAuth2,
    OAuthBearer,
}

/// Signs in.
///
/// # Errors
/// [`Pop3Error::NoMechanism`], [`Pop3Error::BadName`], [`Pop3Error::SignInRefused`], or what ends the connection.
pub(super) async fn sign_in(
    wire: &mut Wire,
    offer: &Offer,
    mailbox: &Mailbox,
    credential: &Credential,
) -> Result<(), Pop3Error> {
    let way = choose(offer, mailbox, credential)?;
    let (secret, by_token) = match credential {
        Credential::Password(secret) => (secret, false),
        Credential::Token(secret) => (secret, true),
    };
    let (refusal, status) = match way {
        Way::UserPass => (user_pass(wire, &mailbox.login, secret).await?, None),
        Way::Plain | Way::XOAuth2 | Way::OAuthBearer => exchange(wire, &Exchange::of(way, mailbox, secret)).await?,
    };
    match refusal {
        None => Ok(()),
        Some(mut refusal) => {
            refusal.withhold(&mailbox.sasl_user, secret);
            let status = status.map(|mut status| {
                withhold(&mut status, &mailbox.sasl_user, secret);
                status
            });
            Err(Pop3Error::SignInRefused {
                host: mailbox.server.host.clone(),
                refusal,
                status,
                by_token,
            })
        }
    }
}

/// Google and Microsoft are used with XOAUTH2 by everybody; a server that tells nothing is asked for that, too.
fn choose(offer: &Offer, mailbox: &Mailbox, credential: &Credential) -> Result<Way, Pop3Error> {
    let found = match (credential, mailbox.sasl) {
        (Credential::Token(_), Sasl::XOAuth2) => Some(Way::XOAuth2),
        (Credential::Token(_), Sasl::OAuthBearer) => Some(Way::OAuthBearer),
        (Credential::Token(_), Sasl::Auto | Sasl::Plain | Sasl::Login) => {
            match (offer.has("XOAUTH2") || !offer.is_told, offer.has("OAUTHBEARER")) {
                (true, _) => Some(Way::XOAuth2),
                (false, true) => Some(Way::OAuthBearer),
                (false, false) => None,
            }
        }
        (Credential::Password(_), Sasl::Plain) => Some(Way::Plain),
        (Credential::Password(_), Sasl::Login) => Some(Way::UserPass),
        (Credential::Password(_), Sasl::Auto | Sasl::XOAuth2 | Sasl::OAuthBearer) if offer.has("PLAIN") => {
            Some(Way::Plain)
        }
        (Credential::Password(_), Sasl::Auto | Sasl::XOAuth2 | Sasl::OAuthBearer) => {
            offer.has_user.then_some(Way::UserPass)
        }
    };
    found.ok_or_else(|| Pop3Error::NoMechanism {
        host: mailbox.server.host.clone(),
        offered: offered(offer),
    })
}

fn offered(offer: &Offer) -> String {
    let user = offer.has_user.then_some("USER");
    let names: Vec<&str> = offer.mechanisms.iter().map(String::as_str).chain(user).collect();
    if names.is_empty() {
        "nothing".to_owned()
    } else {
        printable(&names.join(" "), 200)
    }
}

/// USER, then PASS; `None` where that went well.
async fn user_pass(wire: &mut Wire, user: &str, secret: &SecretString) -> Result<Option<Refusal>, Pop3Error> {
    let password = secret.expose_secret();
    if user
        .chars()
        .chain(password.chars())
        .any(|c| matches!(c, '\r' | '\n' | '\0'))
    {
        return Err(Pop3Error::BadName);
    }
    if let Err(refusal) = wire.ask(Step::SignIn, &format!("USER {user}")).await? {
        return Ok(Some(refusal));
    }
    Ok(wire.ask(Step::SignIn, &format!("PASS {password}")).await?.err())
}

/// The client's side of a SASL exchange.
struct Exchange {
    name: &'static str,
    initial: SecretString,
    /// The answer to the challenge that tells of a failure.
    on_failure: &'static str,
}

impl Exchange {
    fn of(way: Way, mailbox: &Mailbox, secret: &SecretString) -> Self {
        let token = secret.expose_secret();
        let user = &mailbox.sasl_user;
        let (name, initial, on_failure) = match way {
            Way::Plain | Way::UserPass => ("PLAIN", format!("\0{}\0{token}", mailbox.login), ""),
            Way::XOAuth2 => ("XOAUTH2", format!("user={user}\x01auth=Bearer {token}\x01\x01"), ""),
            Way::OAuthBearer => {
                let (host, port) = (&mailbox.server.host, mailbox.server.port);
                let user = user.replace('=', "=3D").replace(',', "=2C");
                let initial = format!("n,a={user},\x01host={host}\x01port={port}\x01auth=Bearer {token}\x01\x01");
                ("OAUTHBEARER", initial, "AQ==")
            }
        };
        Self {
            name,
            initial: SecretString::from(STANDARD.encode(initial)),
            on_failure,
        }
    }
}

/// A challenge, or the end.
enum Heard {
    Challenge(String),
    End(Option<Refusal>),
}

/// In two lines: Exchange Online ends the connection where the first answer comes with the command.
async fn exchange(wire: &mut Wire, exchange: &Exchange) -> Result<(Option<Refusal>, Option<String>), Pop3Error> {
    wire.send(Step::SignIn, &format!("AUTH {}", exchange.name)).await?;
    if let Heard::End(refusal) = hear(wire).await? {
        // `+OK` before anything was said is no sign-in.
        let refusal = refusal.unwrap_or_else(|| Refusal::of_text("it did not ask for the credential"));
        return Ok((Some(refusal), None));
    }
    wire.send(Step::SignIn, exchange.initial.expose_secret()).await?;
    let challenge = match hear(wire).await? {
        Heard::End(refusal) => return Ok((refusal, None)),
        Heard::Challenge(challenge) => challenge,
    };
    wire.send(Step::SignIn, exchange.on_failure).await?;
    match hear(wire).await? {
        Heard::End(Some(refusal)) => Ok((Some(refusal), status(&challenge))),
        Heard::End(None) | Heard::Challenge(_) => Err(Pop3Error::Garbled { step: Step::SignIn }),
    }
}

async fn hear(wire: &mut Wire) -> Result<Heard, Pop3Error> {
    let line = wire.line(Step::SignIn).await?;
    let upper = line.to_ascii_uppercase();
    if upper.starts_with("+OK") {
        return Ok(Heard::End(None));
    }
    if upper.starts_with("-ERR") {
        return Ok(Heard::End(Some(Refusal::of_text(line.get(4..).unwrap_or_default()))));
    }
    match line.strip_prefix('+') {
        Some(challenge) => Ok(Heard::Challenge(challenge.trim().to_owned())),
        None => Err(Pop3Error::Garbled { step: Step::SignIn }),
    }
}

/// The status that a refused token is answered with, as JSON in base64.
fn status(challenge: &str) -> Option<String> {
    let json: serde_json::Value = serde_json::from_slice(&STANDARD.decode(challenge).ok()?).ok()?;
    Some(printable(json.get("status")?.as_str()?, 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_a_challenge_is_read() {
        let json = STANDARD.encode(r#"{"status":"401","schemes":"bearer","scope":"https://mail.google.com/"}"#);
        assert_eq!(status(&json).as_deref(), Some("401"));
        assert_eq!(status("!"), None);
        assert_eq!(status(""), None);
    }
}
