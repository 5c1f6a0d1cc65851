//! Marked secrets of every kind, through all that the program does with them, and a search for them in everything
//! that leaves it: what it prints and logs, its database and the copies of it, what it tells by HTTP, webhook, command
//! and mail.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine as _};

use crate::script;
use crate::support::binary::{Daemon, Output, Program};
use crate::support::certificate::{Authority, Identity, LOOPBACK};
use crate::support::imap_server::{Action, Fault as ImapFault, ImapServer, Options, Security};
use crate::support::pop3_server::{self, Pop3Server};
use crate::support::provider::{CLIENT_ID, CLIENT_SECRET, Fault, Provider};
use crate::support::receiver::Receiver;
use crate::support::scene::{SOON, mail};
use crate::support::signer::{ACCOUNT, Signer};
use crate::support::smtp_server::{Act, SmtpServer, on, protected};

const MAILBOX_PASSWORD: &str = "CANARY:mailbox-password";
const REFUSED_PASSWORD: &str = "CANARY:refused-password";
const SMTP_PASSWORD: &str = "CANARY:smtp-password";
const HOOK_SECRET: &str = "CANARY:the-secret-of-the-webhook";
const ENDED_SECRET: &str = "CANARY:ended-client-secret";
/// What a person would find by mistake where a command should read something else.
const IN_THE_ENVIRONMENT: &str = "CANARY:of-the-environment";

/// A program that keeps what it is told.
const RECORD: &str = "#!/bin/sh\nn=$(mktemp \"$1/told.XXXXXX\")\nenv > \"$n\"\ncat >> \"$n\"\n";

/// Everything that a program of this test talks with.
struct World {
    program: Program,
    /// Signs in persons, and the client of a secret.
    people: Provider,
    /// Knows a certificate and a service account only.
    machines: Provider,
    server: ImapServer,
    /// They repeat the password that they refuse.
    parrots: (ImapServer, Pop3Server),
    relay: SmtpServer,
    hook: Receiver,
    signer: Signer,
    listen: String,
    authority: Authority,
}

fn relay(identity: &Identity) -> SmtpServer {
    let taken: Vec<Act> = script![
        protected("AUTH PLAIN"),
        on("AUTH PLAIN ", "235 2.7.0 welcome"),
        on("MAIL ", "250 ok"),
        on("RCPT ", "250 ok"),
        on("DATA", "354 go on"),
        [Act::HearMessage, crate::support::smtp_server::say("250 2.0.0 taken")],
        on("QUIT", "221 bye"),
    ];
    let echoed = BASE64_STANDARD.encode(format!("\0ops@example.org\0{SMTP_PASSWORD}"));
    let refused: Vec<Act> = script![
        protected("AUTH PLAIN"),
        on(
            "AUTH PLAIN ",
            &format!("535 5.7.8 {echoed} and {SMTP_PASSWORD} are wrong")
        ),
        on("QUIT", "221 bye"),
    ];
    SmtpServer::start(identity, false, vec![refused, taken])
}

impl World {
    fn new() -> Self {
        let authority = Authority::new();
        let identity = authority.issue(&LOOPBACK);
        let (people, machines) = (Provider::start(), Provider::start());
        let signer = Signer::rsa();
        machines.set(|behaviour| {
            behaviour.registration.secrets.clear();
            behaviour.registration.certificates.push(signer.certificate.clone());
            behaviour.registration.account = Some((signer.certificate.clone(), ACCOUNT));
            behaviour.registration.delegated = vec!["robot@example.org"];
        });
        let known = people.clone();
        let options = Options::new(Security::Implicit(identity.clone()))
            .user("support@example.org", MAILBOX_PASSWORD)
            .token(move |user, token| user != "ann@example.org" || known.user_of(token).is_some());
        let options = ["ann", "app", "robot"].iter().fold(options, |options, user| {
            options.user(&format!("{user}@example.org"), "none")
        });
        let listen = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .to_string();
        let mut program = Program::bare();
        program.set("CANARY", IN_THE_ENVIRONMENT);
        let parrots = (
            Options::new(Security::Implicit(identity.clone())).user("refused@example.org", "another"),
            pop3_server::Options::new(Security::Implicit(identity.clone())).user("pop@example.org", "another"),
        );
        let parrots = (ImapServer::start(parrots.0), Pop3Server::start(parrots.1));
        let words = |user: &str| {
            let basic = BASE64_STANDARD.encode(format!("\0{user}@example.org\0{REFUSED_PASSWORD}"));
            Action::No(format!("[{REFUSED_PASSWORD}] {REFUSED_PASSWORD} or {basic} is wrong"))
        };
        parrots
            .0
            .fault(ImapFault::at("AUTHENTICATE", words("refused")).always());
        parrots.1.fault(ImapFault::at("AUTH", words("pop")).always());
        parrots.1.fault(ImapFault::at("PASS", words("pop")).always());
        let world = Self {
            parrots,
            relay: relay(&identity),
            server: ImapServer::start(options),
            hook: Receiver::start(),
            program,
            people,
            machines,
            signer,
            listen,
            authority,
        };
        world.configure();
        world
    }

