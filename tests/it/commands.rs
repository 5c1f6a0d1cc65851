//! The commands: exit codes, JSON, what is said to whom, and what root leaves behind.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use nix::unistd::Uid;
use serde_json::Value;

use crate::support::binary::{Output, Program};
use crate::support::imap_server::{Action, Fault};
use crate::support::scene::{SOON, Scene, address, mail};

/// Nobody's, on every Linux.
const NOBODY: u32 = 65534;

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Every promised key is there; more may be.
fn assert_keys(value: &Value, promised: &str) {
    let found = keys(value);
    let missing: Vec<_> = promised.split_whitespace().filter(|key| !found.contains(key)).collect();
    assert!(missing.is_empty(), "{missing:?} of {value}");
}

const ISSUE: &str = "key project state summary reporter created_at updated_at comment_count attachment_count";
const MESSAGE: &str = "id mailbox source remote_id folder uidvalidity uid message_id sha256 size class verdict reason issue \
     comment received_at ingested_at server_action";

/// A daemon with an issue that has a comment and an attachment, a mail that could not be read, and an alert.
fn busy() -> (Scene, crate::support::binary::Daemon) {
    let scene = Scene::support("project = \"SUP\"\n\n[[project]]\nkey = \"SUP\"");
    let attached = "From: Ann <ann@customer.example>\nTo: support@example.org\nSubject: With a file\n\
         Message-ID: <file@customer.example>\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n\
         --b\n\nThe text.\n--b\nContent-Type: text/csv\nContent-Disposition: attachment; filename=a.csv\n\n1,2\n--b--\n";
    scene.deliver(attached);
    scene.deliver(&mail("reply").replace("\n\n", "\nIn-Reply-To: <file@customer.example>\n\n"));
    scene.server.deliver_exactly(&address("support"), "INBOX", "");
    let mut daemon = scene.program.daemon();
    scene.wait_rows(&mut daemon, 3);
    scene.wait_alerts(&mut daemon, &["message-quarantined"], SOON);
    scene.wait_state(&mut daemon, "support", "watching", SOON);
    (scene, daemon)
}

#[test]
fn json_has_the_promised_keys_and_sql_the_same_values() {
    let (scene, _daemon) = busy();
    let issues = scene.program.json(&["issue", "list"]);
    assert_eq!(issues.as_array().unwrap().len(), 1);
    assert_keys(&issues[0], ISSUE);
    assert_eq!(keys(&issues[0]["reporter"]), BTreeSet::from(["name", "address"]));
    let issue = scene.program.json(&["issue", "show", "SUP-1"]);
    assert_keys(&issue, ISSUE);
    assert_keys(
        &issue,
        "description description_elided watchers links attachments comments events",
    );
    assert_keys(&issue["attachments"][0], "id filename media_type size sha256 inline");
    assert_keys(
        &issue["comments"][0],
        "id author trust body elided created_at message attachments",
    );
    assert_eq!(issue["comment_count"], 1);
    assert_eq!(issue["attachment_count"], 1);
    let messages = scene.program.json(&["message", "list"]);
    assert_eq!(messages.as_array().unwrap().len(), 3);
    for message in messages.as_array().unwrap() {
        assert_keys(message, MESSAGE);
    }
    let newest = messages[0]["id"].to_string();
    assert_eq!(scene.program.json(&["message", "show", &newest]), messages[0]);
    let held = scene.program.json(&["message", "list", "--verdict", "quarantined"]);
    assert_eq!(held.as_array().unwrap().len(), 1);
    let of_issue = scene.program.json(&[
        "message",
        "list",
        "--issue",
        "SUP-1",
        "--mailbox",
        "support",
        "--limit",
        "1",
    ]);
    assert_eq!(of_issue[0]["verdict"], "comment");
    let alerts = scene.program.json(&["alert", "list"]);
    assert_keys(
        &alerts[0],
        "id kind severity subject code summary remedy since last_seen count acknowledged",
    );
    let status = scene.program.json(&["status"]);
    assert_keys(&status, "version daemon mailboxes grants alerts");
    assert_keys(&status["daemon"], "running pid since");
    assert_eq!(status["daemon"]["running"], true);
    assert_keys(
        &status["mailboxes"][0],
        "name address project state since last_check_at last_message_at ingested backlog held quarantined error",
    );
    assert_eq!(status["alerts"], alerts);
    let columns = scene.query("SELECT key, summary, created_at FROM issues");
    assert_eq!(
        columns[0],
        ["key", "summary", "created_at"].map(|key| issue[key].as_str().unwrap())
    );
}

