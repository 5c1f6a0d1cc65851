//! What people do to issues and to the database by command, and what the daemon does to it at night.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use mailintake::store::{Store, backup, retention};
use mailintake::time::Timestamp;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, SqliteConnection};

use crate::support::binary::Daemon;
use crate::support::scene::{SOON, Scene, assert_sound, mail, query};

const NOW: Timestamp = Timestamp(1_793_610_000);

/// A daemon that has taken these mails.
fn taken(mails: &[String]) -> (Scene, Daemon) {
    let scene = Scene::support("");
    for mail in mails {
        scene.deliver(mail);
    }
    let mut daemon = scene.program.daemon();
    scene.wait_rows(&mut daemon, mails.len());
    (scene, daemon)
}

fn with_file(name: &str, text: &str) -> String {
    format!(
        "From: Bob <bob@customer.example>\nTo: support@example.org\nSubject: SECRETSUBJECT {name}\n\
         Date: Mon, 2 Nov 2026 10:00:00 +0000\nMessage-ID: <{name}@customer.example>\nMIME-Version: 1.0\n\
         Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\nSECRETTEXT of {name}.\nFrom here on.\n\
         --b\nContent-Type: text/plain\nContent-Disposition: attachment; filename=a.txt\n\n{text}\n--b--\n"
    )
}

fn reply(name: &str, to: &str) -> String {
    format!(
        "From: Ann <ann@customer.example>\nTo: support@example.org\nSubject: Re: About\n\
         Date: Mon, 2 Nov 2026 11:00:00 +0000\nMessage-ID: <{name}@customer.example>\n\
         In-Reply-To: <{to}@customer.example>\n\nThe answer {name}.\n"
    )
}

fn keys(scene: &Scene, arguments: &[&str]) -> Vec<String> {
    let found = scene.program.json(arguments);
    let key = |issue: &serde_json::Value| issue["key"].as_str().unwrap().to_owned();
    found.as_array().unwrap().iter().map(key).collect()
}

