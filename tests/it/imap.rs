//! The IMAP client against our own server, which can misbehave, and against Dovecot.

use std::time::{Duration, Instant};

use mailintake::fault::Remedy;
use mailintake::imap::{Connector, Credential, Fetched, ImapError, Session, Timeouts, Woken};
use mailintake::mailbox::{
    After, Listed, Mailbox, Protocol, Sasl, Server, SignIn, Start, Tls, Uid, UidValidity, Watch,
};
use mailintake::secret::{Secret, SecretSource};
use mailintake::tls::Trust;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use crate::support::certificate::{Authority, LOOPBACK};
use crate::support::dovecot::Dovecot;
use crate::support::imap_server::{Action, Fault, ImapServer, Options, Security};

const USER: &str = "support@example.com";
const PASSWORD: &str = "a \"quoted\\ pass";
const TOKEN: &str = "ya29.good";
const LIMIT: u64 = 8 << 20;

/// Short, so that a silent server is noticed while the test still runs.
const SHORT: Timeouts = Timeouts {
    connect: Duration::from_secs(2),
    silence: Duration::from_millis(400),
    command: Duration::from_secs(3),
    done: Duration::from_millis(400),
};

fn options(security: Security) -> Options {
    Options::new(security)
        .user(USER, PASSWORD)
        .token(|user, token| user == USER && token == TOKEN)
}

fn clear() -> ImapServer {
    ImapServer::start(options(Security::Clear))
}

fn mailbox(port: u16, tls: Tls) -> Mailbox {
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
            protocol: Protocol::Imap,
            host: "localhost".into(),
            port,
            tls,
            ca_file: None,
        },
        folders: vec!["INBOX".into()],
        watch: Watch::Idle,
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

fn token(token: &str) -> Credential {
    Credential::Token(SecretString::from(token))
}

fn connector(authority: Option<&Authority>) -> Connector {
    let trust = Trust::load(authority.map(Authority::ca_file), []).unwrap();
    Connector::with_timeouts(trust, SHORT)
}

async fn sign_in(server: &ImapServer) -> Session {
    let mailbox = mailbox(server.port(), Tls::None);
    connector(None).connect(&mailbox, &password()).await.unwrap()
}

/// A session with INBOX open.
async fn inbox(server: &ImapServer) -> Session {
    let mut session = sign_in(server).await;
    session.select("INBOX").await.unwrap();
    session
}

fn uid(number: u32) -> Uid {
    Uid::new(number).unwrap()
}

fn mail(subject: &str, size: usize) -> Vec<u8> {
    let mut raw =
        format!("From: a@example.org\r\nSubject: {subject}\r\nMessage-ID: <{subject}@x>\r\n\r\n").into_bytes();
    while raw.len() < size {
        raw.extend(b"The quick brown fox jumps over the lazy dog, {1234} times.\r\n");
    }
    raw
}

async fn fetch(session: &mut Session, wanted: &[Listed], limit: u64) -> Result<Fetched, ImapError> {
    session.fetch(("INBOX", UidValidity(1)), wanted, limit).await
}

