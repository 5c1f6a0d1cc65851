//! The way out by SMTP against the lab's server, and through the built program: `test` and `authorize`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mailintake::mailbox::{Sasl, Tls};
use mailintake::outgoing::{Smtp, SmtpSignIn};
use mailintake::smtp::{Connector, Credential, Envelope, SmtpError, Step, Timeouts};
use mailintake::tls::Trust;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::support::binary::Program;
use crate::support::lab::lab;

const USER: &str = "support@lab.test";
const PASSWORD: &str = "support-password";
const MESSAGE: &[u8] = b"From: support@lab.test\r\nSubject: x\r\n\r\n.\r\n..two\nbare\r\nend\r\n";

/// The lab's server for outgoing mail.
struct Sink {
    lab: &'static Value,
    connector: Connector,
}

impl Sink {
    fn new() -> Option<Self> {
        let lab = lab()?;
        let ca_file = lab["ca_file"].as_str().unwrap();
        let trust = Trust::load(Some(Path::new(ca_file)), []).unwrap();
        let timeouts = Timeouts {
            connect: Duration::from_secs(5),
            command: Duration::from_secs(3),
            content: Duration::from_secs(10),
            answer: Duration::from_secs(2),
        };
        let sink = Self {
            lab,
            connector: Connector::with_timeouts(trust, timeouts),
        };
        ask(&sink.control(), "DELETE", "/settings", &json!({}));
        sink.forget();
        Some(sink)
    }

    fn control(&self) -> String {
        self.lab["smtp"]["control"].as_str().unwrap().to_owned()
    }

    fn forget(&self) {
        ask(&self.control(), "DELETE", "/faults", &json!({}));
        ask(&self.control(), "DELETE", "/messages", &json!({}));
    }

    fn set(&self, settings: &Value) {
        ask(&self.control(), "POST", "/settings", settings);
    }

    fn order(&self, fault: &Value) {
        ask(&self.control(), "POST", "/faults", fault);
    }

    fn messages(&self) -> Vec<Value> {
        let messages = ask(&self.control(), "GET", "/messages", &json!({}));
        messages.as_array().unwrap().clone()
    }

    fn server(&self, tls: Tls) -> Smtp {
        let port = if tls == Tls::Implicit { "smtps" } else { "smtp" };
        server(self.lab["smtp"]["ports"][port].as_u64().unwrap(), tls)
    }

    async fn send(&self, server: &Smtp, credential: &Credential) -> Result<(), SmtpError> {
        let mut session = self.connector.connect(server, credential).await?;
        let envelope = Envelope {
            sender: Some(USER.into()),
            recipients: vec!["ann@customer.example".into()],
        };
        session.send(&envelope, MESSAGE).await?;
        session.quit().await;
        Ok(())
    }

    /// An access token of the lab's provider.
    fn token(&self, login: &str, ttl: i64) -> Credential {
        let order = json!({"login": login, "access_token_ttl": ttl});
        let control = self.lab["oauth"]["control"].as_str().unwrap();
        let minted = ask(control, "POST", "/mint", &order);
        let minted = minted.as_array().map_or(&minted, |several| &several[0]);
        Credential::Token {
            user: login.into(),
            token: SecretString::from(minted["access_token"].as_str().unwrap()),
        }
    }
}

fn server(port: u64, tls: Tls) -> Smtp {
    Smtp {
        name: "relay".into(),
        host: "localhost".into(),
        port: port.try_into().unwrap(),
        tls,
        ca_file: None,
        from: None,
        sign_in: SmtpSignIn::Anonymous,
        sasl: Sasl::Auto,
    }
}

fn password(password: &str) -> Credential {
    Credential::Password {
        username: USER.into(),
        password: SecretString::from(password),
    }
}

/// Asks a control port of the lab.
fn ask(control: &str, method: &str, path: &str, order: &Value) -> Value {
    let host = control.strip_prefix("http://").unwrap().trim_end_matches('/');
    let body = order.to_string();
    let mut stream = TcpStream::connect(host).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 2"), "{answer}");
    // It may come in chunks: of what it is made of, only the JSON counts.
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let body = body.trim_start_matches(|c| !matches!(c, '{' | '['));
    serde_json::from_str(body.trim_end_matches(|c| !matches!(c, '}' | ']'))).unwrap()
}

