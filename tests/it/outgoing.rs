//! Mail that goes out: acknowledgements and replies, before a relay that lies, stalls and cuts, and a process that dies.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mailintake::mail::{Mail, parse};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use crate::support::binary::{Daemon, Program};
use crate::support::scene::{SOON, Scene, address, alerts, assert_sound, query};

/// The lab's relay, which takes everything; gone when it is dropped.
struct Sink {
    run: tempfile::TempDir,
    facts: Value,
}

impl Sink {
    /// `None` where there is no lab.
    fn start(options: &[&str]) -> Option<Self> {
        let Ok(home) = std::env::var("LAB_HOME") else {
            println!("skipped: LAB_HOME is not set");
            return None;
        };
        let run = tempfile::tempdir().unwrap();
        let out = Command::new(format!("{home}/smtp-sink"))
            .arg(run.path())
            .args(options)
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let facts = serde_json::from_slice(&out.stdout).unwrap();
        Some(Self { run, facts })
    }

    /// One that wants no sign-in.
    fn open() -> Option<Self> {
        Self::start(&["--open"])
    }

    /// The section of the configuration.
    fn section(&self, more: &str) -> String {
        let ca_file = self.run.path().join("tls/ca.pem");
        let port = &self.facts["ports"]["smtps"];
        format!(
            "[[smtp]]\nname = \"relay\"\nhost = \"localhost\"\nport = {port}\ntls = \"implicit\"\nca_file = \"{}\"\n{more}\n",
            ca_file.display()
        )
    }

    fn fault(&self, fault: &Value) {
        self.ask("POST", "/faults", fault);
    }

    /// What it took, in order: envelope and mail.
    fn taken(&self) -> Vec<(Value, Mail)> {
        let taken = self.ask("GET", "/messages", &json!({}));
        let read = |entry: &Value| {
            let bytes = std::fs::read(entry["file"].as_str().unwrap()).unwrap();
            (entry.clone(), parse::parse(&bytes).unwrap())
        };
        taken.as_array().unwrap().iter().map(read).collect()
    }

    /// The bytes of the mails that it took.
    fn bytes(&self) -> Vec<Vec<u8>> {
        let file = |(entry, _): &(Value, Mail)| std::fs::read(entry["file"].as_str().unwrap()).unwrap();
        self.taken().iter().map(file).collect()
    }

    fn wait_taken(&self, daemon: &mut Daemon, count: usize) -> Vec<(Value, Mail)> {
        let until = format!("{count} mails at the relay");
        daemon.wait_for(&until, SOON, |_| {
            Some(self.taken()).filter(|taken| taken.len() >= count)
        })
    }

    fn ask(&self, method: &str, path: &str, order: &Value) -> Value {
        let host = self.facts["control"].as_str().unwrap().strip_prefix("http://").unwrap();
        let body = order.to_string();
        let mut stream = TcpStream::connect(host).unwrap();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with("HTTP/1.1 2") || head.starts_with("HTTP/1.0 2"),
            "{answer}"
        );
        serde_json::from_str(body).unwrap()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let home = std::env::var("LAB_HOME").unwrap();
        let down = Command::new(format!("{home}/down")).arg(self.run.path()).output();
        drop(down);
    }
}

const SUPPORT: &str = "[[project]]\nkey = \"SUP\"\nname = \"Support\"\nacknowledge = true\n";

/// A mail of a person to us.
fn from(sender: &str, name: &str, more: &str) -> String {
    format!(
        "From: Ann Customer <{sender}>\nTo: Support <support@example.org>\nSubject: About {name}\n\
         Date: Mon, 2 Nov 2026 10:00:00 +0000\nMessage-ID: <{name}@customer.example>\n{more}\nThe text of {name}.\n"
    )
}

/// A mailbox at the scripted server whose first listing found nothing, with a relay.
fn watched(sink: &Sink, project: &str) -> (Scene, Daemon) {
    let scene = Scene::with(&["support"], |options| options);
    scene.configure(&[
        &scene.mailbox("support", "project = \"SUP\""),
        project,
        &sink.section(""),
    ]);
    let mut daemon = scene.program.daemon();
    scene.wait_state(&mut daemon, "support", "watching", SOON);
    (scene, daemon)
}

/// A mailbox that gets its mail by the pipe: no server answers at its port.
fn piped(project: &str, smtp: &str) -> Program {
    let program = Program::bare();
    configure(&program, project, smtp);
    program
}

fn configure(program: &Program, project: &str, smtp: &str) {
    let secret = program.secret("password", "x");
    let mailbox = format!(
        "[[mailbox]]\naddress = \"support@example.org\"\nname = \"support\"\nhost = \"127.0.0.1\"\nport = 1\n\
         password = {secret}\nproject = \"SUP\"\n"
    );
    program.configure("log = \"debug\"", &[&mailbox, project, smtp].join("\n"));
}

fn pipe(program: &Program, raw: &[u8]) {
    let output = program.run_with(&["ingest", "-"], raw);
    assert_eq!(output.code, Some(0), "{output:?}");
}