    fn secret(&self, name: &str, value: &str) -> String {
        self.program.secret(name, value)
    }

    fn integrations(&self) -> Vec<String> {
        let certificate = self.program.file("app.pem", &self.signer.certificate);
        let endpoint = self.machines.token_endpoint();
        vec![
            format!(
                "[[integration]]\nname = \"people\"\nprovider = \"custom\"\nflow = \"authorization-code\"\n\
                 issuer = \"{}\"\nclient_id = \"{CLIENT_ID}\"\nclient_secret = {}\nclient_secret_expires = \"never\"\n\
                 next_client_secret = {}\n",
                self.people.issuer(),
                self.secret("ended", ENDED_SECRET),
                self.secret("client", CLIENT_SECRET)
            ),
            format!(
                "[[integration]]\nname = \"app\"\nprovider = \"custom\"\nflow = \"client-credentials\"\n\
                 token_endpoint = \"{endpoint}\"\nclient_id = \"{CLIENT_ID}\"\ncertificate = \"{}\"\nprivate_key = {}\n",
                certificate.display(),
                self.secret("app.key", &self.signer.key)
            ),
            format!(
                "[[integration]]\nname = \"robot\"\nprovider = \"google\"\nflow = \"service-account\"\n\
                 token_endpoint = \"{endpoint}\"\nservice_account = {}\n",
                self.secret("robot.json", &self.signer.service_account(&endpoint))
            ),
        ]
    }

    fn mailboxes(&self) -> Vec<String> {
        let password = |name: &str, value: &str| format!("password = {}", self.secret(name, value));
        let (imap, parrot, pop) = (self.server.port(), self.parrots.0.port(), self.parrots.1.port());
        let pop_password = format!("protocol = \"pop3\"\n{}", password("pop", REFUSED_PASSWORD));
        let all = [
            ("support", imap, password("support", MAILBOX_PASSWORD)),
            ("refused", parrot, password("refused", REFUSED_PASSWORD)),
            ("pop", pop, pop_password),
            ("ann", imap, "integration = \"people\"".to_owned()),
            ("app", imap, "integration = \"app\"".to_owned()),
            ("robot", imap, "integration = \"robot\"".to_owned()),
        ];
        let section = |(user, port, more): (&str, u16, String)| {
            format!(
                "[[mailbox]]\naddress = \"{user}@example.org\"\nname = \"{user}\"\nhost = \"127.0.0.1\"\nport = {port}\n\
                 start = \"all\"\n{more}\n"
            )
        };
        all.into_iter().map(section).collect()
    }

    fn configure(&self) {
        let ca_file = self.authority.ca_file().display().to_string();
        let page = self.program.file("page", RECORD);
        std::fs::set_permissions(&page, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::create_dir_all(self.told()).unwrap();
        let mut sections = self.integrations();
        sections.extend(self.mailboxes());
        sections.extend([
            format!(
                "[[smtp]]\nname = \"relay\"\nhost = \"127.0.0.1\"\nport = {}\ntls = \"starttls\"\n\
                 from = \"intake@example.org\"\nusername = \"ops@example.org\"\npassword = {}\n",
                self.relay.port(),
                self.secret("relay", SMTP_PASSWORD)
            ),
            format!(
                "[[webhook]]\nurl = \"{}\"\nsecret = {}\n",
                self.hook.url("/hook"),
                self.secret("hook", HOOK_SECRET)
            ),
            format!(
                "[alerts]\nemail = [\"ops@example.org\"]\ncommand = [\"{}\", \"{}\"]\n",
                page.display(),
                self.told().display()
            ),
        ]);
        let listen = &self.listen;
        let daemon = format!(
            "log = \"debug\"\nlisten = \"{listen}\"\npublic_url = \"http://{listen}\"\nca_file = \"{ca_file}\""
        );
        self.program.configure(&daemon, &sections.join("\n"));
    }

    fn told(&self) -> std::path::PathBuf {
        self.program.config().with_file_name("told")
    }

    /// Gives a file another content for a while, and what `check` says to it.
    fn check_with(&self, name: &str, content: &str) -> Output {
        let path = self.program.config().with_file_name(name);
        let before = std::fs::read(&path).unwrap();
        std::fs::write(&path, content).unwrap();
        let said = self.program.run(&["check"]);
        std::fs::write(&path, before).unwrap();
        said
    }
}

/// What left the program, and where it was seen.
#[derive(Default)]
struct Seen(BTreeMap<String, Vec<u8>>);

impl Seen {
    fn add(&mut self, place: &str, bytes: impl AsRef<[u8]>) {
        self.0
            .entry(place.to_owned())
            .or_default()
            .extend_from_slice(bytes.as_ref());
    }

