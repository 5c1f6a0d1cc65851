//! The configuration: one TOML file, walked as a spanned table, into the types that lower floors define.
//! It reads files and the environment; it changes nothing, and no lower floor knows it.

mod daemon;
mod fault;
mod integration;
mod lookup;
mod mailbox;
mod named;
mod outgoing;
mod pair;
mod preset;
mod project;
mod report;
mod secret;
mod typed;
pub(crate) mod value;
mod walk;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::DeTable;

pub use daemon::{Daemon, LogLevel};
pub use fault::{Fault, Refused};
pub use named::{NameError, Named};

use crate::grant::{Flow, GrantRef, Integration, Provider};
use crate::mailbox::{Mailbox, SignIn};
use crate::outgoing::{Alerts, Retention, Smtp, SmtpSignIn, Webhook};
use crate::project::{Project, Route, Rules};
use crate::tls::Trust;
use lookup::{Lookup, Sections};
use report::Report;
use walk::Section;

/// A configuration without a fault.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it was read from.
    pub path: PathBuf,
    /// `[daemon]`.
    pub daemon: Daemon,
    /// `[[integration]]`, in the order of the file.
    pub integrations: Vec<Arc<Integration>>,
    /// `[[mailbox]]`, in the order of the file. One that differs from its predecessor by `==` has changed.
    pub mailboxes: Vec<Arc<Mailbox>>,
    /// `[[project]]`, at least one.
    pub projects: Vec<Arc<Project>>,
    /// `[[route]]`; the first that matches wins.
    pub routes: Vec<Route>,
    /// `[[smtp]]`; the first is the default.
    pub smtp: Vec<Smtp>,
    /// `[[webhook]]`.
    pub webhooks: Vec<Webhook>,
    /// `[alerts]`.
    pub alerts: Alerts,
    /// `[retention]`.
    pub retention: Retention,
    /// Whose certificates are accepted: the system's roots and every `ca_file`, read once.
    pub trust: Trust,
    /// What works but should be looked at, each one sentence with its remedy.
    pub warnings: Vec<String>,
}

/// What the environment says; the file overrides the directory, the level overrides the file.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `$STATE_DIRECTORY`, as systemd sets it.
    pub state_directory: Option<PathBuf>,
    /// `$MAILINTAKE_LOG`.
    pub log: Option<String>,
}

impl Environment {
    /// The environment of this process.
    pub fn of_process() -> Self {
        // systemd separates several directories by colons; ours is the first.
        let directories = std::env::var("STATE_DIRECTORY").unwrap_or_default();
        let first = directories.split(':').next().filter(|first| !first.is_empty());
        Self {
            state_directory: first.map(PathBuf::from),
            log: std::env::var("MAILINTAKE_LOG").ok(),
        }
    }
}

/// Longest configuration that is read, in bytes; thousands of mailboxes fit.
const FILE_LIMIT: u64 = 4 << 20;

/// Reads a configuration, its secrets and its CA files.
///
/// # Errors
/// [`Refused`] with every fault.
pub fn load(path: &Path) -> Result<Config, Refused> {
    load_in(path, &Environment::of_process())
}

/// As [`load`], with an environment of the caller's choice.
///
/// # Errors
/// [`Refused`] with every fault.
pub fn load_in(path: &Path, environment: &Environment) -> Result<Config, Refused> {
    let refused = |faults, state_dir| Refused {
        path: path.to_owned(),
        faults,
        state_dir,
    };
    let text = read(path).map_err(|message| refused(vec![Fault { line: None, message }], None))?;
    let directory = path.parent().unwrap_or(Path::new(""));
    let (table, errors) = DeTable::parse_recoverable(&text);
    let report = Report::new(&text, directory);
    for error in &errors {
        report.syntax(error);
    }
    let mut config = build(&report, table.get_ref(), path, environment);
    let (faults, warnings) = report.finish();
    if !faults.is_empty() {
        // In a file that is no TOML the name may be lost, and the default would be another directory.
        let state_dir = errors.is_empty().then(|| config.daemon.state_dir.clone());
        return Err(refused(faults, state_dir));
    }
    config.warnings = warnings;
    let state_dir = Some(config.daemon.state_dir.clone());
    config.trust = trust(&config).map_err(|message| refused(vec![Fault { line: None, message }], state_dir))?;
    Ok(config)
}