fn look(program: &Program, sql: &str) -> Vec<Vec<String>> {
    query(&program.database(), sql)
}

/// Changes the database behind the program's back, as a restored copy would.
fn change(program: &Program, sql: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let options = SqliteConnectOptions::new()
            .filename(program.database())
            .busy_timeout(SOON);
        let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
        connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
        connection.close().await.unwrap();
    });
}

fn wait_states(daemon: &mut Daemon, program: &Program, states: &[&str]) {
    daemon.wait_for(&format!("deliveries {states:?}"), SOON, |_| {
        let rows = look(program, "SELECT state FROM outgoing ORDER BY id");
        rows.iter().flatten().eq(states).then_some(())
    });
}

fn events(program: &Program, key: &str) -> Vec<String> {
    let issue = program.json(&["issue", "show", key]);
    let events = issue["events"].as_array().unwrap();
    events
        .iter()
        .map(|event| event["kind"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_new_issue_is_acknowledged_once_as_rfc_3834_asks_and_answers_find_it() {
    let Some(sink) = Sink::open() else { return };
    let (scene, mut daemon) = watched(&sink, SUPPORT);
    scene.deliver(&from(
        "ann@customer.example",
        "one",
        "References: <old@customer.example>\n",
    ));
    let (envelope, ack) = sink.wait_taken(&mut daemon, 1).remove(0);
    assert_acknowledges(&envelope, &ack);
    wait_states(&mut daemon, &scene.program, &["sent"]);
    assert_eq!(events(&scene.program, "SUP-1"), ["acknowledged"]);

    // The same person once more: nothing. The answer, a machine's answer, and a bounce: to the same issue.
    let id = ack.message_id.clone().unwrap();
    scene.deliver(&from("ann@customer.example", "two", ""));
    let answer = |name: &str, more: &str| from("ann@customer.example", name, &format!("In-Reply-To: <{id}>\n{more}"));
    scene.deliver(&answer("three", ""));
    scene.program.ok(&["issue", "close", "SUP-1"]);
    scene.deliver(&answer("away", "Auto-Submitted: auto-replied\n"));
    scene.deliver(&bounce(&id));
    // It comes back by a list: it is ours.
    scene.server.deliver(
        &address("support"),
        "INBOX",
        String::from_utf8(sink.bytes().remove(0)).unwrap(),
    );
    scene.wait_rows(&mut daemon, 6);
    assert_eq!(
        scene.verdicts(),
        [
            "issue new-mail",
            "issue new-mail",
            "comment reply-to-message",
            "comment reply-to-message",
            "event report-on-message",
            "ignored own-mail"
        ]
    );
    assert_eq!(
        scene.query("SELECT DISTINCT issue FROM messages WHERE id IN (1, 3, 4, 5)"),
        [["SUP-1"]]
    );
    assert_eq!(
        scene.query("SELECT state FROM issues WHERE key = 'SUP-1'"),
        [["closed"]]
    );
    assert_eq!(
        scene.query("SELECT class FROM messages WHERE id >= 4"),
        [["auto-reply"], ["bounce"], ["own"]]
    );
    assert_eq!(daemon.terminate(), Some(0));
    assert_eq!(sink.taken().len(), 1);
    assert!(
        !daemon.log().contains("ann@customer.example"),
        "the journal names a stranger"
    );
    assert_sound(&scene.program.database());
}

/// Envelope and header of an acknowledgement, as RFC 3834 §3 and §5 ask.
fn assert_acknowledges(envelope: &Value, ack: &Mail) {
    assert_eq!(
        (&envelope["mail_from"], &envelope["rcpt_tos"]),
        (&json!("<>"), &json!(["ann@customer.example"]))
    );
    for (name, value) in [
        ("From", "support@example.org"),
        ("To", "ann@customer.example"),
        ("Subject", "[SUP-1] Re: About one"),
        ("Auto-Submitted", "auto-replied"),
        ("X-Auto-Response-Suppress", "All"),
        ("In-Reply-To", "<one@customer.example>"),
        ("References", "<old@customer.example> <one@customer.example>"),
    ] {
        assert_eq!(ack.header(name), Some(value), "{name}");
    }
    assert!(
        !ack.text.plain.contains("Ann") && !ack.text.plain.contains("The text"),
        "{}",
        ack.text.plain
    );
}

fn bounce(id: &str) -> String {
    format!(
        "Return-Path: <>\nFrom: MAILER-DAEMON@relay.example\nTo: support@example.org\nSubject: Undelivered\n\
         Message-ID: <bounce@relay.example>\nMIME-Version: 1.0\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n--b\n\nIt failed.\n\
         --b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; relay.example\n\n\
         Final-Recipient: rfc822; ann@customer.example\nAction: failed\nStatus: 5.1.1\n\n\
         --b\nContent-Type: message/rfc822\n\nMessage-ID: <{id}>\nSubject: x\n\ny\n--b--\n"
    )
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn neither_machines_nor_old_mail_nor_strangers_who_hide_are_acknowledged() {
    let Some(sink) = Sink::open() else { return };
    let scene = Scene::with(&["support"], |options| options);
    let routes = "[[route]]\nto = \"billing@example.org\"\nproject = \"SUP\"\n";
    scene.configure(&[
        &scene.mailbox("support", "authserv_id = [\"mx.example.org\"]"),
        SUPPORT,
        routes,
        &sink.section(""),
    ]);
    scene.deliver(&from("ann@customer.example", "old", ""));
    let mut daemon = scene.program.daemon();
    scene.wait_rows(&mut daemon, 1);
    let people = |to: &str| from("ann@customer.example", "x", "").replace("Support <support@example.org>", to);
    let cases = [
        (
            from("ann@customer.example", "a", "Auto-Submitted: auto-generated\n"),
            "class-not-human",
        ),
        (
            from("ann@customer.example", "b", "List-Id: <l.example>\n"),
            "class-not-human",
        ),
        (
            from(
                "ann@customer.example",
                "c",
                "X-Auto-Response-Suppress: OOF, AutoReply\n",
            ),
            "auto-response-suppress",
        ),
        (
            from("ann@customer.example", "d", "Return-Path: <>\n"),
            "null-return-path",
        ),
        (
            from("ann@customer.example", "e", "Reply-To: no-reply@customer.example\n"),
            "nobody-reads",
        ),
        (
            from("owner-x@customer.example", "f", "Reply-To: ann@customer.example\n"),
            "nobody-reads",
        ),
        (
            from(
                "ann@customer.example",
                "g",
                "Authentication-Results: mx.example.org; dmarc=fail header.from=customer.example\n",
            ),
            "sender-spoofed",
        ),
        (
            from("ann@customer.example", "h", "From: bob@customer.example\n"),
            "several-authors",
        ),
        (people("undisclosed-recipients:;"), "not-addressed"),
        (people("Others <others@customer.example>"), "not-addressed"),
        (from("\"a b\"@customer.example", "i", ""), "address-unusable"),
        (people("Support <SUPPORT+tag@example.org>").replace("<x@", "<j@"), "yes"),
        (
            people("billing@example.org")
                .replace("<x@", "<k@")
                .replace("<ann@", "<bob@"),
            "yes",
        ),
        (
            people("alias@example.org")
                .replace("<x@", "<l@")
                .replace("<ann@", "<eve@"),
            "not-addressed",
        ),
    ];
    for (n, (raw, why)) in cases.iter().enumerate() {
        // Message-IDs of their own.
        let raw = raw.replace("<x@customer", &format!("<x{n}@customer"));
        scene.deliver(&raw);
        scene.wait_rows(&mut daemon, n + 2);
        let rows =
            scene.query("SELECT verdict, trace ->> '$.policy.acknowledged' FROM message ORDER BY id DESC LIMIT 1");
        assert_eq!(rows, [["issue", *why]], "{raw}");
    }
    let first = scene.query("SELECT trace ->> '$.policy.acknowledged' FROM message ORDER BY id LIMIT 1");
    assert_eq!(first, [["not-new"]]);
    let taken = sink.wait_taken(&mut daemon, 2);
    assert_eq!(taken.len(), 2);
}

#[test]
fn an_alias_that_mail_was_delivered_to_is_ours_and_archives_are_not_answered() {
    let Some(sink) = Sink::open() else { return };
    let program = piped(SUPPORT, &sink.section(""));
    let alias = from("eve@customer.example", "a", "Delivered-To: info@example.org\n");
    pipe(&program, alias.replace("Support <support@", "Info <info@").as_bytes());
    let file = program.file("b.eml", from("bob@customer.example", "b", ""));
    program.ok(&["ingest", file.to_str().unwrap()]);
    let mut daemon = program.daemon();
    wait_states(&mut daemon, &program, &["sent"]);
    assert_eq!(sink.taken()[0].0["rcpt_tos"], json!(["eve@customer.example"]));
}

#[test]
fn a_sender_who_writes_and_writes_is_held_back_and_everything_is_taken() {
    let Some(sink) = Sink::open() else { return };
    let program = piped(SUPPORT, &sink.section(""));
    for n in 0..6 {
        pipe(&program, from("ann@customer.example", &format!("n{n}"), "").as_bytes());
    }
    let traces = look(
        &program,
        "SELECT trace ->> '$.policy.acknowledged' FROM message ORDER BY id",
    )
    .concat();
    let held = "sender-too-often";
    assert_eq!(traces, ["yes", "told-already", "told-already", held, held, held]);
    assert_eq!(look(&program, "SELECT count(*) FROM issues"), [["6"]]);
    assert_eq!(alerts(&program), ["loop-suppressed support acknowledgements"]);
    let mut daemon = program.daemon();
    wait_states(&mut daemon, &program, &["sent"]);
    // An hour later it is over.
    daemon.terminate();
    change(
        &program,
        "UPDATE alert SET last_seen = last_seen - 4000; UPDATE sent SET at = at - 4000",
    );
    change(&program, "UPDATE issue SET created_at = created_at - 4000");
    let mut daemon = program.daemon();
    daemon.wait_for("the end of the alert", SOON, |_| {
        let open = alerts(&program)
            .into_iter()
            .filter(|alert| alert.starts_with("loop"))
            .count();
        (open == 0).then_some(())
    });
    pipe(&program, from("ann@customer.example", "later", "").as_bytes());
    sink.wait_taken(&mut daemon, 2);
}

#[test]
fn a_mailbox_answers_so_often_and_no_more() {
    let program = piped(SUPPORT, "[[smtp]]\nhost = \"127.0.0.1\"\nport = 1\n");
    pipe(&program, from("ann@customer.example", "first", "").as_bytes());
    change(
        &program,
        "WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
         INSERT INTO sent SELECT i || '@x', outgoing, issue, i || '@x', mailbox, at FROM sent, n",
    );
    pipe(&program, from("bob@customer.example", "second", "").as_bytes());
    let traces = look(
        &program,
        "SELECT trace ->> '$.policy.acknowledged' FROM message ORDER BY id",
    );
    assert_eq!(traces.concat(), ["yes", "mailbox-too-often"]);
    assert_eq!(alerts(&program), ["loop-suppressed support acknowledgements"]);
    let explained = program.ok(&["message", "explain", "2"]);
    assert!(
        explained.contains("new issue is acknowledged    mailbox-too-often"),
        "{explained}"
    );
}

#[test]
fn a_mark_is_known_after_one_new_key_and_forged_after_two() {
    let program = piped(SUPPORT, "[[smtp]]\nhost = \"127.0.0.1\"\nport = 1\n");
    let reason = || look(&program, "SELECT reason FROM messages ORDER BY id DESC LIMIT 1").concat();
    pipe(&program, from("ann@customer.example", "first", "").as_bytes());
    let id = look(&program, "SELECT message_id FROM sent").concat().remove(0);
    for (n, (years, expected)) in [(0, "reply-to-mark"), (1, "reply-to-mark"), (2, "new-mail")]
        .into_iter()
        .enumerate()
    {
        if years > 0 {
            change(&program, "UPDATE signing_key SET created_at = created_at - 31600000");
            pipe(
                &program,
                from(&format!("bob{n}@customer.example"), &format!("bob{n}"), "").as_bytes(),
            );
        }
        // The row that knows it is lost, as after a restore.
        change(&program, &format!("DELETE FROM carrier WHERE message_id = '{id}'"));
        let answer = format!("In-Reply-To: <{id}>\n");
        pipe(
            &program,
            from("ann@customer.example", &format!("answer{n}"), &answer).as_bytes(),
        );
        assert_eq!(reason(), [expected], "{n}");
    }
    assert_eq!(look(&program, "SELECT count(*) FROM signing_key"), [["2"]]);
}

#[test]
fn two_daemons_that_write_to_each_other_fall_silent() {
    let (Some(here), Some(there)) = (Sink::open(), Sink::open()) else {
        return;
    };
    let one = piped(SUPPORT, &here.section(""));
    let two = piped(SUPPORT, &there.section(""));
    let config = std::fs::read_to_string(two.config()).unwrap();
    two.write(&config.replace("support@example.org", "desk@other.example"));
    let (mut first, mut second) = (one.daemon(), two.daemon());
    // A person forges nothing: a mail of the other's address starts it.
    pipe(&one, from("desk@other.example", "start", "").as_bytes());
    here.wait_taken(&mut first, 1);
    pipe(&two, &here.bytes().remove(0));
    let rows = look(&two, "SELECT class, verdict FROM messages");
    assert_eq!(rows, [["auto-reply", "ignored"]]);
    // Even if the marks of a machine are lost on the way.
    let stripped = String::from_utf8(here.bytes().remove(0)).unwrap();
    let stripped: String = stripped
        .split_inclusive("\r\n")
        .filter(|line| !line.starts_with("Auto-Submitted") && !line.starts_with("X-Auto"))
        .map(|line| line.replace("Message-ID: <SUP", "Message-ID: <other"))
        .collect();
    pipe(
        &two,
        stripped
            .replace("To: desk", "To: Desk <desk")
            .replace("other.example\r\nSubject", "other.example>\r\nSubject")
            .as_bytes(),
    );
    there.wait_taken(&mut second, 1);
    pipe(&one, &there.bytes().remove(0));
    wait_states(&mut first, &one, &["sent"]);
    wait_states(&mut second, &two, &["sent"]);
    assert_eq!((here.taken().len(), there.taken().len()), (1, 1));
}

#[test]
fn a_template_speaks_the_language_of_the_mail_and_its_faults_have_lines() {
    let Some(sink) = Sink::open() else { return };
    let program = Program::bare();
    let text = program.file(
        "ack.txt",
        "Subject: {{key}} in {{project}}\n\nEnglish: \"{{subject}}\"\n",
    );
    program.file("ack.txt.de", "Subject: {{key}}: erhalten\n\nDeutsch, Grüße\n");
    let template = format!("acknowledge = {{ template = \"{}\" }}", text.display());
    let project = SUPPORT.replace("acknowledge = true", &template);
    configure(
        &program,
        &format!("{project}from = \"Support Öst <help@example.org>\"\n"),
        &sink.section(""),
    );
    pipe(
        &program,
        from("ann@customer.example", "a", "Content-Language: de-AT\n").as_bytes(),
    );
    pipe(&program, from("bob@customer.example", "b", "").as_bytes());
    let mut daemon = program.daemon();
    let taken = sink.wait_taken(&mut daemon, 2);
    let said: Vec<_> = taken
        .iter()
        .map(|(_, mail)| (mail.subject.as_str(), mail.text.plain.lines().next().unwrap()))
        .collect();
    assert_eq!(
        said,
        [
            ("SUP-1: erhalten", "Deutsch, Grüße"),
            ("SUP-2 in Support", "English: \"Re: About b\"")
        ]
    );
    assert_eq!(taken[0].1.from.as_ref().unwrap().name.as_deref(), Some("Support Öst"));
    assert!(taken[0].1.message_id.as_deref().unwrap().ends_with("@example.org"));
    program.file("ack.txt.de", "Subject: x\n\nfein\n{{name}}\n");
    let checked = program.run(&["check"]);
    assert_eq!(checked.code, Some(78));
    assert!(
        checked.stderr.contains("ack.txt.de:4: {{name}} is not known"),
        "{}",
        checked.stderr
    );
}

#[test]
fn a_comment_that_is_sent_answers_the_last_mail_and_is_erased_with_its_issue() {
    let Some(sink) = Sink::open() else { return };
    let project = SUPPORT.replace("acknowledge = true", "");
    let program = piped(&project, &sink.section(""));
    pipe(&program, from("ann@customer.example", "one", "").as_bytes());
    pipe(
        &program,
        from(
            "ann@customer.example",
            "two",
            "In-Reply-To: <one@customer.example>\nReferences: <one@customer.example>\n",
        )
        .as_bytes(),
    );
    let told = program.run_with(&["issue", "comment", "SUP-1", "--send"], "Erledigt, Gruß.\n".as_bytes());
    assert_eq!(told.code, Some(0), "{told:?}");
    assert!(
        told.stdout.contains("queued for ann@customer.example by relay"),
        "{told:?}"
    );
    assert!(told.stderr.contains("the daemon does not run"), "{told:?}");
    let mut daemon = program.daemon();
    let (envelope, mail) = sink.wait_taken(&mut daemon, 1).remove(0);
    assert_eq!(envelope["mail_from"], "support@example.org");
    assert_eq!(mail.subject, "Re: About one [SUP-1]");
    assert_eq!(mail.in_reply_to, ["two@customer.example"]);
    assert_eq!(mail.references, ["one@customer.example", "two@customer.example"]);
    assert_eq!((mail.header("Auto-Submitted"), mail.header("Precedence")), (None, None));
    let text = &mail.text.plain;
    assert!(
        text.starts_with("Erledigt, Gruß.\n\nRef: SUP-1") && text.contains("\n> The text of two."),
        "{text}"
    );
    wait_states(&mut daemon, &program, &["sent"]);
    assert_eq!(events(&program, "SUP-1"), ["mailed"]);
    program.ok(&["issue", "erase", "SUP-1"]);
    assert_eq!(look(&program, "SELECT payload, summary FROM outgoing"), [["", "-"]]);
    assert_eq!(look(&program, "SELECT recipient FROM sent"), [[""]]);
    let refused = program.run_with(&["issue", "comment", "SUP-1", "--send", "x"], b"");
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("has no reporter with an address"),
        "{refused:?}"
    );
    assert_eq!(
        look(&program, "SELECT count(*) FROM comment WHERE trust = 'local'"),
        [["1"]]
    );
    assert_eq!(program.json(&["status"])["outbox"]["sent"], 1);
}

#[test]
fn an_answer_finds_back_whatever_the_provider_does_to_our_mail() {
    let Some(sink) = Sink::open() else { return };
    let program = piped(&SUPPORT.replace("acknowledge = true", ""), &sink.section(""));
    pipe(&program, from("ann@customer.example", "one", "").as_bytes());
    program.ok(&["issue", "comment", "SUP-1", "--send", "Erledigt."]);
    let mut daemon = program.daemon();
    let (_, mail) = sink.wait_taken(&mut daemon, 1).remove(0);
    let text = &mail.text.plain;
    // The provider gave the mail another Message-ID: the mark in the quoted text is left.
    let quoted = text.replace('\n', "\n> ");
    let answer = |name: &str, quoted: &str| {
        let raw = from(
            "ann@customer.example",
            name,
            "In-Reply-To: <rewritten@provider.example>\n",
        );
        format!("{raw}\nOn Monday, Support wrote:\n> {quoted}\n").replace("Subject: About", "Subject: Re:")
    };
    pipe(&program, answer("three", &quoted).as_bytes());
    let mark = text.lines().find(|line| line.starts_with("Ref: ")).unwrap();
    let forged = mark.replace("SUP-1 ", "SUP-2 ");
    pipe(&program, answer("four", &quoted.replace(mark, &forged)).as_bytes());
    let rows = look(
        &program,
        "SELECT verdict, reason, issue FROM messages ORDER BY id DESC LIMIT 2",
    );
    assert_eq!(
        rows,
        [["issue", "new-mail", "SUP-2"], ["comment", "reply-to-mark", "SUP-1"]]
    );
    // A bounce of a mail whose id the provider changed brings its header back.
    let header = mail.header("X-Mailintake-Origin").unwrap();
    let returned = bounce("0100@provider.example").replace("Subject: x", &format!("X-Mailintake-Origin: {header}"));
    pipe(&program, returned.as_bytes());
    let row = look(&program, "SELECT verdict, issue FROM messages ORDER BY id DESC LIMIT 1");
    assert_eq!(row, [["event", "SUP-1"]]);
    // In-Reply-To carries the mark where the row that knows it is lost, as after a restore.
    let id = mail.message_id.as_deref().unwrap();
    change(&program, &format!("DELETE FROM carrier WHERE message_id = '{id}'"));
    pipe(
        &program,
        from("ann@customer.example", "five", &format!("In-Reply-To: <{id}>\n")).as_bytes(),
    );
    let row = look(&program, "SELECT reason, issue FROM messages ORDER BY id DESC LIMIT 1");
    assert_eq!(row, [["reply-to-mark", "SUP-1"]]);
}

#[test]
fn what_cannot_be_sent_is_said_before_anything_is_written() {
    let program = piped(&SUPPORT.replace("acknowledge = true", ""), "");
    pipe(&program, from("ann@customer.example", "one", "").as_bytes());
    let comment = |key: &str| program.run_with(&["issue", "comment", key, "--send"], b"text\n");
    for (key, why) in [("SUP-1", "add an [[smtp]] section"), ("SUP-9", "no issue SUP-9")] {
        let refused = comment(key);
        assert!(refused.code == Some(1) && refused.stderr.contains(why), "{refused:?}");
    }
    configure(&program, SUPPORT, "[[smtp]]\nhost = \"127.0.0.1\"\nport = 1\n");
    pipe(&program, from("\"a b\"@customer.example", "two", "").as_bytes());
    let refused = comment("SUP-2");
    assert!(
        refused.code == Some(1) && refused.stderr.contains("cannot be mailed to"),
        "{refused:?}"
    );
    program.ok(&["issue", "merge", "SUP-2", "SUP-1"]);
    let refused = comment("SUP-2");
    assert!(
        refused.code == Some(1) && refused.stderr.contains("SUP-1"),
        "{refused:?}"
    );
    assert_eq!(
        look(&program, "SELECT count(*) FROM comment WHERE trust = 'local'"),
        [["0"]]
    );
    assert_eq!(look(&program, "SELECT count(*) FROM outgoing"), [["0"]]);
}

#[test]
fn a_refused_recipient_is_an_event_and_greylisting_is_waited_for() {
    let Some(sink) = Sink::open() else { return };
    let program = piped(SUPPORT, &sink.section(""));
    sink.fault(&json!({"stage": "rcpt", "match": "bob@", "action": "reply", "reply": "550 5.1.1 <bob@customer.example> unknown"}));
    sink.fault(&json!({"stage": "rcpt", "match": "eve@", "action": "reply", "reply": "451 4.7.1 greylisted"}));
    for sender in ["bob", "eve", "ann"] {
        pipe(
            &program,
            from(&format!("{sender}@customer.example"), sender, "").as_bytes(),
        );
    }
    let mut daemon = program.daemon();
    wait_states(&mut daemon, &program, &["failed", "sent", "sent"]);
    assert_eq!(alerts(&program), [] as [String; 0]);
    let kinds = ["SUP-1", "SUP-2", "SUP-3"].map(|key| events(&program, key).concat());
    assert_eq!(kinds, ["mail-refused", "acknowledged", "acknowledged"]);
    assert_eq!(look(&program, "SELECT attempts FROM outgoing"), [["1"], ["2"], ["1"]]);
    assert!(!daemon.log().contains("@customer.example"), "{}", daemon.log());
}

#[test]
fn a_refused_password_is_told_at_once_and_mail_waits_for_a_better_one() {
    let Some(sink) = Sink::start(&[]) else { return };
    let program = Program::bare();
    let section = |password: &str| {
        let secret = program.secret("smtp.password", password);
        sink.section(&format!("username = \"support@lab.test\"\npassword = {secret}"))
    };
    configure(&program, SUPPORT, &section("wrong"));
    pipe(&program, from("ann@customer.example", "one", "").as_bytes());
    let mut daemon = program.daemon();
    let told = |program: &Program| -> Vec<String> {
        let alerts = alerts(program).into_iter();
        alerts.filter(|alert| alert.contains(" relay ")).collect()
    };
    let found = daemon.wait_for("the alert", SOON, |_| told(&program).pop());
    assert!(found.starts_with("credentials-refused relay 535"), "{found}");
    assert_eq!(
        look(&program, "SELECT state, attempts FROM outgoing"),
        [["queued", "1"]]
    );
    configure(&program, SUPPORT, &section("support-password"));
    daemon.reload();
    sink.wait_taken(&mut daemon, 1);
    daemon.wait_for("the end of the alert", SOON, |_| {
        told(&program).is_empty().then_some(())
    });
    // A server that is taken out of the configuration: what is for it waits, and is said to.
    program.run_with(&["issue", "comment", "SUP-1", "--send"], b"text\n");
    sink.wait_taken(&mut daemon, 2);
    daemon.terminate();
    program.run_with(&["issue", "comment", "SUP-1", "--send"], b"more\n");
    configure(
        &program,
        SUPPORT,
        &section("support-password").replace("\"relay\"", "\"other\""),
    );
    let mut daemon = program.daemon();
    let found = daemon.wait_for("the alert", SOON, |_| told(&program).pop());
    assert_eq!(found, "outgoing-failing relay not-configured");
}

#[test]
fn what_waits_for_one_server_makes_one_try_and_holds_up_no_other() {
    let Some(sink) = Sink::start(&[]) else { return };
    let Some(other) = Sink::open() else { return };
    let program = Program::bare();
    let secret = program.secret("smtp.password", "wrong");
    let refusing = sink.section(&format!("username = \"support@lab.test\"\npassword = {secret}"));
    let servers = format!("{refusing}{}", other.section("").replace("\"relay\"", "\"other\""));
    let billing = "[[project]]\nkey = \"BIL\"\nsmtp = \"other\"\nacknowledge = true\n[[route]]\nsubject = \"*bill*\"\nproject = \"BIL\"\n";
    configure(&program, &format!("{SUPPORT}{billing}"), &servers);
    pipe(&program, from("ann@customer.example", "one", "").as_bytes());
    // More than are looked at together.
    change(
        &program,
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
         INSERT INTO outgoing (channel, kind, target, once, payload, next_try_at, created_at)
         SELECT channel, kind, target, 'copy:' || i, payload, next_try_at, created_at FROM outgoing, n",
    );
    let mut daemon = program.daemon();
    let tries = "SELECT sum(attempts) FROM outgoing WHERE target = 'relay'";
    daemon.wait_for("the refusal", SOON, |_| {
        (look(&program, tries) == [["1"]]).then_some(())
    });
    for n in 1..4 {
        pipe(
            &program,
            from(&format!("eve{n}@customer.example"), &format!("eve{n}"), "").as_bytes(),
        );
        pipe(
            &program,
            from(&format!("bob{n}@customer.example"), &format!("bill{n}"), "").as_bytes(),
        );
        other.wait_taken(&mut daemon, n);
    }
    assert_eq!(look(&program, tries), [["1"]]);
    let waiting = "SELECT count(*) FROM outgoing WHERE target = 'relay' AND state = 'queued'";
    assert_eq!(look(&program, waiting), [["504"]]);
}

#[test]
fn what_is_over_goes_after_a_week_and_what_waits_or_protects_stays() {
    let program = piped(SUPPORT, "[[smtp]]\nhost = \"127.0.0.1\"\nport = 1\n");
    for name in ["ann", "bob", "eve"] {
        pipe(&program, from(&format!("{name}@customer.example"), name, "").as_bytes());
    }
    let week = 7 * 24 * 3600;
    change(
        &program,
        &format!(
            "UPDATE outgoing SET state = 'sent', finished_at = created_at - {week} * (id - 1) - 60 WHERE id < 3;
             UPDATE outgoing SET created_at = created_at - 9 * {week} WHERE id = 3;
             INSERT INTO outgoing (channel, kind, target, once, payload, state, next_try_at, created_at, finished_at)
             SELECT 'webhook', kind, 'hook', kind || age, 'x', state, 1, 1, unixepoch() - age
             FROM (SELECT 'event' kind UNION SELECT 'alert'), (SELECT 'sent' state UNION SELECT 'failed'),
                  (SELECT {week} + 60 age UNION SELECT {week} - 3600) WHERE (kind = 'event') = (state = 'sent')"
        ),
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = mailintake::store::Store::open(&program.state_dir()).await.unwrap();
        let now = mailintake::time::Clock::system().now();
        mailintake::store::retention::run(&store, Duration::from_hours(1), now)
            .await
            .unwrap();
        store.close().await;
    });
    let kept = look(
        &program,
        "SELECT payload <> '' FROM outgoing WHERE channel = 'mail' ORDER BY id",
    );
    assert_eq!(kept.concat(), ["1", "0", "1"]);
    // By its row an acknowledgement stays known; of an event and an alert nothing has to be.
    let left = look(
        &program,
        "SELECT once FROM outgoing WHERE channel = 'webhook' ORDER BY once",
    );
    let kept = week - 3600;
    assert_eq!(left.concat(), [format!("alert{kept}"), format!("event{kept}")]);
}

#[test]
fn an_answer_that_is_lost_repeats_a_reply_and_never_an_acknowledgement() {
    let Some(sink) = Sink::open() else { return };
    let program = piped(SUPPORT, &sink.section(""));
    let lost = json!({"stage": "message", "action": "store_then_drop"});
    pipe(&program, from("ann@customer.example", "one", "").as_bytes());
    sink.fault(&lost);
    let mut daemon = program.daemon();
    wait_states(&mut daemon, &program, &["unknown"]);
    assert_eq!(events(&program, "SUP-1"), ["mail-unknown"]);
    sink.fault(&lost);
    program.ok(&["issue", "comment", "SUP-1", "--send", "text"]);
    wait_states(&mut daemon, &program, &["unknown", "sent"]);
    let ids: Vec<_> = sink
        .taken()
        .into_iter()
        .map(|(_, mail)| mail.message_id.unwrap())
        .collect();
    assert_eq!(ids.len(), 3);
    assert!(ids[0] != ids[1] && ids[1] == ids[2], "{ids:?}");
    assert_eq!(
        alerts(&program).iter().filter(|alert| alert.contains("relay")).count(),
        0
    );
}

#[test]
fn a_death_at_any_step_sends_no_acknowledgement_twice_and_loses_no_reply() {
    let Some(sink) = Sink::open() else { return };
    let program = piped(SUPPORT, &sink.section(""));
    pipe(&program, from("ann@customer.example", "one", "").as_bytes());
    let stages = ["connect", "ehlo", "mail", "rcpt", "data", "message"];
    let mut senders = 0;
    for stage in stages {
        for is_reply in [false, true] {
            sink.fault(&json!({"stage": stage, "action": "hang"}));
            if is_reply {
                // Each of an issue of its own: the replies to one wait for each other.
                program.ok(&["issue", "comment", &format!("SUP-{senders}"), "--send", "text"]);
            } else {
                senders += 1;
                pipe(
                    &program,
                    from(&format!("s{senders}@customer.example"), &format!("s{senders}"), "").as_bytes(),
                );
            }
            let mut daemon = program.daemon();
            let faults = || sink.ask("GET", "/faults", &json!({})).as_array().unwrap().len();
            let sending = "SELECT count(*) FROM outgoing WHERE state = 'sending'";
            // Before there is a connection nothing is under way.
            let under_way = if matches!(stage, "connect" | "ehlo") { "0" } else { "1" };
            daemon.wait_for(&format!("the hang at {stage}"), SOON, |_| {
                (faults() == 0 && look(&program, sending) == [[under_way]]).then_some(())
            });
            daemon.kill();
        }
    }
    let mut daemon = program.daemon();
    let open = "SELECT count(*) FROM outgoing WHERE state IN ('queued', 'sending')";
    daemon.wait_for("all to be over", SOON * 3, |_| {
        (look(&program, open) == [["0"]]).then_some(())
    });
    assert_eq!(daemon.terminate(), Some(0));
    let ended = "SELECT kind, state, count(*) FROM outgoing GROUP BY kind, state ORDER BY kind, state";
    let ended = look(&program, ended);
    let count = |kind: &str, state: &str| {
        let row = ended.iter().find(|row| row[0] == kind && row[1] == state);
        row.map_or(0, |row| row[2].parse::<usize>().unwrap())
    };
    assert_eq!(count("reply", "sent"), stages.len(), "{ended:?}");
    let acknowledged = count("acknowledgement", "sent");
    assert_eq!(
        acknowledged + count("acknowledgement", "unknown"),
        1 + stages.len(),
        "{ended:?}"
    );
    // What was not begun before a death is sent after it.
    assert!(acknowledged > 0, "{ended:?}");
    let taken = sink.taken();
    let mut recipients: Vec<_> = taken
        .iter()
        .filter(|(_, mail)| mail.header("Auto-Submitted").is_some())
        .map(|(envelope, _)| envelope["rcpt_tos"][0].as_str().unwrap().to_owned())
        .collect();
    let count = recipients.len();
    recipients.sort();
    recipients.dedup();
    assert_eq!(recipients.len(), count, "an acknowledgement came twice");
    let known = look(&program, "SELECT count(*) FROM sent");
    assert_eq!(known, [[(1 + 2 * stages.len()).to_string()]]);
    assert_sound(Path::new(&program.database()));
}

#[test]
fn a_relay_that_stalls_does_not_hold_up_the_stop() {
    let Some(sink) = Sink::open() else { return };
    let program = piped(SUPPORT, &sink.section(""));
    sink.fault(&json!({"stage": "data", "action": "hang"}));
    pipe(&program, from("ann@customer.example", "one", "").as_bytes());
    let mut daemon = program.daemon();
    let sending = "SELECT count(*) FROM outgoing WHERE state = 'sending'";
    daemon.wait_for("the mail to be under way", SOON, |_| {
        (look(&program, sending) == [["1"]]).then_some(())
    });
    let begun = std::time::Instant::now();
    assert_eq!(daemon.terminate(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}
