//! One mail that comes while its mailbox is watched: nothing stands between it and its commit that could wait.

use std::time::Duration;

use crate::support::imap_server::{Action, Fault};
use crate::support::scene::{SOON, Scene, address, change, mail};

/// The state of the only mailbox, since when, and its backlog.
const CONDITION: &str = "SELECT state, state_since, backlog FROM mailbox";

#[test]
fn a_single_mail_is_told_of_as_a_backlog_only_if_it_lasts() {
    let scene = Scene::support("after = \"seen\"");
    let mut daemon = scene.program.daemon();
    scene.wait_state(&mut daemon, "support", "watching", SOON);
    change(&scene.program.database(), "UPDATE mailbox SET state_since = 1");
    scene.deliver(&mail("quick"));
    scene.wait_rows(&mut daemon, 1);
    assert!(scene.server.wait_until(|server| server.count("IDLE") >= 2));
    let log = daemon.log();
    let told = log
        .lines()
        .find(|line| line.contains("event=message.ingested"))
        .unwrap();
    assert!(told.contains("mailbox=support"), "{told}");
    assert_eq!(
        scene.look(CONDITION),
        [["watching", "1", "0"]],
        "the state was not touched"
    );
    // The list is answered at once, the body late.
    let late = Action::Delay(Duration::from_secs(3));
    scene.server.fault(Fault::at("UID FETCH", late).after(1));
    scene.deliver(&mail("slow"));
    scene.wait_state(&mut daemon, "support", "fetching", SOON);
    assert_eq!(scene.look("SELECT backlog FROM mailbox"), [["1"]]);
    scene.wait_rows(&mut daemon, 2);
    scene.wait_state(&mut daemon, "support", "watching", SOON);
    assert_eq!(scene.look("SELECT backlog FROM mailbox"), [["0"]]);
}

#[test]
fn what_is_owed_of_other_mail_is_done_after_the_commit_of_a_new_one() {
    let scene = Scene::support("after = \"seen\"");
    let mut daemon = scene.program.daemon();
    scene.wait_state(&mut daemon, "support", "watching", SOON);
    let first = scene.deliver(&mail("first"));
    scene.wait_rows(&mut daemon, 1);
    assert!(scene.server.wait_until(|server| server.count("IDLE") >= 2));
    // As a command does that releases a mail.
    change(
        &scene.program.database(),
        "UPDATE message SET server_action = 'pending'",
    );
    scene.server.clear_log();
    let second = scene.deliver(&mail("second"));
    scene.wait_rows(&mut daemon, 2);
    let log = scene.server.log();
    let stores = log.iter().filter(|line| line.starts_with("UID STORE"));
    let marked: Vec<&str> = stores.filter_map(|line| line.split(' ').nth(2)).collect();
    assert_eq!(marked, [second.to_string(), first.to_string()], "{log:?}");
    let messages = scene.server.messages(&address("support"), "INBOX");
    assert!(messages.iter().all(|message| message.has("\\Seen")));
}
