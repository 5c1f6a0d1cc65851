//! The way out by SMTP: against a server that plays scripts, and against the lab's.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mailintake::fault::Remedy;
use mailintake::mailbox::{Sasl, Tls};
use mailintake::outgoing::{Smtp, SmtpSignIn};
use mailintake::smtp::{Connector, Credential, Envelope, Session, SmtpError, Step, Timeouts};
use mailintake::tls::Trust;
use secrecy::SecretString;

use crate::script;
use crate::support::certificate::{Authority, LOOPBACK};
use crate::support::smtp_server::{Act, SmtpServer, on, protected, say};

const USER: &str = "support@example.org";
const PASSWORD: &str = "canary-password-1";
const TOKEN: &str = "canary.access-token-1";
const AZURE_USER: &str = "relay.0a1b2c3d-0a1b-2c3d-4e5f-0a1b2c3d4e5f.9a8b7c6d-9a8b-7c6d-5e4f-9a8b7c6d5e4f";
const MESSAGE: &[u8] = b"From: support@example.org\nSubject: x\n\nHello\n.\n.hidden\nend";

/// Short, so that a silent server is noticed while the test still runs.
const SHORT: Timeouts = Timeouts {
    connect: Duration::from_secs(3),
    command: Duration::from_millis(600),
    content: Duration::from_secs(5),
    answer: Duration::from_millis(900),
};

fn password(username: &str) -> Credential {
    Credential::Password {
        username: username.into(),
        password: SecretString::from(PASSWORD),
    }
}

fn token() -> Credential {
    Credential::Token {
        user: USER.into(),
        token: SecretString::from(TOKEN),
    }
}

fn envelope(recipients: &[&str]) -> Envelope {
    Envelope {
        sender: Some(USER.into()),
        recipients: recipients.iter().map(|&recipient| recipient.to_owned()).collect(),
    }
}

/// A server with its certificate authority, and how it is reached.
struct Scene {
    server: SmtpServer,
    connector: Connector,
    smtp: Smtp,
}

impl Scene {
    fn new(scripts: Vec<Vec<Act>>) -> Self {
        Self::with(Tls::StartTls, scripts)
    }

    fn with(tls: Tls, scripts: Vec<Vec<Act>>) -> Self {
        let authority = Authority::new();
        let identity = authority.issue(&LOOPBACK);
        let server = SmtpServer::start(&identity, tls == Tls::Implicit, scripts);
        let trust = Trust::load(Some(authority.ca_file()), []).unwrap();
        let smtp = smtp(server.port(), tls);
        Self {
            connector: Connector::with_timeouts(trust, SHORT),
            server,
            smtp,
        }
    }

    fn sasl(mut self, sasl: Sasl) -> Self {
        self.smtp.sasl = sasl;
        self
    }

    async fn connect(&self, credential: &Credential) -> Result<Session, SmtpError> {
        self.connector.connect(&self.smtp, credential).await
    }

    /// How the sign-in fails.
    async fn refusal(&self, credential: &Credential) -> SmtpError {
        match self.connect(credential).await {
            Ok(_) => panic!("it signed in"),
            Err(error) => error,
        }
    }

    /// How a message fails that goes out without a sign-in.
    async fn failure(&self, recipients: &[&str]) -> (Session, SmtpError) {
        let mut session = self.connect(&Credential::None).await.unwrap();
        let error = session.send(&envelope(recipients), MESSAGE).await.unwrap_err();
        (session, error)
    }

    /// What was heard on the connections, EHLO and STARTTLS left out.
    fn heard(&self) -> Vec<String> {
        let heard = self.server.heard().concat();
        let is_told = |line: &String| !line.starts_with("EHLO ") && line != "STARTTLS";
        heard.into_iter().filter(is_told).collect()
    }
}

fn smtp(port: u16, tls: Tls) -> Smtp {
    Smtp {
        name: "relay".into(),
        host: "localhost".into(),
        port,
        tls,
        ca_file: None,
        from: None,
        sign_in: SmtpSignIn::Anonymous,
        sasl: Sasl::Auto,
    }
}

fn base64(text: &str) -> String {
    STANDARD.encode(text)
}

fn plain() -> String {
    format!("AUTH PLAIN {}", base64(&format!("\0{USER}\0{PASSWORD}")))
}