#[tokio::test]
async fn the_labs_server_takes_mail_in_each_form() {
    let Some(sink) = Sink::new() else { return };
    let all = ["LOGIN", "PLAIN", "XOAUTH2", "OAUTHBEARER"];
    let bad_token = Credential::Token {
        user: USER.into(),
        token: SecretString::from("nonsense"),
    };
    for (offered, credential, expected) in [
        (&all[..], password(PASSWORD), Ok("PLAIN")),
        // As Azure Communication Services does.
        (&["LOGIN"], password(PASSWORD), Ok("LOGIN")),
        (&["LOGIN"], password("wrong"), Err("535 5.7.3")),
        (&all, sink.token(USER, 600), Ok("XOAUTH2")),
        (&["OAUTHBEARER"], sink.token(USER, 600), Ok("OAUTHBEARER")),
        (&["LOGIN", "PLAIN"], sink.token(USER, 600), Err("no-mechanism")),
        (&["XOAUTH2"], password(PASSWORD), Err("no-mechanism")),
        (&["XOAUTH2"], sink.token(USER, -10), Err("535 5.7.3")),
        (&["OAUTHBEARER"], bad_token, Err("535 5.7.3")),
    ] {
        for tls in [Tls::StartTls, Tls::Implicit] {
            sink.forget();
            sink.set(&json!({"auth": offered, "auth_needs_tls": true, "require_auth": true}));
            let sent = sink.send(&sink.server(tls), &credential).await;
            let messages = sink.messages();
            match (sent, expected) {
                (Ok(()), Ok(mechanism)) => {
                    let [message] = messages.as_slice() else {
                        panic!("{messages:?}")
                    };
                    assert_eq!(
                        (&message["mechanism"], &message["tls"]),
                        (&json!(mechanism), &json!(true))
                    );
                    assert_eq!(message["login"], USER);
                    let stored = std::fs::read(message["file"].as_str().unwrap()).unwrap();
                    let text = String::from_utf8(stored).unwrap();
                    assert_eq!(
                        text,
                        "From: support@lab.test\r\nSubject: x\r\n\r\n.\r\n..two\r\nbare\r\nend\r\n"
                    );
                }
                (Err(error), Err(code)) => {
                    assert_eq!(error.problem().code, code, "{offered:?} {tls:?}: {error}");
                    assert_eq!(error.is_credential_refused(), code.starts_with("535"));
                    if let (Credential::Token { .. }, SmtpError::SignInRefused { challenge, .. }) =
                        (&credential, &error)
                    {
                        assert!(!challenge.as_ref().unwrap().status.is_empty());
                    }
                    assert_eq!(messages, Vec::<Value>::new());
                }
                (sent, _) => panic!("{offered:?} {tls:?}: {sent:?}"),
            }
        }
    }
}

#[tokio::test]
async fn the_labs_server_refuses_and_the_next_way_is_found_or_told() {
    let Some(sink) = Sink::new() else { return };
    // What is offered and refused as unrecognized is followed by the next.
    sink.set(&json!({"auth": ["LOGIN", "PLAIN"]}));
    sink.order(&json!({"stage": "auth", "match": "PLAIN", "reply": "504 5.7.4 Unrecognized authentication type"}));
    sink.send(&sink.server(Tls::StartTls), &password(PASSWORD))
        .await
        .unwrap();
    assert_eq!(sink.messages()[0]["mechanism"], "LOGIN");
    // Without STARTTLS nothing is sent, and to a sender that may not send as that the remedy is told.
    sink.set(&json!({"starttls": false, "auth_needs_tls": false}));
    let error = sink
        .send(&sink.server(Tls::StartTls), &password(PASSWORD))
        .await
        .unwrap_err();
    assert!(matches!(error, SmtpError::NoStartTls { .. }), "{error}");
    sink.set(&json!({"starttls": true, "sender_must_be_login": true}));
    let carol = Credential::Password {
        username: "carol@lab.test".into(),
        password: SecretString::from("carol-password"),
    };
    let error = sink.send(&sink.server(Tls::StartTls), &carol).await.unwrap_err();
    assert!(
        error.problem().remedy.contains("-Trustee carol@lab.test"),
        "{:?}",
        error.problem()
    );
    // A message over its limit is not begun.
    sink.set(&json!({"size_limit": 20, "sender_must_be_login": false}));
    let error = sink
        .send(&sink.server(Tls::StartTls), &password(PASSWORD))
        .await
        .unwrap_err();
    assert!(matches!(error, SmtpError::TooLarge { limit: 20, .. }), "{error}");
}