#[test]
fn an_issue_is_closed_reopened_and_commented_beside_the_daemon() {
    let (scene, _daemon) = taken(&[mail("one")]);
    let program = &scene.program;
    program.ok(&["issue", "close", "MAIL-1"]);
    program.ok(&["issue", "close", "MAIL-1"]);
    assert_eq!(keys(&scene, &["issue", "list", "--state", "closed"]), ["MAIL-1"]);
    program.ok(&["issue", "reopen", "MAIL-1"]);
    let note = program.file("note.txt", "From a file.\n");
    program.ok(&["issue", "comment", "MAIL-1", "As an argument."]);
    program.ok(&["issue", "comment", "MAIL-1", "--file", note.to_str().unwrap()]);
    assert_eq!(
        program.run_with(&["issue", "comment", "MAIL-1"], b"From stdin.\n").code,
        Some(0)
    );
    let issue = program.json(&["issue", "show", "MAIL-1"]);
    let kinds: Vec<_> = issue["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| &event["kind"])
        .collect();
    assert_eq!(kinds, ["closed", "reopened"], "closing twice is one event");
    let bodies: Vec<_> = issue["comments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["body"])
        .collect();
    assert_eq!(bodies, ["As an argument.", "From a file.", "From stdin."]);
    assert_eq!(issue["comments"][0]["trust"], "local");
    for (arguments, input, code) in [
        (vec!["issue", "close", "MAIL-9"], &b""[..], 1),
        (vec!["issue", "comment", "MAIL-1"], b" \n", 2),
        (vec!["issue", "comment", "MAIL-1"], b"\xff\xfe", 1),
        (vec!["issue", "comment", "MAIL-1", "--file", "/nonexistent"], b"", 1),
        (vec!["issue", "comment", "MAIL-1", "text", "--file", "x"], b"", 2),
        (vec!["issue", "export"], b"", 2),
    ] {
        let output = program.run_with(&arguments, input);
        assert_eq!(output.code, Some(code), "{arguments:?}: {}", output.stderr);
    }
    assert_eq!(
        program.json(&["issue", "show", "MAIL-1"])["comments"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
}

#[test]
fn search_finds_all_words_wherever_they_stand_and_takes_no_word_for_syntax() {
    let umlaut = mail("two").replace("The text", "Völlig leere Tonerkassette. The text");
    let (scene, _daemon) = taken(&[mail("one"), umlaut, reply("three", "one")]);
    for (words, wanted) in [
        (vec!["tonerkassette"], vec!["MAIL-2"]),
        (vec!["vollig", "TWO"], vec!["MAIL-2"]),
        (vec!["toner*"], vec!["MAIL-2"]),
        (vec!["toner"], vec![]),
        (vec!["answer", "about"], vec!["MAIL-1"]),
        (vec!["answer", "tonerkassette"], vec![]),
        (vec!["\"leere tonerkassette\""], vec!["MAIL-2"]),
        (vec!["\"tonerkassette leere\""], vec![]),
        (
            vec!["--", "AND", "(", "summary:x", "\"", "*", "-", "^a", "NEAR("],
            vec![],
        ),
    ] {
        let mut arguments = vec!["issue", "search", "--json"];
        arguments.extend(words);
        let found = scene.program.ok(&arguments);
        let found: serde_json::Value = serde_json::from_str(&found).unwrap();
        let found: Vec<_> = found.as_array().unwrap().iter().map(|issue| &issue["key"]).collect();
        assert_eq!(found, wanted, "{arguments:?}");
    }
    assert_eq!(keys(&scene, &["issue", "search", "text", "--limit", "1"]).len(), 1);
    assert_eq!(scene.program.run(&["issue", "search"]).code, Some(2));
}

#[test]
fn attachments_and_exports_have_the_bytes_as_they_came() {
    let (scene, _daemon) = taken(&[with_file("one", "THEFILE"), mail("two")]);
    let program = &scene.program;
    assert_eq!(program.ok(&["issue", "attachment", "1"]).trim_end(), "THEFILE");
    let path = program.file("there", "before");
    let output = program.run(&["issue", "attachment", "1", "--output", path.to_str().unwrap()]);
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    assert_eq!(std::fs::read(&path).unwrap(), b"before");
    let new = path.with_file_name("new");
    program.ok(&["issue", "attachment", "1", "--output", new.to_str().unwrap()]);
    assert!(std::fs::read(&new).unwrap().starts_with(b"THEFILE"));
    assert_eq!(std::fs::metadata(&new).unwrap().permissions().mode() & 0o777, 0o600);
    let missing = path.with_file_name("missing");
    let output = program.run(&["issue", "attachment", "77", "--output", missing.to_str().unwrap()]);
    assert_eq!((output.code, missing.exists()), (Some(1), false), "{}", output.stderr);

    let lines = program.ok(&["issue", "export", "--format", "jsonl"]);
    let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0], program.json(&["issue", "show", "MAIL-1"]));
    assert_eq!(lines.len(), 2);
    let mbox = program.ok(&["issue", "export", "MAIL-1", "--format", "mbox"]);
    assert!(mbox.starts_with("From MAILER-DAEMON "), "{mbox}");
    assert!(mbox.contains("\n>From here on."), "{mbox}");
    assert_eq!(mbox.matches("\nMessage-ID:").count(), 1, "{mbox}");
    assert_eq!(
        program.run(&["issue", "export", "MAIL-9", "--format", "mbox"]).code,
        Some(1)
    );
}

#[test]
fn a_merged_issue_goes_on_in_the_other_with_its_text_files_and_replies() {
    let (scene, mut daemon) = taken(&[mail("one"), with_file("two", "THEFILE"), mail("three")]);
    let program = &scene.program;
    program.ok(&["issue", "comment", "MAIL-2", "A remark."]);
    program.ok(&["issue", "merge", "MAIL-2", "MAIL-1"]);
    scene.deliver(&reply("four", "two"));
    scene.wait_rows(&mut daemon, 4);
    let row = scene.query("SELECT issue, verdict FROM messages ORDER BY id DESC LIMIT 1");
    assert_eq!(row, [["MAIL-1", "comment"]]);
    let issue = program.json(&["issue", "show", "MAIL-1"]);
    let bodies: Vec<_> = issue["comments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["body"].as_str().unwrap())
        .collect();
    assert!(
        bodies[0].contains("SECRETSUBJECT two") && bodies[0].contains("SECRETTEXT"),
        "{bodies:?}"
    );
    assert_eq!(bodies[1], "A remark.");
    assert_eq!(issue["comments"][0]["attachments"][0]["filename"], "a.txt");
    assert_eq!(issue["links"][0]["key"], "MAIL-2");
    let merged = program.json(&["issue", "show", "MAIL-2"]);
    assert_eq!(
        (&merged["state"], &merged["links"][0]["key"]),
        (&"closed".into(), &"MAIL-1".into())
    );
    assert_eq!(merged["events"][0]["kind"], "merged");
    for refused in [
        ["merge", "MAIL-1", "MAIL-1"],
        ["merge", "MAIL-1", "MAIL-2"],
        ["merge", "MAIL-2", "MAIL-3"],
        ["merge", "MAIL-9", "MAIL-3"],
        ["comment", "MAIL-2", "text"],
    ] {
        let output = program.run(&[&["issue"], &refused[..]].concat());
        assert_eq!(output.code, Some(1), "{refused:?}: {}", output.stderr);
    }
    assert_eq!(program.run(&["issue", "reopen", "MAIL-2"]).code, Some(1));
    assert_sound(&program.database());
}

#[test]
fn what_is_erased_is_in_no_file_of_the_database_and_comes_no_second_time() {
    let (scene, mut daemon) = taken(&[mail("one"), with_file("two", "SECRETFILE"), mail("three")]);
    let program = &scene.program;
    program.ok(&["issue", "comment", "MAIL-2", "SECRETREMARK"]);
    program.ok(&["issue", "merge", "MAIL-2", "MAIL-1"]);
    let raw = scene.query("SELECT id FROM messages WHERE issue = 'MAIL-2'");
    program.ok(&["issue", "erase", "MAIL-2"]);
    assert_eq!(keys(&scene, &["issue", "search", "SECRETTEXT"]), [] as [String; 0]);
    let shown = program.ok(&["issue", "export", "--format", "jsonl"]);
    assert!(!shown.contains("SECRET") && !shown.contains("bob@"), "{shown}");
    assert!(shown.contains("The text of one"), "{shown}");
    assert_eq!(program.run(&["message", "raw", &raw[0][0]]).code, Some(1));
    let row = scene.query("SELECT verdict, message_id FROM messages WHERE issue = 'MAIL-2'");
    assert_eq!(row, [["issue", "two@customer.example"]]);
    assert_eq!(scene.query("SELECT count(*) FROM content"), [["0"]]);
    assert_eq!(program.json(&["issue", "show", "MAIL-2"])["state"], "closed");
    for entry in std::fs::read_dir(program.state_dir()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        for word in ["SECRET", "secrettext", "secretremark"] {
            let found = bytes.windows(word.len()).any(|window| window == word.as_bytes());
            assert!(!found, "{word} is in {}", path.display());
        }
    }
    daemon.terminate();
    drop(daemon);
    let mut daemon = scene.program.daemon();
    scene.deliver(&mail("four"));
    scene.wait_rows(&mut daemon, 4);
    assert_eq!(scene.query("SELECT count(*) FROM issues"), [["4"]]);
    assert_eq!(scene.query("SELECT count(*) FROM issues WHERE state = 'open'"), [["3"]]);
    // The index agrees with the texts.
    let check = "INSERT INTO issue_text (issue_text, rank) VALUES ('integrity-check', 1);
                 INSERT INTO comment_text (comment_text, rank) VALUES ('integrity-check', 1)";
    daemon.terminate();
    change(&program.state_dir(), check);
}

#[test]
fn a_backup_is_made_beside_the_daemon_and_never_over_a_file() {
    let (scene, _daemon) = taken(&[mail("one"), mail("two")]);
    let copy = scene.program.file("copy.db", "");
    let path = copy.to_str().unwrap();
    assert_eq!(scene.program.run(&["backup", path]).code, Some(1));
    assert_eq!(std::fs::read(&copy).unwrap(), b"");
    std::fs::remove_file(&copy).unwrap();
    scene.program.ok(&["backup", path]);
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    assert_sound(&copy);
    assert_eq!(query(&copy, "SELECT count(*) FROM issues"), [["2"]]);
    assert!(!copy.with_file_name("copy.db.partial").exists());
    assert_eq!(scene.program.run(&["backup", "/nonexistent/copy.db"]).code, Some(74));
}

#[test]
fn a_copy_is_restored_once_it_was_checked_and_the_daemon_has_ended() {
    let (scene, mut daemon) = taken(&[mail("one")]);
    let program = &scene.program;
    let copy = program.file("copy.db", "");
    std::fs::remove_file(&copy).unwrap();
    let path = copy.to_str().unwrap();
    program.ok(&["backup", path]);
    scene.deliver(&mail("two"));
    scene.wait_rows(&mut daemon, 2);
    assert_eq!(program.run(&["restore", path]).code, Some(75), "beside the daemon");
    assert_eq!(daemon.terminate(), Some(0));
    let mut damaged = std::fs::read(&copy).unwrap();
    damaged[5000..20000].fill(0x5a);
    let damaged = program.file("damaged.db", damaged);
    let newer = program.file("newer.db", std::fs::read(&copy).unwrap());
    change_file(
        &newer,
        "INSERT INTO _sqlx_migrations VALUES (9999, 'x', 0, 1, x'00', 0)",
    );
    let foreign = program.file("foreign.db", "");
    change_file(&foreign, "CREATE TABLE x (y)");
    let text = program.file("text.db", "no database");
    for wrong in [&damaged, &newer, &foreign, &text, Path::new("/nonexistent")] {
        let output = program.run(&["restore", wrong.to_str().unwrap()]);
        assert_eq!(output.code, Some(1), "{}: {}", wrong.display(), output.stderr);
        assert_eq!(scene.query("SELECT count(*) FROM issues"), [["2"]]);
    }
    while_open(&program.database(), || {
        let output = program.run(&["restore", path]);
        assert_eq!(output.code, Some(75), "beside another command: {}", output.stderr);
    });
    let output = program.run(&["restore", path]);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert_eq!(scene.query("SELECT count(*) FROM issues"), [["1"]]);
    let kept: Vec<_> = std::fs::read_dir(program.state_dir())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains(".before-restore-"))
        .collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(query(&kept[0], "SELECT count(*) FROM issues"), [["2"]]);
    let mut daemon = program.daemon();
    scene.wait_rows(&mut daemon, 2);
    daemon.terminate();
    // Into a directory that is not there.
    std::fs::remove_dir_all(program.state_dir()).unwrap();
    program.ok(&["restore", path]);
    assert_eq!(scene.query("SELECT count(*) FROM issues"), [["1"]]);
}

/// Does something while another process's connection is open.
fn while_open(path: &Path, act: impl FnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let options = SqliteConnectOptions::new().filename(path);
        let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
        connection.execute("SELECT count(*) FROM message").await.unwrap();
        act();
        connection.close().await.unwrap();
    });
}