fn xoauth2() -> String {
    let text = format!("user={USER}\x01auth=Bearer {TOKEN}\x01\x01");
    format!("AUTH XOAUTH2 {}", base64(&text))
}

/// MAIL, RCPT and DATA go well.
fn up_to_data() -> Vec<Act> {
    script![
        on("MAIL FROM:<support@example.org> BODY", "250 2.1.0 fine").map(short_mail),
        on("RCPT TO:<ann@example.net>", "250 2.1.5 fine"),
        on("DATA", "354 go on"),
    ]
}

/// The sender without parameters.
fn short_mail(act: Act) -> Act {
    match act {
        Act::Hear(_) => Act::Hear("MAIL FROM:<support@example.org>"),
        other => other,
    }
}

#[tokio::test]
async fn a_mail_goes_out_over_either_kind_of_tls() {
    let rest = script![
        on("AUTH PLAIN ", "235 2.7.0 welcome"),
        up_to_data(),
        [Act::HearMessage, say("250 2.0.0 queued as 42")],
        on("QUIT", "221 bye"),
    ];
    let greeting = script![
        [say("220 mx.example.org ESMTP")],
        on("EHLO ", "250-mx\r\n250 AUTH PLAIN LOGIN"),
    ];
    for (tls, opening) in [
        (Tls::StartTls, protected("AUTH PLAIN LOGIN")),
        (Tls::Implicit, greeting),
    ] {
        let scene = Scene::with(tls, vec![script![opening, rest.clone()]]);
        let mut session = scene.connect(&password(USER)).await.unwrap();
        let receipt = session.send(&envelope(&["ann@example.net"]), MESSAGE).await.unwrap();
        session.quit().await;
        assert_eq!(receipt.response, "2.0.0 queued as 42");
        assert!(receipt.refused.is_empty());
        let message = "From: support@example.org\r\nSubject: x\r\n\r\nHello\r\n..\r\n..hidden\r\nend";
        assert_eq!(
            scene.heard(),
            [
                &plain(),
                "MAIL FROM:<support@example.org>",
                "RCPT TO:<ann@example.net>",
                "DATA",
                message,
                "QUIT"
            ],
            "{tls:?}"
        );
    }
}

#[tokio::test]
async fn nothing_is_sent_in_clear() {
    let clear = script![
        [say("220 mx ESMTP")],
        on("EHLO ", "250-mx\r\n250 AUTH PLAIN"),
        [Act::Hang],
    ];
    let scene = Scene::new(vec![clear]);
    let error = scene.refusal(&password(USER)).await;
    assert!(matches!(error, SmtpError::NoStartTls { .. }), "{error}");
    assert_eq!(error.remedy(), Remedy::FixConfiguration);
    assert!(error.problem().remedy.contains("465"), "{:?}", error.problem());

    let refusing = script![
        [say("220 mx ESMTP")],
        on("EHLO ", "250-mx\r\n250 STARTTLS"),
        on("STARTTLS", "454 4.7.0 TLS not available"),
        [Act::Hang],
    ];
    let scene = Scene::new(vec![refusing]);
    let error = scene.refusal(&password(USER)).await;
    assert!(matches!(error, SmtpError::Refused { step: Step::Tls, .. }), "{error}");
    assert_eq!(error.remedy(), Remedy::RETRY);
    assert!(scene.heard().is_empty(), "{:?}", scene.heard());

    let mut scene = Scene::new(vec![protected("AUTH PLAIN")]);
    scene.smtp.tls = Tls::None;
    assert!(matches!(
        scene.refusal(&password(USER)).await,
        SmtpError::NoStartTls { .. }
    ));
}

#[tokio::test]
async fn text_from_before_tls_is_never_taken_for_an_answer() {
    // At once with the answer, and once the handshake is awaited.
    for late in [false, true] {
        let mut script = script![[say("220 mx ESMTP")], on("EHLO ", "250-mx\r\n250 STARTTLS")];
        script.push(Act::Hear("STARTTLS"));
        script.extend(if late {
            vec![say("220 go"), say("250-mx"), say("250 AUTH PLAIN")]
        } else {
            vec![Act::Say("220 go\r\n250-mx\r\n250 AUTH PLAIN\r\n".into())]
        });
        script.push(Act::Tls);
        script.push(Act::Hang);
        let scene = Scene::new(vec![script]);
        let error = scene.refusal(&password(USER)).await;
        let is_named = matches!(error, SmtpError::Injected { .. } | SmtpError::Tls { .. });
        assert!(
            is_named && (late || matches!(error, SmtpError::Injected { .. })),
            "{error}"
        );
        assert!(scene.heard().is_empty(), "{:?}", scene.heard());
    }
}

