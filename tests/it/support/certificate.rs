//! A private certificate authority on disk, and server certificates of it: good, expired, for another host.
//! Nothing but tests and the demonstration may trust it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509Name, X509NameBuilder};

/// What a certificate for a server on this machine is for.
pub const LOOPBACK: [&str; 2] = ["localhost", "127.0.0.1"];

const DAY: i64 = 24 * 60 * 60;

/// A certificate authority with its own directory; the directory goes with it.
pub struct Authority {
    directory: tempfile::TempDir,
    ca_file: PathBuf,
    certificate: X509,
    key: PKey<Private>,
}

/// A server's certificate and key. A clone is the same certificate.
#[derive(Clone)]
pub struct Identity {
    certificate: X509,
    key: PKey<Private>,
}

impl Authority {
    /// A new authority, named so that its mention in an error message is recognized.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let key = new_key();
        let name = name_of("Test authority");
        let mut builder = begin(&name, &key, -DAY, 30 * DAY);
        builder.set_issuer_name(&name).expect("the issuer");
        let constraints = BasicConstraints::new().critical().ca().build().expect("constraints");
        builder.append_extension(constraints).expect("constraints");
        let usage = KeyUsage::new()
            .critical()
            .key_cert_sign()
            .crl_sign()
            .build()
            .expect("usage");
        builder.append_extension(usage).expect("usage");
        builder.sign(&key, MessageDigest::sha256()).expect("a signature");
        let certificate = builder.build();
        let ca_file = directory.path().join("ca.pem");
        std::fs::write(&ca_file, certificate.to_pem().expect("PEM")).expect("a file for the authority");
        Self {
            directory,
            ca_file,
            certificate,
            key,
        }
    }

    /// The file to name as `ca_file`.
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// A valid certificate for these host names and addresses.
    pub fn issue(&self, names: &[&str]) -> Identity {
        self.issue_between(names, -DAY, 30 * DAY)
    }

    /// A certificate that was valid until yesterday.
    pub fn issue_expired(&self, names: &[&str]) -> Identity {
        self.issue_between(names, -3 * DAY, -DAY)
    }

    /// Writes a certificate and its key where a server program reads them: (certificate, key).
    pub fn write(&self, identity: &Identity) -> (PathBuf, PathBuf) {
        let certificate = self.directory.path().join("server.pem");
        let key = self.directory.path().join("server.key");
        std::fs::write(&certificate, identity.certificate.to_pem().expect("PEM")).expect("a certificate file");
        std::fs::write(&key, identity.key.private_key_to_pem_pkcs8().expect("PEM")).expect("a key file");
        (certificate, key)
    }

    /// `from` and `until` are seconds from now.
    fn issue_between(&self, names: &[&str], from: i64, until: i64) -> Identity {
        let key = new_key();
        let mut builder = begin(&name_of(names.first().copied().unwrap_or("nobody")), &key, from, until);
        builder
            .set_issuer_name(self.certificate.subject_name())
            .expect("the issuer");
        let mut alternatives = SubjectAlternativeName::new();
        for name in names {
            match name.parse::<IpAddr>() {
                Ok(_) => alternatives.ip(name),
                Err(_) => alternatives.dns(name),
            };
        }
        let context = builder.x509v3_context(Some(&self.certificate), None);
        let alternatives = alternatives.build(&context).expect("the names");
        builder.append_extension(alternatives).expect("the names");
        let constraints = BasicConstraints::new().build().expect("constraints");
        builder.append_extension(constraints).expect("constraints");
        let purpose = ExtendedKeyUsage::new().server_auth().build().expect("a purpose");
        builder.append_extension(purpose).expect("a purpose");
        builder.sign(&self.key, MessageDigest::sha256()).expect("a signature");
        Identity {
            certificate: builder.build(),
            key,
        }
    }
}

impl Identity {
    /// What accepts TLS connections with this certificate.
    pub fn acceptor(&self) -> SslAcceptor {
        let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).expect("an acceptor");
        builder.set_private_key(&self.key).expect("the key");
        builder.set_certificate(&self.certificate).expect("the certificate");
        builder.build()
    }
}

fn new_key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("the curve");
    PKey::from_ec_key(EcKey::generate(&group).expect("a key")).expect("a key")
}

fn name_of(common_name: &str) -> X509Name {
    let mut name = X509NameBuilder::new().expect("a name");
    name.append_entry_by_text("CN", common_name).expect("a name");
    name.build()
}

fn begin(subject: &X509Name, key: &PKey<Private>, from: i64, until: i64) -> X509Builder {
    let mut serial = BigNum::new().expect("a serial number");
    serial.rand(120, MsbOption::ONE, false).expect("a serial number");
    let mut builder = X509Builder::new().expect("a builder");
    builder.set_version(2).expect("version 3");
    builder
        .set_serial_number(&serial.to_asn1_integer().expect("a serial number"))
        .expect("a serial number");
    builder.set_subject_name(subject).expect("the subject");
    builder.set_pubkey(key).expect("the key");
    builder.set_not_before(&seconds_from_now(from)).expect("the beginning");
    builder.set_not_after(&seconds_from_now(until)).expect("the end");
    builder
}

#[expect(
    clippy::disallowed_methods,
    reason = "openssl checks against the system's clock, not ours"
)]
fn seconds_from_now(seconds: i64) -> Asn1Time {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a clock after 1970");
    let now = i64::try_from(now.as_secs()).expect("a clock before the end of time");
    Asn1Time::from_unix(now + seconds).expect("a time")
}
