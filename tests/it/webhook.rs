//! Webhooks: what is called, how it is signed, and what becomes of a call that a receiver does not take.

use std::collections::{BTreeMap, BTreeSet};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hmac::{Hmac, Mac as _};
use serde_json::Value;

use crate::support::binary::Daemon;
use crate::support::certificate::LOOPBACK;
use crate::support::receiver::{Call, Receiver, Reply};
use crate::support::scene::{SOON, Scene, change, mail};

const SECRET: &str = "CANARY-the-secret-of-the-hook";

/// The user `support`, and a webhook for these events.
fn told(receiver: &Receiver, events: &str) -> Scene {
    let scene = Scene::with(&["support"], |options| options);
    tell(&scene, receiver, events);
    scene
}

fn tell(scene: &Scene, receiver: &Receiver, events: &str) {
    let secret = scene.program.secret("hook", SECRET);
    let hook = hook(receiver, &format!("secret = {secret}\nevents = {events}"));
    scene.configure(&[
        &scene.mailbox("support", "project = \"SUP\""),
        "[[project]]\nkey = \"SUP\"",
        &hook,
    ]);
}

fn hook(receiver: &Receiver, more: &str) -> String {
    format!("[[webhook]]\nurl = \"{}\"\n{more}\n", receiver.url("/hook"))
}

fn reply(name: &str, to: &str) -> String {
    mail(name).replace("\n\n", &format!("\nIn-Reply-To: <{to}@customer.example>\n\n"))
}

fn wait_calls(daemon: &mut Daemon, receiver: &Receiver, count: usize) -> Vec<Call> {
    daemon.wait_for(&format!("{count} calls"), SOON, |_| {
        let calls = receiver.calls();
        (calls.len() >= count).then_some(calls)
    })
}

/// Waits until nothing is left to be sent.
fn wait_sent(daemon: &mut Daemon, scene: &Scene) {
    daemon.wait_for("an empty outbox", SOON, |_| {
        let open = scene.look("SELECT count(*) FROM outgoing WHERE state IN ('queued', 'sending')");
        (open == [["0"]]).then_some(())
    });
}

fn is_signed(call: &Call, key: &[u8]) -> bool {
    let signed = format!(
        "{}.{}.{}",
        call.header("webhook-id"),
        call.header("webhook-timestamp"),
        call.body
    );
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key).unwrap();
    mac.update(signed.as_bytes());
    let expected = format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()));
    call.header("webhook-signature") == expected
}