#[tokio::test]
async fn a_certificate_that_does_not_fit_is_named() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    for (identity, words) in [
        (authority.issue(&["mail.example.org"]), "hostname mismatch"),
        (authority.issue_expired(&LOOPBACK), "expired"),
        (stranger.issue(&LOOPBACK), "certificate verify failed"),
    ] {
        for tls in [Tls::Implicit, Tls::StartTls] {
            let script = match tls {
                Tls::Implicit => Vec::new(),
                _ => protected("AUTH PLAIN"),
            };
            let server = SmtpServer::start(&identity, tls == Tls::Implicit, vec![script]);
            let trust = Trust::load(Some(authority.ca_file()), []).unwrap();
            let connector = Connector::with_timeouts(trust, SHORT);
            let error = connector
                .connect(&smtp(server.port(), tls), &password(USER))
                .await
                .err()
                .unwrap();
            assert!(matches!(error, SmtpError::Tls { .. }), "{error}");
            assert!(error.to_string().to_lowercase().contains(words), "{words}: {error}");
            assert!(error.problem().remedy.contains("No credential was sent"));
        }
    }
    // The roots can be exchanged while the connector is shared.
    let server = SmtpServer::start(
        &authority.issue(&LOOPBACK),
        true,
        vec![script![[say("220 mx")], on("EHLO ", "250 mx")]],
    );
    let connector = Connector::with_timeouts(Trust::default(), SHORT);
    let relay = smtp(server.port(), Tls::Implicit);
    assert!(connector.clone().connect(&relay, &Credential::None).await.is_err());
    connector.set_trust(Trust::load(Some(authority.ca_file()), []).unwrap());
    connector.clone().connect(&relay, &Credential::None).await.unwrap();
}

#[tokio::test]
async fn the_mechanism_is_the_strongest_that_is_offered_under_tls() {
    let bearer = format!("n,a={USER},\x01host=localhost\x01port=PORT\x01auth=Bearer {TOKEN}\x01\x01");
    for (offers, credential, expected) in [
        ("AUTH LOGIN PLAIN XOAUTH2 OAUTHBEARER", token(), Ok("AUTH XOAUTH2 ")),
        ("AUTH LOGIN OAUTHBEARER", token(), Ok("AUTH OAUTHBEARER ")),
        ("AUTH=LOGIN PLAIN XOAUTH2", password(USER), Ok("AUTH PLAIN ")),
        (
            "AUTH XOAUTH2 OAUTHBEARER CRAM-MD5",
            password(USER),
            Err("XOAUTH2, OAUTHBEARER, CRAM-MD5"),
        ),
        ("AUTH PLAIN LOGIN", token(), Err("PLAIN, LOGIN")),
        ("SIZE 1000", password(USER), Err("no way at all")),
    ] {
        let scene = Scene::new(vec![script![protected(offers), on("AUTH ", "235 welcome")]]);
        match (scene.connect(&credential).await, expected) {
            (Ok(_), Ok(command)) => {
                let heard = scene.heard();
                assert!(heard.len() == 1 && heard[0].starts_with(command), "{offers}: {heard:?}");
                if command.contains("OAUTHBEARER") {
                    let bearer = bearer.replace("PORT", &scene.smtp.port.to_string());
                    assert_eq!(heard[0], format!("{command}{}", base64(&bearer)));
                }
            }
            (Err(error), Err(offered)) => {
                assert!(matches!(error, SmtpError::NoMechanism { .. }), "{offers}: {error}");
                assert!(error.to_string().contains(offered), "{offers}: {error}");
                assert!(error.to_string().contains("we can use "), "{error}");
                assert_eq!(error.remedy(), Remedy::FixConfiguration);
                assert!(scene.heard().is_empty(), "{offers}: {:?}", scene.heard());
            }
            (Ok(_), Err(_)) => panic!("{offers}: it signed in"),
            (Err(error), Ok(_)) => panic!("{offers}: {error}"),
        }
    }
}

