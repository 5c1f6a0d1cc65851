//! `check`: what the configuration means: what to enter at each provider, and what happens to each message.
//! It connects to nothing, makes no file and shows no secret.

mod json;
mod rule;

use chrono::{DateTime, Local, Utc};

use super::guide;
use crate::config::Config;
use crate::config::value::{write_duration, write_size};
use crate::grant::{ClientAuthentication, EndpointSource, Flow, Integration, Proof, Slot};
use crate::mailbox::{After, Mailbox, Protocol, SignIn, Start, Tls, Watch};
use crate::oauth::assertion;
use crate::outgoing::SmtpSignIn;
use crate::time::Timestamp;

/// Column where the values begin.
const INDENT: usize = 22;

/// The text that `check` prints for a sound configuration: for people, or one JSON object.
pub fn run(config: &Config, json: bool) -> String {
    if json {
        return json::object(config);
    }
    let mut page = Page::default();
    daemon(&mut page, config);
    for integration in &config.integrations {
        self::integration(&mut page, config, integration);
    }
    for mailbox in &config.mailboxes {
        self::mailbox(&mut page, mailbox);
    }
    for project in &config.projects {
        rule::project(&mut page, config, project);
    }
    for (index, route) in config.routes.iter().enumerate() {
        rule::route(&mut page, index, route);
    }
    for smtp in &config.smtp {
        rule::smtp(&mut page, smtp);
    }
    rule::outgoing(&mut page, config);
    for warning in &config.warnings {
        page.text.push_str("warning: ");
        page.text.push_str(warning);
        page.text.push('\n');
    }
    page.text
}

/// Titles with aligned lines under them.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn title(&mut self, title: &str) {
        self.text.push_str(title);
        self.text.push('\n');
    }

    fn line(&mut self, label: &str, value: &str) {
        let line = format!("  {label:INDENT$}{value}\n");
        self.text.push_str(&line);
    }

    fn end(&mut self) {
        self.text.push('\n');
    }
}

fn daemon(page: &mut Page, config: &Config) {
    let daemon = &config.daemon;
    page.title(&format!("{}: no faults", config.path.display()));
    page.line("state directory", &daemon.state_dir.display().to_string());
    page.line("log", daemon.log.as_str());
    match daemon.listen {
        Some(address) => page.line("listens on", &format!("{address}: OAuth callback, /healthz")),
        None => page.line("listens on", "nothing"),
    }
    if let Some(url) = &daemon.public_url {
        page.line("public URL", url);
    }
    let key = daemon.token_key.as_ref().map(|key| key.source.describe());
    page.line(
        "token key",
        &key.unwrap_or_else(|| daemon.token_key_file().display().to_string()),
    );
    page.end();
}

fn integration(page: &mut Page, config: &Config, integration: &Integration) {
    let (provider, flow) = (integration.provider.as_str(), integration.flow.as_str());
    page.title(&format!("integration {}: {provider}, {flow}", integration.name));
    if let Some(description) = &integration.description {
        page.line("description", description);
    }
    for step in guide::steps(&guide::registration(config, integration)) {
        page.line("at the provider", &step);
    }
    for uri in redirect_uris(config, integration) {
        page.line("redirect URI", &uri);
    }
    endpoints(page, integration);
    page.line("scopes", &integration.scopes.join(" "));
    for (name, value) in &integration.authorization_parameters {
        page.line("parameter", &format!("{name}={value}"));
    }
    if !integration.client_id.is_empty() {
        page.line("client ID", &integration.client_id);
    }
    page.line("client proves itself", &client_authentication(integration));
    credentials(page, integration);
    if let Some(end) = integration.client_secret_expires {
        page.line("secret ends", &local_time(end));
    }
    page.line("used by", &users(config, integration));
    page.end();
}

/// What stands behind the first credentials, and until when certificates are good.
fn credentials(page: &mut Page, integration: &Integration) {
    if let Some(next) = integration.proof(Slot::Next) {
        let origin = match next {
            Proof::Secret(secret) => secret.source.describe(),
            Proof::Certificate(certificate) => certificate.path.display().to_string(),
            Proof::Public => String::new(),
        };
        page.line(
            "if that is refused",
            &format!("by {} in {origin}", next.setting(Slot::Next)),
        );
    }
    let certificates = [&integration.certificate, &integration.next_certificate];
    for certificate in certificates.into_iter().flatten() {
        if let Ok(validity) = assertion::validity(&certificate.pem) {
            let (path, end) = (certificate.path.display(), local_time(validity.not_after));
            page.line("certificate ends", &format!("{end} ({path})"));
        }
    }
}

/// Every redirect URI, exactly as the provider must know it: through the daemon where there is a public URL, and that
/// of `authorize` on a port of this machine. PORT is any; --paste has 1.
fn redirect_uris(config: &Config, integration: &Integration) -> Vec<String> {
    if integration.flow != Flow::AuthorizationCode {
        return Vec::new();
    }
    let is_microsoft = integration.provider.is_microsoft();
    let host = if is_microsoft { "localhost" } else { "127.0.0.1" };
    let loopback = format!("http://{host}:PORT/oauth/callback/{}", integration.name);
    config.redirect_uri(integration).into_iter().chain([loopback]).collect()
}

fn endpoints(page: &mut Page, integration: &Integration) {
    let endpoints = match &integration.endpoints {
        EndpointSource::Issuer(issuer) => {
            page.line("endpoints", &format!("by discovery from {issuer}"));
            return;
        }
        EndpointSource::Fixed(endpoints) => endpoints,
    };
    let device = endpoints.device_authorization.as_ref();
    let lines = [
        ("issuer", endpoints.issuer.as_ref()),
        ("authorization", endpoints.authorization.as_ref()),
        ("token", Some(&endpoints.token)),
        ("device", device.filter(|_| integration.flow == Flow::DeviceCode)),
        ("revocation", endpoints.revocation.as_ref()),
    ];
    for (label, url) in lines {
        if let Some(url) = url {
            page.line(label, url);
        }
    }
}