fn change(state_dir: &Path, sql: &str) {
    change_file(&state_dir.join(mailintake::store::FILE_NAME), sql);
}

fn change_file(path: &Path, sql: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(change_in(path, sql));
}

async fn change_in(path: &Path, sql: &str) {
    let options = SqliteConnectOptions::new().filename(path).busy_timeout(SOON);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn retention_takes_old_bytes_but_never_those_of_held_or_quarantined_mail() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).await.unwrap();
    let fill = format!(
        "INSERT INTO mailbox (address, name, project, state_since) VALUES ('a@example.org', 'a', 'MAIL', 1);
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
         INSERT INTO message (mailbox, source, remote_id, size, verdict, ingested_at)
             SELECT 1, 'file', i, 1, CASE i % 10 WHEN 0 THEN 'held' WHEN 1 THEN 'quarantined' ELSE 'issue' END,
                    {} - 3000 * 60 + i * 60 FROM n;
         INSERT INTO original SELECT id, zeroblob(3000) FROM message",
        NOW.0
    );
    let database = directory.path().join(mailintake::store::FILE_NAME);
    change_in(&database, &fill).await;
    let kept = Duration::from_mins(1000);
    assert_eq!(retention::run(&store, kept, NOW).await.unwrap(), 1600);
    assert_eq!(retention::run(&store, kept, NOW).await.unwrap(), 0);
    let left = "SELECT count(*) FILTER (WHERE id < 2000 AND verdict = 'issue'), count(*) FILTER (WHERE id >= 2000),
                       count(*) FILTER (WHERE id < 2000 AND verdict = 'held')
                FROM message JOIN original ON message = id";
    assert_eq!(query(&database, left), [["0", "1001", "199"]]);
    assert_eq!(query(&database, "PRAGMA freelist_count"), [["0"]]);
}