    fn output(&mut self, said: &str, output: &Output) {
        self.add(said, format!("{}\n{}", output.stdout, output.stderr));
    }

    fn folder(&mut self, path: &Path, except: &str) {
        for entry in std::fs::read_dir(path).unwrap().flatten() {
            if entry.path().is_dir() {
                self.folder(&entry.path(), except);
            } else if entry.file_name() != except {
                self.add(
                    &entry.path().display().to_string(),
                    std::fs::read(entry.path()).unwrap(),
                );
            }
        }
    }

    /// Each place in which one of these is.
    fn places_of(&self, secrets: &[Vec<u8>]) -> Vec<String> {
        let mut found = Vec::new();
        for (place, bytes) in &self.0 {
            for secret in secrets {
                if let Some(at) = bytes.windows(secret.len()).position(|window| window == secret) {
                    let around = &bytes[at.saturating_sub(80)..(at + 60).min(bytes.len())];
                    found.push(format!("{place}: {}", String::from_utf8_lossy(around)));
                }
            }
        }
        found
    }
}

/// A secret as it is, and as base64 has it wherever in a text it begins.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    let mut forms = vec![secret.as_bytes().to_vec()];
    for shift in 0..3 {
        let text = BASE64_STANDARD.encode(format!("{}{secret}", "x".repeat(shift)));
        // The ends depend on what stands beside it.
        forms.push(text.as_bytes()[4..text.len() - 4].to_vec());
    }
    forms
}

