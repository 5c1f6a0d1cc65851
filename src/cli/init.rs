//! `init`: from a mail address to a configuration to begin with: on standard output the file, on standard error what
//! to enter at the provider, and the next two commands.
//! It reads no configuration, writes no file, and guesses only where it says so.

use std::path::Path;

use super::context::{Failure, OK};
use super::guide::{self, Registration};
use super::print;
use crate::config;
use crate::discover::known::Keeper;
use crate::discover::{Discovery, Found, ImapServer};
use crate::doctor::Service;
use crate::grant::{Flow, Provider};
use crate::mailbox::Tls;
use crate::oauth::http::Http;
use crate::time::Clock;
use crate::tls::Trust;

/// Where the configuration is unless somebody says otherwise.
const USUAL: &str = "/etc/mailintake/config.toml";
/// Column of the comments.
const COMMENT: usize = 58;

/// What is printed.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// The configuration.
    pub config: String,
    /// What to do with it.
    pub advice: String,
}

/// Prints a configuration for an address.
///
/// # Errors
/// [`Failure::Usage`] for what is no address, [`Failure::Failed`] where no program can read the mailbox.
pub fn command(path: &Path, address: &str) -> Result<u8, Failure> {
    let domain = domain(address)?;
    let trust = Trust::load(None, []).map_err(|error| Failure::Failed(crate::fault::chain(&error)))?;
    let discovery = Discovery::new(Http::new(trust, Clock::system()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("cannot start the runtime: {error}")))?;
    let found = runtime.block_on(discovery.keeper(&domain));
    runtime.shutdown_background();
    let plan = plan(path, address, &domain, &found)?;
    print::line(&plan.config)?;
    print::aside(&plan.advice);
    Ok(OK)
}

/// The domain of an address, as DNS has it.
fn domain(address: &str) -> Result<String, Failure> {
    let refused = || {
        Failure::Usage(format!(
            "{address:?} is no mail address; write one such as ann@example.org"
        ))
    };
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\\' | '<' | '>' | ',' | ';');
    let (local, domain) = address.rsplit_once('@').ok_or_else(refused)?;
    if local.is_empty() || local.contains('@') || address.contains(is_odd) {
        return Err(refused());
    }
    match url::Host::parse(domain) {
        Ok(url::Host::Domain(domain)) if domain.contains('.') => Ok(domain),
        Ok(_) | Err(_) => Err(refused()),
    }
}

/// What to print for who was found.
///
/// # Errors
/// [`Failure::Failed`] where no program can read the mailbox.
pub fn plan(path: &Path, address: &str, domain: &str, found: &Found) -> Result<Plan, Failure> {
    let asked = Asked {
        path,
        address,
        domain,
        by: &found.by,
    };
    let guessed;
    match &found.keeper {
        Keeper::Gmail => Ok(asked.by_token(&GMAIL)),
        Keeper::Workspace => Ok(asked.by_token(&WORKSPACE)),
        Keeper::Outlook => Ok(asked.by_token(&OUTLOOK)),
        Keeper::Microsoft365(provider) => Ok(asked.by_token(&Client {
            provider: *provider,
            ..MICROSOFT
        })),
        Keeper::AppPassword(server, page) => Ok(asked.by_password(server, page)),
        Keeper::Server(server) => Ok(asked.by_password(
            server,
            "the password of the mailbox, or an app password where the server has those",
        )),
        Keeper::Closed(why) => Err(Failure::Failed(format!("{domain} cannot be read: {why}"))),
        Keeper::Unknown => {
            guessed = ImapServer {
                host: format!("imap.{domain}"),
                port: 993,
                tls: Tls::Implicit,
            };
            Ok(asked.by_password(
                &guessed,
                "the password of the mailbox. host is a guess: ask whoever runs the mail server. If the mailbox is at Google or Microsoft 365 behind a mail gateway, it needs an [[integration]] instead: `mailintake init` with any address at gmail.com or outlook.com shows one",
            ))
        }
    }
}

