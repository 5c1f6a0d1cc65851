//! Large mail goes by way of the disk: it becomes the same as if it had been held in memory.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::binary::Program;
use crate::support::scene::{SOON, Scene, assert_sound, query};

/// Bytes that do not compress and repeat nowhere.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(step).collect()
}

fn lines(text: &str, width: usize) -> String {
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(width)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    lines.join("\r\n")
}

fn part(fields: &str, body: &str) -> String {
    format!("--outer\r\n{fields}\r\n\r\n{body}\r\n")
}

fn file(kind: &str, name: &str, encoding: &str, body: &str) -> String {
    part(
        &format!(
            "Content-Type: {kind}; name=\"{name}\"\r\nContent-Disposition: attachment; filename=\"{name}\"\r\n\
             Content-Transfer-Encoding: {encoding}"
        ),
        body,
    )
}

/// Mails of several MiB, each large in another way.
fn mails() -> Vec<(&'static str, String)> {
    let base64 = |seed, length, width| lines(&STANDARD.encode(noise(seed, length)), width);
    let text = part(
        "Content-Type: text/plain; charset=utf-8",
        "See the files.\r\n-- \r\nAnn",
    );
    let log = "a line of a log with = signs and words\r\n--dashes in it\r\n\r\n".repeat(40_000);
    let printable = "caf=C3=A9 au lait, s=27il vous pla=\r\n=C3=AEt\r\n".repeat(40_000);
    let nested = format!(
        "Subject: inside\r\nContent-Type: multipart/mixed; boundary=inner\r\n\r\n--inner\r\n\r\nhello\r\n--inner\r\n\
         Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n{}\r\n--inner--\r\n",
        base64(4, 2 << 20, 76)
    );
    vec![
        (
            "base64",
            text.clone() + &file("application/zip", "a.zip", "base64", &base64(1, 3 << 20, 76)),
        ),
        (
            "several",
            [
                text.clone(),
                file("application/pdf", "a.pdf", "base64", &base64(2, 2 << 20, 60)),
                file("text/csv", "b.csv", "quoted-printable", &printable),
                file("text/plain", "c.log", "8bit", &log),
                file("application/zip", "d.zip", "base64", &base64(3, 1_500_001, 76)),
                file("application/zip", "small.zip", "base64", &base64(9, 1000, 76)),
            ]
            .concat(),
        ),
        ("nested", text.clone() + &part("Content-Type: message/rfc822", &nested)),
        (
            "odd width",
            text.clone() + &file("application/zip", "a.zip", "base64", &base64(5, 2 << 20, 75)),
        ),
        (
            "large text",
            part(
                "Content-Type: text/plain",
                &"What is written here is the mail itself.\r\n".repeat(60_000),
            ) + &file("application/zip", "a.zip", "base64", &base64(6, 1 << 20, 76)),
        ),
        (
            "one line",
            text + &file(
                "application/zip",
                "a.zip",
                "base64",
                &STANDARD.encode(noise(7, 2 << 20)),
            ),
        ),
    ]
}

fn message(name: &str, parts: &str) -> String {
    format!(
        "From: Ann <ann@customer.example>\r\nTo: support@example.org\r\nSubject: {name}\r\n\
         Message-ID: <{}@customer.example>\r\nDate: Mon, 2 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/mixed; boundary=outer\r\n\r\n{parts}--outer--\r\n",
        name.replace(' ', "-")
    )
}

const OF_MESSAGES: &str = "SELECT message_id, lower(hex(sha256)), lower(hex(fingerprint)), size, verdict FROM message
    ORDER BY message_id";
const OF_FILES: &str = "SELECT i.summary, a.filename, a.media_type, lower(hex(a.sha256)), c.size
    FROM attachment a JOIN content c ON c.sha256 = a.sha256 JOIN issue i ON i.id = a.issue ORDER BY 1, 2, 4";