#[test]
fn an_alert_is_acknowledged_once_and_unknown_things_are_said_to_be_so() {
    let (scene, _daemon) = busy();
    let id = scene.program.json(&["alert", "list"])[0]["id"].to_string();
    scene.program.ok(&["alert", "acknowledge", &id]);
    assert_eq!(scene.program.json(&["alert", "list"])[0]["acknowledged"], true);
    for (arguments, code) in [
        (&["issue", "show", "SUP-99"][..], 1),
        (&["issue", "show", "nonsense"], 1),
        (&["message", "show", "99"], 1),
        (&["message", "raw", "99"], 1),
        (&["alert", "acknowledge", "99"], 1),
        (&["audit", "nobody"], 2),
        (&["test", "nobody"], 2),
        (&["message", "list", "--verdict", "nonsense"], 2),
        (&["message", "show", "x"], 2),
        (&["nonsense"], 2),
        (&[], 2),
        (&["issue"], 2),
        (&["--version"], 0),
        (&["--help"], 0),
        (&["issue", "list", "--project", "NONE"], 0),
        (&["test"], 0),
        (&["audit"], 0),
        (&["check"], 0),
    ] {
        let output = scene.program.run(arguments);
        assert_eq!(
            output.code,
            Some(code),
            "{arguments:?}: {}{}",
            output.stdout,
            output.stderr
        );
        assert!(code == 0 || !output.stderr.is_empty(), "{arguments:?} says nothing");
    }
}

#[test]
fn raw_bytes_are_those_of_the_server() {
    let (scene, _daemon) = busy();
    let first = scene.server.messages(&address("support"), "INBOX").remove(0);
    let row = &scene.query("SELECT id FROM messages ORDER BY uid")[0][0];
    assert_eq!(scene.program.ok(&["message", "raw", row]).into_bytes(), first.raw);
}

#[test]
fn without_a_database_or_a_configuration_commands_say_so() {
    let scene = Scene::support("");
    for arguments in [
        &["issue", "list"][..],
        &["message", "list"],
        &["alert", "list"],
        &["audit"],
    ] {
        let output = scene.program.run(arguments);
        assert_eq!(output.code, Some(74), "{arguments:?}: {}", output.stderr);
        assert!(
            output.stderr.contains("no database"),
            "{arguments:?}: {}",
            output.stderr
        );
    }
    assert!(!scene.program.state_dir().exists(), "looking makes nothing");
    // The state of things is told all the same, and so is a sound configuration and connection.
    assert_eq!(scene.program.json(&["status"])["daemon"]["running"], false);
    scene.program.ok(&["check"]);
    scene.program.ok(&["test"]);
    assert!(!scene.program.state_dir().exists(), "testing a password makes nothing");
    let bare = Program::bare();
    for arguments in [
        &["run"][..],
        &["check"],
        &["status"],
        &["issue", "list"],
        &["audit"],
        &["test"],
    ] {
        let output = bare.run(arguments);
        assert_eq!(output.code, Some(78), "{arguments:?}: {}", output.stderr);
        assert!(
            output.stderr.contains("config.toml"),
            "{arguments:?}: {}",
            output.stderr
        );
    }
}