#[tokio::test]
async fn nights_leave_a_copy_each_and_seven_in_all() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).await.unwrap();
    let folder = directory.path().join(backup::FOLDER);
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("mine.db"), "").unwrap();
    std::fs::write(folder.join("mailintake-2026-11-02.db.partial"), "died").unwrap();
    for night in 0..9 {
        let now = NOW.plus(Duration::from_hours(24 * night));
        assert!(backup::nightly(&store, now).await.unwrap().is_some());
        assert_eq!(backup::nightly(&store, now).await.unwrap(), None, "twice in a night");
    }
    let mut names: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names.first().unwrap(), "mailintake-2026-11-04.db");
    assert_eq!(names.len(), 8, "{names:?}");
    assert_eq!(names.last().unwrap(), "mine.db");
    let newest = folder.join("mailintake-2026-11-10.db");
    assert_eq!(std::fs::metadata(&newest).unwrap().permissions().mode() & 0o777, 0o600);
    assert_sound(&newest);
}

#[test]
fn a_copy_of_a_damaged_database_gets_no_name() {
    let (scene, mut daemon) = taken(&[mail("one"), mail("two")]);
    daemon.terminate();
    let database = scene.program.database();
    let mut bytes = std::fs::read(&database).unwrap();
    let whole = bytes.len();
    bytes[whole / 2..whole - 4096].fill(0x5a);
    std::fs::write(&database, bytes).unwrap();
    let folder = scene.program.file("marker", "").parent().unwrap().to_owned();
    let path = folder.join("copy.db");
    let output = scene.program.run(&["backup", path.to_str().unwrap()]);
    assert_eq!(output.code, Some(74), "{}", output.stderr);
    assert!(!path.exists() && !folder.join("copy.db.partial").exists());
}

#[test]
fn completions_and_the_manual_need_no_configuration() {
    let program = crate::support::binary::Program::bare();
    for shell in ["bash", "zsh", "fish"] {
        assert!(program.ok(&["completions", shell]).contains("mailintake"), "{shell}");
    }
    let manual = program.ok(&["man"]);
    assert!(
        manual.contains(".TH mailintake") && manual.contains("MAILINTAKE ISSUE MERGE"),
        "{manual}"
    );
    assert!(
        !manual.contains("parse-probe") && !manual.to_lowercase().contains("mailintake parse"),
        "{manual}"
    );
    assert_eq!(program.run(&["completions", "no-such-shell"]).code, Some(2));
}
