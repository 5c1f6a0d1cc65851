//! Seals values so that a copy of the database gives nobody a token: XChaCha20-Poly1305 under one 256-bit key.
//! It never keeps a plain value, and never uses a key file that others can read.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use chacha20poly1305::aead::{Aead, AeadCore, KeyInit, OsRng, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::fault::Remedy;
use crate::secret::Secret;

/// Name of the key file in the state directory, where the configuration names no other key.
pub const FILE_NAME: &str = "token.key";

/// Length of a key, in bytes.
const KEY_LENGTH: usize = 32;
/// Length of a nonce, in bytes: long enough to be drawn at random (draft-irtf-cfrg-xchacha-03 §2.1).
const NONCE_LENGTH: usize = 24;
/// Shortest passphrase that is taken for a key, in characters: a shorter one can be guessed from a copy of the database.
const SHORTEST_PASSPHRASE: usize = 16;
/// Bits of a key file's mode that must not be set.
const OTHERS: u32 = 0o077;

/// The key that tokens are sealed with.
#[derive(Clone)]
pub struct Key {
    bytes: Zeroizing<[u8; KEY_LENGTH]>,
    /// Where it came from, for messages.
    origin: String,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

/// Why a key or a sealed value cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key file cannot be read or made.
    #[error("cannot use the token key {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The key file's mode lets others read it.
    #[error("the token key {path} can be read by others (mode {mode:04o}); `chmod 600 {path}`")]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// What was given is no key.
    #[error(
        "the token key in {origin} is neither 32 bytes in base64 or hex nor a passphrase of 16 characters or more; `openssl rand -base64 32` makes one"
    )]
    NoKey {
        /// Where it was found.
        origin: String,
    },
    /// No key is configured, or its file is gone.
    #[error("there is no token key; put the key file back, or forget the tokens with `mailintake revoke NAME`")]
    NoneConfigured,
    /// The value was sealed with another key, or was changed.
    #[error(
        "the tokens in the database are sealed with another key than {origin}; put the old key back, or forget them with `mailintake revoke NAME` and sign in again"
    )]
    WrongKey {
        /// Where the present key came from.
        origin: String,
    },
}

impl SealError {
    /// What it asks for.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::File { .. }
            | Self::Open { .. }
            | Self::NoKey { .. }
            | Self::NoneConfigured
            | Self::WrongKey { .. } => Remedy::FixConfiguration,
        }
    }

    /// No key is configured.
    pub(crate) fn none() -> Self {
        Self::NoneConfigured
    }
}

impl Key {
    /// Reads the key file, or makes one with mode 0600 where there is none. Of two processes that make it
    /// at once, both use the one that came first.
    ///
    /// # Errors
    /// [`SealError::File`], [`SealError::Open`], [`SealError::NoKey`].
    pub fn load_or_create(path: &Path) -> Result<Vec<Self>, SealError> {
        match read(path) {
            Err(SealError::File { source, .. }) if source.kind() == ErrorKind::NotFound => {
                create(path).map_err(|source| SealError::File {
                    path: path.to_owned(),
                    source,
                })?;
                read(path)
            }
            other => other,
        }
    }

    /// The key of a secret: 32 bytes in base64 or hex; any other text of 16 characters or more is a passphrase,
    /// of which the key is the SHA-256. A passphrase should be generated: nothing slows down who tries many.
    ///
    /// # Errors
    /// [`SealError::NoKey`].
    pub fn from_secret(secret: &Secret) -> Result<Vec<Self>, SealError> {
        Self::all_of(secret.value.expose_secret(), &secret.source.describe())
    }

    /// The keys of a text: while a key file is rotated it holds the new key and the old ones, a line each.
    ///
    /// # Errors
    /// [`SealError::NoKey`].
    pub fn all_of(text: &str, origin: &str) -> Result<Vec<Self>, SealError> {
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let is_rotating = lines.len() > 1 && lines.iter().all(|line| decode(line).is_some());
        let texts = if is_rotating { lines } else { vec![text] };
        texts
            .into_iter()
            .map(|text| Self::parse(text, origin.to_owned()))
            .collect()
    }

    /// A new key, drawn at random.
    pub fn generate(origin: &str) -> Self {
        Self {
            bytes: Zeroizing::new(XChaCha20Poly1305::generate_key(&mut OsRng).into()),
            origin: origin.to_owned(),
        }
    }

    /// The key of 32 bytes.
    pub(crate) fn from_bytes(bytes: &[u8], origin: &str) -> Option<Self> {
        Some(Self {
            bytes: Zeroizing::new(bytes.try_into().ok()?),
            origin: origin.to_owned(),
        })
    }

    /// Its 32 bytes, to be sealed.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// The line of a key file.
    pub(crate) fn line(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{}\n", STANDARD.encode(self.bytes.as_slice())))
    }

    /// The key as the text that a key file or credential holds.
    pub fn text(&self) -> String {
        self.line().trim_end().to_owned()
    }

    /// Where it came from, in words.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether two are the same key.
    pub fn is_same(&self, other: &Self) -> bool {
        *self.bytes == *other.bytes
    }

    /// That a value is sealed with another key.
    pub(crate) fn wrong(&self) -> SealError {
        SealError::WrongKey {
            origin: self.origin.clone(),
        }
    }

    fn parse(text: &str, origin: String) -> Result<Self, SealError> {
        let text = text.trim();
        let bytes = match decode(text) {
            Some(bytes) => bytes,
            None if text.chars().count() >= SHORTEST_PASSPHRASE => digest(b"mailintake token key\0", text.as_bytes()),
            None => return Err(SealError::NoKey { origin }),
        };
        Ok(Self { bytes, origin })
    }

