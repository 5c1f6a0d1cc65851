//! Secrets, dates of their end, and certificates, from their keys in the configuration.
//! It never puts a value into a message, not even one that stands in the file itself.

use std::path::Path;
use std::time::Duration;

use toml::de::DeValue;

use super::value;
use super::walk::Section;
use crate::fault::chain;
use crate::grant::ClientCertificate;
use crate::oauth::assertion::{self, KeyFault, Validity};
use crate::secret::{Secret, SecretError, SecretSource};
use crate::time::{Clock, Timestamp};

/// How a secret is written.
const FORMS: &str = "{ file = \"…\" }, { credential = \"…\" } or { env = \"…\" }";

/// The keys of a secret.
pub(super) const KEYS: [&str; 3] = ["file", "credential", "env"];

impl Section<'_> {
    /// Where a secret is, and the secret.
    pub(super) fn secret(&self, key: &str) -> Option<Secret> {
        let source = self.secret_source(key)?;
        if let SecretSource::Env(name) = &source {
            self.warn(&format!(
                "{key}: other programs of the same user can read the environment variable {name}; a file or credential is safer"
            ));
        }
        let error = match source.read(self.report.daemon_gid.get()) {
            Ok(secret) => return Some(secret),
            Err(error) => error,
        };
        let remedy = match &error {
            SecretError::Unreadable { .. } => "; write the secret into it, mode 0600 and owned by the daemon's user",
            SecretError::Open { .. } | SecretError::NoCredential { .. } => "",
            SecretError::NoVariable { .. } => "; set it in the unit, or better use a file",
            SecretError::Unusable { .. } => "; write the secret into it, as text",
        };
        self.fault(key, &format!("{key}: {}{remedy}", chain(&error)));
        None
    }

    fn secret_source(&self, key: &str) -> Option<SecretSource> {
        match self.value(key)?.get_ref() {
            DeValue::Table(_) => {}
            DeValue::String(_) => {
                let advice = "write it into a file of its own with mode 0600 and its place here";
                self.fault(
                    key,
                    &format!("{key} holds the secret itself; {advice}: {{ file = \"…\" }}"),
                );
                return None;
            }
            _ => {
                self.fault(key, &format!("{key} must be {FORMS}"));
                return None;
            }
        }
        let forms = self.child(key)?;
        let mut given = KEYS.into_iter().filter(|form| forms.has(form));
        let is_pure = forms.keys().all(|form| KEYS.contains(&form));
        let (Some(form), None, true) = (given.next(), given.next(), is_pure) else {
            // A key that is not known is not named: it could be the secret.
            self.fault(key, &format!("{key} must be one of {FORMS}"));
            return None;
        };
        let text = forms.text(form)?;
        match form {
            "file" => Some(SecretSource::File(self.report.resolve(&text))),
            "credential" if text.contains('/') || text == ".." => {
                forms.wrong(
                    form,
                    "is no name of a credential; write the ID of LoadCredential= in the unit",
                );
                None
            }
            "credential" => Some(SecretSource::Credential(text)),
            _ => Some(SecretSource::Env(text)),
        }
    }

    /// When something ends: a date or "never". `None` for "never" too.
    pub(super) fn expiry(&self, key: &str) -> Option<Timestamp> {
        let instant = match self.value(key)?.get_ref() {
            DeValue::String(text) if text == "never" => return None,
            DeValue::String(text) => value::instant_of_text(text),
            DeValue::Datetime(date) => value::instant(date),
            _ => None,
        };
        if instant.is_none() {
            self.wrong(key, "is no date; write one such as 2027-03-01, or \"never\"");
        }
        instant
    }

    /// A certificate with its key; both or neither must be there.
    pub(super) fn certificate(&self, certificate: &str, private_key: &str) -> Option<ClientCertificate> {
        match (self.has(certificate), self.has(private_key)) {
            (false, false) => return None,
            (true, false) => self.missing(
                private_key,
                &format!("{certificate} needs {private_key} = {{ file = \"…\" }}"),
            ),
            (false, true) => self.missing(certificate, &format!("{private_key} needs {certificate} = \"….pem\"")),
            (true, true) => {}
        }
        let path = self.path(certificate);
        let key = self.secret(private_key);
        let is_key_sound = key
            .as_ref()
            .is_some_and(|secret| self.is_key_sound(private_key, secret));
        let path = path?;
        let pem = match std::fs::read_to_string(&path) {
            Ok(pem) => pem,
            Err(error) => {
                self.fault(
                    certificate,
                    &format!("{certificate}: cannot read {}: {error}", path.display()),
                );
                return None;
            }
        };
        if pem.contains("PRIVATE KEY")
            && let Err(error) = SecretSource::File(path.clone()).read(self.report.daemon_gid.get())
        {
            self.fault(
                certificate,
                &format!("{certificate}: {} (it holds a private key, too)", chain(&error)),
            );
        }
        let validity = assertion::validity(&pem);
        match &validity {
            Ok(validity) => self.warn_of_end(certificate, (&path, *validity)),
            Err(fault) => self.fault(certificate, &format!("{certificate}: {} {fault}", path.display())),
        }
        let found = ClientCertificate {
            path,
            pem,
            private_key: key?,
        };
        if validity.is_ok() && is_key_sound {
            self.check_pair((certificate, private_key), &found);
        }
        Some(found)
    }

    fn check_pair(&self, (certificate, private_key): (&str, &str), found: &ClientCertificate) {
        match assertion::check_pair(found) {
            Ok(()) => {}
            Err(fault @ KeyFault::LeafNotFirst) => {
                self.fault(certificate, &format!("{certificate}: {} {fault}", found.path.display()));
            }
            Err(fault) => {
                let (origin, path) = (found.private_key.source.describe(), found.path.display());
                self.fault(private_key, &format!("{private_key}: {origin} {fault} in {path}"));
            }
        }
    }

    /// The provider may still take it; the daemon shall start all the same.
    fn warn_of_end(&self, certificate: &str, (path, validity): (&Path, Validity)) {
        let now = Clock::system().now();
        let path = path.display();
        if validity.not_after < now {
            let end = validity.not_after.rfc3339();
            self.warn(&format!(
                "{certificate}: {path} ended on {end}; have a new certificate made and add it to the application at the provider"
            ));
        } else if validity.not_before > now {
            let begin = validity.not_before.rfc3339();
            self.warn(&format!(
                "{certificate}: {path} is good only from {begin} on; look at the clock of this server"
            ));
        }
    }

    fn is_key_sound(&self, key: &str, secret: &Secret) -> bool {
        let Err(fault) = assertion::check_key(&secret.value) else {
            return true;
        };
        self.fault(key, &format!("{key}: {} {fault}", secret.source.describe()));
        false
    }
}

/// One second to ten years: the range of durations that have no narrower one.
pub(super) const ANY_DURATION: std::ops::RangeInclusive<u64> = 1..=Duration::from_hours(3650 * 24).as_secs();
