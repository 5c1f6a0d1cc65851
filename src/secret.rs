//! Secrets that the administrator hands us: where they lie, who may read them, and their value.
//! It never prints a value.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};

/// Where a secret is kept: `{ file = "…" }`, `{ credential = "…" }` or `{ env = "…" }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A file, read again at a reload.
    File(PathBuf),
    /// A systemd credential, read at a restart.
    Credential(String),
    /// An environment variable, read at a restart.
    Env(String),
}

/// A secret with its source.
#[derive(Debug, Clone)]
pub struct Secret {
    /// Where it was read from.
    pub source: SecretSource,
    /// What was read, without a trailing line end.
    pub value: SecretString,
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source && self.value.expose_secret() == other.value.expose_secret()
    }
}

/// Why a secret cannot be used. Each message names the source, never the value.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file is not there or cannot be read.
    #[error("cannot read the secret file {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file's mode lets others read it.
    #[error(
        "the secret file {path} can be read by others (mode {mode:04o}); `chmod 600 {path}`, or `chmod 640` with the daemon's group"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// No credential of that name is in any of the places where systemd puts them.
    #[error(
        "no credential {name} in $CREDENTIALS_DIRECTORY, /run/credentials/mailintake.service or /etc/credstore; add `LoadCredential={name}` to the unit"
    )]
    NoCredential {
        /// The credential's name.
        name: String,
    },
    /// The environment variable is not set.
    #[error("the environment variable {name} is not set")]
    NoVariable {
        /// The variable's name.
        name: String,
    },
    /// There is nothing in it, or it is no text.
    #[error("the secret in {origin} is empty or no UTF-8 text")]
    Unusable {
        /// Where it was found.
        origin: String,
    },
}

/// What stands in the place of a peer's words that repeat a credential.
const WITHHELD: &str = "(its words are withheld: they repeat the credential)";

/// Takes words of a peer away that repeat the credential which it was sent; `true` if they did.
pub(crate) fn withhold(words: &mut String, user: &str, secret: &SecretString) -> bool {
    let does_repeat = repeats(words, user, secret.expose_secret());
    if does_repeat {
        WITHHELD.clone_into(words);
    }
    does_repeat
}

/// Whether a text, which may be cut, has the secret in it, as it is or in the base64 that we sent.
fn repeats(text: &str, user: &str, secret: &str) -> bool {
    // A piece is enough, since the text may end in the middle.
    let piece: String = secret.chars().take(12).collect();
    let is_ours = |word: &str| {
        let whole = word.len() - word.len() % 4;
        let decoded = word.get(..whole).and_then(|word| STANDARD.decode(word).ok());
        decoded.is_some_and(|bytes| {
            let decoded = String::from_utf8_lossy(&bytes);
            (!user.is_empty() && decoded.contains(user)) || decoded.contains(&piece)
        })
    };
    text.contains(&piece)
        || text
            .split(|c: char| c.is_whitespace() || "'\"<>[]():,".contains(c))
            .any(is_ours)
}

/// Longest secret that is read, in bytes: keys in PEM form are a few kilobytes.
const SECRET_LIMIT: u64 = 64 * 1024;

impl SecretSource {
    /// Reads the secret. `daemon_gid` is the group that may read a file with mode 0640.
    ///
    /// # Errors
    /// Any [`SecretError`].
    pub fn read(&self, daemon_gid: u32) -> Result<Secret, SecretError> {
        let value = match self {
            Self::File(path) => read_file(path, daemon_gid)?,
            Self::Credential(name) => read_credential(name)?,
            Self::Env(name) => std::env::var(name).map_err(|_| SecretError::NoVariable { name: name.clone() })?,
        };
        let value = value.trim_end_matches(['\r', '\n']);
        if value.is_empty() {
            return Err(SecretError::Unusable {
                origin: self.describe(),
            });
        }
        Ok(Secret {
            source: self.clone(),
            value: SecretString::from(value),
        })
    }

    /// The file, where it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Credential(_) | Self::Env(_) => None,
        }
    }

    /// The source in words, for messages: a path, `credential NAME` or `$NAME`.
    pub fn describe(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Credential(name) => format!("credential {name}"),
            Self::Env(name) => format!("${name}"),
        }
    }
}

fn read_file(path: &Path, daemon_gid: u32) -> Result<String, SecretError> {
    let unreadable = |source| SecretError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    let mode = metadata.mode() & 0o7777;
    let by_group = mode & 0o070 != 0 && metadata.gid() != daemon_gid;
    if mode & 0o007 != 0 || mode & 0o020 != 0 || by_group {
        return Err(SecretError::Open {
            path: path.to_owned(),
            mode,
        });
    }
    read_limited(path, &metadata)
}

fn read_credential(name: &str) -> Result<String, SecretError> {
    for directory in credential_directories() {
        let path = directory.join(name);
        if let Ok(metadata) = std::fs::metadata(&path) {
            return read_limited(&path, &metadata);
        }
    }
    Err(SecretError::NoCredential { name: name.to_owned() })
}

/// Where systemd puts credentials: for the service itself, then for an administrator who looks at it.
fn credential_directories() -> Vec<PathBuf> {
    let mut directories: Vec<PathBuf> = std::env::var_os("CREDENTIALS_DIRECTORY")
        .map(PathBuf::from)
        .into_iter()
        .collect();
    directories.push(PathBuf::from("/run/credentials/mailintake.service"));
    if nix::unistd::Uid::effective().is_root() {
        directories.push(PathBuf::from("/etc/credstore"));
    }
    directories
}

fn read_limited(path: &Path, metadata: &std::fs::Metadata) -> Result<String, SecretError> {
    let unusable = || SecretError::Unusable {
        origin: path.display().to_string(),
    };
    if !metadata.is_file() || metadata.len() > SECRET_LIMIT {
        return Err(unusable());
    }
    let bytes = std::fs::read(path).map_err(|source| SecretError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    String::from_utf8(bytes).map_err(|_| unusable())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn file(mode: u32, text: &str) -> (tempfile::TempDir, SecretSource) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (directory, SecretSource::File(path))
    }

    fn own_group() -> u32 {
        nix::unistd::Gid::effective().as_raw()
    }

    #[test]
    fn a_secret_file_is_read_without_its_line_end() {
        let (_directory, source) = file(0o600, "pass word\n");
        let secret = source.read(own_group()).unwrap();
        assert_eq!(secret.value.expose_secret(), "pass word");
        assert!(!format!("{secret:?}").contains("pass word"));
    }

    #[test]
    fn a_secret_file_that_others_can_read_is_refused() {
        for (mode, group, is_refused) in [
            (0o644, own_group(), true),
            (0o604, own_group(), true),
            (0o660, own_group(), true),
            (0o640, own_group() + 1, true),
            (0o640, own_group(), false),
            (0o400, own_group() + 1, false),
        ] {
            let (_directory, source) = file(mode, "x");
            let answer = source.read(group);
            assert_eq!(matches!(answer, Err(SecretError::Open { .. })), is_refused, "{mode:o}");
        }
    }

    #[test]
    fn an_empty_secret_is_no_secret() {
        let (_directory, source) = file(0o600, "\n");
        assert!(matches!(source.read(own_group()), Err(SecretError::Unusable { .. })));
    }
}