fn read(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            "there is no such file; write one (`mailintake init ADDRESS` helps) or name it with --config".to_owned()
        }
        std::io::ErrorKind::InvalidData => "cannot be read: it is no UTF-8 text".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err("is no file; name a TOML file with --config".to_owned());
    }
    if metadata.len() > FILE_LIMIT {
        return Err(format!("is longer than {}", value::write_size(FILE_LIMIT)));
    }
    std::fs::read_to_string(path).map_err(failed)
}

const SECTIONS: [&str; 9] = [
    "daemon",
    "integration",
    "mailbox",
    "project",
    "route",
    "smtp",
    "webhook",
    "alerts",
    "retention",
];

/// The scopes that an integration for one IMAP mailbox asks for where none are configured.
pub fn default_scopes(provider: Provider, flow: Flow) -> Vec<String> {
    preset::scopes(provider, flow, preset::Uses::default())
}

/// Builds all that can be built; the report knows what could not.
fn build(report: &Report<'_>, table: &DeTable<'_>, path: &Path, environment: &Environment) -> Config {
    let root = Section::root(report, table).allow(&SECTIONS);
    let daemon = daemon::build(&root, environment);
    let sections = sections(&root);
    sections.refuse_twins();
    let integrations: Vec<Arc<Integration>> = sections
        .integrations
        .iter()
        .filter_map(|section| {
            let uses = sections.uses_of(section.quiet("name").unwrap_or_default());
            integration::build(section, uses, daemon.public_url.as_deref()).map(Arc::new)
        })
        .collect();
    let lookup = Lookup {
        sections: &sections,
        integrations: &integrations,
    };
    let smtp: Vec<Smtp> = collect(&sections.smtp, |section| outgoing::build_smtp(section, &lookup));
    let config = Config {
        path: path.to_owned(),
        daemon,
        mailboxes: collect(&sections.mailboxes, |section| {
            mailbox::build(section, &lookup).map(Arc::new)
        }),
        projects: projects(&sections, &lookup),
        routes: collect(&sections.routes, |section| project::build_route(section, &lookup)),
        webhooks: collect(&sections.webhooks, outgoing::build_webhook),
        alerts: outgoing::alerts(&root, &smtp, &lookup),
        retention: outgoing::retention(&root),
        smtp,
        trust: Trust::default(),
        warnings: Vec::new(),
        integrations: integrations.clone(),
    };
    if sections.mailboxes.is_empty() {
        report.warn("there is no [[mailbox]], so nothing is watched");
    }
    config
}

fn sections<'a>(root: &Section<'a>) -> Sections<'a> {
    Sections {
        integrations: root.repeated("integration", &["name"], &integration::KEYS),
        mailboxes: root.repeated("mailbox", &["name", "address"], &mailbox::KEYS),
        projects: root.repeated("project", &["key", "name"], &project::KEYS),
        routes: root.repeated("route", &[], &project::ROUTE_KEYS),
        smtp: root.repeated("smtp", &["name", "host"], &outgoing::SMTP_KEYS),
        webhooks: root.repeated("webhook", &[], &outgoing::WEBHOOK_KEYS),
    }
}

fn collect<T>(sections: &[Section<'_>], build: impl Fn(&Section<'_>) -> Option<T>) -> Vec<T> {
    sections.iter().filter_map(build).collect()
}

fn projects(sections: &Sections<'_>, lookup: &Lookup<'_>) -> Vec<Arc<Project>> {
    if sections.projects.is_empty() {
        return vec![Arc::new(project::default_project())];
    }
    collect(&sections.projects, |section| {
        project::build(section, lookup).map(Arc::new)
    })
}