#[test]
fn what_happens_to_mail_is_told_as_the_lists_show_it_and_signed() {
    let receiver = Receiver::start();
    let scene = told(
        &receiver,
        "[\"issue.created\", \"comment.added\", \"message.ingested\"]",
    );
    scene.deliver(&mail("one"));
    scene.deliver(&reply("two", "one"));
    let mut daemon = scene.program.daemon();
    let calls = wait_calls(&mut daemon, &receiver, 4);
    wait_sent(&mut daemon, &scene);
    assert_eq!(
        receiver.events(),
        ["message.ingested", "issue.created", "message.ingested", "comment.added"]
    );
    let data: Vec<Value> = calls.iter().map(|call| call.json()["data"].clone()).collect();
    let messages = scene.program.json(&["message", "list"]);
    let mut issue = scene.program.json(&["issue", "list"])[0].clone();
    let shown = scene.program.json(&["issue", "show", "SUP-1"]);
    let mut comment = shown["comments"][0].clone();
    comment["issue"] = "SUP-1".into();
    // As it was when it was opened.
    issue["comment_count"] = 0.into();
    issue["updated_at"] = data[1]["updated_at"].clone();
    assert_eq!(data, [messages[1].clone(), issue, messages[0].clone(), comment]);
    let mut ids = BTreeSet::new();
    for call in &calls {
        let body = call.json();
        assert!(is_signed(call, SECRET.as_bytes()), "{call:?}");
        assert_eq!(body["id"], call.header("webhook-id"));
        assert_eq!(call.header("content-type"), "application/json");
        assert!(!format!("{call:?}").contains(SECRET), "{call:?}");
        ids.insert(body["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(ids.len(), 4);
}

#[test]
fn nothing_is_queued_that_nobody_wants() {
    let receiver = Receiver::start();
    let scene = told(&receiver, "[\"alert.*\"]");
    scene.deliver(&mail("one"));
    let mut daemon = scene.program.daemon();
    scene.wait_rows(&mut daemon, 1);
    scene.wait_state(&mut daemon, "support", "watching", SOON);
    assert_eq!(daemon.terminate(), Some(0));
    assert_eq!(scene.query("SELECT count(*) FROM outgoing"), [["0"]]);
    assert_eq!(receiver.events(), [] as [String; 0]);
}

#[test]
fn lines_of_the_journal_are_told_with_their_fields() {
    let receiver = Receiver::start();
    let scene = told(&receiver, "[\"daemon.started\", \"mailbox.connected\", \"config.*\"]");
    let mut daemon = scene.program.daemon();
    wait_calls(&mut daemon, &receiver, 2);
    scene.program.write("nonsense = 1");
    daemon.reload();
    daemon.wait_event("config.refused", SOON);
    tell(&scene, &receiver, "[\"config.reloaded\"]");
    daemon.reload();
    let calls = wait_calls(&mut daemon, &receiver, 4);
    let told: BTreeMap<String, Value> = calls
        .iter()
        .map(|call| (call.event(), call.json()["data"].clone()))
        .collect();
    assert_eq!(told["daemon.started"]["mailboxes"], 1);
    assert_eq!(told["mailbox.connected"]["mailbox"], "support");
    assert!(told["config.refused"]["message"].as_str().unwrap().contains("nonsense"));
    assert_eq!(told["config.reloaded"]["message"], "the configuration was read again");
    wait_sent(&mut daemon, &scene);
    assert_eq!(receiver.calls().len(), 4);
}

#[test]
fn a_call_that_fails_is_made_again_under_the_same_id_and_an_issue_keeps_its_order() {
    let receiver = Receiver::start();
    let scene = told(&receiver, "[\"issue.created\", \"comment.added\"]");
    // The first issue is refused three times, each in another way; the second goes through.
    let mut refusals = vec![
        Reply::Close,
        Reply::status(500),
        Reply::Status(503, "Retry-After: 1\r\n".to_owned()),
    ];
    receiver.answer(move |call| {
        if call.event() == "issue.created" && call.json()["data"]["key"] == "SUP-1" {
            return refusals.pop().unwrap_or_else(|| Reply::status(200));
        }
        Reply::status(204)
    });
    scene.deliver(&mail("one"));
    scene.deliver(&reply("more", "one"));
    scene.deliver(&mail("two"));
    let mut daemon = scene.program.daemon();
    scene.wait_rows(&mut daemon, 3);
    daemon.wait_for("all to be sent", SOON * 3, |_| {
        let open = scene.look("SELECT count(*) FROM outgoing WHERE state <> 'sent'");
        (open == [["0"]]).then_some(())
    });
    let calls = receiver.calls();
    let keys: Vec<String> = calls
        .iter()
        .map(|call| {
            let data = &call.json()["data"];
            let key = data["key"].as_str().or(data["issue"].as_str()).unwrap();
            format!("{} {key}", call.event())
        })
        .collect();
    // One that is refused holds up its own issue alone.
    let position = |wanted: &str| keys.iter().position(|key| key == wanted).unwrap();
    assert_eq!(
        keys.iter().filter(|key| *key == "issue.created SUP-1").count(),
        4,
        "{keys:?}"
    );
    assert_eq!(position("comment.added SUP-1"), keys.len() - 1, "{keys:?}");
    assert!(position("issue.created SUP-2") < keys.len() - 2, "{keys:?}");
    let ids: BTreeSet<&str> = calls
        .iter()
        .filter(|call| call.json()["data"]["key"] == "SUP-1")
        .map(|call| call.header("webhook-id"))
        .collect();
    assert_eq!(ids.len(), 1);
    for call in &calls {
        assert!(is_signed(call, SECRET.as_bytes()), "{call:?}");
    }
}

#[test]
fn an_event_that_a_receiver_cannot_take_holds_up_no_other_issue() {
    let receiver = Receiver::start();
    let scene = told(&receiver, "[\"issue.created\"]");
    let elsewhere = Receiver::start();
    let target = elsewhere.url("/stolen");
    receiver.answer(move |call| match call.json()["data"]["key"].as_str().unwrap() {
        "SUP-1" => Reply::status(422),
        "SUP-2" => Reply::Status(307, format!("Location: {target}\r\n")),
        "SUP-3" => Reply::status(500),
        "SUP-4" => Reply::Hang,
        "SUP-5" => Reply::Flood,
        _ => Reply::status(200),
    });
    for number in 1..=6 {
        scene.deliver(&mail(&format!("m{number}")));
    }
    let mut daemon = scene.program.daemon();
    scene.wait_rows(&mut daemon, 6);
    daemon.wait_for("the sound ones to be sent", SOON * 2, |_| {
        let rows = scene.look("SELECT lane FROM outgoing WHERE state = 'sent' ORDER BY lane");
        (rows == [["SUP-5"], ["SUP-6"]]).then_some(())
    });
    daemon.wait_for("the others to be put off", SOON, |_| {
        let rows = scene.look("SELECT code FROM outgoing WHERE state = 'queued' AND attempts > 0 ORDER BY lane");
        (rows == [["422"], ["307"], ["500"], ["timeout"]]).then_some(())
    });
    assert!(elsewhere.calls().is_empty(), "a redirect was followed");
    let waits =
        scene.query("SELECT next_try_at - created_at >= 900 FROM outgoing WHERE state = 'queued' ORDER BY lane");
    assert_eq!(waits, [["1"], ["1"], ["0"], ["0"]]);
}

#[test]
fn a_receiver_that_is_gone_is_not_called_again_for_that_event_and_an_alert_says_so() {
    let receiver = Receiver::start();
    let scene = told(&receiver, "[\"issue.created\"]");
    receiver.answer(|_| Reply::status(410));
    scene.deliver(&mail("one"));
    let mut daemon = scene.program.daemon();
    scene.wait_alerts(&mut daemon, &["outgoing-failing"], SOON);
    assert_eq!(
        scene.alerts(),
        [format!("outgoing-failing {} 410", receiver.url("/hook"))]
    );
    receiver.answer(|_| Reply::status(200));
    scene.deliver(&mail("two"));
    scene.wait_alerts(&mut daemon, &[], SOON);
    assert_eq!(
        scene.query("SELECT state, attempts FROM outgoing ORDER BY id"),
        [["failed", "1"], ["sent", "1"]]
    );
}

#[test]
fn a_receiver_behind_a_private_certificate_is_called_once_it_is_trusted() {
    let scene = Scene::with(&["support"], |options| options);
    let receiver = Receiver::start_tls(&scene.authority.issue(&LOOPBACK));
    tell(&scene, &receiver, "[\"issue.created\"]");
    scene.deliver(&mail("one"));
    let mut daemon = scene.program.daemon();
    daemon.wait_for("the call to fail", SOON, |_| {
        let rows = scene.look("SELECT code, summary LIKE '%certificate%' FROM outgoing WHERE attempts > 0");
        (rows == [["unreachable", "1"]]).then_some(())
    });
    assert!(receiver.calls().is_empty());
    let config = std::fs::read_to_string(scene.program.config()).unwrap();
    let trusting = format!("[daemon]\nca_file = \"{}\"\n", scene.authority.ca_file().display());
    scene.program.write(&config.replacen("[daemon]\n", &trusting, 1));
    daemon.reload();
    daemon.wait_event("config.reloaded", SOON);
    let calls = wait_calls(&mut daemon, &receiver, 1);
    assert!(is_signed(&calls[0], SECRET.as_bytes()));
    wait_sent(&mut daemon, &scene);
}

#[test]
fn what_fails_for_days_is_given_up_and_what_comes_after_it_goes_on_in_order() {
    let receiver = Receiver::start();
    let scene = told(&receiver, "[\"issue.created\", \"comment.added\"]");
    receiver.answer(|_| Reply::status(500));
    scene.deliver(&mail("one"));
    scene.deliver(&reply("two", "one"));
    scene.deliver(&reply("three", "one"));
    let mut daemon = scene.program.daemon();
    scene.wait_rows(&mut daemon, 3);
    wait_calls(&mut daemon, &receiver, 1);
    assert_eq!(daemon.terminate(), Some(0));
    // As if it were days later for the first, and the others had come meanwhile.
    let late =
        "UPDATE outgoing SET next_try_at = 0, created_at = created_at - (CASE id WHEN 1 THEN 6 ELSE 1 END) * 86400";
    change(&scene.program.database(), late);
    let mut daemon = scene.program.daemon();
    daemon.wait_for("the first to be given up and the next to be tried", SOON, |_| {
        let rows = scene.look("SELECT state, attempts > 0 FROM outgoing ORDER BY id");
        (rows == [["failed", "1"], ["queued", "1"], ["queued", "0"]]).then_some(())
    });
    scene.wait_alerts(&mut daemon, &["outgoing-failing"], SOON);
    receiver.answer(|_| Reply::status(200));
    assert_eq!(daemon.terminate(), Some(0));
    change(&scene.program.database(), "UPDATE outgoing SET next_try_at = 0");
    let before = receiver.calls().len();
    let mut daemon = scene.program.daemon();
    wait_sent(&mut daemon, &scene);
    let bodies: Vec<Value> = receiver.calls()[before..]
        .iter()
        .map(|call| call.json()["data"]["body"].clone())
        .collect();
    assert_eq!(bodies, ["The text of two.", "The text of three."]);
    scene.wait_alerts(&mut daemon, &[], SOON);
}

#[test]
fn one_event_that_is_never_taken_raises_one_alert_that_lasts() {
    let receiver = Receiver::start();
    let scene = told(&receiver, "[\"issue.created\"]");
    let poisoned = |status| {
        move |call: &Call| {
            Reply::status(if call.json()["data"]["key"] == "SUP-1" {
                status
            } else {
                200
            })
        }
    };
    receiver.answer(poisoned(422));
    scene.deliver(&mail("one"));
    let mut daemon = scene.program.daemon();
    wait_calls(&mut daemon, &receiver, 1);
    assert_eq!(daemon.terminate(), Some(0));
    let hour = "UPDATE outgoing SET next_try_at = 0, created_at = created_at - 3600";
    change(&scene.program.database(), hour);
    let mut daemon = scene.program.daemon();
    scene.wait_alerts(&mut daemon, &["outgoing-failing"], SOON);
    for (name, count) in [("two", 1), ("three", 2)] {
        scene.deliver(&mail(name));
        daemon.wait_for("it to be sent", SOON, |_| {
            let sent = scene.look("SELECT count(*) FROM outgoing WHERE state = 'sent'");
            (sent == [[count.to_string()]]).then_some(())
        });
    }
    // The alert would have been over with the second, before the third went out.
    assert_eq!(daemon.events("alert.resolved").len(), 0);
    receiver.answer(poisoned(200));
    daemon.reload();
    scene.wait_alerts(&mut daemon, &[], SOON);
    assert_eq!(daemon.events("alert.raised").len(), 1);
}

#[test]
fn what_waits_for_a_webhook_that_is_taken_out_ends_and_is_said_once() {
    let receiver = Receiver::start();
    let scene = told(&receiver, "[\"issue.created\"]");
    receiver.answer(|_| Reply::status(500));
    for number in 1..=3 {
        scene.deliver(&mail(&format!("m{number}")));
    }
    let mut daemon = scene.program.daemon();
    scene.wait_rows(&mut daemon, 3);
    wait_calls(&mut daemon, &receiver, 3);
    scene.configure(&[
        &scene.mailbox("support", "project = \"SUP\""),
        "[[project]]\nkey = \"SUP\"",
    ]);
    daemon.reload();
    daemon.wait_event("config.reloaded", SOON);
    daemon.wait_for("the rows to end", SOON, |_| {
        let rows = scene.look("SELECT DISTINCT state, code FROM outgoing");
        (rows == [["failed", "not-configured"]]).then_some(())
    });
    daemon.wait_for("it to be said", SOON, |daemon| {
        (daemon.log().matches("is not configured any more").count() == 1).then_some(())
    });
    assert_eq!(scene.alerts(), [] as [String; 0]);
}

#[test]
fn the_secret_is_read_again_at_a_reload() {
    let receiver = Receiver::start();
    let scene = told(&receiver, "[\"issue.created\"]");
    let mut daemon = scene.program.daemon();
    scene.deliver(&mail("one"));
    let calls = wait_calls(&mut daemon, &receiver, 1);
    assert!(is_signed(&calls[0], SECRET.as_bytes()));
    let key = b"another key that is bytes \xff";
    scene
        .program
        .secret("hook", &format!("whsec_{}", BASE64_STANDARD.encode(key)));
    daemon.reload();
    daemon.wait_event("config.reloaded", SOON);
    scene.deliver(&mail("two"));
    let calls = wait_calls(&mut daemon, &receiver, 2);
    assert!(is_signed(&calls[1], key));
}

#[test]
fn a_death_between_commit_and_call_loses_no_event_and_adds_none() {
    let receiver = Receiver::start();
    let scene = told(&receiver, "[\"issue.created\"]");
    receiver.answer(|_| Reply::Hang);
    for number in 1..=20 {
        scene.deliver(&mail(&format!("m{number}")));
    }
    let mut daemon = scene.program.daemon();
    scene.wait_rows(&mut daemon, 20);
    wait_calls(&mut daemon, &receiver, 1);
    daemon.kill();
    receiver.answer(|_| Reply::status(200));
    let mut daemon = scene.program.daemon();
    wait_sent(&mut daemon, &scene);
    let calls = receiver.calls();
    let ids: BTreeSet<(String, String)> = calls
        .iter()
        .map(|call| {
            (
                call.json()["data"]["key"].to_string(),
                call.header("webhook-id").to_owned(),
            )
        })
        .collect();
    // The one that was under way came twice, under one id.
    assert_eq!((ids.len(), calls.len()), (20, 21));
    assert_eq!(scene.query("SELECT count(*) FROM outgoing"), [["20"]]);
}

#[test]
fn what_commands_add_is_told_by_the_daemon() {
    let receiver = Receiver::start();
    let scene = told(&receiver, "[\"issue.created\", \"comment.added\"]");
    let file = scene.program.file("one.eml", mail("one"));
    scene.program.ok(&["ingest", file.to_str().unwrap()]);
    scene.program.ok(&["issue", "comment", "SUP-1", "Looked at."]);
    assert_eq!(scene.query("SELECT state FROM outgoing"), [["queued"], ["queued"]]);
    let mut daemon = scene.program.daemon();
    let calls = wait_calls(&mut daemon, &receiver, 2);
    assert_eq!(receiver.events(), ["issue.created", "comment.added"]);
    let data = calls[1].json()["data"].clone();
    assert_eq!((&data["body"], &data["issue"]), (&"Looked at.".into(), &"SUP-1".into()));
}