    /// Seals a value. It opens only with the same `context`, which names its row and column.
    pub fn seal(&self, plain: &[u8], context: &str) -> Vec<u8> {
        let nonce = XChaCha20Poly1305::generate_nonce(&mut OsRng);
        let payload = Payload {
            msg: plain,
            aad: context.as_bytes(),
        };
        // Fails only for values beyond 256 GiB; what is then stored opens as nothing.
        let sealed = self.cipher().encrypt(&nonce, payload).unwrap_or_default();
        [nonce.as_slice(), &sealed].concat()
    }

    /// Opens a value that [`Key::seal`] sealed for the same `context`.
    ///
    /// # Errors
    /// [`SealError::WrongKey`].
    pub fn open(&self, sealed: &[u8], context: &str) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LENGTH).ok_or_else(|| self.wrong())?;
        let payload = Payload {
            msg: sealed,
            aad: context.as_bytes(),
        };
        let plain = self.cipher().decrypt(XNonce::from_slice(nonce), payload);
        plain.map(Zeroizing::new).map_err(|_| self.wrong())
    }

    /// A keyed digest of settings: shows that they changed without telling what they are.
    pub fn tag(&self, settings: &[u8]) -> Vec<u8> {
        let inner = digest(self.bytes.as_slice(), settings);
        digest(self.bytes.as_slice(), inner.as_slice()).to_vec()
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(self.bytes.as_ref().into())
    }
}

fn digest(prefix: &[u8], text: &[u8]) -> Zeroizing<[u8; KEY_LENGTH]> {
    Zeroizing::new(Sha256::new().chain_update(prefix).chain_update(text).finalize().into())
}

/// The 32 bytes of a text in base64 (either alphabet, padded or not) or hex.
fn decode(text: &str) -> Option<Zeroizing<[u8; KEY_LENGTH]>> {
    const ENCODINGS: [GeneralPurpose; 4] = [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD];
    let decoded = ENCODINGS
        .iter()
        .filter_map(|encoding| encoding.decode(text).ok())
        .chain(decode_hex(text))
        .map(Zeroizing::new)
        .find(|bytes| bytes.len() == KEY_LENGTH)?;
    Some(Zeroizing::new(decoded.as_slice().try_into().ok()?))
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
        .collect();
    let (pairs, rest) = digits.as_deref()?.as_chunks::<2>();
    rest.is_empty()
        .then(|| pairs.iter().map(|[high, low]| (high << 4) | low).collect())
}

/// Reads the keys of a file whose mode was looked at before.
///
/// # Errors
/// [`SealError::File`], [`SealError::NoKey`].
pub fn read_again(path: &Path) -> Result<Vec<Key>, SealError> {
    let text = std::fs::read_to_string(path).map_err(|source| SealError::File {
        path: path.to_owned(),
        source,
    })?;
    Key::all_of(&Zeroizing::new(text), &path.display().to_string())
}

fn read(path: &Path) -> Result<Vec<Key>, SealError> {
    let unusable = |source| SealError::File {
        path: path.to_owned(),
        source,
    };
    let mode = std::fs::metadata(path).map_err(unusable)?.mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(SealError::Open {
            path: path.to_owned(),
            mode,
        });
    }
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(unusable)?);
    Key::all_of(&text, &path.display().to_string())
}

/// Writes a new key beside its place and links it there, so that nobody ever reads half of one.
fn create(path: &Path) -> std::io::Result<()> {
    let draft = path.with_extension(format!("{}.new", std::process::id()));
    let text = Key::generate("").line();
    let written = write_new(&draft, text.as_bytes()).and_then(|()| match std::fs::hard_link(&draft, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    std::fs::remove_file(&draft)?;
    written?;
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    std::fs::File::open(directory)?.sync_all()
}

fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::secret::SecretSource;

    fn key(text: &str) -> Result<Key, SealError> {
        let keys = Key::from_secret(&Secret {
            source: SecretSource::Env("TOKEN_KEY".into()),
            value: text.into(),
        })?;
        Ok(keys.into_iter().next().unwrap())
    }

    #[test]
    fn a_value_opens_with_its_key_and_context_alone() {
        let one = key("a generated passphrase").unwrap();
        let sealed = one.seal(b"token", "grant|1|access_token");
        assert_eq!(one.open(&sealed, "grant|1|access_token").unwrap().as_slice(), b"token");
        assert!(one.open(&sealed, "grant|2|access_token").is_err());
        assert!(one.open(&[], "").is_err());
        let other = key("another passphrase").unwrap();
        let error = other.open(&sealed, "grant|1|access_token").unwrap_err();
        assert!(error.to_string().contains("$TOKEN_KEY"), "{error}");
        assert_ne!(sealed, one.seal(b"token", "grant|1|access_token"));
        assert!(!sealed.windows(5).any(|window| window == b"token"));
    }

    #[test]
    fn a_key_is_base64_hex_or_a_passphrase() {
        let bytes = [0xfb_u8; 32];
        let hex = "fb".repeat(32);
        let texts = [STANDARD.encode(bytes), URL_SAFE_NO_PAD.encode(bytes), hex];
        for text in texts {
            assert_eq!(*key(&text).unwrap().bytes, bytes, "{text}");
        }
        assert!(key("sixteen letters!").is_ok());
        assert!(matches!(key("too short"), Err(SealError::NoKey { .. })));
        assert!(!format!("{:?}", key("sixteen letters!")).contains("sixteen"));
    }

    #[test]
    fn a_key_file_is_made_once_and_closed_to_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        let made = Key::load_or_create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(Key::load_or_create(&path).unwrap()[0].bytes, made[0].bytes);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let refused = Key::load_or_create(&path).unwrap_err();
        assert!(refused.to_string().contains("chmod 600"), "{refused}");
    }
}
