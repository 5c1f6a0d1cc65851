//! Messages on a server that changes, lies or shares its folders: each ends in one row with the right verdict.

use std::time::Duration;

use crate::support::imap_server::{Action, Fault};
use crate::support::scene::{SOON, Scene, address, assert_sound, mail};

/// A mailbox that is looked at every second, and so soon notices what IDLE does not tell.
const POLLED: &str = "watch = \"poll\"\npoll_interval = \"1s\"";

fn support() -> String {
    address("support")
}

#[test]
fn a_folder_that_is_renumbered_is_recognized_and_nothing_is_doubled() {
    let scene = Scene::support(POLLED);
    for number in 0..20 {
        scene.deliver(&mail(&format!("m{number}")));
    }
    let mut daemon = scene.program.daemon();
    scene.wait_rows(&mut daemon, 20);
    scene.server.set_uidvalidity(&support(), "INBOX", 77);
    scene.deliver(&mail("new"));
    scene.wait_rows(&mut daemon, 41);
    daemon.wait_event("alert.resolved", SOON);
    let raised = daemon.events("alert.raised");
    assert_eq!(raised.len(), 1, "{raised:?}");
    assert_eq!(raised[0]["alert"], "uidvalidity-changed");
    assert_eq!(scene.query("SELECT count(*) FROM issues"), [["21"]]);
    assert_eq!(
        scene.query("SELECT verdict, count(*) FROM messages WHERE uidvalidity = 77 GROUP BY 1"),
        [["duplicate", "20"], ["issue", "1"]]
    );
    scene.program.ok(&["audit"]);
    assert_sound(&scene.program.database());
}

#[test]
fn a_renumbering_that_a_crash_cuts_short_still_ends_its_alert() {
    let scene = Scene::support(POLLED);
    scene.deliver(&mail("one"));
    let mut daemon = scene.program.daemon();
    scene.wait_rows(&mut daemon, 1);
    daemon.kill();
    scene.server.set_uidvalidity(&support(), "INBOX", 78);
    // The new generation is written down, and then nothing more can be read.
    scene
        .server
        .fault(Fault::at("UID FETCH", Action::HangUp).after(1).always());
    let mut daemon = scene.program.daemon();
    scene.wait_alerts(&mut daemon, &["uidvalidity-changed"], SOON);
    daemon.wait_event("alert.raised", SOON);
    daemon.wait_for("the generation to be written down", SOON, |_| {
        (scene.query("SELECT uidvalidity FROM folder") == [["78"]]).then_some(())
    });
    daemon.kill();
    scene.server.clear_faults();
    let mut daemon = scene.program.daemon();
    scene.wait_rows(&mut daemon, 2);
    scene.wait_alerts(&mut daemon, &[], SOON);
    assert_eq!(scene.query("SELECT count(*) FROM issues"), [["1"]]);
}

#[test]
fn mail_from_before_the_start_stays_out_when_the_folder_is_renumbered() {
    let scene = Scene::support(&format!("start = \"new\"\n{POLLED}"));
    for number in 0..5 {
        scene.deliver(&mail(&format!("old{number}")));
    }
    let mut daemon = scene.program.daemon();
    scene.wait_rows(&mut daemon, 5);
    scene.deliver(&mail("new"));
    scene.wait_rows(&mut daemon, 6);
    scene.server.set_uidvalidity(&support(), "INBOX", 79);
    scene.wait_rows(&mut daemon, 12);
    assert_eq!(
        scene.query("SELECT reason, count(*) FROM messages GROUP BY 1 ORDER BY 1"),
        [["before-start", "10"], ["new-mail", "1"], ["same-server-id", "1"]]
    );
    assert_eq!(scene.query("SELECT count(*) FROM issues"), [["1"]]);
}

