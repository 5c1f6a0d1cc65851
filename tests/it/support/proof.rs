//! What a provider demands of a client, and whether that has it: secrets, and assertions whose signature, names,
//! time and novelty are looked at as RFC 7523 §3 says.

use std::collections::{BTreeMap, HashSet};
use std::time::UNIX_EPOCH;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Public};
use openssl::rsa::Padding;
use openssl::sign::{RsaPssSaltlen, Verifier};
use openssl::x509::X509;
use serde_json::Value;

/// What a client may prove itself with.
#[derive(Default)]
pub(crate) struct Registration {
    /// Secrets, any of which is good.
    pub(crate) secrets: Vec<String>,
    /// Certificates (PEM), any of whose keys is good.
    pub(crate) certificates: Vec<String>,
    /// Whether it needs nothing.
    pub(crate) is_public: bool,
    /// How its assertions must be signed, if not in either way.
    pub(crate) algorithm: Option<&'static str>,
    /// Certificate (PEM) of the service account, whose address is the second.
    pub(crate) account: Option<(String, &'static str)>,
    /// Mailboxes that the service account may act for.
    pub(crate) delegated: Vec<&'static str>,
    /// The error of a refused client: (error, description).
    pub(crate) refusal: Option<(&'static str, &'static str)>,
}

/// What the provider remembers.
#[derive(Default)]
pub(crate) struct Memory {
    jtis: HashSet<String>,
    /// How each request proved itself: `secret`, `basic`, `PS256`, `RS256`, `nothing`, with ` refused` behind.
    pub(crate) proofs: Vec<String>,
    /// Claims of the assertions that were good.
    pub(crate) claims: Vec<Value>,
}

type Refusal = (u16, &'static str, &'static str);

/// The parts of a signed token.
struct Token {
    header: Value,
    claims: Value,
    text: String,
    signature: Vec<u8>,
}

impl Token {
    fn parse(compact: &str) -> Option<Self> {
        let (text, signature) = compact.rsplit_once('.')?;
        let (header, claims) = text.split_once('.')?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        Some(Self {
            header: serde_json::from_slice(&decode(header)?).ok()?,
            claims: serde_json::from_slice(&decode(claims)?).ok()?,
            text: text.to_owned(),
            signature: decode(signature)?,
        })
    }

    fn is_signed_by(&self, key: &PKey<Public>) -> bool {
        let mut verifier = Verifier::new(MessageDigest::sha256(), key).unwrap();
        match self.header["alg"].as_str() {
            Some("RS256") => verifier.set_rsa_padding(Padding::PKCS1).unwrap(),
            Some("PS256") => {
                verifier.set_rsa_padding(Padding::PKCS1_PSS).unwrap();
                verifier.set_rsa_pss_saltlen(RsaPssSaltlen::custom(32)).unwrap();
                verifier.set_rsa_mgf1_md(MessageDigest::sha256()).unwrap();
            }
            _ => return false,
        }
        self.header["typ"] == "JWT"
            && verifier
                .verify_oneshot(&self.signature, self.text.as_bytes())
                .unwrap_or(false)
    }

    /// Whether it is good now, and not for longer than `longest` seconds in all.
    fn is_in_time(&self, longest: i64, shift: i64) -> bool {
        let now = i64::try_from(UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap() + shift;
        let claim = |name: &str| self.claims[name].as_i64();
        let (Some(begin), Some(end)) = (claim("iat"), claim("exp")) else {
            return false;
        };
        let not_before = claim("nbf").unwrap_or(begin);
        not_before <= now && begin <= now && end > now && end - begin <= longest && end - now <= longest
    }
}

impl Registration {
    /// Looks at the proof of a client.
    pub(crate) fn check(
        &self,
        client_id: &str,
        (form, authorization): (&BTreeMap<String, String>, Option<&str>),
        (token_endpoint, shift): (&str, i64),
        memory: &mut Memory,
    ) -> Result<(), Refusal> {
        let field = |name: &str| form.get(name).map(String::as_str);
        let (kind, is_good) = if let Some(compact) = field("client_assertion") {
            let is_alone = field("client_id") == Some(client_id)
                && field("client_secret").is_none()
                && authorization.is_none()
                && field("client_assertion_type") == Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
            let token = Token::parse(compact).unwrap();
            let is_good = is_alone && self.has_signed(&token, client_id, (token_endpoint, shift), memory);
            (token.header["alg"].as_str().unwrap().to_owned(), is_good)
        } else if let Some(header) = authorization {
            let is_alone = field("client_secret").is_none() && field("client_id").is_none();
            ("basic".to_owned(), is_alone && self.has_basic(client_id, header))
        } else if let Some(secret) = field("client_secret") {
            let is_known = self.secrets.iter().any(|known| known == secret);
            ("secret".to_owned(), is_known && field("client_id") == Some(client_id))
        } else {
            (
                "nothing".to_owned(),
                self.is_public && field("client_id") == Some(client_id),
            )
        };
        memory
            .proofs
            .push(if is_good { kind } else { format!("{kind} refused") });
        let (error, text) = self
            .refusal
            .unwrap_or(("invalid_client", "client authentication failed"));
        if is_good { Ok(()) } else { Err((401, error, text)) }
    }

