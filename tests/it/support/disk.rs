//! A small disk: a real file system, mounted where this process may mount one.

/// A small file system of its own at a directory, until it is dropped.
pub struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    /// `None` where this process may not mount.
    pub fn mount(at: &std::path::Path, size: &str) -> Option<Self> {
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
    pub fn fill(&self, but: u64) {
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

    /// Makes room again.
    pub fn make_room(&self) {
        std::fs::remove_file(self.file()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, for the daemon may still be on it.
        drop(std::process::Command::new("umount").arg("-l").arg(&self.0).status());
    }
}
