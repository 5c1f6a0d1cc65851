//! The daemon before servers that fail: each fault is bounded, named, told of once, and over by itself; it
//! stays with its own mailbox.

mod clock;
mod disk;
mod single;
mod stop;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::support::certificate::LOOPBACK;
use crate::support::imap_server::{Action, Fault, ImapServer, Options, Security};
use crate::support::scene::{PASSWORD, SOON, Scene, address, assert_sound, mail};

const POLLED: &str = "watch = \"poll\"\npoll_interval = \"1s\"";

/// The time in which the mail of a sound mailbox must be an issue, whatever ails the others.
const LATENCY: Duration = Duration::from_secs(5);

/// A user for each place and way in which a server can fail once it knows the user.
fn failures() -> Vec<(String, Fault)> {
    let ways = [
        ("no", Action::No("not now".into())),
        ("bad", Action::Bad("what?".into())),
        ("bye", Action::Bye("restarting".into())),
        ("hang-up", Action::HangUp),
        ("early-end", Action::HangUpAfter(12)),
        ("cut", Action::HangUpAfter(150)),
    ];
    // The list of a folder is a UID FETCH, and so is that of the bodies.
    let places = [
        ("SELECT", 0),
        ("UID FETCH", 0),
        ("UID FETCH", 1),
        ("UID FETCH", 2),
        ("UID STORE", 0),
        ("IDLE", 0),
        ("DONE", 0),
    ];
    let mut failures = Vec::new();
    for (command, skipped) in places {
        for (way, action) in &ways {
            let user = format!("{}-{skipped}-{way}", command.replace(' ', "-").to_lowercase());
            let fault = Fault::at(command, action.clone()).after(skipped).of(&address(&user));
            failures.push((user, fault));
        }
    }
    failures
}

#[test]
fn a_fault_at_any_command_costs_no_mail_and_is_over_by_itself() {
    let failures = failures();
    let users: Vec<&str> = failures.iter().map(|(user, _)| user.as_str()).collect();
    let scene = Scene::with(&users, |options| options);
    let mailbox = |user: &&str| scene.mailbox(user, "after = \"seen\"\npoll_interval = \"2s\"");
    let sections: Vec<String> = users.iter().map(mailbox).collect();
    scene.configure(&sections.iter().map(String::as_str).collect::<Vec<_>>());
    for (user, fault) in &failures {
        scene.server.fault(fault.clone());
        for number in 0..3 {
            scene
                .server
                .deliver(&address(user), "INBOX", mail(&format!("{user}-{number}")));
        }
    }
    let mut daemon = scene.program.daemon();
    scene.wait_rows(&mut daemon, 3 * users.len());
    for user in &users {
        scene
            .server
            .deliver(&address(user), "INBOX", mail(&format!("{user}-later")));
    }
    scene.wait_rows(&mut daemon, 4 * users.len());
    daemon.wait_for("all to be well", SOON, |_| {
        let ill = scene.query("SELECT name, state, error_code FROM mailbox WHERE state <> 'watching'");
        (ill.is_empty() && scene.alerts().is_empty()).then_some(())
    });
    assert_eq!(
        scene.query("SELECT count(*) FROM issues"),
        [[(4 * users.len()).to_string()]]
    );
    for user in &users {
        let messages = scene.server.messages(&address(user), "INBOX");
        assert!(messages.iter().all(|message| message.has("\\Seen")), "{user}");
    }
    assert_eq!(daemon.terminate(), Some(0));
    assert_sound(&scene.program.database());
    scene.program.ok(&["audit"]);
}

#[test]
fn a_fault_before_the_sign_in_is_over_by_itself() {
    let cases = [
        ("GREETING", Action::HangUp),
        ("GREETING", Action::Bye("too many connections".into())),
        ("TLS", Action::HangUp),
        ("AUTHENTICATE", Action::HangUp),
        ("AUTHENTICATE", Action::Bye("too busy".into())),
        ("AUTHENTICATE", Action::No("[UNAVAILABLE] the directory is away".into())),
    ];
    std::thread::scope(|scope| {
        for (command, action) in cases {
            scope.spawn(move || {
                let scene = Scene::support("");
                scene.deliver(&mail("one"));
                scene.server.fault(Fault::at(command, action).times(2));
                let mut daemon = scene.program.daemon();
                scene.wait_rows(&mut daemon, 1);
                scene.wait_state(&mut daemon, "support", "watching", SOON);
                assert_eq!(daemon.events("alert.raised").len(), 0, "{command}");
            });
        }
    });
}

