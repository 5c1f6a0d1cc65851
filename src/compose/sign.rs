//! The mark in every mail that we send: the key of the issue, a number drawn at random, and a code over both that
//! nobody makes without our key. It stands in the Message-ID, in a header field and in the text, since providers
//! replace the first (Amazon SES, some paths through Exchange). A mark is never believed before it is verified.

use std::fmt;

use hmac::{Hmac, Mac};
use regex::Regex;
use sha2::Sha256;

use crate::thread::parse_key;

/// The header field that carries the mark.
pub const ORIGIN_FIELD: &str = "X-Mailintake-Origin";
/// Length of a key, in bytes.
pub const KEY_LENGTH: usize = 32;
/// Bytes drawn at random.
pub const NONCE_LENGTH: usize = 8;
/// Bytes of the code, 96 bits: the search for one that fits costs 2^95 mails.
const MAC_LENGTH: usize = 12;
/// What is signed begins with this, so that the keys may sign other things later.
const PURPOSE: &[u8] = b"mailintake mail 1\0";
/// Most of a text that is looked at for a mark.
const TEXT_LIMIT: usize = 1 << 20;

/// A mark, verified or not.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    project: String,
    number: i64,
    nonce: [u8; NONCE_LENGTH],
    mac: [u8; MAC_LENGTH],
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.key(), hex(&self.nonce), hex(&self.mac))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.key())
    }
}

impl Token {
    /// Project and number of the issue that it names.
    pub fn issue(&self) -> (&str, i64) {
        (&self.project, self.number)
    }

    /// The key of the issue that it names.
    pub fn key(&self) -> String {
        format!("{}-{}", self.project, self.number)
    }

    /// The line of a text that carries it.
    pub fn line(&self) -> String {
        format!("Ref: {} \u{b7} {}.{}", self.key(), hex(&self.nonce), hex(&self.mac))
    }

    /// Reads `SUP-1.0123456789abcdef.…`, whatever the case: mail systems change it.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let (key, nonce, mac) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let key = key.to_ascii_uppercase();
        let (project, number) = parse_key(&key)?;
        Some(Self {
            project: project.to_owned(),
            number,
            nonce: unhex(nonce)?,
            mac: unhex(mac)?,
        })
    }

    /// The mark in a Message-ID.
    pub fn of_id(message_id: &str) -> Option<Self> {
        let (local, _) = message_id.rsplit_once('@')?;
        Self::parse(local)
    }

    /// The mark in the header field.
    pub fn of_field(value: &str) -> Option<Self> {
        Self::parse(value.trim().strip_prefix("v1;")?.trim())
    }

    /// The first mark in a text, such as the quoted part of an answer.
    pub fn of_text(text: &str) -> Option<Self> {
        static LINE: std::sync::LazyLock<Option<Regex>> = std::sync::LazyLock::new(|| {
            Regex::new(r"\bRef:\s{1,4}([A-Z][A-Z0-9]{1,9}-[0-9]{1,18})[^A-Za-z0-9_]{1,8}([0-9a-f]{16}\.[0-9a-f]{24})\b")
                .ok()
        });
        let text = text.get(..text.floor_char_boundary(TEXT_LIMIT))?;
        let found = LINE.as_ref()?.captures(text)?;
        Self::parse(&format!("{}.{}", found.get(1)?.as_str(), found.get(2)?.as_str()))
    }

    /// The mark in the header of a mail that came back, as bytes.
    pub fn of_bytes(header: &[u8]) -> Option<Self> {
        let header = String::from_utf8_lossy(header.get(..header.len().min(TEXT_LIMIT))?);
        let field = header.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(ORIGIN_FIELD).then_some(value)
        });
        Self::of_field(field?)
    }
}

/// The keys: the first signs, all verify.
#[derive(Clone, Default)]
pub struct Keys(Vec<[u8; KEY_LENGTH]>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keys").field(&self.0.len()).finish()
    }
}

impl Keys {
    /// Keys, the newest first.
    pub fn new(keys: Vec<[u8; KEY_LENGTH]>) -> Self {
        Self(keys)
    }

    /// A new mark for an issue; `None` without a key.
    pub fn sign(&self, (project, number): (&str, i64), nonce: [u8; NONCE_LENGTH]) -> Option<Token> {
        let mut token = Token {
            project: project.to_owned(),
            number,
            nonce,
            mac: [0; MAC_LENGTH],
        };
        let code = code(self.0.first()?, &token)?.finalize().into_bytes();
        token.mac.copy_from_slice(code.get(..MAC_LENGTH)?);
        Some(token)
    }

    /// Whether a mark was made with one of our keys. In constant time.
    pub fn verify(&self, token: &Token) -> bool {
        self.0
            .iter()
            .any(|key| code(key, token).is_some_and(|code| code.verify_truncated_left(&token.mac).is_ok()))
    }
}

fn code(key: &[u8; KEY_LENGTH], token: &Token) -> Option<Hmac<Sha256>> {
    // A key of any length is taken: this cannot fail.
    let mut code = Hmac::<Sha256>::new_from_slice(key).ok()?;
    code.update(PURPOSE);
    code.update(token.key().as_bytes());
    code.update(b"\0");
    code.update(&token.nonce);
    Some(code)
}

/// Bytes in hexadecimal, in lower case.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (n, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * n..2 * n + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(seeds: &[u8]) -> Keys {
        Keys::new(seeds.iter().map(|seed| [*seed; KEY_LENGTH]).collect())
    }

    #[test]
    fn a_mark_is_known_in_each_place_and_by_each_live_key() {
        let token = keys(&[1]).sign(("SUP", 12), [7; NONCE_LENGTH]).unwrap();
        for found in [
            Token::of_id(&format!("{token}@example.org")),
            Token::of_id(&format!("{token}@example.org").to_lowercase()),
            Token::of_field(&format!(" v1; {token}")),
            Token::of_text(&format!("Thanks!\n\n> Hello\n> {}\n> bye", token.line())),
            Token::of_text(&token.line().replace('\u{b7}', "?")),
            Token::of_bytes(format!("From: x\r\nx-mailintake-origin: v1; {token}\r\n\r\nbody").as_bytes()),
        ] {
            let found = found.unwrap();
            assert_eq!(found.issue(), ("SUP", 12));
            assert!(keys(&[1]).verify(&found) && keys(&[2, 1]).verify(&found));
            assert!(!keys(&[2, 3]).verify(&found) && !keys(&[]).verify(&found));
        }
        assert!(token.to_string().len() <= 64, "a local part holds 64 octets");
    }

    #[test]
    fn a_mark_for_another_issue_or_with_another_number_is_forged() {
        let keys = keys(&[1]);
        let token = keys.sign(("SUP", 1), [7; NONCE_LENGTH]).unwrap();
        let text = token.to_string();
        for forged in [
            text.replace("SUP-1", "SUP-2"),
            text.replace("SUP-1", "BIL-1"),
            text.replacen("07", "08", 1),
            format!("{}0", text.strip_suffix(|_| true).unwrap()),
            format!("{}1", text.strip_suffix(|_| true).unwrap()),
        ] {
            let verified = Token::parse(&forged).is_some_and(|token| keys.verify(&token));
            assert_eq!(verified, forged == text, "{forged}");
        }
        for junk in ["SUP-1", "SUP-1.07.07", "SUP-0.x.y", "", ".", "a.b.c.d"] {
            assert_eq!(Token::parse(junk), None, "{junk}");
        }
    }
}