#[test]
fn monitoring_gets_one_line_and_its_own_exit_codes() {
    let one_line = |output: &Output, code: i32, word: &str| {
        assert_eq!(output.code, Some(code), "{output:?}");
        assert_eq!(output.stdout.lines().count(), 1, "{output:?}");
        assert!(output.stdout.starts_with(word), "{output:?}");
    };
    one_line(&Program::bare().run(&["status", "--check"]), 3, "UNKNOWN");
    let scene = Scene::support("");
    one_line(&scene.program.run(&["status", "--check"]), 2, "CRITICAL");
    let mut daemon = scene.program.daemon();
    scene.wait_state(&mut daemon, "support", "watching", SOON);
    let well = scene.program.run(&["status", "--check"]);
    one_line(&well, 0, "OK");
    let (_, perfdata) = well.stdout.split_once('|').unwrap();
    for pair in perfdata.split_whitespace() {
        let (name, value) = pair.split_once('=').unwrap();
        assert!(!name.is_empty() && value.parse::<u64>().is_ok(), "{pair}");
    }
    scene.server.deliver_exactly(&address("support"), "INBOX", "");
    scene.wait_alerts(&mut daemon, &["message-quarantined"], SOON);
    one_line(&scene.program.run(&["status", "--check"]), 1, "WARNING");
    daemon.kill();
    one_line(&scene.program.run(&["status", "--check"]), 2, "CRITICAL");
}

#[test]
fn an_audit_names_what_has_no_row() {
    let scene = Scene::support("");
    let mut daemon = scene.program.daemon();
    scene.deliver(&mail("one"));
    scene.wait_rows(&mut daemon, 1);
    scene.program.ok(&["audit"]);
    daemon.kill();
    let uid = scene.deliver(&mail("missing"));
    let output = scene.program.run(&["audit", "support"]);
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    assert!(output.stdout.contains("missing@customer.example"), "{}", output.stdout);
    let found = scene.program.run(&["audit", "--json"]);
    assert_eq!(found.code, Some(1));
    let found: Value = serde_json::from_str(&found.stdout).unwrap();
    assert_eq!(found[0]["missing"][0]["uid"], uid);
    scene.server.fault(Fault::at("AUTHENTICATE", Action::HangUp).always());
    assert_eq!(
        scene.program.run(&["audit"]).code,
        Some(1),
        "what cannot be compared is not well"
    );
}

#[test]
fn a_reader_that_goes_away_is_no_fault() {
    let (scene, _daemon) = busy();
    for command in [
        "issue list",
        "issue show SUP-1 --json",
        "message list",
        "message raw 1",
        "status",
        "alert list",
        "check",
    ] {
        let script = format!(
            "set -o pipefail; {} --config {} {command} | head -c 0",
            env!("CARGO_BIN_EXE_mailintake"),
            scene.program.config().display()
        );
        let output = Command::new("bash").args(["-c", &script]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && stderr.is_empty(),
            "{command}: {} {stderr}",
            output.status
        );
    }
}