#[test]
fn a_server_that_falls_silent_disturbs_no_other_mailbox() {
    let scene = Scene::with(&["support", "silent", "flooded", "endless"], |options| options);
    let sections = ["support", "silent", "flooded", "endless"].map(|user| scene.mailbox(user, ""));
    scene.configure(&sections.each_ref().map(String::as_str));
    for user in ["silent", "flooded", "endless"] {
        scene.server.deliver(&address(user), "INBOX", mail(user));
    }
    scene
        .server
        .fault(Fault::at("UID FETCH", Action::Silence).after(1).of(&address("silent")));
    scene.server.fault(
        Fault::at(
            "UID FETCH",
            Action::Flood(Vec::new(), b"* 1 FETCH (FLAGS ())\r\n".repeat(50)),
        )
        .of(&address("flooded")),
    );
    let begun = b"* 1 FETCH (UID 1 BODY[] {4294967295}\r\n".to_vec();
    scene.server.fault(
        Fault::at("UID FETCH", Action::Flood(begun, vec![b'x'; 1000]))
            .after(1)
            .of(&address("endless")),
    );
    let mut daemon = scene.program.daemon();
    assert!(scene.server.wait_until(|server| server.count("UID FETCH") >= 5));
    scene.wait_state(&mut daemon, "support", "watching", SOON);
    for number in 0..5 {
        let name = format!("m{number}");
        let sent = Instant::now();
        scene.deliver(&mail(&name));
        daemon.wait_for(&name, LATENCY, |_| {
            let rows = scene.query(&format!("SELECT verdict FROM message WHERE message_id LIKE '{name}@%'"));
            (rows == [["issue"]]).then_some(())
        });
        println!("{name} took {:?}", sent.elapsed());
    }
    let stopping = Instant::now();
    assert_eq!(daemon.terminate(), Some(0));
    assert!(stopping.elapsed() < Duration::from_secs(20), "{:?}", stopping.elapsed());
}

#[test]
fn idle_that_is_offered_and_refused_is_replaced_by_polling() {
    let scene = Scene::support("poll_interval = \"1s\"");
    scene
        .server
        .fault(Fault::at("IDLE", Action::Bad("not here".into())).always());
    let mut daemon = scene.program.daemon();
    scene.wait_state(&mut daemon, "support", "watching", SOON);
    for number in 0..3 {
        scene.deliver(&mail(&format!("m{number}")));
        scene.wait_rows(&mut daemon, number + 1);
    }
    assert_eq!(scene.server.count("IDLE"), 1, "it is not asked for again");
    assert_eq!(daemon.events("alert.raised").len(), 0);
}

#[test]
fn mail_that_comes_after_looks_in_vain_is_found() {
    for watch in ["idle", "poll"] {
        let scene = Scene::support(&format!("watch = \"{watch}\"\npoll_interval = \"1s\""));
        scene.deliver(&mail("first"));
        let mut daemon = scene.program.daemon();
        scene.wait_rows(&mut daemon, 1);
        let looked = scene.server.count("UID FETCH");
        assert!(
            scene
                .server
                .wait_until(|server| server.count("UID FETCH") >= looked + 3)
        );
        scene.deliver(&mail("second"));
        scene.wait_rows(&mut daemon, 2);
    }
}

#[test]
fn a_server_that_cannot_be_reached_is_told_of_once_and_found_again() {
    let scene = Scene::with(&["support"], |options| options);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    scene.configure(&[&scene.mailbox("support", ""), &scene.mailbox_at(port, "away", "")]);
    let mut daemon = scene.program.daemon();
    scene.wait_alerts(&mut daemon, &["mailbox-unreachable"], Duration::from_mins(1));
    let alerts = scene.alerts();
    assert!(alerts[0].starts_with("mailbox-unreachable away "), "{alerts:?}");
    scene.deliver(&mail("meanwhile"));
    scene.wait_rows(&mut daemon, 1);
    let options = Options::new(Security::Implicit(scene.authority.issue(&LOOPBACK)));
    let back = ImapServer::start(options.user(&address("away"), PASSWORD).port(port));
    back.deliver(&address("away"), "INBOX", mail("after the outage"));
    daemon.wait_event("alert.resolved", Duration::from_mins(1));
    scene.wait_rows(&mut daemon, 2);
    assert_eq!(daemon.events("alert.raised").len(), 1);
    assert_eq!(daemon.events("alert.resolved").len(), 1);
    scene.wait_state(&mut daemon, "away", "watching", SOON);
}

