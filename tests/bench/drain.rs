//! Measures: a backlog drained from a real Dovecot over TLS into issues, and the way of a single mail. It prints
//! figures and asserts none, for machines differ. Usage: `tests/bench/run [MESSAGES [BYTES]]`.
#![expect(
    dead_code,
    unreachable_pub,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement prints, stops where its peers cannot start, and uses a part of the tests' peers"
)]

#[path = "../it/support/certificate.rs"]
mod certificate;
#[path = "../it/support/dovecot.rs"]
mod dovecot;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use certificate::{Authority, LOOPBACK};
use dovecot::Dovecot;

const USER: &str = "bench@example.org";
const PASSWORD: &str = "bench-password";

fn main() {
    let mut words = std::env::args()
        .skip(1)
        .map(|word| word.parse::<usize>().expect("a number"));
    let count = words.next().unwrap_or(10_000);
    let bytes = words.next().unwrap_or(13_000);
    let authority = Authority::new();
    let identity = authority.issue(&LOOPBACK);
    let server = Dovecot::start(&authority, &identity, &[(USER, PASSWORD)], "");
    let begun = Instant::now();
    for number in 0..count {
        server.deliver(USER, "INBOX", &message(number, bytes));
    }
    println!(
        "{count} messages of {bytes} bytes delivered in {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    let bench = Bench::new(&authority, &server);
    let mut daemon = bench.start();
    let begun = Instant::now();
    let last = format!("\"MAIL-{count}\"");
    wait(|| bench.newest().contains(&last));
    let seconds = begun.elapsed().as_secs_f64();
    let (cpu, peak) = usage(daemon.id());
    println!(
        "drained: {:.0} messages/s, {:.2} ms CPU a message, peak {peak:.0} MB",
        f64::from(u32::try_from(count).unwrap()) / seconds,
        cpu * 1000.0 / f64::from(u32::try_from(count).unwrap())
    );
    let mut delays: Vec<f64> = (0..20)
        .map(|number| bench.delay(&server, count + number, bytes))
        .collect();
    delays.sort_by(f64::total_cmp);
    println!(
        "delivery to committed issue: median {:.0} ms, longest {:.0} ms, 500 ms of which are Dovecot's own",
        delays.get(10).unwrap() * 1000.0,
        delays.last().unwrap() * 1000.0
    );
    stop(&mut daemon);
}

/// A mail with a header like that of real ones, text, and a base64 body up to its size.
fn message(number: usize, bytes: usize) -> String {
    let mut text = format!(
        "From: Ann Customer <ann{number}@customer.example>\r\nTo: {USER}\r\nSubject: Question {number}\r\n\
         Date: Mon, 2 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{number}.bench@customer.example>\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\
         Hello,\r\n\r\nthe printer on floor {number} does not print.\r\n\r\nAnn\r\n--b\r\n\
         Content-Type: application/octet-stream; name=log.bin\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    );
    let mut state = number as u64 + 1;
    while text.len() < bytes {
        for _ in 0..19 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            write!(text, "{:04x}", state >> 48).expect("a text grows");
        }
        text.push_str("\r\n");
    }
    text.push_str("--b--\r\n");
    text
}

struct Bench {
    _directory: tempfile::TempDir,
    config: PathBuf,
}

impl Bench {
    fn new(authority: &Authority, server: &Dovecot) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let secret = directory.path().join("password");
        std::fs::write(&secret, PASSWORD).expect("a secret file");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&secret, mode).expect("a mode");
        let config = directory.path().join("config.toml");
        let text = format!(
            "[daemon]\nstate_dir = \"{}\"\nlog = \"warn\"\n\n[[mailbox]]\naddress = \"{USER}\"\npassword = {{ file = \"{}\" }}\n\
             host = \"localhost\"\nport = {}\nca_file = \"{}\"\nstart = \"all\"\nafter = \"seen\"\n",
            directory.path().join("state").display(),
            secret.display(),
            server.imaps_port(),
            authority.ca_file().display()
        );
        std::fs::write(&config, text).expect("a configuration");
        Self {
            _directory: directory,
            config,
        }
    }

    fn start(&self) -> Child {
        Command::new(program())
            .arg("--config")
            .arg(&self.config)
            .arg("run")
            .stdin(Stdio::null())
            .spawn()
            .expect("the daemon")
    }

    /// Seconds from a delivery to its issue.
    fn delay(&self, server: &Dovecot, number: usize, bytes: usize) -> f64 {
        let before = self.newest();
        let begun = Instant::now();
        server.deliver(USER, "INBOX", &message(number, bytes));
        wait(|| self.newest() != before);
        begun.elapsed().as_secs_f64()
    }

    /// The newest issue, asked as an administrator would; a look costs some ten milliseconds.
    fn newest(&self) -> String {
        let out = Command::new(program())
            .arg("--config")
            .arg(&self.config)
            .args(["issue", "list", "--limit", "1", "--json"])
            .output()
            .expect("the command");
        String::from_utf8_lossy(&out.stdout).into_owned()
    }
}

fn program() -> PathBuf {
    let own = std::env::current_exe().expect("our own path");
    let directory = own.parent().and_then(Path::parent).expect("the target directory");
    directory.join("mailintake")
}

/// CPU seconds and peak memory in MB of a process (proc(5)).
fn usage(pid: u32) -> (f64, f64) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|word| word.parse::<f64>().ok()).unwrap_or(0.0);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap_or("0 kB");
    let peak: f64 = peak
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or(0.0);
    ((ticks(11) + ticks(12)) / 100.0, peak / 1024.0)
}

fn wait(condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_mins(10), "it took too long");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn stop(daemon: &mut Child) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(daemon.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("a signal");
    daemon.wait().expect("its end");
}