fn trust(config: &Config) -> Result<Trust, String> {
    let integrations = config
        .integrations
        .iter()
        .filter_map(|integration| integration.ca_file.as_deref());
    let mailboxes = config
        .mailboxes
        .iter()
        .filter_map(|mailbox| mailbox.server.ca_file.as_deref());
    let smtp = config.smtp.iter().filter_map(|smtp| smtp.ca_file.as_deref());
    Trust::load(
        config.daemon.ca_file.as_deref(),
        integrations.chain(mailboxes).chain(smtp),
    )
    .map_err(|error| crate::fault::chain(&error))
}

impl Config {
    /// The project with a key.
    pub fn project(&self, key: &str) -> Option<&Arc<Project>> {
        self.projects.iter().find(|project| project.key == key)
    }

    /// The smtp server that a project's mail goes out by.
    pub fn smtp_of(&self, project: &Project) -> Option<&Smtp> {
        match &project.smtp {
            Some(name) => self.smtp.iter().find(|smtp| smtp.name == *name),
            None => self.smtp.first(),
        }
    }

    /// Our own addresses: of the mailboxes and of outgoing mail.
    pub fn own_addresses(&self) -> HashSet<String> {
        let mailboxes = self.mailboxes.iter().map(|mailbox| mailbox.address.as_str());
        let projects = self.projects.iter().filter_map(|project| project.from.as_deref());
        let smtp = self.smtp.iter().filter_map(|smtp| smtp.from.as_deref());
        let senders = projects.chain(smtp).filter_map(value::address_in);
        mailboxes.chain(senders).map(str::to_lowercase).collect()
    }

    /// The rules that decide what becomes of a message.
    pub fn rules(&self) -> Rules {
        Rules {
            projects: self.projects.clone(),
            routes: self.routes.clone(),
            own: self.own_addresses(),
            smtp: self.smtp.first().map(|smtp| smtp.name.clone()),
        }
    }

    /// The grants that mailboxes and smtp servers sign in with, each once, with the name of the first of them as
    /// `authorize` takes it.
    pub fn grants(&self) -> Vec<(GrantRef, String)> {
        let mailboxes = self.mailboxes.iter().filter_map(|mailbox| match &mailbox.sign_in {
            SignIn::Token(grant) => Some((grant, mailbox.name.clone())),
            SignIn::Password(_) => None,
        });
        let smtp = self.smtp.iter().filter_map(|smtp| match &smtp.sign_in {
            SmtpSignIn::Token { grant, .. } => Some((grant, format!("smtp/{}", smtp.name))),
            SmtpSignIn::Password { .. } | SmtpSignIn::Anonymous => None,
        });
        let mut grants: Vec<(GrantRef, String)> = Vec::new();
        for (grant, name) in mailboxes.chain(smtp) {
            if !grants.iter().any(|(known, _)| known == grant) {
                grants.push((grant.clone(), name));
            }
        }
        grants
    }

    /// Where the provider sends the browser back to, `<public_url>/oauth/callback/<name>`; `None` without a public
    /// URL. At Microsoft a loopback address is spelled `localhost`, since it accepts no other by default.
    pub fn redirect_uri(&self, integration: &Integration) -> Option<String> {
        let mut base = self.daemon.public_url.clone()?;
        if integration.provider.is_microsoft() && daemon::is_on_loopback(&base) {
            let host = daemon::host_of(&base)?;
            base = base.replacen(&host, "localhost", 1);
        }
        Some(format!("{base}/oauth/callback/{}", integration.name))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const EXAMPLE: &str = include_str!("../../config.example.toml");

    /// The example with its commented keys, those of the default and those that are examples only.
    fn uncommented(is_wanted: impl Fn(&str) -> bool) -> String {
        let line = |line: &'static str| {
            let rest = line
                .strip_prefix('#')
                .filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
            rest.filter(|rest| is_wanted(rest)).unwrap_or(line)
        };
        EXAMPLE.lines().map(line).collect::<Vec<_>>().join("\n")
    }