#[test]
fn what_another_client_removes_before_it_is_read_is_vanished() {
    let scene = Scene::support(POLLED);
    let gone = scene.deliver(&mail("gone"));
    scene.deliver(&mail("kept"));
    // The listing comes late enough for the other client.
    scene
        .server
        .fault(Fault::at("UID FETCH", Action::Delay(Duration::from_millis(700))));
    let mut daemon = scene.program.daemon();
    assert!(scene.server.wait_until(|server| server.count("UID FETCH") > 0));
    scene.server.remove(&support(), "INBOX", gone);
    scene.wait_rows(&mut daemon, 2);
    let mut verdicts = scene.verdicts();
    verdicts.sort();
    assert_eq!(verdicts, ["issue new-mail", "vanished gone-before-read"]);
    assert_eq!(
        scene.query("SELECT uid FROM messages WHERE verdict = 'vanished'"),
        [[gone.to_string()]]
    );
    scene.program.ok(&["audit"]);
}

#[test]
fn a_copy_in_a_second_folder_is_a_duplicate() {
    let scene = Scene::support(&format!("folders = [\"INBOX\", \"Sales\"]\n{POLLED}"));
    scene.deliver(&mail("one"));
    scene.server.deliver(&support(), "Sales", mail("one"));
    let mut daemon = scene.program.daemon();
    scene.wait_rows(&mut daemon, 2);
    assert_eq!(scene.verdicts(), ["issue new-mail", "duplicate same-bytes"]);
    let rows = scene.query("SELECT count(DISTINCT issue), count(issue) FROM messages");
    assert_eq!(rows, [["1", "2"]], "the copy leads to the issue");
    assert_sound(&scene.program.database());
}

#[test]
fn what_a_server_does_to_stored_bytes_makes_no_new_mail() {
    let scene = Scene::with(&["support"], |options| options.without("OBJECTID"));
    scene.configure(&[&scene.mailbox("support", POLLED)]);
    scene.deliver(&mail("one"));
    let mut daemon = scene.program.daemon();
    scene.wait_rows(&mut daemon, 1);
    scene.server.change(&support(), "INBOX", |folder| {
        let message = &mut folder.messages[0];
        let stamp =
            b"X-MS-Exchange-CrossTenant-Id: 1234\r\nReceived: from elsewhere; Mon, 2 Nov 2026 11:00:00 +0000\r\n";
        message.raw.splice(0..0, stamp.iter().copied());
    });
    scene.server.set_uidvalidity(&support(), "INBOX", 80);
    scene.wait_rows(&mut daemon, 2);
    assert_eq!(scene.verdicts(), ["issue new-mail", "duplicate same-content"]);
}

#[test]
fn a_message_id_alone_never_hides_a_mail() {
    let scene = Scene::support(POLLED);
    scene.deliver(&mail("one"));
    scene.deliver(&mail("one").replace("The text of one", "Something else"));
    // Without a Message-ID two mails are one only if they are the same to the byte.
    let bare = mail("two").replace("Message-ID: <two@customer.example>\n", "");
    scene.deliver(&bare);
    scene.deliver(&format!("X-Copy: 2\n{bare}"));
    scene.deliver(&bare);
    let mut daemon = scene.program.daemon();
    scene.wait_rows(&mut daemon, 5);
    assert_eq!(
        scene.verdicts(),
        [
            "issue new-mail",
            "issue new-mail",
            "issue new-mail",
            "issue new-mail",
            "duplicate same-bytes"
        ]
    );
    assert_sound(&scene.program.database());
}

#[test]
fn a_mail_over_the_size_limit_is_an_issue_from_its_header_and_stays() {
    let scene = Scene::support(&format!("max_message_size = \"64 KiB\"\nafter = \"delete\"\n{POLLED}"));
    let long = "0123456789".repeat(7) + "\n";
    let large = scene.deliver(&(mail("large") + &long.repeat(2000)));
    scene.deliver(&mail("small"));
    // A server that states too small a size does not get past the limit, either.
    let lie = scene.deliver(&(mail("lie") + &long.repeat(2000)));
    scene.server.change(&support(), "INBOX", |folder| {
        for message in folder.messages.iter_mut().filter(|message| message.uid == lie) {
            message.stated_size = Some(500);
        }
    });
    let mut daemon = scene.program.daemon();
    scene.wait_rows(&mut daemon, 3);
    assert_eq!(
        scene.query("SELECT uid, verdict, reason, server_action FROM messages ORDER BY uid"),
        [
            ["1", "issue", "over-size-limit", "none"],
            ["2", "issue", "new-mail", "done"],
            ["3", "issue", "over-size-limit", "none"],
        ]
    );
    let left: Vec<u32> = scene
        .server
        .messages(&support(), "INBOX")
        .iter()
        .map(|message| message.uid)
        .collect();
    assert_eq!(left, [large, lie]);
    assert!(
        scene.query("SELECT min(length(bytes)) FROM original")[0][0]
            .parse::<u64>()
            .unwrap()
            < 10_000
    );
}