/// The client that fits a provider, and why.
struct Client {
    provider: Provider,
    flow: Flow,
    /// What the provider is called.
    who: &'static str,
    why: &'static str,
    /// What the tenant is, if not the domain.
    tenant: Option<&'static str>,
    /// The secret: its key, the end of its file's name, what it is.
    secret: Option<(&'static str, &'static str, &'static str)>,
    /// Another way that may fit better.
    instead: &'static str,
}

const GMAIL: Client = Client {
    provider: Provider::Google,
    flow: Flow::AuthorizationCode,
    who: "Google, a personal mailbox",
    why: "you sign in once in a browser; mailintake keeps the sign-in alive",
    tenant: None,
    secret: Some(("client_secret", "", "of the client, from the same page")),
    instead: "",
};

const WORKSPACE: Client = Client {
    provider: Provider::Google,
    flow: Flow::ServiceAccount,
    who: "Google Workspace",
    why: "nobody has to sign in, and no password change ends it",
    tenant: None,
    secret: Some(("service_account", ".json", "the key file, as Google gives it")),
    instead: "A delegation opens every mailbox of the organization to the key. If that is too much: flow = \"authorization-code\" with client_id and client_secret of a client whose audience is Internal; then a person signs in once.",
};

const OUTLOOK: Client = Client {
    provider: Provider::Microsoft,
    flow: Flow::DeviceCode,
    who: "Microsoft, a personal mailbox",
    why: "you enter a code in a browser anywhere; there is no secret to keep",
    tenant: Some("consumers"),
    secret: None,
    instead: "",
};

const MICROSOFT: Client = Client {
    provider: Provider::Microsoft,
    flow: Flow::AuthorizationCode,
    who: "Microsoft 365",
    why: "a person who may open the mailbox signs in once in a browser; there is no secret to keep",
    tenant: None,
    secret: None,
    instead: "Better for years, where an administrator of Exchange helps once: flow = \"client-credentials\" with certificate = \"…\" and private_key = { file = \"…\" }. Nobody signs in and nothing ends but the certificate, of which you are warned; `mailintake check` then prints the permissions and `mailintake test` the three commands to type. A shared mailbox: login = \"PERSON\" beside address.",
};

struct Asked<'a> {
    path: &'a Path,
    address: &'a str,
    domain: &'a str,
    /// How the provider was found.
    by: &'a str,
}