#[tokio::test]
async fn faults_of_the_labs_server_are_told_apart_by_step() {
    let Some(sink) = Sink::new() else { return };
    let server = sink.server(Tls::StartTls);
    for (stage, action, step, stored) in [
        ("connect", "drop", Step::Greeting, 0),
        ("connect", "hang", Step::Greeting, 0),
        ("ehlo", "reply", Step::Hello, 0),
        ("ehlo", "drop", Step::Hello, 0),
        ("auth", "reply", Step::SignIn, 0),
        ("auth", "drop", Step::SignIn, 0),
        ("auth", "hang", Step::SignIn, 0),
        ("mail", "reply", Step::Sender, 0),
        ("rcpt", "reply", Step::Recipient, 0),
        ("rcpt", "drop", Step::Recipient, 0),
        ("data", "reply", Step::Data, 0),
        ("data", "hang", Step::Data, 0),
        ("message", "reply", Step::Answer, 0),
        ("message", "drop", Step::Answer, 0),
        ("message", "hang", Step::Answer, 0),
        ("message", "store_then_drop", Step::Answer, 1),
    ] {
        sink.forget();
        sink.order(&json!({"stage": stage, "action": action}));
        let error = sink.send(&server, &password(PASSWORD)).await.unwrap_err();
        let name = format!("{stage} {action}: {error}");
        let own = match &error {
            SmtpError::Refused { step, .. } | SmtpError::Lost { step, .. } | SmtpError::Timeout { step } => *step,
            SmtpError::SignInRefused { .. } => Step::SignIn,
            other => panic!("{other}"),
        };
        assert_eq!(own, step, "{name}");
        assert_eq!(error.is_unknown(), step == Step::Answer && action != "reply", "{name}");
        assert!(
            matches!(error.remedy(), mailintake::fault::Remedy::Retry { .. }),
            "{name}"
        );
        assert_eq!(sink.messages().len(), stored, "{name}");
    }
    // Slow is not silent.
    sink.forget();
    sink.order(&json!({"stage": "data", "action": "slow", "delay_ms": 800}));
    sink.send(&server, &password(PASSWORD)).await.unwrap();
    assert_eq!(sink.messages().len(), 1);
}

#[tokio::test]
async fn the_labs_wrong_certificates_are_refused() {
    let Some(sink) = Sink::new() else { return };
    let run_dir = sink.lab["run_dir"].as_str().unwrap();
    let Ok(home) = std::env::var("LAB_HOME") else { return };
    for (certificate, words) in [("wrong-host", "hostname mismatch"), ("untrusted", "verify failed")] {
        let name = format!("sink-{certificate}-{}", std::process::id());
        let out = Command::new(format!("{home}/smtp-sink"))
            .args([run_dir, "--name", &name, "--certificate", certificate])
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let facts: Value = serde_json::from_slice(&out.stdout).unwrap();
        for (tls, port) in [(Tls::StartTls, "smtp"), (Tls::Implicit, "smtps")] {
            let server = server(facts["ports"][port].as_u64().unwrap(), tls);
            let error = sink.send(&server, &password(PASSWORD)).await.unwrap_err();
            assert!(matches!(error, SmtpError::Tls { .. }), "{error}");
            assert!(error.to_string().to_lowercase().contains(words), "{error}");
        }
        let down = Command::new(format!("{home}/down"))
            .args([run_dir, &name])
            .output()
            .unwrap();
        assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
    }
}

/// A program whose smtp server is the lab's, with these further lines.
fn program(sink: &Sink, more: impl Fn(&Program) -> String) -> Program {
    let program = Program::bare();
    let ca_file = sink.lab["ca_file"].as_str().unwrap();
    let imap = &sink.lab["dovecot"]["ports"]["imaps"];
    let port = &sink.lab["smtp"]["ports"]["smtp"];
    let secret = program.secret("alice", "alice-password");
    let rest = more(&program);
    program.configure(
        &format!("ca_file = \"{ca_file}\""),
        &format!(
            "[[mailbox]]\naddress = \"alice@lab.test\"\nhost = \"localhost\"\nport = {imap}\npassword = {secret}\n\
             [[smtp]]\nname = \"relay\"\nhost = \"localhost\"\nport = {port}\nfrom = \"support@lab.test\"\n{rest}"
        ),
    );
    program
}