#[tokio::test]
async fn a_configured_mechanism_is_the_only_one() {
    let login = || {
        script![
            on("AUTH LOGIN", "334 VXNlcm5hbWU6"),
            on("", "334 UGFzc3dvcmQ6"),
            on("", "235 welcome"),
        ]
    };
    // Offered or not.
    for offers in ["AUTH PLAIN LOGIN", "SIZE 1000"] {
        let scene = Scene::new(vec![script![protected(offers), login()]]).sasl(Sasl::Login);
        scene.connect(&password(USER)).await.unwrap();
        assert_eq!(
            scene.heard(),
            ["AUTH LOGIN", &base64(USER), &base64(PASSWORD)],
            "{offers}"
        );
    }
    // A password never goes the way of a token, nor the other way round.
    for (sasl, credential) in [
        (Sasl::XOAuth2, password(USER)),
        (Sasl::OAuthBearer, password(USER)),
        (Sasl::Plain, token()),
        (Sasl::Login, token()),
    ] {
        let script = script![protected("AUTH PLAIN LOGIN XOAUTH2 OAUTHBEARER"), [Act::Hang]];
        let scene = Scene::new(vec![script]).sasl(sasl);
        let error = scene.refusal(&credential).await;
        assert!(matches!(error, SmtpError::NoMechanism { .. }), "{sasl:?}: {error}");
        assert!(scene.heard().is_empty(), "{sasl:?}: {:?}", scene.heard());
    }
}

#[tokio::test]
async fn a_mechanism_that_is_offered_and_not_meant_is_followed_by_the_next() {
    let unrecognized = "504 5.7.4 Unrecognized authentication type";
    let login = script![
        on("AUTH LOGIN", "334 VXNlcm5hbWU6"),
        on("", "334 UGFzc3dvcmQ6"),
        on("", "235 welcome"),
    ];
    let offers = "AUTH LOGIN PLAIN";
    // On the same connection where it lives, else on a new one, where the first is not tried again.
    let same = vec![script![
        protected(offers),
        on("AUTH PLAIN ", unrecognized),
        login.clone()
    ]];
    let new = vec![
        script![protected(offers), on("AUTH PLAIN ", unrecognized)],
        script![protected(offers), login],
    ];
    for scripts in [same, new] {
        let scene = Scene::new(scripts);
        scene.connect(&password(AZURE_USER)).await.unwrap();
        assert_eq!(
            scene.heard()[1..],
            ["AUTH LOGIN", &base64(AZURE_USER), &base64(PASSWORD)]
        );
    }
    // Where all are refused so, the error says what there was instead of a bare 504.
    let scene = Scene::new(vec![script![
        protected(offers),
        on("AUTH PLAIN ", unrecognized),
        on("AUTH LOGIN", unrecognized),
        [Act::Hang],
    ]]);
    let error = scene.refusal(&password(USER)).await;
    let text = error.to_string();
    assert!(matches!(error, SmtpError::NoMechanism { .. }), "{text}");
    assert!(
        text.contains("LOGIN, PLAIN (and refuses PLAIN, LOGIN with 504)") && text.contains("we can use PLAIN, LOGIN"),
        "{text}"
    );
    assert_eq!(error.problem().code, "no-mechanism");
}