/// Runs the program as nobody.
fn as_nobody(program: &Program, arguments: &[&str]) -> (Option<i32>, String) {
    // The build directory may be closed to others.
    let copy = program.file("mailintake", std::fs::read(env!("CARGO_BIN_EXE_mailintake")).unwrap());
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).unwrap();
    let id = NOBODY.to_string();
    let output = Command::new("setpriv")
        .args(["--reuid", &id, "--regid", &id, "--clear-groups"])
        .arg(&copy)
        .arg("--config")
        .arg(program.config())
        .args(arguments)
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// Lets others pass through the program's directory.
fn open_home(program: &Program) {
    let config = program.config();
    std::fs::set_permissions(config.parent().unwrap(), std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn may_change_users() -> bool {
    let may = Uid::effective().is_root() && Path::new("/usr/bin/setpriv").exists();
    if !may {
        println!("skipped: this needs root and setpriv");
    }
    may
}

#[test]
fn a_stranger_is_told_what_to_type() {
    if !may_change_users() {
        return;
    }
    let program = Program::new("[[project]]\nkey = \"SUP\"\n");
    open_home(&program);
    std::fs::create_dir(program.state_dir()).unwrap();
    for arguments in [&["status"][..], &["issue", "list"], &["run"], &["alert", "list"]] {
        let (code, stderr) = as_nobody(&program, arguments);
        assert_eq!(code, Some(77), "{arguments:?}: {stderr}");
        assert!(stderr.contains("sudo mailintake"), "{arguments:?}: {stderr}");
    }
}

#[test]
fn root_leaves_nothing_of_its_own_to_the_owner_of_the_state_directory() {
    if !may_change_users() {
        return;
    }
    let scene = Scene::support("");
    open_home(&scene.program);
    let state = scene.program.state_dir();
    std::fs::create_dir(&state).unwrap();
    chown(&state, Some(NOBODY), Some(NOBODY)).unwrap();
    scene.deliver(&mail("one"));
    let mut daemon = scene.program.daemon();
    scene.wait_rows(&mut daemon, 1);
    for arguments in [&["status"][..], &["issue", "list"], &["audit"], &["test"]] {
        scene.program.ok(arguments);
    }
    assert_eq!(daemon.terminate(), Some(0));
    for arguments in [&["status"][..], &["issue", "list"], &["audit"], &["test"]] {
        scene.program.ok(arguments);
    }
    let mut seen = BTreeSet::new();
    for entry in std::fs::read_dir(&state).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (NOBODY, NOBODY), "{:?}", entry.path());
        assert_eq!(
            metadata.mode() & 0o022,
            0,
            "{:?} may be written by others",
            entry.path()
        );
        seen.insert(entry.file_name().into_string().unwrap());
    }
    assert!(seen.contains("mailintake.db"), "{seen:?}");
}

#[test]
fn what_root_told_a_command_to_write_is_whole_or_not_there() {
    if !may_change_users() {
        return;
    }
    let program = Program::bare();
    let secret = program.secret("support.password", "secret");
    program.configure(
        "",
        &format!(
            "[[mailbox]]\naddress = \"support@example.org\"\nhost = \"127.0.0.1\"\nport = 9\npassword = {secret}\n"
        ),
    );
    open_home(&program);
    let state = program.state_dir();
    std::fs::create_dir(&state).unwrap();
    chown(&state, Some(NOBODY), Some(NOBODY)).unwrap();
    let closed = program.config().parent().unwrap().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
    let path = closed.join("file");
    let text = path.to_str().unwrap();
    for (arguments, code) in [
        (&["backup", text][..], 74),
        (&["issue", "attachment", "1", "--output", text], 74),
    ] {
        let output = program.run(arguments);
        assert_eq!(output.code, Some(code), "{arguments:?}: {}", output.stderr);
        assert!(!path.exists(), "{arguments:?}");
        assert!(!output.stderr.contains("remove it"), "{arguments:?}: {}", output.stderr);
    }
    assert_eq!(std::fs::read_dir(&state).unwrap().count(), 0);
    let one = program.file("one.eml", mail("one"));
    program.ok(&["ingest", one.to_str().unwrap()]);
    program.ok(&["backup", text]);
    assert!(path.metadata().unwrap().len() > 0);
    let again = program.run(&["backup", text]);
    assert!(again.stderr.contains("is there already"), "{}", again.stderr);
    assert!(path.exists());
}

#[test]
fn the_configuration_may_be_named_before_and_after_a_command() {
    let program = Program::new("[[project]]\nkey = \"SUP\"\n");
    let config = program.config();
    let config = config.to_str().unwrap();
    for arguments in [
        &["--config", config, "issue", "list"][..],
        &["issue", "--config", config, "list"],
        &["issue", "list", "--config", config],
        &["message", "show", "1", "--json", "--config", config],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_mailintake"))
            .env("MAILINTAKE_CONFIG", "/nonexistent")
            .args(arguments)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(74), "{arguments:?}: {said}");
        assert!(said.contains("there is no database"), "{arguments:?}: {said}");
    }
}
