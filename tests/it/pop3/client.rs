//! The client, line by line.

use std::time::{Duration, Instant};

use mailintake::fault::Remedy;
use mailintake::mailbox::{After, Credential, Mailbox, Protocol, Sasl, Server, SignIn, Start, Tls, Watch};
use mailintake::pop3::{Connector, Content, Entry, Pop3Error, Session, Timeouts};
use mailintake::secret::{Secret, SecretSource};
use mailintake::tls::Trust;
use secrecy::SecretString;

use crate::support::certificate::{Authority, LOOPBACK};
use crate::support::pop3_server::{Action, Fault, Options, Pop3Server, Security};

const USER: &str = "support@example.com";
const PASSWORD: &str = "a \"quoted\\ pass";
const TOKEN: &str = "ya29.good";
const LIMIT: u64 = 1 << 20;

/// Short, so that a silent server is noticed while the test still runs.
const SHORT: Timeouts = Timeouts {
    connect: Duration::from_secs(3),
    silence: Duration::from_millis(500),
    command: Duration::from_secs(20),
};

fn options(security: Security) -> Options {
    Options::new(security)
        .user(USER, PASSWORD)
        .token(|user, token| user == USER && token == TOKEN)
}

fn clear(shape: impl FnOnce(Options) -> Options) -> Pop3Server {
    Pop3Server::start(shape(options(Security::Clear)))
}

pub(super) fn mailbox(port: u16, tls: Tls) -> Mailbox {
    Mailbox {
        address: USER.into(),
        name: "support".into(),
        login: USER.into(),
        sign_in: SignIn::Password(Secret {
            source: SecretSource::Env("UNUSED".into()),
            value: SecretString::from(PASSWORD),
        }),
        sasl_user: USER.into(),
        sasl: Sasl::Auto,
        server: Server {
            protocol: Protocol::Pop3,
            host: "localhost".into(),
            port,
            tls,
            ca_file: None,
        },
        folders: vec!["INBOX".into()],
        watch: Watch::Poll,
        poll_interval: Duration::from_mins(1),
        start: Start::All,
        project: "SUP".into(),
        after: After::Keep,
        max_message_size: LIMIT,
        authserv_id: Vec::new(),
    }
}

fn password() -> Credential {
    Credential::Password(SecretString::from(PASSWORD))
}

pub(super) fn token(token: &str) -> Credential {
    Credential::Token(SecretString::from(token))
}

fn connector(authority: Option<&Authority>) -> Connector {
    let trust = Trust::load(authority.map(Authority::ca_file), []).unwrap();
    Connector::with_timeouts(trust, SHORT)
}

async fn session(server: &Pop3Server) -> Session {
    let mailbox = mailbox(server.port(), Tls::None);
    connector(None).connect(&mailbox, &password()).await.unwrap()
}

async fn refusal(connector: &Connector, mailbox: &Mailbox, credential: &Credential) -> Pop3Error {
    match connector.connect(mailbox, credential).await {
        Ok(_) => panic!("the server let us in"),
        Err(error) => error,
    }
}