impl Asked<'_> {
    fn by_token(&self, client: &Client) -> Plan {
        let name = client.provider.as_str();
        let tenant = client
            .provider
            .is_microsoft()
            .then(|| client.tenant.unwrap_or(self.domain));
        let flow = client.flow.as_str();
        let mut lines = vec![
            line("[[integration]]", "one OAuth 2.0 client at the provider"),
            line(
                &format!("name = \"{name}\""),
                "your own choice; part of the redirect URI",
            ),
            line(&format!("provider = \"{name}\""), client.who),
        ];
        lines.extend(tenant.map(|tenant| line(&format!("tenant = \"{tenant}\""), "whose accounts")));
        lines.push(line(&format!("flow = \"{flow}\""), client.why));
        if client.flow != Flow::ServiceAccount {
            lines.push(line(
                "client_id = \"PASTE-THE-CLIENT-ID\"",
                "from the provider, see below",
            ));
        }
        let secret = client
            .secret
            .map(|(key, end, what)| (key, self.secret(&format!("{name}{end}")), what));
        if let Some((key, file, what)) = &secret {
            lines.push(line(&format!("{key} = {{ file = \"{file}\" }}"), what));
        }
        lines.push(line("[[mailbox]]", "what is watched"));
        lines.push(line(
            &format!("address = \"{}\"", self.address),
            "also who signs in, unless login says otherwise",
        ));
        lines.push(line(&format!("integration = \"{name}\""), "by which it signs in"));
        let scopes = config::default_scopes(client.provider, client.flow);
        let steps = guide::steps(&Registration {
            provider: client.provider,
            flow: client.flow,
            tenant,
            is_confidential: client.secret.is_some(),
            is_public_host: false,
            services: vec![Service::Imap],
            scopes: &scopes,
            token_endpoint: "",
        });
        let second = if client.flow.needs_person() {
            "authorize"
        } else {
            "test"
        };
        Plan {
            config: lines.join("\n"),
            advice: self.advice(
                client.who,
                client.why,
                &at_provider(client, &steps),
                (secret.map(|(_, file, _)| file), second),
            ),
        }
    }

    fn by_password(&self, server: &ImapServer, page: &str) -> Plan {
        let file = self.secret(self.domain);
        let mut lines = vec![
            line("[[mailbox]]", "what is watched"),
            line(
                &format!("address = \"{}\"", self.address),
                "also the user name, unless login says otherwise",
            ),
            line(&format!("host = \"{}\"", server.host), &format!("by {}", self.by)),
        ];
        if server.tls == Tls::StartTls {
            lines.push(line(
                "tls = \"starttls\"",
                "TLS after a greeting in clear, never without",
            ));
        }
        let usual = if server.tls == Tls::StartTls { 143 } else { 993 };
        if server.port != usual {
            lines.push(line(&format!("port = {}", server.port), "not the usual one"));
        }
        lines.push(line(
            &format!("password = {{ file = \"{file}\" }}"),
            "a file with nothing but the password",
        ));
        let entered = format!("Where the password comes from: {page}\n");
        Plan {
            config: lines.join("\n"),
            advice: self.advice(
                "a mail server that takes a password",
                "IMAP with a password over TLS, not OAuth 2.0",
                &entered,
                (Some(file), "test"),
            ),
        }
    }

    fn advice(&self, who: &str, why: &str, entered: &str, (secret, second): (Option<String>, &str)) -> String {
        let (address, by) = (self.address, self.by);
        let option = if self.path == Path::new(USUAL) {
            String::new()
        } else {
            format!("--config {} ", self.path.display())
        };
        let secret = secret.map_or_else(String::new, |file| {
            // The daemon is not root: it reads the file by its group.
            let mode = if self.path.starts_with("/etc/mailintake") { "-m 640 -g mailintake" } else { "-m 600" };
            format!("and the secret in {file}, for nobody else to read (`install -D {mode} /dev/stdin {file}`, paste, Ctrl-D), ")
        });
        format!(
            "\n{address}: {who}, found by {by}.\nHow: {why}.\n\n{entered}\nSave the lines above as {}, {secret}then:\n  mailintake {option}check\n  mailintake {option}{second} {address}\n",
            self.path.display()
        )
    }

    /// The file of a secret, beside the configuration.
    fn secret(&self, name: &str) -> String {
        let directory = self.path.parent().unwrap_or(Path::new("/etc/mailintake"));
        let file = directory.join("secrets").join(name).display().to_string();
        file.replace('\\', "\\\\").replace('"', "\\\"")
    }
}

/// What to enter at the provider, numbered, with the redirect URI.
fn at_provider(client: &Client, steps: &[String]) -> String {
    let mut lines = vec!["At the provider:".to_owned()];
    let numbered = steps
        .iter()
        .enumerate()
        .map(|(index, step)| format!("  {}. {step}", index + 1));
    lines.extend(numbered);
    if client.flow == Flow::AuthorizationCode {
        let host = if client.provider.is_microsoft() {
            "localhost"
        } else {
            "127.0.0.1"
        };
        let uri = format!("http://{host}:1/oauth/callback/{}", client.provider.as_str());
        lines.push(format!(
            "  Redirect URI: {uri} (any port will do). After the sign-in the browser ends at that address, a page that does not load: copy the address from the browser's address bar and paste it into the terminal."
        ));
    }
    if !client.instead.is_empty() {
        lines.push(format!("\n{}", client.instead));
    }
    lines.push(String::new());
    lines.join("\n")
}

fn line(setting: &str, comment: &str) -> String {
    format!("{setting:COMMENT$}  # {comment}")
}