/// What a connect comes to, as an error.
async fn refusal(connector: &Connector, mailbox: &Mailbox, credential: &Credential) -> ImapError {
    match connector.connect(mailbox, credential).await {
        Ok(_) => panic!("it signed in"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn it_signs_in_by_each_mechanism_over_each_protection() {
    let authority = Authority::new();
    let identity = authority.issue(&LOOPBACK);
    let connector = connector(Some(&authority));
    for (security, tls) in [
        (Security::Clear, Tls::None),
        (Security::Implicit(identity.clone()), Tls::Implicit),
        (Security::StartTls(identity.clone()), Tls::StartTls),
    ] {
        for initial_response in [true, false] {
            let options = options(security.clone());
            let server = ImapServer::start(if initial_response {
                options
            } else {
                options.without("SASL-IR")
            });
            for (sasl, credential, said) in [
                (Sasl::Auto, password(), "AUTHENTICATE PLAIN"),
                (Sasl::Plain, password(), "AUTHENTICATE PLAIN"),
                (Sasl::Login, password(), "LOGIN support@example.com"),
                (Sasl::Auto, token(TOKEN), "AUTHENTICATE OAUTHBEARER"),
                (Sasl::XOAuth2, token(TOKEN), "AUTHENTICATE XOAUTH2"),
                (Sasl::OAuthBearer, token(TOKEN), "AUTHENTICATE OAUTHBEARER"),
            ] {
                server.clear_log();
                let mut mailbox = mailbox(server.port(), tls);
                mailbox.sasl = sasl;
                let case = format!("{tls:?} {sasl:?} {said} initial response: {initial_response}");
                let session = connector.connect(&mailbox, &credential).await;
                let session = session.unwrap_or_else(|error| panic!("{case}: {error}"));
                assert!(session.can_idle() && session.has("OBJECTID"), "{case}");
                assert_eq!(server.count(said), 1, "{case}: {:?}", server.log());
                session.logout().await;
            }
        }
    }
}

#[tokio::test]
async fn it_takes_the_mechanism_that_is_offered() {
    for (missing, credential, said) in [
        ("AUTH=PLAIN", password(), "LOGIN"),
        ("AUTH=OAUTHBEARER", token(TOKEN), "AUTHENTICATE XOAUTH2"),
        ("AUTH=XOAUTH2", token(TOKEN), "AUTHENTICATE OAUTHBEARER"),
    ] {
        let server = ImapServer::start(options(Security::Clear).without(missing));
        let mailbox = mailbox(server.port(), Tls::None);
        connector(None).connect(&mailbox, &credential).await.unwrap();
        assert_eq!(server.count(said), 1, "{missing}");
    }
    let bare = options(Security::Clear)
        .without("AUTH=PLAIN")
        .without("AUTH=XOAUTH2")
        .without("AUTH=OAUTHBEARER");
    let server = ImapServer::start(bare.with("LOGINDISABLED"));
    for credential in [password(), token(TOKEN)] {
        let error = refusal(&connector(None), &mailbox(server.port(), Tls::None), &credential).await;
        assert!(matches!(error, ImapError::NoMechanism { .. }), "{error}");
        assert_eq!(error.remedy(), Remedy::FixConfiguration);
    }
    assert_eq!(server.count("LOGIN") + server.count("AUTHENTICATE"), 0);
}

#[tokio::test]
async fn odd_passwords_pass_unharmed() {
    for secret in [
        "päss wörd €",
        "\"",
        "\\",
        "a\\\"b",
        "(){%*]",
        "~!@#$^&*=+",
        " leading and trailing ",
    ] {
        for sasl in [Sasl::Plain, Sasl::Login] {
            let server = ImapServer::start(Options::new(Security::Clear).user(USER, secret));
            let mut mailbox = mailbox(server.port(), Tls::None);
            mailbox.sasl = sasl;
            let credential = Credential::Password(SecretString::from(secret));
            let session = connector(None).connect(&mailbox, &credential).await;
            assert!(session.is_ok(), "{secret:?} by {sasl:?}: {:?}", session.err());
        }
    }
}

#[tokio::test]
async fn a_refused_token_is_told_with_its_challenge() {
    let server = clear();
    for (sasl, status) in [(Sasl::XOAuth2, "400"), (Sasl::OAuthBearer, "invalid_token")] {
        let mut mailbox = mailbox(server.port(), Tls::None);
        mailbox.sasl = sasl;
        let error = refusal(&connector(None), &mailbox, &token("expired")).await;
        assert!(error.is_credential_refused(), "{sasl:?}: {error}");
        let ImapError::SignInRefused {
            refusal,
            challenge,
            by_token,
            ..
        } = &error
        else {
            panic!("{sasl:?}: {error}");
        };
        assert_eq!(refusal.code.as_deref(), Some("AUTHENTICATIONFAILED"), "{sasl:?}");
        assert_eq!(
            challenge.as_ref().map(|challenge| challenge.status.as_str()),
            Some(status)
        );
        assert!(by_token);
        assert!(!error.problem().summary.contains("expired"), "the token is in {error}");
    }
}

#[tokio::test]
async fn a_refused_password_is_no_trouble_of_the_server_and_the_other_way_round() {
    let server = clear();
    let wrong = Credential::Password(SecretString::from("wrong"));
    for sasl in [Sasl::Plain, Sasl::Login] {
        let mut mailbox = mailbox(server.port(), Tls::None);
        mailbox.sasl = sasl;
        let error = refusal(&connector(None), &mailbox, &wrong).await;
        assert!(error.is_credential_refused(), "{sasl:?}: {error}");
    }
    for words in [
        "[UNAVAILABLE] Temporary authentication failure",
        "[INUSE] Mailbox is locked",
        "[LIMIT] Too many connections",
    ] {
        for (command, sasl) in [("AUTHENTICATE", Sasl::Plain), ("LOGIN", Sasl::Login)] {
            server.fault(Fault::at(command, Action::No(words.into())));
            let mut mailbox = mailbox(server.port(), Tls::None);
            mailbox.sasl = sasl;
            let error = refusal(&connector(None), &mailbox, &password()).await;
            assert!(!error.is_credential_refused(), "{words} at {command}: {error:?}");
            assert!(
                matches!(error.remedy(), Remedy::Retry { .. }),
                "{words} at {command}: {error:?}"
            );
        }
    }
}

#[tokio::test]
async fn no_credential_is_sent_to_a_server_that_cannot_prove_its_name() {
    let (authority, other) = (Authority::new(), Authority::new());
    let connector = connector(Some(&authority));
    for (identity, why) in [
        (other.issue(&LOOPBACK), "untrusted"),
        (authority.issue(&["mail.example.net"]), "wrong host"),
        (authority.issue_expired(&LOOPBACK), "expired"),
    ] {
        for (security, tls) in [
            (Security::Implicit(identity.clone()), Tls::Implicit),
            (Security::StartTls(identity.clone()), Tls::StartTls),
        ] {
            let server = ImapServer::start(options(security));
            let error = refusal(&connector, &mailbox(server.port(), tls), &password()).await;
            assert!(matches!(error, ImapError::Tls { .. }), "{why}: {error}");
            let problem = error.problem();
            let text = format!("{} {}", problem.summary, problem.remedy);
            assert!(
                text.contains("certificate") && text.contains("localhost"),
                "{why}: {text}"
            );
            assert_eq!(server.count("AUTHENTICATE") + server.count("LOGIN"), 0, "{why}");
        }
    }
}

#[tokio::test]
async fn a_ca_file_of_the_mailbox_is_trusted_for_it() {
    let authority = Authority::new();
    let server = ImapServer::start(options(Security::Implicit(authority.issue(&LOOPBACK))));
    let trust = Trust::load(None, [authority.ca_file()]).unwrap();
    let connector = Connector::with_timeouts(trust, SHORT);
    let mut mailbox = mailbox(server.port(), Tls::Implicit);
    assert!(connector.connect(&mailbox, &password()).await.is_err());
    mailbox.server.ca_file = Some(authority.ca_file().to_owned());
    connector.connect(&mailbox, &password()).await.unwrap();
}

#[tokio::test]
async fn starttls_is_never_talked_out_of() {
    let authority = Authority::new();
    let connector = connector(Some(&authority));
    let identity = authority.issue(&LOOPBACK);
    for (what, fault) in [
        ("refused", Fault::at("STARTTLS", Action::No("not now".into()))),
        ("unknown", Fault::at("STARTTLS", Action::Bad("what?".into()))),
        ("PREAUTH", Fault::at("GREETING", Action::replace("* OK", "* PREAUTH"))),
        (
            "injected",
            Fault::at(
                "STARTTLS",
                Action::replace("begin TLS\r\n", "begin TLS\r\n* CAPABILITY IMAP4rev1\r\n"),
            ),
        ),
        ("no TLS", Fault::at("TLS", Action::HangUp)),
        ("silent TLS", Fault::at("TLS", Action::Silence)),
        ("in clear", Fault::at("TLS", Action::No("hello".into()))),
    ] {
        let server = ImapServer::start(options(Security::StartTls(identity.clone())));
        server.fault(fault);
        let error = refusal(&connector, &mailbox(server.port(), Tls::StartTls), &password()).await;
        let is_told = matches!(
            error,
            ImapError::Unprotected { .. }
                | ImapError::Tls { .. }
                | ImapError::No { .. }
                | ImapError::Bad { .. }
                | ImapError::Timeout { .. }
        );
        assert!(is_told, "{what}: {error:?}");
        assert_eq!(server.count("AUTHENTICATE") + server.count("LOGIN"), 0, "{what}");
    }
    let plain = clear();
    let error = refusal(&connector, &mailbox(plain.port(), Tls::StartTls), &password()).await;
    assert_eq!(plain.count("AUTHENTICATE") + plain.count("LOGIN"), 0, "{error}");
}

#[tokio::test]
async fn nobody_at_the_port_is_told_with_host_and_port() {
    let port = clear().port();
    let error = refusal(&connector(None), &mailbox(port, Tls::None), &password()).await;
    assert!(matches!(error, ImapError::Connect { .. }), "{error:?}");
    assert!(error.to_string().contains(&format!("localhost:{port}")), "{error}");
    let mut nowhere = mailbox(port, Tls::None);
    nowhere.server.host = "no-such-host.invalid".into();
    let error = refusal(&connector(None), &nowhere, &password()).await;
    assert!(matches!(error, ImapError::Resolve { .. }), "{error:?}");
}

#[tokio::test]
async fn a_folder_is_opened_with_what_the_server_tells_of_it() {
    let server = clear();
    server.deliver(USER, "INBOX", "Subject: a\n\nb\n");
    server.set_uidvalidity(USER, "INBOX", 77);
    let mut session = sign_in(&server).await;
    for opened in [
        session.select("INBOX").await.unwrap(),
        session.examine("inbox").await.unwrap(),
    ] {
        assert_eq!(
            (opened.uidvalidity, opened.uidnext, opened.exists),
            (UidValidity(77), Some(uid(2)), 1)
        );
    }
    server.change(USER, "INBOX", |folder| {
        (folder.tells_uidnext, folder.tells_uidvalidity) = (false, false);
    });
    let opened = session.select("INBOX").await.unwrap();
    assert_eq!((opened.uidvalidity, opened.uidnext), (UidValidity(0), None));
    let error = session.select("Nowhere").await.unwrap_err();
    assert!(
        matches!(&error, ImapError::FolderMissing { folder, .. } if folder == "Nowhere"),
        "{error:?}"
    );
    assert!(matches!(
        session.select("a\r\nb LOGOUT").await,
        Err(ImapError::BadName(_))
    ));
    server.deliver(USER, "St&APg-tte \"1\"", "Subject: a\n\nb\n");
    assert_eq!(session.select("Støtte \"1\"").await.unwrap().exists, 1);
}

#[tokio::test]
async fn a_listing_has_what_was_asked_for_and_nothing_else() {
    let server = clear();
    for subject in ["one", "two", "three"] {
        server.deliver(USER, "INBOX", mail(subject, 0));
    }
    server.flag(USER, "INBOX", 2, "\\Seen");
    server.flag(USER, "INBOX", 3, "\\Deleted");
    let mut session = inbox(&server).await;
    let all = session.list(uid(1)).await.unwrap();
    let seen: Vec<_> = all.iter().map(|l| (l.uid.get(), l.is_seen, l.is_deleted)).collect();
    assert_eq!(seen, [(1, false, false), (2, true, false), (3, false, true)]);
    assert!(
        all.iter()
            .all(|listed| listed.size > 40 && listed.received_at.is_some())
    );
    assert_eq!(session.list(uid(3)).await.unwrap().len(), 1);
    // `4:*` answers with message 3.
    assert_eq!(session.list(uid(4)).await.unwrap(), []);
    let noise = "* 9 EXISTS\r\n* 2 FETCH (FLAGS (\\Seen))\r\n* 2 FETCH (UID 2 FLAGS ())\r\n* OK still here\r\n";
    server.fault(Fault::at("UID FETCH", Action::Before(noise.into())));
    assert_eq!(session.list(uid(1)).await.unwrap(), all);
    let ids = session.headers(&[uid(1), uid(3)]).await.unwrap();
    assert_eq!(ids, [(uid(1), Some("one@x".into())), (uid(3), Some("three@x".into()))]);
}

#[tokio::test]
async fn messages_come_whole_and_in_order_whatever_their_size() {
    let server = clear();
    let mut raw = vec![
        mail("small", 0),
        mail("exact", 0),
        mail("large", 3 << 20),
        Vec::new(),
        mail("last", 0),
    ];
    let filling = (1 << 20) - raw[1].len();
    raw[1].extend(std::iter::repeat_n(b'x', filling));
    raw[4].extend([0, 0xff, b'\n', b'\r', b'}', b'\n']);
    for bytes in &raw {
        server.deliver_exactly(USER, "INBOX", bytes.clone());
    }
    let mut session = inbox(&server).await;
    let mut wanted = session.list(uid(1)).await.unwrap();
    wanted.reverse();
    let fetched = fetch(&mut session, &wanted, LIMIT).await.unwrap();
    assert_eq!(fetched.vanished, []);
    let uids: Vec<_> = fetched
        .messages
        .iter()
        .map(|message| message.place.uid().unwrap().get())
        .collect();
    assert_eq!(uids, [5, 4, 3, 2, 1]);
    for (message, bytes) in fetched.messages.iter().rev().zip(&raw) {
        let on_disk = message.large.as_ref().map(|large| large.read().unwrap().into_owned());
        assert!(
            on_disk.as_ref().unwrap_or(&message.bytes) == bytes && !message.is_stub,
            "{:?}",
            message.place
        );
        assert!(message.server_id.is_some() && message.received_at.is_some());
    }
    assert!(
        server
            .messages(USER, "INBOX")
            .iter()
            .all(|message| message.flags.is_empty()),
        "fetching marks nothing"
    );
}

#[tokio::test]
async fn a_message_over_the_limit_is_a_stub_even_if_the_server_lies_about_its_size() {
    let server = clear();
    for stated in [None, Some(1000), Some(0), Some(u64::from(u32::MAX))] {
        let uid = server.deliver(USER, "INBOX", mail("huge", 6 << 20));
        server.change(USER, "INBOX", |folder| {
            for message in folder.messages.iter_mut().filter(|message| message.uid == uid) {
                message.stated_size = stated;
            }
        });
    }
    let mut session = inbox(&server).await;
    let wanted = session.list(uid(1)).await.unwrap();
    let fetched = fetch(&mut session, &wanted, 2 << 20).await.unwrap();
    assert_eq!(fetched.messages.len(), 4);
    for message in fetched.messages {
        assert!(
            message.is_stub && message.bytes.ends_with(b"\r\n\r\n"),
            "{:?}",
            message.place
        );
        assert!(message.bytes.len() < 200);
    }
}

#[tokio::test]
async fn a_message_that_is_gone_is_told_as_vanished() {
    let server = clear();
    for subject in ["one", "two", "three"] {
        server.deliver(USER, "INBOX", mail(subject, 0));
    }
    let mut session = inbox(&server).await;
    let wanted = session.list(uid(1)).await.unwrap();
    server.remove(USER, "INBOX", 2);
    let fetched = fetch(&mut session, &wanted, LIMIT).await.unwrap();
    assert_eq!(fetched.vanished, [uid(2)]);
    assert_eq!(fetched.messages.len(), 2);
    // An answer that breaks off must not be taken for messages that are gone.
    server.fault(Fault::at("UID FETCH", Action::HangUpAfter(200)));
    let fetched = fetch(&mut session, &wanted, LIMIT).await.unwrap();
    assert_eq!((fetched.messages.len(), fetched.vanished.len()), (1, 0));
    assert!(matches!(fetched.broken, Some(ImapError::Lost { .. })));
    let mut session = inbox(&server).await;
    server.fault(Fault::at("UID FETCH", Action::HangUpAfter(20)));
    assert!(matches!(
        fetch(&mut session, &wanted, LIMIT).await,
        Err(ImapError::Lost { .. })
    ));
}

#[tokio::test]
async fn what_is_settled_is_settled_once_and_can_be_repeated() {
    for (missing, after) in [
        ("", After::Seen),
        ("", After::Flag("$Ingested".into())),
        ("", After::Move("Archiv/Größe".into())),
        ("MOVE", After::Move("Done".into())),
        ("", After::Delete),
        ("UIDPLUS", After::Delete),
    ] {
        let case = format!("{after:?} without {missing:?}");
        let server = ImapServer::start(options(Security::Clear).without(missing));
        for subject in ["one", "two", "three", "four"] {
            server.deliver(USER, "INBOX", mail(subject, 0));
        }
        server.flag(USER, "INBOX", 4, "\\Deleted");
        let mut session = inbox(&server).await;
        for _ in 0..2 {
            session
                .settle(&[uid(1), uid(2)], &after)
                .await
                .unwrap_or_else(|error| panic!("{case}: {error}"));
        }
        let left = server.messages(USER, "INBOX");
        let uids: Vec<u32> = left.iter().map(|message| message.uid).collect();
        let marked = |flag: &str| left.iter().take(2).all(|message| message.has(flag));
        match (&after, missing) {
            (After::Seen, _) => assert!(marked("\\Seen") && !left[2].has("\\Seen"), "{case}"),
            (After::Flag(flag), _) => assert!(marked(flag) && !left[2].has(flag), "{case}"),
            (After::Delete, "UIDPLUS") => assert!(uids == [1, 2, 3, 4] && marked("\\Deleted"), "{case}"),
            (After::Delete | After::Move(_) | After::Keep, _) => assert_eq!(uids, [3, 4], "{case}"),
        }
        if let After::Move(folder) = &after {
            let wire = folder.replace("öß", "&APYA3w-");
            assert_eq!(server.messages(USER, &wire).len(), 2, "{case}");
        }
        assert_eq!(
            server.count("EXPUNGE"),
            0,
            "{case}: a bare EXPUNGE takes along what others marked"
        );
    }
}

#[tokio::test]
async fn waiting_ends_by_mail_by_time_and_by_the_stop() {
    let server = clear();
    let mut session = inbox(&server).await;
    let stop = CancellationToken::new();
    let long = Duration::from_secs(20);
    let deliver = async {
        while server.count("IDLE") == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.deliver(USER, "INBOX", mail("new", 0));
    };
    let (woken, ()) = tokio::join!(session.idle(long, &stop), deliver);
    assert_eq!(woken.unwrap(), Woken::Mail);
    assert_eq!(
        session.idle(Duration::from_millis(600), &stop).await.unwrap(),
        Woken::Timeout
    );
    let cancel = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        stop.cancel();
    };
    let (woken, ()) = tokio::join!(session.idle(long, &stop), cancel);
    assert_eq!(woken.unwrap(), Woken::Cancelled);
    // The connection is still good after each.
    assert_eq!(session.list(uid(1)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_server_that_fails_while_we_wait_is_noticed() {
    let stop = CancellationToken::new();
    for (fault, is_meant) in [
        (
            Fault::at("IDLE", Action::No("no".into())),
            is_unsupported as fn(&ImapError) -> bool,
        ),
        (Fault::at("IDLE", Action::Bad("what".into())), is_unsupported),
        (Fault::at("IDLE", Action::Bad(String::new())), is_unsupported),
        (Fault::at("IDLE", Action::Silence), |error| {
            matches!(error, ImapError::Timeout { .. })
        }),
        (Fault::at("IDLE", Action::HangUp), |error| {
            matches!(error, ImapError::Lost { .. })
        }),
        (Fault::at("PUSH", Action::Bye("restart".into())), |error| {
            matches!(error, ImapError::Bye { .. })
        }),
        (Fault::at("PUSH", Action::HangUp), |error| {
            matches!(error, ImapError::Lost { .. })
        }),
        (Fault::at("DONE", Action::Silence), |error| {
            matches!(error, ImapError::Timeout { .. })
        }),
        (Fault::at("DONE", Action::HangUp), |error| {
            matches!(error, ImapError::Lost { .. })
        }),
    ] {
        let server = clear();
        let mut session = inbox(&server).await;
        server.fault(fault);
        let begun = Instant::now();
        let error = session.idle(Duration::from_millis(700), &stop).await.unwrap_err();
        assert!(is_meant(&error), "{error:?}");
        assert!(
            begun.elapsed() < Duration::from_secs(3),
            "{error:?} took {:?}",
            begun.elapsed()
        );
    }
}

fn is_unsupported(error: &ImapError) -> bool {
    matches!(error, ImapError::IdleUnsupported)
}

/// Everything that a mailbox does in its life, until the first error.
async fn whole_life(server: &ImapServer) -> Result<(), ImapError> {
    let mailbox = mailbox(server.port(), Tls::None);
    // A second is much for two small messages, and each endless answer takes all of it.
    let timeouts = Timeouts {
        command: Duration::from_secs(1),
        ..SHORT
    };
    let connector = Connector::with_timeouts(Trust::load(None, []).unwrap(), timeouts);
    let mut session = connector.connect(&mailbox, &password()).await?;
    session.select("INBOX").await?;
    let wanted = session.list(uid(1)).await?;
    fetch(&mut session, &wanted, LIMIT).await?;
    session.settle(&[uid(1)], &After::Seen).await?;
    session.settle(&[uid(1)], &After::Move("Done".into())).await?;
    session.settle(&[uid(2)], &After::Delete).await?;
    session.noop().await?;
    session
        .idle(Duration::from_millis(50), &CancellationToken::new())
        .await
        .map(drop)
}

#[tokio::test]
async fn each_fault_at_each_step_ends_soon_and_never_well() {
    let steps = [
        "GREETING",
        "AUTHENTICATE",
        "SELECT",
        "UID FETCH",
        "UID STORE",
        "UID MOVE",
        "UID EXPUNGE",
        "CREATE",
        "NOOP",
        "IDLE",
        "DONE",
    ];
    let actions = [
        ("NO", Action::No("[X-ODD] no".into())),
        ("BAD", Action::Bad("bad".into())),
        ("a bare BAD", Action::Bad(String::new())),
        ("BYE", Action::Bye("[UNAVAILABLE] going down".into())),
        ("end", Action::HangUp),
        ("silence", Action::Silence),
        ("end in the answer", Action::HangUpAfter(3)),
        ("silence in the answer", Action::SilenceAfter(3)),
        ("garbage", Action::Before(b"* 7 FETCH (((( \"\xff\x00\r\n".to_vec())),
        ("flood", Action::Flood(b"* OK ".to_vec(), vec![b'x'; 4096])),
        (
            "endless answers",
            Action::Flood(Vec::new(), b"* OK still busy\r\n".repeat(100)),
        ),
        (
            "a huge literal",
            Action::Flood(b"* 1 FETCH (BODY[] {4000000000}\r\n".to_vec(), vec![b'x'; 4096]),
        ),
    ];
    let mut wrong = Vec::new();
    for step in steps {
        // What a server says to the end of IDLE does not matter, as long as it ends.
        let is_harmless = |what: &str| step == "DONE" && ["NO", "BAD", "a bare BAD"].contains(&what);
        let cases = actions
            .iter()
            .filter(|(what, _)| !is_harmless(what))
            .map(|(what, action)| async move {
                let ended = faulty(step, action.clone()).await;
                ended.err().map(|why| format!("{what} at {step} {why}"))
            });
        wrong.extend(futures::future::join_all(cases).await.into_iter().flatten());
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A whole life with this fault in it; what is wrong with how it ended.
async fn faulty(step: &str, action: Action) -> Result<(), String> {
    let server = clear();
    server.deliver(USER, "INBOX", mail("one", 0));
    server.deliver(USER, "INBOX", mail("two", 0));
    server.fault(Fault::at(step, action));
    match tokio::time::timeout(Duration::from_secs(15), whole_life(&server)).await {
        Err(_) => Err("was endured for ever".into()),
        Ok(Ok(())) => Err("was taken for success".into()),
        Ok(Err(error)) => {
            let text = error.problem().summary;
            if text.len() < 1000 && !text.contains(char::is_control) {
                Ok(())
            } else {
                Err(format!("was told as {text:?}"))
            }
        }
    }
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one life of a mailbox, on one Dovecot")]
async fn dovecot_serves_all_of_it() {
    let authority = Authority::new();
    let dovecot = Dovecot::start(&authority, &authority.issue(&LOOPBACK), &[(USER, "secret")], "");
    for (folder, subject) in [
        ("INBOX", "one"),
        ("INBOX", "two"),
        ("INBOX", "three"),
        ("Later", "four"),
    ] {
        let raw = String::from_utf8(mail(subject, 0)).unwrap();
        dovecot.deliver(USER, folder, &raw);
    }
    let secret = Credential::Password(SecretString::from("secret"));
    let connector = Connector::new(Trust::load(Some(authority.ca_file()), []).unwrap());
    for (port, tls) in [
        (dovecot.imaps_port(), Tls::Implicit),
        (dovecot.imap_port(), Tls::StartTls),
    ] {
        let error = refusal(&connector, &mailbox(port, tls), &password()).await;
        assert!(error.is_credential_refused(), "{error}");
        let mut session = connector.connect(&mailbox(port, tls), &secret).await.unwrap();
        assert_eq!(session.examine("Later").await.unwrap().exists, 1);
        assert!(matches!(
            session.select("Nowhere").await,
            Err(ImapError::FolderMissing { .. })
        ));
    }
    let mut session = connector
        .connect(&mailbox(dovecot.imaps_port(), Tls::Implicit), &secret)
        .await
        .unwrap();
    let opened = session.select("INBOX").await.unwrap();
    assert_eq!((opened.exists, opened.uidnext), (3, Some(uid(4))));
    let wanted = session.list(uid(1)).await.unwrap();
    let fetched = fetch(&mut session, &wanted, LIMIT).await.unwrap();
    let sizes: Vec<u64> = fetched
        .messages
        .iter()
        .map(|message| message.bytes.len() as u64)
        .collect();
    assert_eq!(sizes, wanted.iter().map(|listed| listed.size).collect::<Vec<_>>());
    for _ in 0..2 {
        session
            .settle(&[uid(1)], &After::Move("Fertig/Größe".into()))
            .await
            .unwrap();
        session.settle(&[uid(2)], &After::Delete).await.unwrap();
        session.settle(&[uid(3)], &After::Seen).await.unwrap();
    }
    let left = session.list(uid(1)).await.unwrap();
    assert_eq!(
        left.iter().map(|l| (l.uid.get(), l.is_seen)).collect::<Vec<_>>(),
        [(3, true)]
    );
    let deliver = async {
        let raw = String::from_utf8(mail("new", 0)).unwrap();
        dovecot.deliver(USER, "INBOX", &raw);
    };
    let stop = CancellationToken::new();
    let (woken, ()) = tokio::join!(session.idle(Duration::from_secs(20), &stop), deliver);
    assert_eq!(woken.unwrap(), Woken::Mail);
    assert_eq!(session.list(uid(4)).await.unwrap().len(), 1);
    assert_eq!(session.select("Fertig/Größe").await.unwrap().exists, 1);
    session.logout().await;
}