#[test]
fn a_refused_password_is_told_of_once_tried_seldom_and_mended_by_a_reload() {
    let scene = Scene::support("");
    scene.program.secret("support.password", "incorrect horse");
    let mut daemon = scene.program.daemon();
    let begun = Instant::now();
    scene.wait_alerts(&mut daemon, &["credentials-refused"], Duration::from_secs(15));
    scene.wait_state(&mut daemon, "support", "misconfigured", SOON);
    // A server that counts failures locks the account: it must not be asked again and again.
    std::thread::sleep(Duration::from_secs(15).saturating_sub(begun.elapsed()));
    let tries = scene.server.count("AUTHENTICATE") + scene.server.count("LOGIN");
    assert!(tries <= 4, "{tries} tries in 15 s");
    assert_eq!(daemon.events("alert.raised").len(), 1);
    assert!(!daemon.log().contains("incorrect horse"), "{}", daemon.log());
    scene.deliver(&mail("one"));
    scene.program.secret("support.password", PASSWORD);
    daemon.reload();
    scene.wait_rows(&mut daemon, 1);
    daemon.wait_event("alert.resolved", SOON);
    scene.wait_state(&mut daemon, "support", "watching", SOON);
}

#[test]
fn a_reload_keeps_what_did_not_change_and_refuses_a_bad_file() {
    let scene = Scene::with(&["support", "sales"], |options| options);
    let support = scene.mailbox("support", "");
    scene.configure(&[&support]);
    let mut daemon = scene.program.daemon();
    scene.wait_state(&mut daemon, "support", "watching", SOON);
    scene.program.write("[daemon]\nstate_dirr = \"/\"\n");
    daemon.reload();
    daemon.wait_event("config.refused", SOON);
    assert!(daemon.log().contains("state_dirr"), "{}", daemon.log());
    scene.deliver(&mail("one"));
    scene.wait_rows(&mut daemon, 1);
    scene.configure(&[&support, &scene.mailbox("sales", "")]);
    daemon.reload();
    daemon.wait_event("config.reloaded", SOON);
    scene.wait_state(&mut daemon, "sales", "watching", SOON);
    scene.server.deliver(&address("sales"), "INBOX", mail("two"));
    scene.wait_rows(&mut daemon, 2);
    assert_eq!(scene.server.count("AUTHENTICATE"), 2, "{:?}", scene.server.log());
    // A mailbox by another name is the same one, and nothing of it is read again.
    let renamed = scene
        .mailbox("sales", "")
        .replace("name = \"sales\"", "name = \"shop\"");
    scene.configure(&[&renamed]);
    daemon.reload();
    scene.wait_state(&mut daemon, "shop", "watching", SOON);
    assert!(scene.server.wait_until(|server| server.connections() == 1));
    scene.server.deliver(&address("sales"), "INBOX", mail("three"));
    scene.wait_rows(&mut daemon, 3);
    assert_eq!(
        scene.query("SELECT state FROM mailbox WHERE name = 'support'"),
        [["stopped"]]
    );
    assert_sound(&scene.program.database());
}

#[test]
fn a_reload_in_the_midst_of_a_batch_takes_each_mail_once_and_leaves_the_true_state() {
    let scene = Scene::support("");
    for number in 0..150 {
        scene.deliver(&mail(&format!("m{number}")));
    }
    // The old worker has its batch in hand while the new one does the same and is done first.
    let late = Action::Delay(Duration::from_secs(2));
    scene.server.fault(Fault::at("UID FETCH", late).after(1));
    let mut daemon = scene.program.daemon();
    assert!(scene.server.wait_until(|server| server.count("UID FETCH") >= 2));
    scene.configure(&[&scene.mailbox("support", "after = \"seen\"")]);
    daemon.reload();
    scene.wait_rows(&mut daemon, 150);
    assert!(scene.server.wait_until(|server| server.connections() == 1));
    scene.wait_state(&mut daemon, "support", "watching", SOON);
    assert_eq!(scene.query("SELECT count(*) FROM issues"), [["150"]]);
    assert_eq!(daemon.terminate(), Some(0));
    assert_sound(&scene.program.database());
}

