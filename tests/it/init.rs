//! `init`: an address becomes a configuration that `check` accepts, with nothing asked that need not be asked.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use mailintake::cli::init::{self, Plan};
use mailintake::discover::Discovery;
use mailintake::oauth::http::Http;
use mailintake::time::Clock;
use mailintake::tls::Trust;

use crate::support::binary::Program;
use crate::support::signer::Signer;

/// The settings of a configuration, as lines without their comments.
fn settings(config: &str) -> Vec<String> {
    let setting = |line: &str| line.split("  #").next().unwrap_or_default().trim().to_owned();
    config.lines().map(setting).filter(|line| !line.is_empty()).collect()
}

/// Saves a configuration with the secrets that it names; what `check` says of it.
fn check(program: &Program, config: &str) -> String {
    program.write(config);
    let secrets = program.config().with_file_name("secrets");
    std::fs::create_dir_all(&secrets).unwrap();
    for rest in config.split("file = \"").skip(1) {
        let file = Path::new(rest.split('"').next().unwrap());
        assert_eq!(file.parent().unwrap(), secrets);
        std::fs::write(
            file,
            Signer::rsa().service_account("https://oauth2.googleapis.com/token"),
        )
        .unwrap();
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let done = program.run(&["check"]);
    assert_eq!(done.code, Some(0), "{}\n{config}", done.stderr);
    done.stdout
}

#[test]
fn a_well_known_domain_needs_no_network() {
    for (address, wanted, second) in [
        (
            "ann@gmail.com",
            "provider = \"google\"|flow = \"authorization-code\"",
            "authorize",
        ),
        (
            "ann@hotmail.co.uk",
            "provider = \"microsoft\"|tenant = \"consumers\"|flow = \"device-code\"",
            "authorize",
        ),
        ("ann@yahoo.com", "host = \"imap.mail.yahoo.com\"", "test"),
        ("ann@icloud.com", "host = \"imap.mail.me.com\"", "test"),
        ("ann@fastmail.com", "host = \"imap.fastmail.com\"", "test"),
    ] {
        let mut program = Program::bare();
        // Nobody could be asked, if anybody were.
        program.set("HTTPS_PROXY", "http://127.0.0.1:1");
        let begin = Instant::now();
        let done = program.run(&["init", address]);
        assert_eq!(done.code, Some(0), "{address}: {done:?}");
        assert!(begin.elapsed() < Duration::from_secs(5), "{address}");
        assert!(
            !program.config().exists() && !program.state_dir().exists(),
            "init writes nothing"
        );
        assert!(done.stdout.lines().count() < 10, "{}", done.stdout);
        let lines = settings(&done.stdout);
        for setting in wanted.split('|') {
            assert!(lines.iter().any(|line| line == setting), "{setting}: {lines:?}");
        }
        assert!(lines.contains(&format!("address = \"{address}\"")), "{lines:?}");
        let config = program.config().display().to_string();
        for command in ["check".to_owned(), format!("{second} {address}")] {
            let command = format!("mailintake --config {config} {command}");
            assert!(done.stderr.contains(&command), "{command}: {}", done.stderr);
        }
        check(&program, &done.stdout);
    }
}

#[test]
fn what_to_enter_at_the_provider_is_said() {
    let program = Program::bare();
    for (address, words) in [
        (
            "ann@gmail.com",
            "http://127.0.0.1:1/oauth/callback/google|https://mail.google.com/|Desktop app|auth/clients|Testing|paste",
        ),
        (
            "ann@outlook.com",
            "Personal Microsoft accounts only|Allow public client flows: Yes|IMAP.AccessAsUser.All|offline_access",
        ),
        ("ann@yahoo.com", "Generate app password|not OAuth 2.0"),
    ] {
        let done = program.run(&["init", address]);
        for word in words.split('|') {
            assert!(done.stderr.contains(word), "{word}: {}", done.stderr);
        }
    }
}

#[test]
fn what_is_no_address_or_cannot_be_read_is_said() {
    let program = Program::bare();
    for (address, code, words) in [
        ("ann", 2, "no mail address"),
        ("@example.org", 2, "no mail address"),
        ("ann@localhost", 2, "no mail address"),
        ("ann@127.0.0.1", 2, "no mail address"),
        ("a\"\n[daemon]@example.org", 2, "no mail address"),
        ("ann@proton.me", 1, "Bridge"),
    ] {
        let done = program.run(&["init", address]);
        assert_eq!(done.code, Some(code), "{address}: {done:?}");
        assert!(done.stderr.contains(words) && done.stdout.is_empty(), "{done:?}");
    }
}

/// A name server on loopback that has these MX and SRV records, and knows nothing else.
fn name_server(records: &[(&str, u16, &str)]) -> SocketAddr {
    let records: HashMap<(String, u16), String> = records
        .iter()
        .map(|(name, kind, target)| (((*name).to_owned(), *kind), (*target).to_owned()))
        .collect();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, peer)) = socket.recv_from(&mut query) {
            let answer = answer(&query[..length], &records);
            socket.send_to(&answer, peer).unwrap();
        }
    });
    address
}