    /// A certificate with its key, the same one each time.
    static CERTIFICATE: std::sync::LazyLock<(String, String)> = std::sync::LazyLock::new(|| {
        use openssl::{asn1::Asn1Time, hash::MessageDigest, pkey::PKey, rsa::Rsa, x509::X509Builder};
        let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let mut builder = X509Builder::new().unwrap();
        builder.set_pubkey(&key).unwrap();
        builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::days_from_now(30).unwrap()).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        let text = |pem: Vec<u8>| String::from_utf8(pem).unwrap();
        (
            text(builder.build().to_pem().unwrap()),
            text(key.private_key_to_pem_pkcs8().unwrap()),
        )
    });

    /// Loads a text in a directory that has each file it names below `/etc/mailintake`.
    fn load_with_its_files(text: &str) -> (tempfile::TempDir, Config) {
        let (certificate, key) = &*CERTIFICATE;
        let account = serde_json::json!({
            "type": "service_account", "client_email": "x@y.iam.gserviceaccount.com", "private_key": key,
            "token_uri": "https://oauth2.googleapis.com/token",
        });
        let account = account.to_string();
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().display().to_string();
        for name in text
            .split("\"/etc/mailintake/")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
        {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let content = match path.extension().and_then(|extension| extension.to_str()) {
                Some("pem") => certificate.as_str(),
                Some("key") => key.as_str(),
                Some("json") => account.as_str(),
                _ => "not a secret at all",
            };
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let path = directory.path().join("config.toml");
        std::fs::write(&path, text.replace("/etc/mailintake", &base)).unwrap();
        let config = load_in(&path, &Environment::default()).unwrap_or_else(|refused| panic!("{refused}"));
        (directory, config)
    }

    #[test]
    fn the_example_is_accepted_with_and_without_its_commented_lines() {
        let (_directory, config) = load_with_its_files(EXAMPLE);
        assert_eq!(config.mailboxes.len(), 2);
        assert_eq!(
            config.warnings,
            ["alerts: command: /usr/local/bin/page is no program that can be run"]
        );
        load_with_its_files(&uncommented(|_| true));
    }

    #[test]
    fn the_commented_lines_of_the_example_are_the_defaults() {
        let is_default = |line: &str| !line.starts_with("ca_file") && !line.contains("_endpoint ");
        let (_first, short) = load_with_its_files(EXAMPLE);
        let (_second, long) = load_with_its_files(&uncommented(is_default));
        let comparable = |config: &Config| {
            let directory = config.path.parent().unwrap().display().to_string();
            let all = (
                &config.mailboxes,
                &config.projects,
                &config.smtp,
                &config.alerts,
                &config.retention,
            );
            format!("{:#?} {all:#?} {:#?}", config.daemon, config.integrations).replace(&directory, "")
        };
        assert_eq!(comparable(&short), comparable(&long));
    }

    #[test]
    fn the_example_has_every_key_and_no_other() {
        let text = uncommented(|_| true);
        let (table, errors) = DeTable::parse_recoverable(&text);
        assert!(errors.is_empty(), "{errors:?}");
        let keys_of = |section: &str| -> BTreeSet<String> {
            let value = table
                .get_ref()
                .iter()
                .find(|(key, _)| key.get_ref() == section)
                .unwrap()
                .1;
            let tables: Vec<_> = match value.get_ref() {
                toml::de::DeValue::Array(array) => {
                    array.iter().map(|item| item.get_ref().as_table().unwrap()).collect()
                }
                other => vec![other.as_table().unwrap()],
            };
            tables
                .iter()
                .flat_map(|table| table.keys().map(|key| key.get_ref().to_string()))
                .collect()
        };
        let known: [(&str, &[&str]); 9] = [
            ("daemon", &daemon::KEYS),
            ("integration", &integration::KEYS),
            ("mailbox", &mailbox::KEYS),
            ("project", &project::KEYS),
            ("route", &project::ROUTE_KEYS),
            ("smtp", &outgoing::SMTP_KEYS),
            ("webhook", &outgoing::WEBHOOK_KEYS),
            ("alerts", &outgoing::ALERTS_KEYS),
            ("retention", &outgoing::RETENTION_KEYS),
        ];
        assert_eq!(known.map(|(section, _)| section), SECTIONS);
        for (section, keys) in known {
            let keys: BTreeSet<String> = keys.iter().map(|key| (*key).to_owned()).collect();
            assert_eq!(keys_of(section), keys, "{section}");
        }
    }
}