fn client_authentication(integration: &Integration) -> String {
    if let Some(account) = &integration.service_account {
        return format!("by the service account key in {}", account.source.describe());
    }
    let secret = integration
        .client_secret
        .as_ref()
        .map(|secret| secret.source.describe());
    let certificate = integration.certificate.as_ref();
    let certificate = certificate.map(|certificate| certificate.path.display().to_string());
    match (integration.client_authentication, secret, certificate) {
        (ClientAuthentication::Post, Some(secret), _) => format!("by the secret in {secret}, in the body (post)"),
        (ClientAuthentication::Basic, Some(secret), _) => format!("by the secret in {secret}, as HTTP Basic (basic)"),
        (ClientAuthentication::PrivateKeyJwt, _, Some(path)) => {
            format!("by an assertion signed for the certificate {path} (private-key-jwt)")
        }
        (_, _, _) => "not at all: a public client".to_owned(),
    }
}

/// The mailboxes and smtp servers that sign in by an integration.
fn users(config: &Config, integration: &Integration) -> String {
    let mailboxes = config.mailboxes.iter().filter(|mailbox| match &mailbox.sign_in {
        SignIn::Token(grant) => grant.integration.name == integration.name,
        SignIn::Password(_) => false,
    });
    let smtp = config.smtp.iter().filter(|smtp| match &smtp.sign_in {
        SmtpSignIn::Token { grant, .. } => grant.integration.name == integration.name,
        SmtpSignIn::Password { .. } | SmtpSignIn::Anonymous => false,
    });
    let mailboxes = mailboxes.map(|mailbox| format!("mailbox {}", mailbox.name));
    let users: Vec<String> = mailboxes
        .chain(smtp.map(|smtp| format!("smtp {}", smtp.name)))
        .collect();
    if users.is_empty() {
        return "nothing yet".to_owned();
    }
    users.join(", ")
}

fn mailbox(page: &mut Page, mailbox: &Mailbox) {
    page.title(&format!("mailbox {}", mailbox.name));
    page.line("address", &mailbox.address);
    let server = &mailbox.server;
    let place = format!("{}:{}", server.host, server.port);
    page.line(
        "server",
        &format!("{place} ({}, {})", protocol(server.protocol), tls(server.tls)),
    );
    page.line("signs in", &sign_in(mailbox));
    if server.protocol == Protocol::Imap {
        page.line("folders", &mailbox.folders.join(", "));
    }
    page.line("new mail", &watch(mailbox));
    page.line("takes", &start(mailbox.start));
    page.line("project", &mailbox.project);
    page.line("on the server", &after(&mailbox.after));
    let size = write_size(mailbox.max_message_size);
    page.line("above the limit", &format!("of {size}: an issue from the headers"));
    if !mailbox.authserv_id.is_empty() {
        page.line(
            "believes",
            &format!("Authentication-Results of {}", servers(&mailbox.authserv_id)),
        );
    }
    page.end();
}

/// Whose results are believed; Exchange Online writes them without its name.
fn servers(ids: &[String]) -> String {
    let name = |id: &String| {
        if id.is_empty() {
            "Exchange Online".to_owned()
        } else {
            id.clone()
        }
    };
    ids.iter().map(name).collect::<Vec<_>>().join(", ")
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Imap => "imap",
        Protocol::Pop3 => "pop3",
    }
}

fn tls(tls: Tls) -> &'static str {
    match tls {
        Tls::Implicit => "implicit TLS",
        Tls::StartTls => "STARTTLS",
        Tls::None => "no TLS",
    }
}

fn sign_in(mailbox: &Mailbox) -> String {
    match &mailbox.sign_in {
        SignIn::Password(secret) => format!("as {} with the password in {}", mailbox.login, secret.source.describe()),
        SignIn::Token(grant) if !grant.integration.flow.needs_person() => {
            format!(
                "as {} with a token of integration {}",
                mailbox.sasl_user, grant.integration.name
            )
        }
        SignIn::Token(grant) => {
            let integration = &grant.integration.name;
            format!(
                "as {} with the grant of {} at integration {integration}",
                mailbox.sasl_user, grant.login
            )
        }
    }
}

fn watch(mailbox: &Mailbox) -> String {
    let every = write_duration(mailbox.poll_interval);
    match mailbox.watch {
        Watch::Idle => format!("by IDLE, with a look every {every} to be safe"),
        Watch::Poll => format!("by a look every {every}"),
    }
}

fn start(start: Start) -> String {
    match start {
        Start::New => "what arrives from now on; what is there already is left alone".to_owned(),
        Start::Unseen => "what is there and not marked as seen, then what arrives".to_owned(),
        Start::All => "all that is there, then what arrives".to_owned(),
        Start::Since(instant) => format!("what arrived since {}", local_time(instant)),
    }
}

fn after(after: &After) -> String {
    match after {
        After::Keep => "then left as it is".to_owned(),
        After::Seen => "then marked as seen".to_owned(),
        After::Delete => "then deleted for good".to_owned(),
        After::Flag(keyword) => format!("then flagged {keyword}"),
        After::Move(folder) => format!("then moved to {folder}"),
    }
}

/// An instant in local time, for people.
fn local_time(instant: Timestamp) -> String {
    let utc = DateTime::<Utc>::from_timestamp(instant.0, 0).unwrap_or_default();
    utc.with_timezone(&Local).format("%Y-%m-%d %H:%M").to_string()
}
