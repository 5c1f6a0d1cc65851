//! POP3 against Dovecot, in clear and by TLS, by password and by token, with private provider and mail server.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};

use mailintake::mailbox::{Mailbox, Tls};
use mailintake::pop3::{Connector, Content};
use mailintake::tls::Trust;
use serde_json::{Value, json};

use super::client::{mailbox, token};
use super::stage::Stage;
use crate::support::binary::wait;
use crate::support::certificate::LOOPBACK;
use crate::support::dovecot::Dovecot;
use crate::support::lab::lab;
use crate::support::scene::{PASSWORD, SOON, Scene, address, assert_sound, mail};

/// Mails of the daemon's test.
const MAILS: usize = 60;

struct Ports {
    pop3: u16,
    pop3s: u16,
}

fn start(scene: &Scene, user: &str) -> (Dovecot, Ports) {
    let held = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [pop3, pop3s] = held.each_ref().map(|listener| listener.local_addr().unwrap().port());
    drop(held);
    let more = format!(
        "protocols = imap lmtp pop3\nservice pop3-login {{\n  {}\n  inet_listener pop3 {{\n    port = {pop3}\n  }}\n  \
         inet_listener pop3s {{\n    port = {pop3s}\n    ssl = yes\n  }}\n}}\n",
        if nix::unistd::Uid::effective().is_root() {
            ""
        } else {
            "chroot ="
        }
    );
    let identity = scene.authority.issue(&LOOPBACK);
    let dovecot = Dovecot::start(&scene.authority, &identity, &[(user, PASSWORD)], &more);
    let is_up = wait(SOON, || TcpStream::connect(("127.0.0.1", pop3s)).ok());
    assert!(is_up.is_some(), "POP3 of Dovecot: is dovecot-pop3d installed?");
    (dovecot, Ports { pop3, pop3s })
}

/// Messages in INBOX, and those of them that nobody has seen.
fn inbox(dovecot: &Dovecot, user: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", dovecot.imap_port())).unwrap();
    write!(
        stream,
        "a LOGIN {user} \"{PASSWORD}\"\r\nb STATUS INBOX (MESSAGES UNSEEN)\r\nc LOGOUT\r\n"
    )
    .unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    lines.find(|line| line.starts_with("* STATUS")).unwrap()
}

#[test]
fn dovecot_is_read_without_a_trace_and_emptied() {
    let scene = Scene::with(&[], |options| options);
    let user = address("support");
    let (dovecot, ports) = start(&scene, &user);
    for number in 0..MAILS {
        dovecot.deliver(&user, "INBOX", &(mail(&format!("m{number}")) + ".\n..dots\n\n"));
    }
    let section = |tls: &str, port: u16, more: &str| {
        let more = format!("protocol = \"pop3\"\ntls = \"{tls}\"\npoll_interval = \"1s\"\n{more}");
        scene.mailbox_at(port, "support", &more)
    };
    scene.configure(&[&section("starttls", ports.pop3, "")]);
    let tested = scene.program.ok(&["test"]);
    assert!(
        tested.contains(&format!("{MAILS} messages, with a UIDL each")),
        "{tested}"
    );
    let simulated = scene.program.ok(&["simulate", "--mailbox", "support", "--json"]);
    assert_eq!(simulated.lines().count(), 20);
    let mut daemon = scene.program.daemon();
    scene.wait_rows(&mut daemon, MAILS);
    scene.wait_state(&mut daemon, "support", "watching", SOON);
    scene.program.ok(&["audit"]);
    let unseen = format!("* STATUS INBOX (MESSAGES {MAILS} UNSEEN {MAILS})");
    assert_eq!(inbox(&dovecot, &user), unseen);
    let texts = scene.query("SELECT count(*) FROM issues WHERE description LIKE '%.\n..dots%'");
    assert_eq!(texts, [[MAILS.to_string()]]);
    // What came before is known; what comes now goes.
    scene.configure(&[&section("implicit", ports.pop3s, "after = \"delete\"")]);
    daemon.reload();
    daemon.wait_event("config.reloaded", SOON);
    dovecot.deliver(&user, "INBOX", &mail("late"));
    scene.wait_rows(&mut daemon, MAILS + 1);
    assert_eq!(inbox(&dovecot, &user), unseen);
    assert_eq!(scene.verdicts(), vec!["issue new-mail"; MAILS + 1]);
    // IMAP takes over the same mailbox, and recognizes all of it.
    scene.configure(&[&scene.mailbox_at(dovecot.imaps_port(), "support", "")]);
    daemon.reload();
    scene.wait_rows(&mut daemon, 2 * MAILS + 1);
    assert_eq!(scene.query("SELECT count(*) FROM issues"), [[(MAILS + 1).to_string()]]);
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
    assert_sound(&scene.program.database());
}

