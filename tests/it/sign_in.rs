//! `authorize` as a person runs it: it ends with the test of what signs in, and never waits for nobody.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use url::Url;

use crate::support::binary::{Output, Program};
use crate::support::imap_server::{ImapServer, Options, Security};
use crate::support::provider::{CLIENT_ID, CLIENT_SECRET, Provider};

pub(crate) const USER: &str = "ann@example.org";

/// A program with an integration at the provider and a mailbox of it.
pub(crate) fn program(provider: &Provider, server: &ImapServer, daemon: &str) -> Program {
    let program = Program::bare();
    let secret = program.secret("client", CLIENT_SECRET);
    program.configure(
        daemon,
        &format!(
            "[[integration]]\nname = \"idp\"\nprovider = \"custom\"\nflow = \"authorization-code\"\nissuer = \"{}\"\n\
             client_id = \"{CLIENT_ID}\"\nclient_secret = {secret}\nclient_secret_expires = \"never\"\n\
             [[mailbox]]\naddress = \"{USER}\"\nname = \"ann\"\nintegration = \"idp\"\nhost = \"127.0.0.1\"\nport = {}\n\
             tls = \"none\"\n",
            provider.issuer(),
            server.port()
        ),
    );
    program
}

fn server(takes_tokens: bool) -> ImapServer {
    ImapServer::start(
        Options::new(Security::Clear)
            .user(USER, "unused")
            .token(move |_, _| takes_tokens),
    )
}

/// Opens what a browser opens after the provider has sent it back.
fn open(back: &str) -> String {
    let back = Url::parse(back).unwrap();
    let place = format!("127.0.0.1:{}", back.port().unwrap());
    let mut stream = TcpStream::connect(&place).unwrap();
    let target = format!("{}?{}", back.path(), back.query().unwrap());
    write!(stream, "GET {target} HTTP/1.1\r\nHost: {place}\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    page
}

/// Runs `authorize` on a port of its own, with a person who signs in.
pub(crate) fn authorize(program: &Program) -> Output {
    let running = program.start(&["authorize", "ann", "--loopback", "0"], b"");
    let url = running.line(|line| line.starts_with("http://").then(|| line.to_owned()));
    let page = open(&Provider::sign_in(&url));
    assert!(page.contains("<title>Signed in"), "{page}");
    running.end()
}

#[test]
fn a_sign_in_ends_with_the_test_of_what_signs_in() {
    let provider = Provider::start();
    let server = server(true);
    let done = authorize(&program(&provider, &server, ""));
    assert_eq!(done.code, Some(0), "{done:?}");
    for words in [
        "signed in at idp as ann@example.org",
        "mailbox/ann",
        "ok      sign-in",
        "ok      folder",
    ] {
        assert!(done.stdout.contains(words), "{words}: {done:?}");
    }
    assert!(
        !done.stdout.contains("FAILED") && !done.stdout.contains("canary"),
        "{done:?}"
    );
    // The tokens of the sign-in are used as they are.
    assert_eq!(provider.requests(), ["authorization_code"]);
}

#[test]
fn a_stored_grant_that_opens_nothing_is_told_and_is_still_a_grant() {
    let provider = Provider::start();
    let server = server(false);
    let program = program(&provider, &server, "");
    let done = authorize(&program);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains("FAILED  sign-in"), "{done:?}");
    assert!(done.stderr.contains("the grant is stored"), "{done:?}");
    assert_eq!(program.run(&["test", "ann"]).code, Some(1));
    let steps = program.run(&["test", "idp", "--json"]);
    assert_eq!(steps.code, Some(0), "{steps:?}");
    let told: serde_json::Value = serde_json::from_str(&steps.stdout).unwrap();
    assert_eq!(told[0]["name"], "integration/idp");
    let names: Vec<&str> = told[0]["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["step"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["discovery", "provider", "clock", "token", "claims"]);
}

#[test]
fn nobody_waits_for_a_daemon_that_does_not_listen() {
    let provider = Provider::start();
    let server = server(true);
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let both = format!("listen = \"{free}\"\npublic_url = \"http://{free}\"");
    for (daemon, code, words) in [
        ("", 78, "needs public_url and listen"),
        (both.as_str(), 75, "systemctl start mailintake"),
    ] {
        let program = program(&provider, &server, daemon);
        let begin = Instant::now();
        let done = program.run(&["authorize", "ann", "--listener"]);
        assert!(begin.elapsed() < Duration::from_secs(10));
        assert_eq!(done.code, Some(code), "{done:?}");
        assert!(done.stderr.contains(words), "{done:?}");
        assert!(
            done.stdout.is_empty(),
            "no address is printed that leads to nobody: {done:?}"
        );
    }
}

#[test]
fn a_daemon_that_listens_takes_the_answer_by_default() {
    let provider = Provider::start();
    let server = server(true);
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let program = program(
        &provider,
        &server,
        &format!("listen = \"{free}\"\npublic_url = \"http://{free}\""),
    );
    let mut daemon = program.daemon();
    daemon.wait_event("daemon.started", Duration::from_secs(30));
    let running = program.start(&["authorize", "ann"], b"");
    let url = running.line(|line| line.starts_with("http://").then(|| line.to_owned()));
    assert!(url.contains(&format!("%2F%2F127.0.0.1%3A{}", free.port())), "{url}");
    open(&Provider::sign_in(&url));
    let done = running.end();
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains("ok      sign-in"), "{done:?}");
}