/// The answer to a query of one question (RFC 1035 §4.1).
fn answer(query: &[u8], records: &HashMap<(String, u16), String>) -> Vec<u8> {
    let mut labels = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_lowercase());
        at = end;
    }
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    let question = &query[12..at + 5];
    let found = records.get(&(labels.join("."), kind));
    let code = if found.is_some() { 0x80 } else { 0x83 };
    let mut answer = [
        &query[..2],
        &[0x81, code, 0, 1, 0, u8::from(found.is_some()), 0, 0, 0, 0],
        question,
    ]
    .concat();
    if let Some(target) = found {
        let data = data(kind, target);
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 60]);
        answer.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        answer.extend(data);
    }
    answer
}

/// Preference 10 and the host for MX; priority 0, weight 0, port 993 and the host for SRV; else
/// the host alone.
fn data(kind: u16, target: &str) -> Vec<u8> {
    let mut data = match kind {
        MX => vec![0, 10],
        SRV => [[0, 0], [0, 0], 993_u16.to_be_bytes()].concat(),
        _ => Vec::new(),
    };
    for label in target.split('.') {
        data.push(u8::try_from(label.len()).unwrap());
        data.extend(label.as_bytes());
    }
    data.push(0);
    data
}

const CNAME: u16 = 5;
const MX: u16 = 15;
const SRV: u16 = 33;

async fn plan(program: &Program, name_server: SocketAddr, address: &str) -> Plan {
    let http = Http::new(Trust::load(None, []).unwrap(), Clock::system());
    let domain = address.rsplit_once('@').unwrap().1;
    let found = Discovery::at(name_server, http).keeper(domain).await;
    init::plan(&program.config(), address, domain, &found).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mail_exchanger_tells_the_provider() {
    let server = name_server(&[
        ("contoso.example", MX, "contoso-example.mail.protection.outlook.com"),
        ("agency.example", MX, "agency.mail.protection.office365.us"),
        ("school.example", MX, "ASPMX.L.GOOGLE.com"),
        ("small.example", MX, "in1-smtp.messagingengine.com"),
        ("gateway.example", MX, "mx1.filter.example"),
        ("autodiscover.gateway.example", CNAME, "autodiscover.outlook.com"),
        ("_imaps._tcp.own.example", SRV, "mail.own.example"),
        ("_imaps._tcp.hidden.example", SRV, "imap.gmail.com"),
    ]);
    for (address, wanted, words) in [
        (
            "help@contoso.example",
            "provider = \"microsoft\"|tenant = \"contoso.example\"|flow = \"authorization-code\"",
            "the MX record contoso-example.mail.protection.outlook.com|client-credentials|Mobile and desktop applications|http://localhost:1/oauth/callback/microsoft",
        ),
        (
            "help@gateway.example",
            "provider = \"microsoft\"|tenant = \"gateway.example\"",
            "autodiscover.gateway.example",
        ),
        (
            "help@agency.example",
            "provider = \"microsoft-gcc-high\"",
            "https://entra.microsoft.us",
        ),
        (
            "help@school.example",
            "provider = \"google\"|flow = \"service-account\"",
            "Domain-wide delegation|https://mail.google.com/|Internal",
        ),
        ("help@small.example", "host = \"imap.fastmail.com\"", "app password"),
        (
            "help@own.example",
            "host = \"mail.own.example\"",
            "the SRV record _imaps._tcp.own.example",
        ),
        (
            "help@hidden.example",
            "provider = \"google\"|flow = \"service-account\"",
            "SRV record",
        ),
        ("help@nowhere.example", "host = \"imap.nowhere.example\"", "a guess"),
    ] {
        let program = Program::bare();
        let plan = plan(&program, server, address).await;
        let lines = settings(&plan.config);
        assert!(plan.config.lines().count() < 10, "{}", plan.config);
        for setting in wanted.split('|') {
            assert!(lines.iter().any(|line| line == setting), "{setting}: {lines:?}");
        }
        for word in words.split('|') {
            assert!(plan.advice.contains(word), "{word}: {}", plan.advice);
        }
        check(&program, &plan.config);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn name_servers_that_are_silent_cost_seconds_only() {
    // It takes queries and answers none.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let program = Program::bare();
    let begin = Instant::now();
    let plan = plan(&program, silent.local_addr().unwrap(), "help@nowhere.example").await;
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
    assert!(
        plan.config.contains("host = \"imap.nowhere.example\""),
        "{}",
        plan.config
    );
}
