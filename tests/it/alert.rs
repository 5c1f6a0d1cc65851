//! Alerts to those outside: each way by itself, with reminders and the end.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::support::binary::Daemon;
use crate::support::lab::lab;
use crate::support::receiver::{Receiver, Reply};
use crate::support::scene::{SOON, Scene, address, mail};

/// A program that writes its environment and its input into files of their own.
const RECORD: &str =
    "#!/bin/sh\nn=$(mktemp \"$1/call.XXXXXX\")\nenv > \"$n.env\"\ncat > \"$n.json\"\nmv \"$n\" \"$n.done\"\n";

fn script(scene: &Scene, name: &str, text: &str) -> PathBuf {
    let path = scene.program.file(name, text);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn configure(scene: &Scene, alerts: &str, more: &str) {
    let alerts = format!("[alerts]\n{alerts}\n");
    scene.configure(&[&scene.mailbox("support", ""), &alerts, more]);
}

/// A mail that cannot be read raises an alert at once; its removal from the quarantine ends it.
fn break_something(scene: &Scene) {
    scene.server.deliver_exactly(&address("support"), "INBOX", "");
}

fn calls(scene: &Scene) -> Vec<(Value, BTreeMap<String, String>)> {
    let folder = scene.program.file("x", "").parent().unwrap().to_owned();
    let mut done: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "done"))
        .collect();
    done.sort_by_key(|path| {
        std::fs::metadata(path.with_extension("json"))
            .unwrap()
            .modified()
            .unwrap()
    });
    let read = |path: &PathBuf| {
        let input = std::fs::read(path.with_extension("json")).unwrap();
        let environment = std::fs::read_to_string(path.with_extension("env")).unwrap();
        let environment = environment
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        (serde_json::from_slice(&input).unwrap(), environment)
    };
    done.iter().map(read).collect()
}

fn wait_rows(daemon: &mut Daemon, scene: &Scene, sql: &str, expected: &[&[&str]]) {
    daemon.wait_for(&format!("{sql} to be {expected:?}"), SOON * 2, |_| {
        (scene.look(sql) == expected).then_some(())
    });
}

#[test]
fn the_command_gets_the_alert_and_nothing_of_ours() {
    let mut scene = Scene::with(&["support"], |options| options);
    scene.program.set("CANARY", "a secret in the environment");
    let program = script(&scene, "page", RECORD);
    let folder = program.parent().unwrap().display().to_string();
    configure(
        &scene,
        &format!(
            "command = [\"{}\", \"{folder}\"]\nremind_after = [\"1s\"]",
            program.display()
        ),
        "",
    );
    break_something(&scene);
    let mut daemon = scene.program.daemon();
    scene.wait_alerts(&mut daemon, &["message-quarantined"], SOON);
    daemon.wait_for("the call", SOON, |_| (!calls(&scene).is_empty()).then_some(()));
    scene.program.ok(&["message", "discard", "1"]);
    daemon.wait_for("the last call", SOON, |_| {
        calls(&scene)
            .iter()
            .any(|(body, _)| body["event"] == "alert.resolved")
            .then_some(())
    });
    let calls = calls(&scene);
    let (body, environment) = &calls[0];
    assert_eq!(body["event"], "alert.raised");
    let alert = &body["data"];
    assert_eq!(
        (&alert["kind"], &alert["subject"]),
        (&"message-quarantined".into(), &"support".into())
    );
    for (name, expected) in [
        ("EVENT", "alert.raised"),
        ("KIND", "message-quarantined"),
        ("SEVERITY", "warning"),
        ("SUBJECT", "support"),
        ("SUMMARY", alert["summary"].as_str().unwrap()),
        ("REMEDY", alert["remedy"].as_str().unwrap()),
    ] {
        assert_eq!(environment[&format!("MAILINTAKE_ALERT_{name}")], expected);
    }
    let known = ["PATH", "LANG", "PWD", "SHLVL", "_", "OLDPWD"];
    let strange: Vec<_> = environment
        .keys()
        .filter(|name| !name.starts_with("MAILINTAKE_ALERT_") && !known.contains(&name.as_str()))
        .collect();
    assert!(strange.is_empty(), "{strange:?}");
    assert_eq!(calls.last().unwrap().0["event"], "alert.resolved");
    assert_eq!(calls.last().unwrap().0["data"]["id"], alert["id"]);
}

