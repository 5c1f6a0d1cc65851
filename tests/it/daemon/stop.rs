//! SIGTERM while a server keeps silent in the middle of something.

use std::time::{Duration, Instant};

use crate::support::imap_server::{Action, Fault};
use crate::support::scene::{SOON, Scene, address, mail};

/// What a stop may take: the grace for what is owed after a commit, and a goodbye.
const LIMIT: Duration = Duration::from_secs(10);

#[test]
fn a_stop_waits_for_no_server_that_says_nothing() {
    for (command, more) in [
        ("SELECT", ""),
        ("UID FETCH", ""),
        ("DONE", ""),
        ("UID STORE", "after = \"seen\""),
    ] {
        let scene = Scene::support(more);
        scene.deliver(&mail("one"));
        scene.server.fault(Fault::at(command, Action::Silence).always());
        let mut daemon = scene.program.daemon();
        match command {
            "DONE" => scene.wait_state(&mut daemon, "support", "watching", SOON),
            _ => assert!(scene.server.wait_until(|server| server.count(command) > 0), "{command}"),
        }
        let stopping = Instant::now();
        assert_eq!(daemon.terminate(), Some(0), "{command}");
        assert!(stopping.elapsed() < LIMIT, "{command}: {:?}", stopping.elapsed());
        scene.server.clear_faults();
        let mut daemon = scene.program.daemon();
        scene.wait_rows(&mut daemon, 1);
        assert_eq!(
            scene.server.messages(&address("support"), "INBOX").len(),
            1,
            "{command}: what was left undone is done"
        );
    }
}
