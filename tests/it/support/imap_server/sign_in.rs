//! LOGIN and AUTHENTICATE. Secrets are compared and forgotten; none gets into the log.

use std::io;

use openssl::base64::{decode_block, encode_block};

use super::session::{Reply, Session};
use super::wire::Token;

/// What is said to a token that does not fit, as Google says it to XOAUTH2.
const XOAUTH2_CHALLENGE: &str = r#"{"status":"400","schemes":"Bearer","scope":"https://mail.example/"}"#;
/// The same for OAUTHBEARER (RFC 7628 §3.2.2).
const OAUTHBEARER_CHALLENGE: &str = r#"{"status":"invalid_token","scope":"https://mail.example/"}"#;

const REFUSED: &str = "[AUTHENTICATIONFAILED] Invalid credentials (Failure)";

impl Session<'_> {
    pub(super) fn login(&mut self, arguments: &[Token]) -> Reply {
        if !self.may_sign_in() || self.offers("LOGINDISABLED") {
            return Reply::No("[PRIVACYREQUIRED] LOGIN is not for this connection".into());
        }
        match arguments {
            [user, password] => self.by_password(&user.text(), &password.text()),
            _ => Reply::Bad("LOGIN takes a user and a password".into()),
        }
    }

    pub(super) fn authenticate(&mut self, arguments: &[Token]) -> io::Result<Reply> {
        let Some((mechanism, initial)) = arguments.split_first() else {
            return Ok(Reply::Bad("which mechanism?".into()));
        };
        let mechanism = mechanism.text().to_uppercase();
        if !self.may_sign_in() || !self.offers(&format!("AUTH={mechanism}")) {
            return Ok(Reply::No("[CANNOT] no such mechanism here".into()));
        }
        let initial = match initial.first() {
            Some(_) if !self.offers("SASL-IR") => return Ok(Reply::Bad("no initial response here".into())),
            Some(initial) => initial.text(),
            None => self.challenge("")?,
        };
        let Ok(said) = decode_block(&initial) else {
            return Ok(Reply::Bad("that is no base64".into()));
        };
        let said = String::from_utf8_lossy(&said).into_owned();
        match mechanism.as_str() {
            "PLAIN" => Ok(self.plain(&said)),
            "XOAUTH2" => self.by_token(xoauth2(&said), XOAUTH2_CHALLENGE, |answer| {
                answer.is_empty() || answer == "AQ=="
            }),
            "OAUTHBEARER" => self.by_token(oauthbearer(&said), OAUTHBEARER_CHALLENGE, |answer| answer == "AQ=="),
            _ => Ok(Reply::No("[CANNOT] no such mechanism here".into())),
        }
    }

    fn plain(&mut self, said: &str) -> Reply {
        let mut parts = said.split('\0').skip(1);
        match (parts.next(), parts.next()) {
            (Some(user), Some(password)) => self.by_password(user, password),
            _ => Reply::Bad("that is no PLAIN".into()),
        }
    }

    fn by_password(&mut self, user: &str, password: &str) -> Reply {
        let users = &self.shared.options.users;
        if users.iter().any(|(name, secret)| name == user && secret == password) {
            self.signed_in(user)
        } else {
            Reply::No(REFUSED.into())
        }
    }

    /// A token that does not fit gets a challenge, which the client must answer before it hears NO.
    fn by_token(
        &mut self,
        said: Option<(String, String)>,
        challenge: &str,
        is_right_answer: impl Fn(&str) -> bool,
    ) -> io::Result<Reply> {
        let Some((user, token)) = said else {
            return Ok(Reply::Bad("that is not of this mechanism".into()));
        };
        let is_known = self.shared.options.users.iter().any(|(name, _)| *name == user);
        if is_known && (self.shared.options.token)(&user, &token) {
            return Ok(self.signed_in(&user));
        }
        let answer = self.challenge(challenge)?;
        if is_right_answer(&answer) {
            Ok(Reply::No(REFUSED.into()))
        } else {
            Ok(Reply::Bad(format!("{answer:?} does not answer the challenge")))
        }
    }

    fn challenge(&mut self, text: &str) -> io::Result<String> {
        self.peer
            .send(format!("+ {}\r\n", encode_block(text.as_bytes())).as_bytes())?;
        let answer = self.peer.line()?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

/// `user=USER^Aauth=Bearer TOKEN^A^A`.
fn xoauth2(said: &str) -> Option<(String, String)> {
    let (user, rest) = said.strip_prefix("user=")?.split_once('\x01')?;
    let token = rest.strip_prefix("auth=Bearer ")?.strip_suffix("\x01\x01")?;
    Some((user.to_owned(), token.to_owned()))
}

/// `n,a=USER,^Ahost=…^Aport=…^Aauth=Bearer TOKEN^A^A` (RFC 7628 §3.1).
fn oauthbearer(said: &str) -> Option<(String, String)> {
    let (header, rest) = said.strip_suffix("\x01\x01")?.split_once('\x01')?;
    let user = header.strip_prefix("n,a=")?.strip_suffix(',')?;
    let token = rest.split('\x01').find_map(|pair| pair.strip_prefix("auth=Bearer "))?;
    Some((user.replace("=2C", ",").replace("=3D", "="), token.to_owned()))
}
