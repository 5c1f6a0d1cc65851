//! `[daemon]`: where the state is, what is logged, what is listened on.
//! It makes no file; reading the configuration changes nothing.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use url::Url;

use super::Environment;
use super::value;
use super::walk::{Section, unknown_word};
use crate::secret::{Secret, SecretSource};

pub(super) const KEYS: [&str; 6] = ["state_dir", "log", "listen", "public_url", "token_key", "ca_file"];

/// Where the state is kept unless somebody says otherwise.
const STATE_DIR: &str = "/var/lib/mailintake";

/// `[daemon]`, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Daemon {
    /// The directory of database, lock and token key.
    pub state_dir: PathBuf,
    /// How much is logged.
    pub log: LogLevel,
    /// Where the listener is bound; `None` for no listener.
    pub listen: Option<SocketAddr>,
    /// What providers redirect back to, without a slash at the end.
    pub public_url: Option<String>,
    /// What seals the tokens; `None` for the file `token.key` in the state directory.
    pub token_key: Option<Secret>,
    /// Private roots that are trusted for every connection.
    pub ca_file: Option<PathBuf>,
}

impl Daemon {
    /// Where the token key is read from.
    pub fn token_key_source(&self) -> SecretSource {
        match &self.token_key {
            Some(secret) => secret.source.clone(),
            None => SecretSource::File(self.token_key_file()),
        }
    }

    /// Where the token key is kept if the configuration names none.
    pub fn token_key_file(&self) -> PathBuf {
        self.state_dir.join("token.key")
    }
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// What a person must act on.
    Error,
    /// Also where we went on, degraded.
    Warn,
    /// Also changes of state and one line a mail.
    Info,
    /// Also the steps of the protocols.
    Debug,
}

impl LogLevel {
    /// All levels with their words.
    const WORDS: [(&str, Self); 4] = [
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// The section, which may be left out. It sets the group that may read secrets before it reads one.
pub(super) fn build(root: &Section<'_>, environment: &Environment) -> Daemon {
    let section = root.single("daemon", &KEYS);
    let section = section.as_ref();
    let state_dir = section.and_then(|section| section.path("state_dir"));
    let state_dir = state_dir
        .or_else(|| environment.state_directory.clone())
        .unwrap_or_else(|| PathBuf::from(STATE_DIR));
    if let Some(group) = group_of(&state_dir).or_else(group_of_service) {
        root.report.daemon_gid.set(group);
    }
    let daemon = Daemon {
        state_dir,
        log: log_level(root, section, environment),
        listen: section.and_then(listen),
        public_url: section.and_then(public_url),
        token_key: section.and_then(|section| section.secret("token_key")),
        ca_file: section.and_then(|section| section.ca_file("ca_file")),
    };
    warn(section, &daemon);
    daemon
}

/// The primary group of the owner of the state directory: the group that the daemon will have.
fn group_of(state_dir: &Path) -> Option<u32> {
    let metadata = std::fs::metadata(state_dir).ok()?;
    let owner = nix::unistd::Uid::from_raw(metadata.uid());
    match nix::unistd::User::from_uid(owner) {
        Ok(Some(user)) => Some(user.gid.as_raw()),
        Ok(None) | Err(_) => Some(metadata.gid()),
    }
}

/// The group of the service's user, for root who looks before the first start has made the state directory.
fn group_of_service() -> Option<u32> {
    if !nix::unistd::Uid::effective().is_root() {
        return None;
    }
    let user = nix::unistd::User::from_name("mailintake").ok()??;
    Some(user.gid.as_raw())
}

fn log_level(root: &Section<'_>, section: Option<&Section<'_>>, environment: &Environment) -> LogLevel {
    let configured = section.and_then(|section| section.word("log", &LogLevel::WORDS));
    let overriding = environment.log.as_deref().filter(|word| !word.is_empty());
    let Some(word) = overriding else {
        return configured.unwrap_or(LogLevel::Info);
    };
    let found = LogLevel::WORDS.iter().find(|(known, _)| *known == word);
    if found.is_none() {
        let why = unknown_word(word, LogLevel::WORDS.iter().map(|(known, _)| *known));
        root.report.fault(None, &format!("$MAILINTAKE_LOG = \"{word}\" {why}"));
    }
    found.map_or(LogLevel::Info, |(_, level)| *level)
}

fn listen(section: &Section<'_>) -> Option<SocketAddr> {
    let text = section.text("listen")?;
    let address = SocketAddr::from_str(&text.replacen("localhost:", "127.0.0.1:", 1)).ok();
    if address.is_none_or(|address| address.port() == 0) {
        section.wrong(
            "listen",
            "is no address with a port; write one such as \"127.0.0.1:8425\"",
        );
        return None;
    }
    address
}

fn public_url(section: &Section<'_>) -> Option<String> {
    let text = section.url("public_url")?;
    let url = Url::parse(&text).ok()?;
    if url.query().is_some() || url.fragment().is_some() {
        section.wrong("public_url", "must end with the host or a path, without ? and #");
        return None;
    }
    Some(text.trim_end_matches('/').to_owned())
}

fn warn(section: Option<&Section<'_>>, daemon: &Daemon) {
    let Some(section) = section else { return };
    if daemon.public_url.is_some() && !section.has("listen") {
        section.warn("public_url is set, but without listen nobody answers there; add listen = \"127.0.0.1:8425\"");
    }
    if let Some(address) = daemon.listen.filter(|address| !address.ip().is_loopback()) {
        section.warn(&format!(
            "listen = {address} can be reached from other hosts and has no TLS; put a reverse proxy before it"
        ));
    }
}

/// The host of a public URL.
pub(super) fn host_of(public_url: &str) -> Option<String> {
    Url::parse(public_url).ok()?.host_str().map(str::to_owned)
}

/// Whether a public URL leads to this machine itself.
pub(super) fn is_on_loopback(public_url: &str) -> bool {
    host_of(public_url).is_some_and(|host| value::is_loopback(host.trim_matches(['[', ']'])))
}

impl From<LogLevel> for tracing::Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
        }
    }
}