fn whole(content: &Content) -> &[u8] {
    match content {
        Content::Whole(bytes) => bytes,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn each_protection_and_each_way_to_sign_in_works() {
    let authority = Authority::new();
    let connector = connector(Some(&authority));
    for (tls, security) in [
        (Tls::Implicit, Security::Implicit(authority.issue(&LOOPBACK))),
        (Tls::StartTls, Security::StartTls(authority.issue(&LOOPBACK))),
        (Tls::None, Security::Clear),
    ] {
        for (shape, credential, sasl, said) in [
            ("", password(), Sasl::Auto, "AUTH PLAIN"),
            ("", password(), Sasl::Login, "USER"),
            ("SASL", password(), Sasl::Auto, "USER"),
            ("CAPA", password(), Sasl::Auto, "USER"),
            ("", token(TOKEN), Sasl::Auto, "AUTH XOAUTH2"),
            ("OAUTHBEARER", token(TOKEN), Sasl::Auto, "AUTH OAUTHBEARER"),
        ] {
            let mut options = options(security.clone());
            options = match shape {
                "OAUTHBEARER" => options.without("SASL").with("SASL OAUTHBEARER"),
                other => options.without(other),
            };
            let server = Pop3Server::start(options);
            server.deliver(USER, "Subject: x\n\ny\n");
            let mut mailbox = mailbox(server.port(), tls);
            mailbox.sasl = sasl;
            let mut session = connector.connect(&mailbox, &credential).await.unwrap();
            assert_eq!(server.count(said), 1, "{tls:?} {shape}: {:?}", server.log());
            let has_uidl = shape != "CAPA";
            assert_eq!(session.list().await.unwrap()[0].uidl.is_some(), has_uidl);
            session.quit().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_refused_token_is_answered_with_an_empty_line_and_its_status_is_read() {
    let server = clear(|options| options);
    let error = refusal(&connector(None), &mailbox(server.port(), Tls::None), &token("stale")).await;
    assert!(error.is_credential_refused(), "{error:?}");
    assert_eq!(error.code(), "401");
    assert_eq!(error.remedy(), Remedy::Reauthorize);
    assert!(error.problem().remedy.contains("POP"), "{}", error.problem().remedy);
    assert!(server.log().contains(&"AUTH XOAUTH2".to_owned()), "{:?}", server.log());
    assert!(server.log().contains(&"answered \"\"".to_owned()), "{:?}", server.log());
}

#[tokio::test]
async fn codes_say_whose_turn_it_is() {
    let minutes = |m| Remedy::Retry {
        after: Some(Duration::from_mins(m)),
    };
    for (words, code, remedy) in [
        ("[IN-USE] locked", "IN-USE", Remedy::RETRY),
        ("[SYS/TEMP] the directory is away", "SYS/TEMP", Remedy::RETRY),
        ("[SYS/PERM] disabled", "SYS/PERM", Remedy::AskAdministrator),
        ("[AUTH] no", "AUTH", Remedy::Reauthorize),
        ("[LOGIN-DELAY] too soon", "LOGIN-DELAY", minutes(5)),
        ("no", "sign-in-refused", Remedy::Reauthorize),
    ] {
        let server = clear(|options| options.without("SASL"));
        server.fault(Fault::at("PASS", Action::No(words.into())));
        let error = refusal(&connector(None), &mailbox(server.port(), Tls::None), &password()).await;
        assert_eq!((error.code().as_str(), error.remedy()), (code, remedy), "{words}");
    }
    let server = clear(|options| options);
    server.fault(Fault::at("GREETING", Action::Bye("[SYS/PERM] closed for good".into())));
    let error = refusal(&connector(None), &mailbox(server.port(), Tls::None), &password()).await;
    assert!(matches!(error, Pop3Error::Greeting { .. }), "{error:?}");
    assert_eq!(error.remedy(), Remedy::AskAdministrator);
}

#[tokio::test]
async fn nothing_secret_is_said_where_the_line_is_not_protected() {
    let authority = Authority::new();
    let connector = connector(Some(&authority));
    let is_silent = |server: &Pop3Server| server.count("AUTH") + server.count("USER") + server.count("PASS") == 0;
    let identity = || authority.issue(&LOOPBACK);
    let server = Pop3Server::start(options(Security::StartTls(identity())));
    server.fault(Fault::at("STLS", Action::No("not today".into())));
    let error = refusal(&connector, &mailbox(server.port(), Tls::StartTls), &password()).await;
    assert!(matches!(error, Pop3Error::Unprotected { .. }), "{error:?}");
    assert!(is_silent(&server));
    let injected = Action::Change(std::sync::Arc::new(|mut answer: Vec<u8>| {
        answer.extend(b"+OK injected\r\n");
        answer
    }));
    server.fault(Fault::at("STLS", injected));
    let error = refusal(&connector, &mailbox(server.port(), Tls::StartTls), &password()).await;
    let is_refused = matches!(error, Pop3Error::Unprotected { .. } | Pop3Error::Tls { .. });
    assert!(is_refused && is_silent(&server), "{error:?}");
    for (tls, security) in [
        (Tls::Implicit, Security::Implicit(identity())),
        (Tls::StartTls, Security::StartTls(identity())),
    ] {
        let server = Pop3Server::start(options(security));
        let nobody = Connector::with_timeouts(Trust::load(None, []).unwrap(), SHORT);
        let error = refusal(&nobody, &mailbox(server.port(), tls), &password()).await;
        assert!(
            matches!(error, Pop3Error::Tls { .. }) && is_silent(&server),
            "{error:?}"
        );
    }
    let wrong = Pop3Server::start(options(Security::Implicit(authority.issue(&["elsewhere.example"]))));
    let error = refusal(&connector, &mailbox(wrong.port(), Tls::Implicit), &password()).await;
    assert!(matches!(error, Pop3Error::Tls { .. }), "{error:?}");
    let plain = clear(|options| options);
    let error = refusal(&connector, &mailbox(plain.port(), Tls::Implicit), &password()).await;
    assert!(matches!(error, Pop3Error::Tls { .. }), "{error:?}");
}

#[tokio::test]
async fn what_has_no_end_is_cut_off_and_named() {
    let flood = |first: &str, filling: &str| Action::Flood(first.into(), filling.as_bytes().repeat(2000));
    for (command, action, code) in [
        ("LIST", flood("+OK\r\n", "x"), "over-limit"),
        ("LIST", flood("+OK", "y"), "over-limit"),
        ("UIDL", flood("+OK\r\n", "1 a\r\n"), "over-limit"),
        ("LIST", flood("+OK\r\n", "1 320\r\n"), "over-limit"),
        ("LIST", Action::Silence, "timeout"),
        ("UIDL", Action::HangUp, "connection-lost"),
        ("UIDL", Action::HangUpAfter(7), "connection-lost"),
        ("LIST", Action::Before(b"* 1 EXISTS\r\n".to_vec()), "garbled"),
        ("UIDL", Action::No("[SYS/TEMP] later".into()), "SYS/TEMP"),
    ] {
        let server = clear(|options| options);
        server.deliver(USER, "Subject: x\n\ny\n");
        let mut session = session(&server).await;
        server.fault(Fault::at(command, action));
        let begun = Instant::now();
        let error = session.list().await.unwrap_err();
        assert_eq!(error.code(), code, "{command}: {error:?}");
        assert!(matches!(error.remedy(), Remedy::Retry { .. }), "{error:?}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
    for capa in [flood("+OK\r\n", "x"), flood("+OK\r\n", "TOP\r\n")] {
        let server = clear(|options| options);
        server.fault(Fault::at("CAPA", capa));
        let error = refusal(&connector(None), &mailbox(server.port(), Tls::None), &password()).await;
        assert_eq!(error.code(), "over-limit");
    }
}

#[tokio::test]
async fn a_message_without_end_is_cut_off_and_those_before_it_are_kept() {
    let server = clear(|options| options);
    server.deliver(USER, "Subject: one\n\nx\n");
    server.deliver(USER, "Subject: two\n\nx\n");
    let mut session = session(&server).await;
    let entries = session.list().await.unwrap();
    let endless = Action::Flood(b"+OK\r\n".to_vec(), vec![b'x'; 1 << 16]);
    server.fault(Fault::at("RETR", endless).after(1));
    let haul = session.retrieve(&entries, LIMIT).await;
    assert_eq!(haul.come.len(), 1);
    let broken = haul.broken.unwrap();
    assert_eq!(broken.at.map(|entry| entry.number), Some(2));
    // A debug build may be slower than the limit is far.
    assert!(
        ["over-limit", "timeout"].contains(&broken.error.code().as_str()),
        "{:?}",
        broken.error
    );
}

#[tokio::test]
async fn messages_come_as_they_are_with_and_without_commands_sent_ahead() {
    let mails: Vec<Vec<u8>> = vec![
        b"Subject: dots\r\n\r\n.\r\n..\r\n.x\r\n\r\n".to_vec(),
        [b"Subject: long\r\n\r\n".to_vec(), vec![b'x'; 300_000], b"\r\n".to_vec()].concat(),
        b"Subject: 8 bit\r\n\r\n\xff\xfe\x80\r\n".to_vec(),
        b"Subject: bare\r\n\r\na\n.\nb\rc\r\n".to_vec(),
        b"\r\n".to_vec(),
    ];
    for pipelining in [true, false] {
        let server = clear(|options| {
            if pipelining {
                options
            } else {
                options.without("PIPELINING")
            }
        });
        server.change(USER, |all| {
            all.extend(
                mails
                    .iter()
                    .enumerate()
                    .map(|(n, raw)| crate::support::pop3_server::Mail {
                        uidl: format!("u{n}"),
                        raw: raw.clone(),
                        stated: None,
                    }),
            );
        });
        let mut session = session(&server).await;
        let entries = session.list().await.unwrap();
        let haul = session.retrieve(&entries, LIMIT).await;
        assert!(haul.broken.is_none(), "{:?}", haul.broken);
        let come: Vec<&[u8]> = haul.come.iter().map(|retrieved| whole(&retrieved.content)).collect();
        let differing = come.iter().zip(&mails).position(|(come, mail)| come != mail);
        assert_eq!((come.len(), differing), (mails.len(), None));
        assert_eq!(session.delete(&[1, 3, 9]).await.unwrap().len(), 1, "there is no 9");
        session.quit().await.unwrap();
        assert_eq!(server.messages(USER).len(), 3);
    }
}

fn stated(server: &Pop3Server, size: u64) {
    server.change(USER, |mails| mails.iter_mut().for_each(|mail| mail.stated = Some(size)));
}

async fn only(server: &Pop3Server) -> (Content, Entry) {
    let mut session = session(server).await;
    let entries = session.list().await.unwrap();
    let mut haul = session.retrieve(&entries, 1000).await;
    assert!(haul.broken.is_none(), "{:?}", haul.broken);
    let retrieved = haul.come.pop().unwrap();
    session.leave().await;
    (retrieved.content, retrieved.entry)
}

#[tokio::test]
async fn the_limit_holds_for_what_is_stated_and_for_what_arrives() {
    let large = format!("Subject: large\n\n{}\n", "x".repeat(5000));
    for shape in ["", "TOP", "CAPA", "PIPELINING"] {
        let server = clear(|options| options.without(shape));
        server.deliver(USER, &large);
        let (content, _) = only(&server).await;
        assert!(
            matches!(&content, Content::Header(bytes, 5020) if bytes == b"Subject: large\r\n\r\n"),
            "{shape}: {content:?}"
        );
        let by_top = shape.is_empty() || shape == "PIPELINING";
        assert_eq!(server.count("RETR") == 0, by_top, "{:?}", server.log());
        // It lies, and is found out.
        stated(&server, 10);
        let (content, _) = only(&server).await;
        assert!(
            matches!(&content, Content::Header(bytes, 5020) if bytes.len() == 18),
            "{shape}: {content:?}"
        );
    }
    let server = clear(|options| options);
    server.deliver(USER, "Subject: small\n\nx\n");
    stated(&server, 7);
    assert_eq!(whole(&only(&server).await.0), b"Subject: small\r\n\r\nx\r\n");
}