#[test]
fn test_goes_to_smtp_servers_step_by_step_and_sends_nothing() {
    let Some(sink) = Sink::new() else { return };
    sink.set(&json!({"auth": ["LOGIN"]}));
    let good = program(&sink, |program| {
        format!(
            "username = \"{USER}\"\npassword = {}\n",
            program.secret("relay", PASSWORD)
        )
    });
    let text = good.ok(&["test", "smtp/relay"]);
    for step in ["dns", "tcp", "ehlo", "tls", "sign-in"] {
        assert!(text.contains(&format!("ok      {step}")), "{step}: {text}");
    }
    assert!(
        text.contains("smtp/relay\n") && text.contains("it offers LOGIN"),
        "{text}"
    );
    assert!(
        good.ok(&["test"]).contains("smtp/relay\n"),
        "without names it is tested with all"
    );
    let steps = &good.json(&["test", "relay"])[0]["steps"];
    assert!(
        steps.as_array().unwrap().iter().all(|step| step["ok"] == true),
        "{steps}"
    );
    assert!(!good.state_dir().exists(), "testing a password makes nothing");

    let wrong = program(&sink, |program| {
        format!(
            "username = \"{USER}\"\npassword = {}\n",
            program.secret("relay", "wrong")
        )
    });
    let output = wrong.run(&["test", "relay"]);
    assert_eq!(output.code, Some(1), "{}", output.stdout);
    assert!(output.stdout.contains("FAILED  sign-in"), "{}", output.stdout);
    assert!(output.stdout.contains("[535 5.7.3]"), "{}", output.stdout);

    sink.set(&json!({"starttls": false}));
    let output = good.run(&["test", "relay"]);
    assert_eq!(output.code, Some(1), "{}", output.stdout);
    assert!(output.stdout.contains("FAILED  tls"), "{}", output.stdout);
    assert_eq!(sink.messages(), Vec::<Value>::new());
}

#[test]
fn authorize_obtains_the_grant_of_an_smtp_server() {
    let Some(sink) = Sink::new() else { return };
    let client = &sink.lab["oauth"]["clients"]["web"];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let program = program(&sink, |program| {
        format!(
            "integration = \"idp\"\nlogin = \"{USER}\"\n\
             [[integration]]\nname = \"idp\"\nprovider = \"custom\"\nflow = \"authorization-code\"\nissuer = \"{}\"\n\
             client_id = \"{}\"\nclient_secret = {}\nscopes = [\"openid\", \"email\", \"offline_access\", \"mail\"]\n",
            text(&sink.lab["oauth"]["issuer"]),
            text(&client["client_id"]),
            program.secret("client", &text(&client["client_secret"])),
        )
    });
    let before = program.run(&["test", "smtp/relay"]);
    assert_eq!(before.code, Some(1), "{}", before.stdout);
    assert!(before.stdout.contains("authorize smtp/relay"), "{}", before.stdout);

    let running = program.start(&["authorize", "smtp/relay", "--loopback", "0"], b"");
    let url = running.line(|line| line.starts_with("https://").then(|| line.to_owned()));
    let browser = Command::new("curl")
        .args([
            "--cacert",
            &text(&sink.lab["ca_file"]),
            "-s",
            "-S",
            "-L",
            "-c",
            "/dev/null",
            "-b",
            "",
        ])
        .arg(&url)
        .output()
        .unwrap();
    assert!(browser.status.success(), "{}", String::from_utf8_lossy(&browser.stderr));
    let output = running.end();
    assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
    assert!(output.stdout.contains(USER), "{}", output.stdout);

    let after = program.ok(&["test", "smtp/relay"]);
    assert!(
        after.contains("ok      token") && after.contains("ok      sign-in"),
        "{after}"
    );
    let grants = &program.json(&["status"])["grants"];
    assert_eq!(
        (&grants[0]["login"], &grants[0]["state"]),
        (&json!(USER), &json!("ok")),
        "{grants}"
    );
    assert_eq!(grants[0]["mailboxes"], json!([]));
    // By the name of the integration, too: it has no other grant.
    assert!(
        program.ok(&["revoke", "idp"]).contains("forgotten"),
        "the grant of the integration"
    );
}