#[test]
fn one_way_that_fails_holds_up_no_other() {
    let (dead, alive) = (Receiver::start(), Receiver::start());
    dead.answer(|_| Reply::status(500));
    let scene = Scene::with(&["support"], |options| options);
    let program = script(&scene, "page", "#!/bin/sh\necho the pager is broken >&2\nexit 7\n");
    let more = format!(
        "[[webhook]]\nurl = \"{}\"\nevents = [\"alert.*\"]\n[[webhook]]\nurl = \"{}\"\nevents = [\"alert.*\"]\n\
         [[smtp]]\nname = \"relay\"\nhost = \"127.0.0.1\"\nport = 1\nfrom = \"Ops <ops@example.org>\"\n",
        dead.url("/"),
        alive.url("/")
    );
    let alerts = format!(
        "command = [\"{}\"]\nemail = [\"a@example.org\", \"b@example.org\"]",
        program.display()
    );
    configure(&scene, &alerts, &more);
    break_something(&scene);
    let mut daemon = scene.program.daemon();
    daemon.wait_for("the call of the other one", SOON, |_| {
        (alive.events() == ["alert.raised"]).then_some(())
    });
    let rows = "SELECT channel, state, code FROM outgoing WHERE attempts > 0 AND channel <> 'mail' AND target <> '' \
                UNION SELECT channel, state, code FROM outgoing WHERE attempts > 0 AND channel = 'command' ORDER BY 1, 2";
    wait_rows(
        &mut daemon,
        &scene,
        rows,
        &[
            &["command", "queued", "exit-7"],
            &["webhook", "queued", "500"],
            &["webhook", "sent", ""],
        ],
    );
    assert!(daemon.log().contains("the pager is broken"), "{}", daemon.log());
    // One mail an address.
    assert_eq!(
        scene.query("SELECT count(*) FROM outgoing WHERE channel = 'mail'"),
        [["2"]]
    );
}

/// The mails about an alert that was raised, reminded of and resolved, as they are queued: two for each turn.
fn mails() -> Vec<Value> {
    let scene = Scene::with(&["support"], |options| options);
    let more = "[[smtp]]\nname = \"relay\"\nhost = \"127.0.0.1\"\nport = 1\nfrom = \"Größe <ops@example.org>\"\n";
    let emails = "email = [\"a@example.org\", \"Bé <b@example.org>\"]";
    configure(&scene, &format!("{emails}\nremind_after = [\"1s\"]"), more);
    break_something(&scene);
    let mut daemon = scene.program.daemon();
    let reminded = "SELECT count(*) >= 2 FROM outgoing WHERE payload LIKE '%still warning%'";
    wait_rows(&mut daemon, &scene, reminded, &[&["1"]]);
    scene.program.ok(&["message", "discard", "1"]);
    let rows = scene.query("SELECT payload FROM outgoing WHERE channel = 'mail' ORDER BY id");
    rows.iter().map(|row| serde_json::from_str(&row[0]).unwrap()).collect()
}

#[test]
fn the_mail_says_what_is_wrong_and_what_to_type() {
    let mails = mails();
    let last = mails.len() - 1;
    let raw = |index: usize| mails[index]["message"].as_str().unwrap();
    let parsed = |index: usize| mailintake::mail::parse::parse(raw(index).as_bytes()).unwrap();
    let envelope = |index: usize| (mails[index]["sender"].clone(), mails[index]["recipients"].clone());
    for (index, address) in [(0, "a@example.org"), (1, "b@example.org")] {
        assert_eq!(envelope(index), ("ops@example.org".into(), vec![address].into()));
    }
    for index in 0..=last {
        let text = raw(index);
        assert!(text.is_ascii() && !text.replace("\r\n", "").contains('\n'), "{text}");
        assert!(text.contains("Auto-Submitted: auto-generated\r\n"), "{text}");
    }
    let first = parsed(0);
    let subject = "support: message 1 ";
    for (index, state) in [(0, "warning"), (2, "still warning"), (last, "over")] {
        let found = parsed(index).subject;
        assert!(
            found.starts_with(&format!("[mailintake] {state}: {subject}")),
            "{found}"
        );
    }
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    for part in [
        "What to do:",
        "mailintake message raw 1",
        "mailintake alert acknowledge 1",
        "Since:  20",
        &host,
    ] {
        assert!(first.text.plain.contains(part), "no {part} in {}", first.text.plain);
    }
    let id = first.message_id.as_deref().unwrap();
    assert!(id.ends_with("@example.org"), "{id}");
    assert!(!raw(0).contains("References:"), "{}", raw(0));
    for index in [2, last] {
        for header in ["References", "In-Reply-To"] {
            assert!(raw(index).contains(&format!("{header}: <{id}>")), "{}", raw(index));
        }
    }
}