    fn has_basic(&self, client_id: &str, header: &str) -> bool {
        let pair = header
            .strip_prefix("Basic ")
            .and_then(|pair| STANDARD.decode(pair).ok());
        let Some(pair) = pair.and_then(|pair| String::from_utf8(pair).ok()) else {
            return false;
        };
        let decode = |part: &str| {
            let pair = format!("x={part}");
            let (_, value) = url::form_urlencoded::parse(pair.as_bytes()).next().unwrap();
            value.into_owned()
        };
        let Some((id, secret)) = pair.split_once(':') else {
            return false;
        };
        decode(id) == client_id && self.secrets.contains(&decode(secret))
    }

    fn has_signed(
        &self,
        token: &Token,
        client_id: &str,
        (token_endpoint, shift): (&str, i64),
        memory: &mut Memory,
    ) -> bool {
        let named = token.header["x5t#S256"].as_str().unwrap_or_default();
        let known = self.certificates.iter().find_map(|pem| {
            let certificate = X509::from_pem(pem.as_bytes()).unwrap();
            let digest = URL_SAFE_NO_PAD.encode(certificate.digest(MessageDigest::sha256()).unwrap());
            (digest == named).then(|| certificate.public_key().unwrap())
        });
        let is_algorithm = self
            .algorithm
            .is_none_or(|wanted| token.header["alg"].as_str() == Some(wanted));
        let is_named = token.claims["iss"] == client_id
            && token.claims["sub"] == client_id
            && token.claims["aud"] == token_endpoint;
        let is_good = known.is_some_and(|key| token.is_signed_by(&key))
            && is_algorithm
            && is_named
            && token.is_in_time(600, shift)
            && memory.jtis.insert(token.claims["jti"].as_str().unwrap().to_owned());
        if is_good {
            memory.claims.push(token.claims.clone());
        }
        is_good
    }

    /// Whom a service account asks a token for, as Google answers.
    pub(crate) fn delegate(
        &self,
        assertion: &str,
        (token_endpoint, shift): (&str, i64),
        memory: &mut Memory,
    ) -> Result<String, Refusal> {
        let token = Token::parse(assertion).unwrap();
        let (pem, address) = self.account.as_ref().ok_or((401, "invalid_client", "no account"))?;
        let key = X509::from_pem(pem.as_bytes()).unwrap().public_key().unwrap();
        if token.claims["iss"] != *address || token.header["alg"] != "RS256" || !token.is_signed_by(&key) {
            return Err((400, "invalid_grant", "Invalid JWT Signature."));
        }
        if !token.is_in_time(3600, shift) {
            return Err((
                400,
                "invalid_grant",
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim.",
            ));
        }
        if token.claims["aud"] != token_endpoint {
            return Err((400, "invalid_grant", "Invalid JWT: Failed audience check."));
        }
        if token.claims["scope"] != "https://mail.google.com/" {
            return Err((
                401,
                "unauthorized_client",
                "Client is unauthorized to retrieve access tokens using this method, or client not authorized for any of the scopes requested.",
            ));
        }
        memory.claims.push(token.claims.clone());
        let login = token.claims["sub"].as_str().unwrap();
        if !self.delegated.contains(&login) {
            return Err((400, "invalid_grant", "Invalid email or User ID, account not found"));
        }
        Ok(login.to_owned())
    }
}