#[tokio::test]
async fn the_challenge_after_a_refused_token_is_answered_and_read() {
    let json = base64(r#"{"status":"401","schemes":"bearer","scope":"https://outlook.office.com/SMTP.Send"}"#);
    for (offers, opening, answer) in [
        ("AUTH XOAUTH2", "AUTH XOAUTH2 ", ""),
        ("AUTH OAUTHBEARER", "AUTH OAUTHBEARER ", "AQ=="),
    ] {
        let scene = Scene::new(vec![script![
            protected(offers),
            on(opening, &format!("334 {json}")),
            [Act::Hear(answer)],
            [say("535 5.7.3 Authentication unsuccessful [AM0PR01CA0001]")],
            [Act::Hang],
        ]]);
        let error = scene.refusal(&token()).await;
        assert_eq!(scene.heard()[1], answer, "{offers}");
        let SmtpError::SignInRefused { challenge, refusal, .. } = &error else {
            panic!("{error}");
        };
        let challenge = challenge.as_ref().unwrap();
        assert_eq!(challenge.status, "401");
        assert_eq!(challenge.scope.as_deref(), Some("https://outlook.office.com/SMTP.Send"));
        assert_eq!(refusal.codes(), "535 5.7.3");
        assert!(error.is_credential_refused() && error.remedy() == Remedy::Reauthorize);
        let remedy = error.problem().remedy;
        assert!(
            remedy.contains("SMTP.Send") && remedy.contains("`mailintake authorize smtp/relay`"),
            "{remedy}"
        );
    }
    assert!(xoauth2().len() < 512);
}

#[tokio::test]
async fn a_token_too_long_for_a_command_follows_the_question() {
    let scene = Scene::new(vec![script![
        protected("AUTH XOAUTH2"),
        on("AUTH XOAUTH2", "334 "),
        on("", "235 welcome"),
    ]]);
    let credential = Credential::Token {
        user: USER.into(),
        token: SecretString::from("t".repeat(20_000)),
    };
    scene.connect(&credential).await.unwrap();
    let heard = scene.heard();
    assert_eq!(heard[0], "AUTH XOAUTH2");
    assert!(heard[1].len() > 20_000);
}

/// Who signs in, what is answered, whose turn that is, and what the remedy must say.
type Refused = (fn() -> Credential, &'static str, Remedy, &'static [&'static str]);

const SET_MAILBOX: &str = "`Set-CASMailbox -Identity support@example.org -SmtpClientAuthenticationDisabled $false`";
const REFUSED: [Refused; 14] = [
    (
        token,
        "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. Visit https://aka.ms/smtp_auth_disabled",
        Remedy::AskAdministrator,
        &[SET_MAILBOX, "Set-TransportConfig"],
    ),
    (
        token,
        "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox.",
        Remedy::AskAdministrator,
        &[SET_MAILBOX],
    ),
    (
        by_password,
        "535 5.7.139 Authentication unsuccessful, the request did not meet the criteria",
        Remedy::AskAdministrator,
        &["Conditional Access"],
    ),
    (
        token,
        "430 4.2.0 STOREDRV; mailbox logon failure",
        Remedy::AskAdministrator,
        &["Add-MailboxPermission", "does not pass"],
    ),
    (
        token,
        "501 5.5.127 Invalid XOAUTH2 auth data - Token will expire soon",
        Remedy::RETRY,
        &["ten minutes"],
    ),
    (
        by_password,
        "535-5.7.8 Username and Password not accepted. For more information, go to\r\n535 5.7.8  https://support.google.com/mail/?p=BadCredentials x - gsmtp",
        Remedy::Reauthorize,
        &["app password"],
    ),
    (
        by_password,
        "534-5.7.9 Application-specific password required. For more information, go to\r\n534 5.7.9  https://support.google.com/mail/?p=InvalidSecondFactor x - gsmtp",
        Remedy::Reauthorize,
        &["app password"],
    ),
    (
        by_password,
        "550 5.7.30 Basic authentication is not supported for Client Submission.",
        Remedy::FixConfiguration,
        &["[[integration]]"],
    ),
    (
        by_secret_of_azure,
        "535 5.7.3 Authentication unsuccessful",
        Remedy::Reauthorize,
        &[
            "Microsoft.Communication/CommunicationServices Read and Write",
            "Microsoft.Communication/EmailServices Write",
            "expired",
            "linked",
        ],
    ),
    (
        by_secret_of_azure,
        "504 5.7.4 Unrecognized authentication type",
        Remedy::FixConfiguration,
        &["PLAIN or LOGIN"],
    ),
    (
        by_password,
        "535 Incorrect authentication data",
        Remedy::Reauthorize,
        &["reload"],
    ),
    (
        by_password,
        "454 4.7.0 Temporary authentication failure",
        Remedy::RETRY,
        &["by itself"],
    ),
    (
        by_password,
        "421 4.3.2 Service not active",
        Remedy::RETRY,
        &["by itself"],
    ),
    (
        by_password,
        "538 5.7.11 Encryption required",
        Remedy::FixConfiguration,
        &[],
    ),
];

fn by_password() -> Credential {
    password(USER)
}

fn by_secret_of_azure() -> Credential {
    password(AZURE_USER)
}

#[tokio::test]
async fn what_providers_refuse_with_has_the_remedy_of_the_catalogue() {
    for (credential, reply, remedy, words) in REFUSED {
        let scene = Scene::new(vec![script![
            protected("AUTH PLAIN XOAUTH2"),
            on("AUTH ", reply),
            [Act::Hang],
        ]]);
        let error = scene.refusal(&credential()).await;
        let problem = error.problem();
        assert_eq!(error.remedy(), remedy, "{reply}");
        for word in words {
            assert!(
                problem.remedy.contains(word),
                "{reply}: no {word:?} in {:?}",
                problem.remedy
            );
        }
        let is_own = problem.code == "no-mechanism" && reply.starts_with("504");
        assert!(
            is_own || reply.replace('-', " ").starts_with(&problem.code),
            "{reply}: {}",
            problem.code
        );
        let helps = remedy == Remedy::Reauthorize || reply.contains("5.5.127");
        assert_eq!(error.is_credential_refused(), helps, "{reply}");
    }
}

#[tokio::test]
async fn a_server_that_repeats_the_credential_is_not_quoted() {
    for reply in [
        format!("535 bad credentials {}", base64(&format!("\0{USER}\0{PASSWORD}"))),
        format!("535 no user with password {PASSWORD}"),
        format!("{} is no reply", plain()),
    ] {
        let scene = Scene::new(vec![script![protected("AUTH PLAIN"), on("AUTH ", &reply), [Act::Hang]]]);
        let error = scene.refusal(&password(USER)).await;
        let text = format!("{error} {error:?} {:?}", error.problem());
        assert!(!text.contains("canary"), "{text}");
        assert!(!text.contains(&base64(&format!("\0{USER}\0{PASSWORD}"))), "{text}");
    }
}

#[tokio::test]
async fn a_refused_recipient_is_no_fault_of_the_server() {
    let two = ["ann@example.net", "gone@example.net"];
    let scene = Scene::new(vec![script![
        protected("PIPELINING"),
        on("MAIL ", "250 fine"),
        on("RCPT TO:<ann", "250 fine"),
        on("RCPT TO:<gone", "550 5.1.1 no such user"),
        on("DATA", "354 go on"),
        [Act::HearMessage, say("250 queued")],
    ]]);
    let mut session = scene.connect(&Credential::None).await.unwrap();
    let receipt = session.send(&envelope(&two), MESSAGE).await.unwrap();
    let [(address, refusal)] = receipt.refused.as_slice() else {
        panic!("{receipt:?}")
    };
    assert_eq!(
        (address.as_str(), refusal.codes().as_str()),
        ("gone@example.net", "550 5.1.1")
    );
    assert!(!refusal.is_transient());

    // All of them: the message fails, and the session serves the next one.
    for (reply, remedy) in [
        ("550 5.1.1 no such user", Remedy::Quarantine),
        ("450 4.2.1 greylisted", Remedy::RETRY),
    ] {
        let scene = Scene::new(vec![script![
            protected("PIPELINING"),
            on("MAIL ", "250 fine"),
            on("RCPT ", reply),
            on("RSET", "250 fine"),
            up_to_data(),
            [Act::HearMessage, say("250 queued")],
        ]]);
        let (mut session, error) = scene.failure(&["ann@example.net"]).await;
        assert_eq!(error.remedy(), remedy, "{reply}");
        assert_eq!(error.refused().len(), 1);
        assert!(!error.is_unknown());
        session.send(&envelope(&["ann@example.net"]), MESSAGE).await.unwrap();
    }

    // What cannot be an address is refused before anything is said.
    let scene = Scene::new(vec![script![protected("PIPELINING"), [Act::Hang]]]);
    let (_, error) = scene.failure(&["x@y>\r\nDATA", ""]).await;
    assert_eq!((error.refused().len(), error.remedy()), (2, Remedy::Quarantine));
    assert!(scene.heard().is_empty(), "{:?}", scene.heard());
}

/// The step, what is answered to it, whose turn that is, and what the remedy must say.
const STEPS: [(Step, &str, Remedy, &str); 11] = [
    (Step::Sender, "421 4.3.2 busy", Remedy::RETRY, "by itself"),
    (
        Step::Sender,
        "530 5.7.0 Authentication required",
        Remedy::FixConfiguration,
        "sign in only",
    ),
    (
        Step::Sender,
        "550 5.1.0 sender refused",
        Remedy::FixConfiguration,
        "Set from",
    ),
    (Step::Recipient, "421 4.3.2 busy", Remedy::RETRY, "by itself"),
    (
        Step::Recipient,
        "530 5.7.57 Client not authenticated to send mail",
        Remedy::FixConfiguration,
        "sign in only",
    ),
    (Step::Data, "451 4.3.0 later", Remedy::RETRY, "by itself"),
    (Step::Answer, "554 5.7.1 spam", Remedy::Quarantine, "message"),
    (Step::Answer, "452 4.3.1 disk full", Remedy::RETRY, "by itself"),
    (
        Step::Answer,
        "554 5.2.252 SendAsDenied; support@example.org not allowed to send as x",
        Remedy::AskAdministrator,
        "Add-RecipientPermission",
    ),
    (
        Step::Answer,
        "550 5.7.60 SMTP; Client does not have permissions to send as this sender",
        Remedy::AskAdministrator,
        "SendAs",
    ),
    (Step::Answer, "552 5.3.4 too big", Remedy::Quarantine, "larger"),
];

#[tokio::test]
async fn each_step_refuses_in_its_own_way() {
    for (step, reply, remedy, words) in STEPS {
        let mut script = protected("PIPELINING");
        for (own, heard, well) in [
            (Step::Sender, "MAIL ", "250 fine"),
            (Step::Recipient, "RCPT ", "250 fine"),
            (Step::Data, "DATA", "354 go on"),
        ] {
            script.extend(on(heard, if own == step { reply } else { well }));
            if own == step {
                break;
            }
        }
        if step == Step::Answer {
            script.extend([Act::HearMessage, say(reply)]);
        }
        script.push(Act::Hang);
        let scene = Scene::new(vec![script]);
        let (_, error) = scene.failure(&["ann@example.net"]).await;
        assert!(
            matches!(&error, SmtpError::Refused { step: own, .. } if *own == step),
            "{reply}: {error}"
        );
        assert_eq!(error.remedy(), remedy, "{reply}");
        assert!(error.problem().remedy.contains(words), "{reply}: {:?}", error.problem());
        assert!(!error.is_unknown(), "{reply}");
    }
}

#[tokio::test]
async fn only_a_message_that_was_complete_may_have_been_taken() {
    let mail = || script![on("MAIL ", "250 fine"), on("RCPT ", "250 fine")];
    let data = || script![mail(), on("DATA", "354 go on")];
    let complete = || script![data(), [Act::HearMessage]];
    for (name, script, is_unknown) in [
        ("cut before DATA", mail(), false),
        (
            "silent after DATA",
            script![mail(), [Act::Hear("DATA"), Act::Hang]],
            false,
        ),
        ("cut after the end", complete(), true),
        ("silent after the end", script![complete(), [Act::Hang]], true),
        (
            "nonsense after the end",
            script![complete(), [say("what?"), Act::Hang]],
            true,
        ),
        (
            "half an answer after the end",
            script![complete(), [Act::Say("250-fine\r\n25".into())]],
            true,
        ),
        (
            "a question after the end",
            script![complete(), [say("354 more?"), Act::Hang]],
            true,
        ),
        (
            "no data wanted",
            script![mail(), on("DATA", "250 fine"), [Act::Hang]],
            false,
        ),
    ] {
        let scene = Scene::new(vec![script![protected("PIPELINING"), script]]);
        let (_, error) = scene.failure(&["ann@example.net"]).await;
        assert_eq!(error.is_unknown(), is_unknown, "{name}: {error}");
        assert_eq!(error.remedy(), Remedy::RETRY, "{name}: {error}");
    }
}

#[tokio::test]
async fn what_is_said_in_advance_or_breaks_in_the_middle_delivers_nothing() {
    // A reply in advance is no answer to what comes after it.
    let scene = Scene::new(vec![script![
        protected("PIPELINING"),
        on("MAIL ", "250 fine\r\n250 fine\r\n354 go on\r\n250 queued"),
        [Act::Hang],
    ]]);
    let (_, error) = scene.failure(&["ann@example.net"]).await;
    assert!(
        matches!(
            error,
            SmtpError::Garbled {
                step: Step::Recipient,
                ..
            }
        ),
        "{error}"
    );
    // The server goes away in the middle of a large message.
    let scene = Scene::new(vec![script![protected("PIPELINING"), up_to_data()]]);
    let mut session = scene.connect(&Credential::None).await.unwrap();
    let large = b"0123456789\r\n".repeat(500_000);
    let error = session.send(&envelope(&["ann@example.net"]), &large).await.unwrap_err();
    assert!(
        matches!(
            error,
            SmtpError::Lost {
                step: Step::Content,
                ..
            }
        ) && !error.is_unknown(),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_that_lies_or_stalls_is_bounded_and_named() {
    let begun = Instant::now();
    for (name, script, words) in [
        (
            "silent",
            vec![Act::Hang],
            "no answer in time (waiting for the greeting)",
        ),
        ("gone", vec![], "the connection broke (waiting for the greeting)"),
        (
            "http",
            vec![say("HTTP/1.1 400 Bad Request")],
            "no SMTP reply (waiting for the greeting): HTTP/1.1 400",
        ),
        (
            "busy",
            vec![say("421 4.3.2 too many")],
            "refused (waiting for the greeting): 421 4.3.2 too many",
        ),
        (
            "a line without end",
            vec![Act::Flood("2202202202")],
            "a line over the limit",
        ),
        ("lines without end", vec![Act::Flood("220-x\r\n")], "no SMTP reply"),
        ("drips", vec![Act::Say("220-".into()), Act::Hang], "no answer in time"),
        ("two codes", vec![say("220-a\r\n250 b")], "no SMTP reply"),
        (
            "no EHLO",
            script![[say("220 mx")], on("EHLO", "502 5.5.1 unknown"), [Act::Hang]],
            "refused (EHLO): 502",
        ),
        (
            "asks without end",
            script![
                protected("AUTH LOGIN"),
                on("AUTH", "334 x"),
                on("", "334 x"),
                on("", "334 x"),
                on("*", "334 x"),
                on("*", "334 x"),
                [Act::Hang]
            ],
            "it asks without end",
        ),
    ] {
        let scene = Scene::new(vec![script]);
        let error = scene.refusal(&password(USER)).await;
        assert!(error.to_string().contains(words), "{name}: {error}");
        assert_eq!(error.remedy(), Remedy::RETRY, "{name}");
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());

    let mut relay = smtp(1, Tls::StartTls);
    let connector = Connector::with_timeouts(Trust::default(), SHORT);
    let error = connector.connect(&relay, &Credential::None).await.err().unwrap();
    assert!(matches!(error, SmtpError::Connect { .. }), "{error}");
    relay.host = "no-such-host.invalid".into();
    let error = connector.connect(&relay, &Credential::None).await.err().unwrap();
    assert!(matches!(error, SmtpError::Resolve { .. }), "{error}");
}

#[tokio::test]
async fn a_message_asks_only_for_what_it_needs() {
    let plain = "Subject: x\r\n\r\nx\r\n";
    let eight_bit = "Subject: x\r\n\r\nä\r\n";
    let wide = "Subject: ä\r\n\r\nx\r\n";
    let all = "SMTPUTF8\r\n250-SIZE 1000";
    for (offers, recipient, message, expected) in [
        (all, "ann@example.net", plain, Ok("SIZE=17")),
        (all, "ann@example.net", eight_bit, Ok("SIZE=18 BODY=8BITMIME")),
        (all, "ann@example.net", wide, Ok("SIZE=18 BODY=8BITMIME SMTPUTF8")),
        (all, "änn@example.net", plain, Ok("SIZE=17 SMTPUTF8")),
        ("PIPELINING", "ann@bücher.example", plain, Ok("")),
        ("PIPELINING", "änn@example.net", plain, Err("unable")),
        ("PIPELINING", "ann@example.net", wide, Err("unable")),
        ("SIZE 10", "ann@example.net", plain, Err("too-large")),
        ("SIZE 0", "ann@example.net", plain, Ok("SIZE=17")),
    ] {
        let scene = Scene::new(vec![script![
            protected(offers),
            on("MAIL ", "250 fine"),
            on("RCPT ", "250 fine"),
            on("DATA", "354 go on"),
            [Act::HearMessage, say("250 queued")],
        ]]);
        let mut session = scene.connect(&Credential::None).await.unwrap();
        let envelope = Envelope {
            sender: None,
            recipients: vec![recipient.into()],
        };
        match (session.send(&envelope, message.as_bytes()).await, expected) {
            (Ok(_), Ok(parameters)) => {
                let mail = format!("MAIL FROM:<> {parameters}");
                assert_eq!(scene.heard()[0], mail.trim_end(), "{offers} {recipient}");
            }
            (Err(error), Err(code)) => {
                assert_eq!(
                    (error.code().as_str(), error.remedy()),
                    (code, Remedy::Quarantine),
                    "{error}"
                );
                assert!(scene.heard().is_empty(), "{offers}: {:?}", scene.heard());
            }
            (got, _) => panic!("{offers} {recipient}: {got:?}"),
        }
    }
}
