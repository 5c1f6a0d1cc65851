//! Who signs in the place of a secret: RSA keys with self-signed certificates, and service accounts.

use mailintake::grant::ClientCertificate;
use mailintake::secret::{Secret, SecretSource};
use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::symm::Cipher;
use openssl::x509::{X509, X509Builder, X509NameBuilder};

pub const DAY: i64 = 24 * 60 * 60;

/// A key with its certificate, both as PEM.
pub struct Signer {
    pub certificate: String,
    pub key: String,
    pair: PKey<Private>,
}

impl Signer {
    /// An RSA key whose certificate is good for a month.
    pub fn rsa() -> Self {
        Self::new(rsa(2048), (-DAY, 30 * DAY))
    }

    /// The same, good between these seconds from now.
    pub fn rsa_between(between: (i64, i64)) -> Self {
        Self::new(rsa(2048), between)
    }

    /// An RSA key that nobody should use any more.
    pub fn short() -> Self {
        Self::new(rsa(1024), (-DAY, 30 * DAY))
    }

    /// A key of another kind.
    pub fn elliptic() -> Self {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        Self::new(key, (-DAY, 30 * DAY))
    }

    fn new(pair: PKey<Private>, (from, until): (i64, i64)) -> Self {
        let mut name = X509NameBuilder::new().unwrap();
        name.append_entry_by_text("CN", "mailintake").unwrap();
        let name = name.build();
        let mut serial = BigNum::new().unwrap();
        serial.rand(120, MsbOption::ONE, false).unwrap();
        let mut builder = X509Builder::new().unwrap();
        builder.set_version(2).unwrap();
        builder.set_serial_number(&serial.to_asn1_integer().unwrap()).unwrap();
        builder.set_subject_name(&name).unwrap();
        builder.set_issuer_name(&name).unwrap();
        builder.set_pubkey(&pair).unwrap();
        builder.set_not_before(&seconds_from_now(from)).unwrap();
        builder.set_not_after(&seconds_from_now(until)).unwrap();
        builder.sign(&pair, MessageDigest::sha256()).unwrap();
        let certificate: X509 = builder.build();
        Self {
            certificate: String::from_utf8(certificate.to_pem().unwrap()).unwrap(),
            key: String::from_utf8(pair.private_key_to_pem_pkcs8().unwrap()).unwrap(),
            pair,
        }
    }

    /// The key behind a passphrase, as PEM.
    pub fn encrypted_key(&self) -> String {
        let pem = self
            .pair
            .private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"canary");
        String::from_utf8(pem.unwrap()).unwrap()
    }

    /// The certificate and key of an integration.
    pub fn client(&self) -> ClientCertificate {
        ClientCertificate {
            path: "client.pem".into(),
            pem: self.certificate.clone(),
            private_key: Secret {
                source: SecretSource::Env("TEST".into()),
                value: self.key.as_str().into(),
            },
        }
    }

    /// The key of a service account with this key, as Google's console gives it.
    pub fn service_account(&self, token_uri: &str) -> String {
        serde_json::json!({
            "type": "service_account", "project_id": "canary-project", "private_key_id": "0123456789abcdef",
            "private_key": self.key, "client_email": ACCOUNT, "client_id": "104729104729104729",
            "token_uri": token_uri, "universe_domain": "googleapis.com",
        })
        .to_string()
    }
}

/// The address of the service account.
pub const ACCOUNT: &str = "intake@canary-project.iam.gserviceaccount.com";

fn rsa(bits: u32) -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap()
}

fn seconds_from_now(seconds: i64) -> Asn1Time {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    Asn1Time::from_unix(i64::try_from(now).unwrap() + seconds).unwrap()
}