#[test]
fn what_the_server_will_not_do_after_the_commit_is_told_of_until_it_does() {
    let scene = Scene::support(&format!("after = {{ move = \"Done\" }}\n{POLLED}"));
    scene
        .server
        .fault(Fault::at("CREATE", Action::No("not allowed".into())).always());
    scene.deliver(&mail("one"));
    let mut daemon = scene.program.daemon();
    scene.wait_alerts(&mut daemon, &["configuration-refused"], SOON);
    // It stays one alert while it is tried again and again, on old connections and new ones.
    let tried = scene.server.count("CREATE");
    assert!(scene.server.wait_until(|server| server.count("CREATE") >= tried + 2));
    scene.server.hang_up();
    let tried = scene.server.count("CREATE");
    assert!(scene.server.wait_until(|server| server.count("CREATE") >= tried + 2));
    assert_eq!(daemon.events("alert.raised").len(), 1, "{}", daemon.log());
    assert_eq!(daemon.events("alert.resolved").len(), 0, "{}", daemon.log());
    scene.deliver(&mail("two"));
    daemon.wait_for("the second mail", SOON, |_| {
        (scene.query("SELECT count(*) FROM issues") == [["2"]]).then_some(())
    });
    scene.server.clear_faults();
    scene.wait_rows(&mut daemon, 2);
    daemon.wait_event("alert.resolved", SOON);
    assert_eq!(scene.server.messages(&address("support"), "Done").len(), 2);
}

#[test]
fn a_mail_that_cannot_be_read_is_quarantined_with_its_bytes_and_the_others_go_on() {
    let scene = Scene::support("after = \"delete\"");
    scene.deliver(&mail("one"));
    scene.server.deliver_exactly(&address("support"), "INBOX", "");
    scene.deliver(&mail("two"));
    let mut daemon = scene.program.daemon();
    scene.wait_rows(&mut daemon, 3);
    assert_eq!(
        scene.verdicts(),
        ["issue new-mail", "quarantined unreadable", "issue new-mail"]
    );
    scene.wait_alerts(&mut daemon, &["message-quarantined"], SOON);
    assert_eq!(
        scene.server.messages(&address("support"), "INBOX").len(),
        1,
        "it stays on the server"
    );
    let row = &scene.query("SELECT id FROM messages WHERE verdict = 'quarantined'")[0][0];
    assert_eq!(scene.program.run(&["message", "raw", row]).code, Some(0));
    let names: BTreeSet<String> = scene.alerts().into_iter().collect();
    assert_eq!(
        names,
        BTreeSet::from(["message-quarantined support unreadable".to_owned()])
    );
}

#[test]
fn a_line_that_breaks_again_and_again_brings_some_mail_on_each_time() {
    let scene = Scene::with(&["support"], |options| options);
    scene.configure(&[&scene.mailbox("support", "after = \"seen\"\npoll_interval = \"1s\"")]);
    for number in 0..30 {
        scene.deliver(&mail(&format!("piecemeal-{number}")));
    }
    // Each session lists the folder, and breaks in the midst of the bodies.
    for skipped in [1, 2] {
        scene
            .server
            .fault(Fault::at("UID FETCH", Action::HangUpAfter(2500)).after(skipped));
    }
    let mut daemon = scene.program.daemon();
    scene.wait_rows(&mut daemon, 30);
    let fetches = scene.server.count("UID FETCH");
    assert!(fetches >= 4, "the line broke too seldom: {fetches}");
    let log = daemon.log();
    assert!(
        !log.contains("attempt=2"),
        "a session that brought mail on is no failure in a row: {log}"
    );
    assert_eq!(daemon.terminate(), Some(0));
    assert_sound(&scene.program.database());
}
