//! A disk that fills up under the daemon: a real file system, mounted where this process may mount one.

use std::time::Duration;

use super::POLLED;
use crate::support::disk::SmallDisk;
use crate::support::scene::{SOON, Scene, address, assert_sound, mail};

#[test]
fn a_full_disk_pauses_the_intake_which_goes_on_by_itself() {
    for left in [0, 100_000, 4 << 20] {
        let scene = Scene::support(&format!("after = \"delete\"\n{POLLED}"));
        std::fs::create_dir(scene.program.state_dir()).unwrap();
        let Some(disk) = SmallDisk::mount(&scene.program.state_dir(), "40m") else {
            return;
        };
        let mut daemon = scene.program.daemon();
        scene.deliver(&mail("before"));
        scene.wait_rows(&mut daemon, 1);
        disk.fill(left);
        for number in 0..5 {
            scene.deliver(&mail(&format!("m{number}")));
        }
        let raised = daemon.wait_event("alert.raised", Duration::from_secs(10));
        assert_eq!(raised["alert"], "disk-low", "{left} bytes left");
        assert_eq!(
            scene.server.messages(&address("support"), "INBOX").len(),
            5,
            "nothing is touched"
        );
        daemon.wait_for("a second try", SOON, |daemon| {
            daemon.log().contains("attempt=2").then_some(())
        });
        assert_eq!(daemon.events("alert.raised").len(), 1, "it is told of once");
        disk.make_room();
        scene.wait_rows(&mut daemon, 6);
        daemon.wait_event("alert.resolved", SOON);
        assert_eq!(scene.server.messages(&address("support"), "INBOX").len(), 0);
        assert_eq!(daemon.terminate(), Some(0), "{left} bytes left");
        assert_sound(&scene.program.database());
    }
}