fn control(lab: &Value, path: &str, body: &Value) -> Value {
    let control = lab["oauth"]["control"].as_str().unwrap();
    let output = std::process::Command::new("curl")
        .args(["-sS", "--noproxy", "*", "-d", &body.to_string()])
        .arg(format!("{control}{path}"))
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// The access token in an answer, wherever it stands.
fn access_token(answer: &Value) -> String {
    let first = answer.get(0).unwrap_or(answer);
    first["access_token"]
        .as_str()
        .unwrap_or_else(|| panic!("{answer}"))
        .to_owned()
}

#[tokio::test]
async fn the_lab_lets_us_in_by_token_in_two_lines() {
    let Some(lab) = lab() else { return };
    let mint = |ttl: i64| {
        let body = json!({ "login": "alice@lab.test", "access_token_ttl": ttl });
        access_token(&control(lab, "/mint", &body))
    };
    let trust = Trust::load(Some(lab["ca_file"].as_str().unwrap().as_ref()), []).unwrap();
    let connector = Connector::new(trust);
    let of = |protocol: &str, tls: Tls| {
        let port = lab["dovecot"]["ports"][protocol].as_u64().unwrap();
        Mailbox {
            sasl_user: "alice@lab.test".into(),
            ..mailbox(u16::try_from(port).unwrap(), tls)
        }
    };
    let fresh = mint(600);
    for mailbox in [of("pop3s", Tls::Implicit), of("pop3", Tls::StartTls)] {
        let mut session = connector.connect(&mailbox, &token(&fresh)).await.unwrap();
        let entries = session.list().await.unwrap();
        let haul = session.retrieve(&entries, 1 << 20).await;
        assert!(haul.broken.is_none(), "{:?}", haul.broken);
        assert!(haul.come.iter().all(|come| matches!(come.content, Content::Whole(_))));
        session.leave().await;
        let stale = connector.connect(&mailbox, &token(&mint(-60))).await.unwrap_err();
        assert!(stale.is_credential_refused(), "{stale:?}");
        assert_eq!(stale.code(), "AUTH", "{stale:?}");
        let others = Mailbox {
            sasl_user: "bob@lab.test".into(),
            ..mailbox
        };
        let wrong = connector.connect(&others, &token(&fresh)).await.unwrap_err();
        assert!(wrong.is_credential_refused(), "{wrong:?}");
    }
}

#[test]
fn a_token_from_the_lab_opens_its_mailbox_and_one_that_is_refused_is_renewed_once() {
    let Some(lab) = lab() else { return };
    // Whatever token comes first is refused.
    let first: std::sync::Mutex<Option<String>> = std::sync::Mutex::new(None);
    let stage = Stage::with(&["support"], move |options| {
        options.token(move |user, token| {
            let mut first = first.lock().unwrap();
            user == address("support") && first.get_or_insert_with(|| token.to_owned()) != token
        })
    });
    let program = &stage.scene.program;
    let text = |pointer: &str| lab.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
    let integration = format!(
        "[[integration]]\nname = \"lab\"\nprovider = \"custom\"\nflow = \"client-credentials\"\n\
         token_endpoint = \"{}\"\nclient_id = \"lab-application\"\nclient_secret = {}\nclient_secret_expires = \"never\"\n\
         scopes = [\"{}\"]\nca_file = \"{}\"\n",
        text("/oauth/token_endpoint"),
        program.secret("client", "lab-application-secret"),
        text("/oauth/application_scope"),
        text("/ca_file"),
    );
    let by_token = |section: String| -> String {
        let lines = section.lines().map(|line| {
            if line.starts_with("password =") {
                "integration = \"lab\""
            } else {
                line
            }
        });
        lines.collect::<Vec<_>>().join("\n") + "\n"
    };
    let scripted = by_token(stage.section("support", ""));
    let dovecot = by_token(stage.scene.mailbox_at(
        u16::try_from(lab["dovecot"]["ports"]["pop3s"].as_u64().unwrap()).unwrap(),
        "lab",
        "protocol = \"pop3\"\npoll_interval = \"1s\"\nstart = \"new\"",
    ))
    .replace(&address("lab"), "carol@lab.test")
    .replace(
        &stage.scene.authority.ca_file().display().to_string(),
        &text("/ca_file"),
    );
    stage
        .scene
        .configure(&[&integration, &scripted, &dovecot, "[[project]]\nkey = \"SUP\"\n"]);
    stage.deliver(&mail("one"));
    let mut daemon = program.daemon();
    for mailbox in ["support", "lab"] {
        stage.scene.wait_state(&mut daemon, mailbox, "watching", SOON);
    }
    let log = stage.server.log();
    let refused = log.iter().filter(|line| line.starts_with("answered")).count();
    assert_eq!(refused, 1, "{log:?}");
    stage.wait_query(&mut daemon, "SELECT count(*) FROM issues", "1");
    assert_eq!(daemon.events("alert.raised").len(), 0, "{}", daemon.log());
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
}