#[test]
fn the_mail_arrives_and_the_end_of_the_alert_after_it() {
    let Some(lab) = lab() else { return };
    let scene = Scene::with(&["support"], |options| options);
    let (user, smtp) = (&lab["users"][0], &lab["smtp"]);
    let password = scene.program.secret("relay", user["password"].as_str().unwrap());
    let more = format!(
        "[[smtp]]\nname = \"relay\"\nhost = \"localhost\"\nport = {}\ntls = \"implicit\"\nca_file = {}\n\
         from = \"Ops <ops@alert.example>\"\nusername = {}\npassword = {password}\n",
        smtp["ports"]["smtps"], lab["ca_file"], user["email"],
    );
    configure(&scene, "email = [\"a@alert.example\", \"b@alert.example\"]", &more);
    break_something(&scene);
    let mut daemon = scene.program.daemon();
    let sent = "SELECT count(*) FROM outgoing WHERE channel = 'mail' AND state = 'sent'";
    wait_rows(&mut daemon, &scene, sent, &[&["2"]]);
    scene.program.ok(&["message", "discard", "1"]);
    wait_rows(&mut daemon, &scene, sent, &[&["4"]]);
    let folder = PathBuf::from(smtp["mail_dir"].as_str().unwrap());
    let mut subjects: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| std::fs::read(entry.unwrap().path()).ok())
        .filter(|bytes| String::from_utf8_lossy(bytes).contains("From: Ops <ops@alert.example>"))
        .map(|bytes| mailintake::mail::parse::parse(&bytes).unwrap().subject)
        .map(|subject| subject.split(": ").next().unwrap().to_owned())
        .collect();
    subjects.sort();
    let (over, warning) = ("[mailintake] over", "[mailintake] warning");
    assert_eq!(subjects, [over, over, warning, warning]);
}

#[test]
fn a_command_that_hangs_is_ended_and_the_daemon_goes_on() {
    let scene = Scene::with(&["support"], |options| options);
    let program = script(
        &scene,
        "hang",
        "#!/bin/sh\ntrap '' TERM\necho $$ >> \"$1\"\n(trap '' TERM; sleep 600) &\nwait\nsleep 600\n",
    );
    let pids = scene.program.file("pids", "");
    configure(
        &scene,
        &format!("command = [\"{}\", \"{}\"]", program.display(), pids.display()),
        "",
    );
    break_something(&scene);
    let mut daemon = scene.program.daemon();
    scene.wait_alerts(&mut daemon, &["message-quarantined"], SOON);
    let pid = daemon.wait_for("the command to run", SOON, |_| {
        let text = std::fs::read_to_string(&pids).unwrap();
        text.lines().next().map(str::to_owned)
    });
    scene.deliver(&mail("meanwhile"));
    scene.wait_rows(&mut daemon, 2);
    let code = "SELECT state, code FROM outgoing WHERE attempts > 0";
    wait_rows(&mut daemon, &scene, code, &[&["queued", "timeout"]]);
    let group = format!("/proc/{pid}");
    assert!(!std::path::Path::new(&group).exists(), "the command lives");
    assert_eq!(daemon.terminate(), Some(0));
}

#[test]
fn a_stop_ends_a_command_that_hangs() {
    let scene = Scene::with(&["support"], |options| options);
    let program = script(
        &scene,
        "hang",
        "#!/bin/sh\ntrap '' TERM\necho $$ >> \"$1\"\nsleep 600\nsleep 600\n",
    );
    let pids = scene.program.file("pids", "");
    configure(
        &scene,
        &format!("command = [\"{}\", \"{}\"]", program.display(), pids.display()),
        "",
    );
    break_something(&scene);
    let mut daemon = scene.program.daemon();
    let pid = daemon.wait_for("the command to run", SOON, |_| {
        let text = std::fs::read_to_string(&pids).unwrap();
        text.lines().next().map(str::to_owned)
    });
    assert_eq!(daemon.terminate(), Some(0));
    let gone = crate::support::binary::wait(Duration::from_secs(5), || {
        match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) => stat.contains(") Z ").then_some(()),
            Err(_) => Some(()),
        }
    });
    assert!(gone.is_some(), "the command {pid} outlives the daemon");
    // What was under way is run again.
    assert_eq!(scene.query("SELECT state FROM outgoing"), [["sending"]]);
    drop(scene.program.file("hang", "#!/bin/sh\nexit 0\n"));
    let mut daemon = scene.program.daemon();
    wait_rows(&mut daemon, &scene, "SELECT DISTINCT state FROM outgoing", &[&["sent"]]);
}
