//! The configuration file as an administrator writes it: what is accepted, what it means, and what is refused with which words.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mailintake::cli::check;
use mailintake::config::{self, Config, Environment, LogLevel, NameError, Named, Refused};
use mailintake::grant::{ClientAuthentication, EndpointSource};
use mailintake::mail::Class;
use mailintake::mailbox::{After, Protocol, Sasl, SignIn, Start, Tls, Watch};
use mailintake::outgoing::SmtpSignIn;
use mailintake::project::{Acknowledge, Permission};
use mailintake::time::Timestamp;

/// What no output may show.
const CANARY: &str = "CANARY-client-secret-value";

/// A directory with secrets, in which configurations are written.
struct Desk {
    directory: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        desk.write("good.secret", CANARY, 0o600);
        desk.write("open.secret", CANARY, 0o644);
        desk
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn load(&self, text: &str) -> Result<Config, Refused> {
        self.load_in(text, &Environment::default())
    }

    fn load_in(&self, text: &str, environment: &Environment) -> Result<Config, Refused> {
        let path = self.write("config.toml", text, 0o644);
        config::load_in(&path, environment)
    }

    fn accept(&self, text: &str) -> Config {
        self.load(text).unwrap_or_else(|refused| panic!("{refused}\n{text}"))
    }

    /// The faults, each as `LINE: MESSAGE`.
    fn faults(&self, text: &str) -> Vec<String> {
        let refused = self.load(text).expect_err(text);
        let shown = refused.to_string();
        assert!(!shown.contains("CANARY"), "{shown}");
        let prefix = format!("{}:", self.path().join("config.toml").display());
        for line in shown.lines() {
            assert!(line.starts_with(&prefix), "{line}");
        }
        let directory = format!("{}/", self.path().display());
        shown
            .lines()
            .map(|line| line.replace(&prefix, "").replace(&directory, ""))
            .collect()
    }
}

const GOOD: &str = r#"[daemon]
state_dir = "state"

[[integration]]
name = "idp"
provider = "custom"
flow = "authorization-code"
client_id = "abc"
client_secret = { file = "good.secret" }
client_secret_expires = "never"
authorization_endpoint = "https://idp.example.org/auth"
token_endpoint = "https://idp.example.org/token"

[[mailbox]]
name = "support"
address = "support@example.org"
integration = "idp"
host = "imap.example.org"
project = "SUP"

[[mailbox]]
name = "billing"
address = "billing@example.org"
password = { file = "good.secret" }
host = "imap.example.org"
project = "SUP"

[[project]]
key = "SUP"
name = "Support"
"#;

/// What is replaced in [`GOOD`], by what, and every fault that this makes.
const BAD: &[(&str, &str, &[&str])] = &[
    (
        "host = \"imap.example.org\"\nproject",
        "hots = 1\nhost = \"imap.example.org\"\nproject",
        &["17: mailbox \"support\": hots is no key; did you mean host?"],
    ),
    (
        "[[project]]",
        "[projekt]\nx = 1\n\n[[project]]",
        &["28: projekt is no section; did you mean project?"],
    ),
    ("[[project]]\nkey", "[project]\nkey", &["21: x"]),
];

#[test]
fn the_sound_configuration_is_accepted() {
    let config = Desk::new().accept(GOOD);
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn print_bad() {
    for (old, new, _) in BAD {
        for fault in Desk::new().faults(&GOOD.replacen(old, new, 1)) {
            println!("{fault}");
        }
    }
}
