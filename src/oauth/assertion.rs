//! What is signed in the place of a secret: JSON Web Tokens (RFC 7515, RFC 7519) by RSA keys, above all the
//! assertion of a client (RFC 7523 §2.2). It never sends anything, and never shows a key or what was signed.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{HasPublic, Id, PKey, PKeyRef, Private};
use openssl::rsa::Padding;
use openssl::sign::{RsaPssSaltlen, Signer};
use openssl::x509::X509;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::failure::{Class, TokenFailure};
use crate::grant::{AssertionAlgorithm, ClientCertificate};
use crate::time::Timestamp;

/// `client_assertion_type` of RFC 7523 §2.2.
pub(super) const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// How long an assertion is good, in seconds; Microsoft recommends 5 to 10 min.
const LIFE: i64 = 9 * 60;
/// How far our clock may be ahead of the provider's, in seconds.
const SKEW: i64 = 60;
/// Shortest RSA key, in bits: RFC 7518 §3.3 and §3.5 demand it.
const SHORTEST_KEY: u32 = 2048;

/// From when until when a certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Its first instant.
    pub not_before: Timestamp,
    /// Its last instant.
    pub not_after: Timestamp,
}

/// What is wrong with a certificate or key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// The text holds no certificate.
    #[error("holds no usable certificate in PEM form")]
    NoCertificate,
    /// The text holds no private key.
    #[error("holds no private key in PEM form")]
    NoKey,
    /// The key cannot be opened without a person.
    #[error("holds a private key with a passphrase; take it off with `openssl pkey`")]
    Encrypted,
    /// The key is of another kind.
    #[error("holds a private key that is not RSA, which PS256 and RS256 need; have a certificate made for an RSA key")]
    NotRsa,
    /// The key is too short for its algorithm.
    #[error("holds an RSA key of less than 2048 bits; have a certificate made for a longer one")]
    TooShort,
    /// They do not belong together.
    #[error("holds a private key that does not belong to the certificate")]
    Mismatch,
    /// They do, but another certificate stands before it.
    #[error("holds the certificate of the private key, but not as the first; put it before its chain")]
    LeafNotFirst,
}

/// A key that signs, and how.
pub(super) struct SigningKey {
    key: PKey<Private>,
    algorithm: AssertionAlgorithm,
}

impl SigningKey {
    /// The RSA key of a PEM text.
    ///
    /// # Errors
    /// [`KeyFault`].
    pub(super) fn new(pem: &SecretString, algorithm: AssertionAlgorithm) -> Result<Self, KeyFault> {
        let key = private_key(pem)?;
        Ok(Self { key, algorithm })
    }

    /// A signed token in compact form (RFC 7515 §7.1). `further` stands in its header besides `alg` and `typ`.
    ///
    /// # Errors
    /// [`TokenFailure`] of configuration, if the library does not sign with this key.
    pub(super) fn jwt(&self, further: Option<(&str, &str)>, claims: &Value) -> Result<SecretString, TokenFailure> {
        let algorithm = match self.algorithm {
            AssertionAlgorithm::Ps256 => "PS256",
            AssertionAlgorithm::Rs256 => "RS256",
        };
        let fixed = [("alg", algorithm), ("typ", "JWT")];
        let header: Value = fixed.into_iter().chain(further).collect();
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let text = format!("{}.{}", encode(&header), encode(claims));
        let signature = self.sign(text.as_bytes()).map_err(|_| {
            TokenFailure::configuration(
                "cannot-sign",
                "the private key does not sign",
                "replace the private key of the integration and what belongs to it, then reload mailintake",
            )
        })?;
        Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)).into())
    }

    fn sign(&self, text: &[u8]) -> Result<Vec<u8>, ErrorStack> {
        let mut signer = Signer::new(MessageDigest::sha256(), &self.key)?;
        match self.algorithm {
            AssertionAlgorithm::Rs256 => signer.set_rsa_padding(Padding::PKCS1)?,
            AssertionAlgorithm::Ps256 => {
                // RFC 7518 §3.5: salt as long as the digest, and the same digest in the mask.
                signer.set_rsa_padding(Padding::PKCS1_PSS)?;
                signer.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH)?;
                signer.set_rsa_mgf1_md(MessageDigest::sha256())?;
            }
        }
        signer.sign_oneshot_to_vec(text)
    }
}

/// The assertion of a client: good for some minutes, for this token endpoint, and once.
///
/// # Errors
/// [`TokenFailure`] of configuration.
pub(super) fn of_client(
    certificate: &ClientCertificate,
    algorithm: AssertionAlgorithm,
    (client_id, token_endpoint): (&str, &str),
    now: Timestamp,
) -> Result<SecretString, TokenFailure> {
    let unusable = |fault: KeyFault| {
        TokenFailure::configuration(
            "client-certificate",
            &format!("the client certificate or its key cannot be used: one of them {fault}"),
            "correct certificate and private_key of the integration, then reload mailintake",
        )
    };
    let leaf = chain(&certificate.pem).and_then(|chain| chain.into_iter().next().ok_or(KeyFault::NoCertificate));
    let digest = leaf
        .map_err(unusable)?
        .digest(MessageDigest::sha256())
        .map_err(|_| unusable(KeyFault::NoCertificate))?;
    let key = SigningKey::new(&certificate.private_key.value, algorithm).map_err(unusable)?;
    let claims = json!({
        "iss": client_id,
        "sub": client_id,
        "aud": token_endpoint,
        "jti": format!("{:032x}", rand::random::<u128>()),
        "nbf": now.0 - SKEW,
        "iat": now.0 - SKEW,
        "exp": now.0 + LIFE,
    });
    key.jwt(Some(("x5t#S256", &URL_SAFE_NO_PAD.encode(digest))), &claims)
}