#[test]
fn sizes_that_are_wrong_and_a_missing_uidnext_lose_nothing() {
    let scene = Scene::support(POLLED);
    scene
        .server
        .change(&support(), "INBOX", |folder| folder.tells_uidnext = false);
    for number in 0..6 {
        scene.deliver(&mail(&format!("m{number}")));
    }
    scene.server.change(&support(), "INBOX", |folder| {
        for (message, stated) in folder.messages.iter_mut().zip([0, 1, 100, 1000, 1 << 20, 0xffff_ffff]) {
            message.stated_size = Some(stated);
        }
    });
    let mut daemon = scene.program.daemon();
    scene.wait_rows(&mut daemon, 6);
    scene.deliver(&mail("later"));
    scene.wait_rows(&mut daemon, 7);
    let reasons = scene.query("SELECT reason, count(*) FROM messages GROUP BY 1 ORDER BY 1");
    // Only the one that claims to be of four gigabytes is not fetched whole.
    assert_eq!(reasons, [["new-mail", "6"], ["over-size-limit", "1"]]);
    assert_sound(&scene.program.database());
}

#[test]
fn what_was_in_hand_when_the_process_died_is_tried_apart_and_taken() {
    let scene = Scene::support(POLLED);
    let mut daemon = scene.program.daemon();
    scene.wait_state(&mut daemon, "support", "watching", SOON);
    daemon.kill();
    let uid = scene.deliver(&mail("suspect"));
    let uidvalidity = scene.server.change(&support(), "INBOX", |folder| folder.uidvalidity);
    let mailbox = &scene.query("SELECT id FROM mailbox")[0][0];
    let slot = format!("{mailbox} INBOX;UIDVALIDITY={uidvalidity};UID={uid}");
    std::fs::write(scene.program.state_dir().join("in-hand"), slot).unwrap();
    // As long as it cannot be read, its death is remembered.
    scene.server.fault(Fault::at("UID FETCH", Action::HangUp).always());
    let mut daemon = scene.program.daemon();
    daemon.wait_for("the death to be counted", SOON, |_| {
        (scene.query("SELECT deaths FROM attempt") == [["1"]]).then_some(())
    });
    daemon.kill();
    scene.server.clear_faults();
    let mut daemon = scene.program.daemon();
    scene.wait_rows(&mut daemon, 1);
    assert_eq!(scene.verdicts(), ["issue new-mail"]);
    assert_eq!(scene.query("SELECT count(*) FROM attempt"), [["0"]]);
}

#[test]
fn after_the_commit_each_mail_is_marked_moved_or_deleted() {
    for (after, left) in [
        ("after = \"seen\"", "INBOX:\\Seen,INBOX:\\Seen"),
        ("after = { flag = \"$Ingested\" }", "INBOX:$Ingested,INBOX:$Ingested"),
        ("after = { move = \"Done/2026 Übersicht\" }", "moved,moved"),
        ("after = \"delete\"", ""),
        ("after = \"keep\"", "INBOX:,INBOX:"),
    ] {
        let scene = Scene::support(&format!("{after}\n{POLLED}"));
        scene.deliver(&mail("one"));
        scene.deliver(&mail("two"));
        let mut daemon = scene.program.daemon();
        scene.wait_rows(&mut daemon, 2);
        let at = |folder: &str| scene.server.messages(&support(), folder);
        let mut found: Vec<String> = at("INBOX")
            .iter()
            .map(|message| format!("INBOX:{}", message.flags.iter().cloned().collect::<Vec<_>>().join(" ")))
            .collect();
        found.extend(at("Done/2026 &ANw-bersicht").iter().map(|_| "moved".to_owned()));
        assert_eq!(found.join(","), left, "{after}");
        assert_eq!(scene.query("SELECT count(*) FROM issues"), [["2"]], "{after}");
    }
}