fn fetch(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Signs ann in by the listener; gives what the command and the page said.
fn sign_in(world: &World) -> (Output, String) {
    let running = world.program.start(&["authorize", "ann", "--listener"], b"");
    let url = running.line(|line| line.starts_with("http://").then(|| line.to_owned()));
    let back = Provider::sign_in(&url);
    let (_, path) = back.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let page = fetch(&world.listen, &format!("/{path}"));
    (running.end(), page)
}

fn wait_log(daemon: &mut Daemon, words: &str) {
    daemon.wait_for(words, SOON, |daemon| daemon.log().contains(words).then_some(()));
}

/// What goes wrong, in the words of peers that repeat what they were told.
fn break_everything(world: &World, daemon: &mut Daemon, seen: &mut Seen) {
    let echo = format!(
        r#"{{"error":"invalid_grant","error_description":"{CLIENT_SECRET} canary-refresh-broken","access_token":"canary-access-broken"}}"#
    );
    for (status, body) in [
        (400, echo.as_str()),
        (
            200,
            r#"{"access_token":["canary-access-broken"],"refresh_token":"canary-refresh-broken"}"#,
        ),
        (503, "<html>canary-refresh-broken</html>"),
    ] {
        world.people.fault(Fault::Answer {
            status,
            headers: vec![("Content-Type", "application/json".into())],
            body: body.to_owned(),
        });
        // Whatever it is, the reload has it tried at once.
        seen.output("test people", &world.program.run(&["test", "people", "ann"]));
        daemon.reload();
    }
    world.people.set(|behaviour| behaviour.faults.clear());
}

fn commands(world: &World, seen: &mut Seen) {
    let backup = world.program.config().with_file_name("copy.db");
    let backup = backup.to_str().unwrap();
    for arguments in [
        &["check"][..],
        &["check", "--json"],
        &["test"],
        &["test", "--json"],
        &["status"],
        &["status", "--json"],
        &["status", "--check"],
        &["alert", "list", "--json"],
        &["issue", "list", "--json"],
        &["message", "list", "--json"],
        &["audit"],
        &["backup", backup],
        &["key", "rotate"],
        &["revoke", "ann", "--upstream"],
        &["status", "--json"],
    ] {
        let output = world.program.run(arguments);
        assert!(output.code.is_some(), "{arguments:?}");
        seen.output(&arguments.join(" "), &output);
    }
    let path = Path::new(backup);
    assert!(path.exists(), "no copy was made");
    seen.add(backup, std::fs::read(path).unwrap());
}

/// Configurations whose secrets are of the wrong kind, in the wrong place or cut.
fn bad_secrets(world: &World, seen: &mut Seen) {
    let key = world.signer.key.as_str();
    let account = world.signer.service_account("x");
    let config = std::fs::read_to_string(world.program.config()).unwrap();
    let inline = config.replace(
        "client_id = ",
        &format!("client_secret = \"{ENDED_SECRET}\"\nclient_id = "),
    );
    for (name, content) in [
        ("app.pem", key),
        ("app.key", key.split_at(key.len() / 2).0),
        ("app.key", &world.signer.certificate),
        ("robot.json", key),
        ("robot.json", account.split_at(account.len() / 2).0),
        ("config.toml", &inline),
    ] {
        let said = world.check_with(name, content);
        assert_eq!(said.code, Some(78), "{name}: {said:?}");
        seen.output(&format!("check of a bad {name}"), &said);
    }
}

/// Waits until those outside were told by mail and by command.
fn wait_told(world: &World, daemon: &mut Daemon) {
    daemon.wait_for("an alert mail", SOON * 2, |_| {
        let heard = world.relay.heard();
        heard
            .iter()
            .flatten()
            .any(|line| line.contains("Subject:"))
            .then_some(())
    });
    daemon.wait_for("an alert by command", SOON, |_| {
        std::fs::read_dir(world.told()).unwrap().next().is_some().then_some(())
    });
}

fn assert_no_core(daemon: &Daemon) {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(
        core.split_whitespace().nth(4),
        Some("0"),
        "a crash would write all secrets to a file: {core}"
    );
}

/// Everything that nobody may see.
fn secrets(world: &World, token_key: &str) -> Vec<Vec<u8>> {
    let mut secrets: Vec<Vec<u8>> = Vec::new();
    for secret in [
        MAILBOX_PASSWORD,
        REFUSED_PASSWORD,
        SMTP_PASSWORD,
        HOOK_SECRET,
        ENDED_SECRET,
        IN_THE_ENVIRONMENT,
        CLIENT_SECRET,
        "canary-access-",
        "canary-refresh-",
        "canary-code-",
        "CANARY:code",
        token_key,
    ] {
        secrets.extend(forms(secret));
    }
    // A line of the key, and how each assertion begins.
    let line = world.signer.key.lines().nth(3).unwrap();
    secrets.extend([line, "PRIVATE KEY-----\nM", "eyJhbGciOi"].map(|text| text.as_bytes().to_vec()));
    secrets
}

#[test]
fn no_secret_of_any_kind_leaves_the_program() {
    let world = World::new();
    let mut seen = Seen::default();
    world.server.deliver("support@example.org", "INBOX", mail("one"));
    let mut daemon = world.program.daemon();
    daemon.wait_event("daemon.started", SOON);
    daemon.wait_event("issue.created", SOON);
    let (said, page) = sign_in(&world);
    assert!(said.stdout.contains("signed in at people"), "{said:?}");
    seen.output("authorize", &said);
    seen.add("the callback page", page);
    wait_log(&mut daemon, "token.client_refused");
    daemon.wait_for("the alerts of the refused passwords", SOON, |_| {
        let open = world.program.json(&["alert", "list"]);
        let is_told = |name: &str| open.as_array().unwrap().iter().any(|alert| alert["subject"] == name);
        (is_told("refused") && is_told("pop")).then_some(())
    });
    break_everything(&world, &mut daemon, &mut seen);
    for path in [
        "/metrics",
        "/healthz",
        "/oauth/callback/people?state=CANARY&code=CANARY:code",
    ] {
        seen.add(path, fetch(&world.listen, path));
    }
    wait_told(&world, &mut daemon);
    assert_no_core(&daemon);
    commands(&world, &mut seen);
    bad_secrets(&world, &mut seen);
    let token_key = std::fs::read_to_string(world.program.state_dir().join("token.key")).unwrap();
    assert_eq!(daemon.terminate(), Some(0));
    seen.add("the log", daemon.log());
    seen.folder(&world.program.state_dir(), "token.key");
    seen.folder(&world.told(), "");
    for call in world.hook.calls() {
        seen.add("the webhook", format!("{} {:?} {}", call.path, call.headers, call.body));
    }
    for line in world
        .relay
        .heard()
        .iter()
        .flatten()
        .filter(|line| !line.starts_with("AUTH"))
    {
        seen.add("the mail", line);
    }
    assert!(seen.0.contains_key("the webhook") && seen.0.contains_key("the mail"));

    let secrets = secrets(&world, token_key.trim());
    let leaks = seen.places_of(&secrets);
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n---\n"));
    // The search itself finds what is there.
    seen.add(
        "here",
        format!(
            "{ENDED_SECRET} {}",
            BASE64_STANDARD.encode(format!("\0a\0{SMTP_PASSWORD}"))
        ),
    );
    assert_eq!(seen.places_of(&secrets).len(), 2);
}