/// From when until when the first certificate of a PEM text is good.
///
/// # Errors
/// [`KeyFault::NoCertificate`].
pub fn validity(pem: &str) -> Result<Validity, KeyFault> {
    let chain = chain(pem)?;
    let leaf = chain.first().ok_or(KeyFault::NoCertificate)?;
    let instant = |time| timestamp(time).ok_or(KeyFault::NoCertificate);
    Ok(Validity {
        not_before: instant(leaf.not_before())?,
        not_after: instant(leaf.not_after())?,
    })
}

/// Looks whether a PEM text holds a key that can sign assertions.
///
/// # Errors
/// [`KeyFault`] of the key.
pub fn check_key(pem: &SecretString) -> Result<(), KeyFault> {
    private_key(pem).map(drop)
}

/// Looks whether the key is that of the first certificate.
///
/// # Errors
/// [`KeyFault::Mismatch`], [`KeyFault::LeafNotFirst`], or that of one of them alone.
pub fn check_pair(certificate: &ClientCertificate) -> Result<(), KeyFault> {
    let key = private_key(&certificate.private_key.value)?;
    let chain = chain(&certificate.pem)?;
    match chain.iter().position(|certificate| is_of(certificate, &key)) {
        Some(0) => Ok(()),
        Some(_) => Err(KeyFault::LeafNotFirst),
        None => Err(KeyFault::Mismatch),
    }
}

/// A refusal of a client in the words of its certificate: its dates, where those can be the reason.
pub(super) fn explain(mut failure: TokenFailure, certificate: &ClientCertificate, now: Timestamp) -> TokenFailure {
    let Ok(validity) = validity(&certificate.pem) else {
        return failure;
    };
    if !failure.is_client_refused {
        return failure;
    }
    let problem = &mut failure.problem;
    if validity.not_after < now {
        failure.class = Class::Admin;
        problem.summary = format!("the client certificate ended on {}", validity.not_after.rfc3339());
        RENEW.clone_into(&mut problem.remedy);
    } else if validity.not_before > now {
        let begin = validity.not_before.rfc3339();
        problem.summary = format!("the client certificate is good only from {begin} on");
        "check the clock of this server, or wait until the certificate begins".clone_into(&mut problem.remedy);
    } else if problem.code == "invalid_client" {
        // The provider gives no reason; the common words are about secrets.
        "the provider does not accept the client: client_id, its certificate or how that signs"
            .clone_into(&mut problem.summary);
        COMPARE.clone_into(&mut problem.remedy);
    }
    failure
}

/// Remedy of a certificate that has ended.
const RENEW: &str = "have a new certificate made, add it to the application at the provider, put it into certificate and private_key of the integration, then reload mailintake; nobody has to sign in";
/// Remedy of a certificate that is refused without a reason.
const COMPARE: &str = "compare client_id and certificate of the integration with the client at the provider, check assertion_algorithm and the clock of this server, then reload mailintake";

fn chain(pem: &str) -> Result<Vec<X509>, KeyFault> {
    let chain = X509::stack_from_pem(pem.as_bytes()).map_err(|_| KeyFault::NoCertificate)?;
    if chain.is_empty() {
        return Err(KeyFault::NoCertificate);
    }
    Ok(chain)
}

fn private_key(pem: &SecretString) -> Result<PKey<Private>, KeyFault> {
    let text = pem.expose_secret();
    if text.contains("ENCRYPTED") {
        return Err(KeyFault::Encrypted);
    }
    // Without a callback the library would ask the terminal for a passphrase.
    let key = PKey::private_key_from_pem_callback(text.as_bytes(), |_| Ok(0)).map_err(|_| KeyFault::NoKey)?;
    if key.id() != Id::RSA {
        return Err(KeyFault::NotRsa);
    }
    if key.bits() < SHORTEST_KEY {
        return Err(KeyFault::TooShort);
    }
    Ok(key)
}

fn is_of<T: HasPublic>(certificate: &X509, key: &PKeyRef<T>) -> bool {
    certificate.public_key().is_ok_and(|public| public.public_eq(key))
}

fn timestamp(time: &Asn1TimeRef) -> Option<Timestamp> {
    let since = Asn1Time::from_unix(0).ok()?.diff(time).ok()?;
    Some(Timestamp(i64::from(since.days) * 24 * 60 * 60 + i64::from(since.secs)))
}