#[test]
fn large_mail_becomes_what_it_would_have_become_in_memory() {
    let scene = Scene::support("");
    let beside = Program::new(
        "[[mailbox]]\naddress = \"support@example.org\"\nhost = \"127.0.0.1\"\npassword = { env = \"P\" }\n",
    );
    let mut beside = beside;
    beside.set("P", "x");
    let mails = mails();
    for (name, parts) in &mails {
        let raw = message(name, parts);
        scene.deliver(&raw);
        let path = beside.file("mail.eml", &raw);
        beside.ok(&["ingest", path.to_str().unwrap()]);
    }
    let mut daemon = scene.program.daemon();
    daemon.wait_for("all mails", SOON * 3, |_| {
        (scene.look("SELECT count(*) FROM message") == [[mails.len().to_string()]]).then_some(())
    });
    let in_memory = |sql| query(&beside.database(), sql);
    assert_eq!(scene.query(OF_MESSAGES), in_memory(OF_MESSAGES));
    assert_eq!(scene.query(OF_FILES), in_memory(OF_FILES));
    let texts = "SELECT summary, description FROM issue ORDER BY 1";
    assert_eq!(scene.query(texts), in_memory(texts));
    let spread = scene.query(
        "SELECT count(*) FROM message m WHERE EXISTS (SELECT 1 FROM original_more o WHERE o.message = m.id)
            OR EXISTS (SELECT 1 FROM attachment a JOIN content_more c ON c.sha256 = a.sha256 WHERE a.issue = m.issue)",
    );
    assert_eq!(
        spread,
        [[mails.len().to_string()]],
        "they did not go by way of the disk"
    );
    for row in scene.query("SELECT m.id, i.summary FROM message m JOIN issue i ON i.id = m.issue") {
        let (name, parts) = mails.iter().find(|(name, _)| *name == row[1]).unwrap();
        assert!(
            scene.program.ok(&["message", "raw", &row[0]]) == message(name, parts),
            "{name}: other bytes"
        );
    }
    for id in scene.query("SELECT id FROM attachment").concat() {
        let path = scene.program.state_dir().join(format!("attachment-{id}"));
        scene
            .program
            .ok(&["issue", "attachment", &id, "--output", path.to_str().unwrap()]);
        let size = std::fs::metadata(&path).unwrap().len().to_string();
        let stated = scene.query(&format!(
            "SELECT size FROM attachment a JOIN content c ON c.sha256 = a.sha256 WHERE a.id = {id}"
        ));
        assert_eq!(stated, [[size]]);
    }
    assert_sound(&scene.program.database());
    for row in scene.query("SELECT key FROM issues") {
        scene.program.ok(&["issue", "erase", &row[0]]);
    }
    let left = "SELECT (SELECT count(*) FROM original_more) + (SELECT count(*) FROM content_more)";
    assert_eq!(scene.query(left), [["0"]]);
}

const UNKNOWN_ARE_HELD: &str = "[[project]]\nkey = \"SUP\"\nname = \"Support\"\nunknown_sender = \"hold\"\n\n\
    [[mailbox]]\naddress = \"support@example.org\"\nproject = \"SUP\"\nhost = \"127.0.0.1\"\npassword = { env = \"P\" }\n";

#[test]
fn an_attachment_that_mails_repeat_is_kept_once_and_goes_with_the_last_of_them() {
    let mut program = Program::new(UNKNOWN_ARE_HELD);
    program.set("P", "x");
    let logo = lines(&STANDARD.encode(noise(11, 40_000)), 76);
    let mails: Vec<String> = (0..3)
        .map(|number| {
            let text = part("Content-Type: text/plain", &format!("Mail number {number}."));
            message(
                &format!("logo {number}"),
                &(text + &file("image/png", "logo.png", "base64", &logo)),
            )
        })
        .collect();
    for (number, raw) in mails.iter().enumerate() {
        let path = program.file(&format!("{number}.eml"), raw);
        program.ok(&["ingest", path.to_str().unwrap()]);
    }
    let look = |sql: &str| query(&program.database(), sql);
    let counts = "SELECT (SELECT count(*) FROM original), (SELECT count(*) FROM original_part),
        (SELECT count(*) FROM content), (SELECT count(*) FROM attachment)";
    assert_eq!(look(counts), [["3", "3", "1", "0"]]);
    let bytes =
        "SELECT sum(length(bytes)) < 50000 FROM (SELECT bytes FROM original UNION ALL SELECT bytes FROM content)";
    assert_eq!(look(bytes), [["1"]], "the logo was kept more than once");
    for (number, raw) in (1..).zip(&mails) {
        assert!(
            program.ok(&["message", "raw", &i64::to_string(&number)]) == *raw,
            "{number}: other bytes"
        );
    }
    program.ok(&["message", "release", "1", "2"]);
    assert_eq!(look(counts), [["3", "3", "1", "2"]]);
    assert_sound(&program.database());
    program.ok(&["issue", "erase", "SUP-1"]);
    assert_eq!(look(counts), [["2", "2", "1", "1"]], "others have the logo still");
    assert!(program.ok(&["message", "raw", "3"]) == mails[2]);
    program.ok(&["issue", "erase", "SUP-2"]);
    assert_eq!(look(counts), [["1", "1", "1", "0"]], "the held mail has the logo still");
    assert!(program.ok(&["message", "raw", "3"]) == mails[2]);
}
