//! A disk that fills up under the daemon: a real file system, mounted where this process may mount one.

use std::time::Duration;

use super::POLLED;
use crate::support::scene::{SOON, Scene, address, assert_sound, mail};

/// A small file system of its own at a directory, until it is dropped.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    /// `None` where this process may not mount.
    fn mount(at: &std::path::Path, size: &str) -> Option<Self> {
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "tmpfs"])
            .arg(at)
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(at.to_owned())),
            Ok(output) => {
                println!("skipped: {}", String::from_utf8_lossy(&output.stderr));
                None
            }
            Err(error) => {
                println!("skipped: mount: {error}");
                None
            }
        }
    }

    fn file(&self) -> std::path::PathBuf {
        self.0.join("ballast")
    }

    /// Writes until nothing more fits, but for so many bytes.
    fn fill(&self, but: u64) {
        let state = nix::sys::statvfs::statvfs(&self.0).unwrap();
        let free = state.blocks_available() * state.fragment_size();
        let ballast = std::fs::File::create(self.file()).unwrap();
        let wanted = free.saturating_sub(but);
        // The daemon writes as well, so that the end may come a little early.
        drop(std::io::copy(
            &mut std::io::Read::take(std::io::repeat(1), wanted),
            &mut &ballast,
        ));
    }

    fn make_room(&self) {
        std::fs::remove_file(self.file()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, for the daemon may still be on it.
        drop(std::process::Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

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
