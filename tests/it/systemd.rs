//! The unit, the catalog, and the daemon under a live systemd where there is one to try.

use std::collections::VecDeque;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use mailintake::alert::AlertKind;
use serde_json::Value;

use crate::support::binary::{Program, project, wait};

/// Exposure as `systemd-analyze security` counts it, times ten: 1.2.
const EXPOSURE: &str = "--threshold=12";

#[test]
fn the_unit_is_valid_and_its_exposure_is_low() {
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("mailintake.service");
    let text = std::fs::read_to_string(project("systemd/mailintake.service")).unwrap();
    // The program need not be installed where the tests run.
    std::fs::write(
        &unit,
        text.replace("/usr/bin/mailintake", env!("CARGO_BIN_EXE_mailintake")),
    )
    .unwrap();
    let Some(verified) = analyze(&["verify", unit.to_str().unwrap()]) else {
        return eprintln!("skipped: there is no systemd-analyze");
    };
    let complaints = text_of(&verified.stderr);
    assert!(verified.status.success() && complaints.is_empty(), "{complaints}");
    let security = analyze(&["security", "--offline=true", EXPOSURE, unit.to_str().unwrap()]).unwrap();
    assert!(security.status.success(), "{}", text_of(&security.stdout));
}

fn analyze(arguments: &[&str]) -> Option<Output> {
    Command::new("systemd-analyze")
        .args(arguments)
        .env("SYSTEMD_PAGER", "")
        .output()
        .ok()
}

#[test]
fn the_catalog_explains_each_alert() {
    let catalog = std::fs::read_to_string(project("systemd/mailintake.catalog")).unwrap();
    let entries: Vec<&str> = catalog.split("-- ").skip(1).collect();
    assert_eq!(entries.len(), AlertKind::ALL.len());
    for (kind, entry) in AlertKind::ALL.into_iter().zip(entries) {
        let (head, text) = entry.split_once("\n\n").unwrap();
        assert!(head.starts_with(kind.catalog_id()), "{kind:?}: {head}");
        assert!(head.contains(&format!("({})", kind.as_str())), "{kind:?}: {head}");
        // What it means, and what to do.
        assert!(text.trim().split("\n\n").count() >= 2, "{kind:?}: {text}");
        assert!(text.lines().all(|line| line.len() <= 100), "{kind:?}: {text}");
    }
}

#[test]
fn the_service_manager_is_told_what_holds() {
    let mut program = Program::bare();
    let password = program.secret("password", "a secret");
    program.configure("", &GOOD.replace(SECRET, &password));
    let mut manager = Manager::listen(program.state_dir().with_extension("notify"));
    program.set("NOTIFY_SOCKET", manager.path.to_str().unwrap());
    program.set("WATCHDOG_USEC", "3000000");
    // A stream that is not our stderr: what is logged must not go astray.
    program.set("JOURNAL_STREAM", "1:2");

    let mut daemon = program.daemon();
    manager.is_told("READY=1");
    manager.is_told("STATUS=1 mailbox: 1 ");
    daemon.wait_event("daemon.started", Duration::from_secs(5));
    for _ in 0..3 {
        manager.is_told("WATCHDOG=1");
    }
    daemon.reload();
    manager.is_told("RELOADING=1");
    manager.is_told("MONOTONIC_USEC=");
    manager.is_told("READY=1");
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    manager.is_told("STOPPING=1");
    assert_eq!(daemon.terminate(), Some(0));
}

#[test]
fn the_daemon_starts_reloads_and_stops_under_systemd() {
    let Some(machine) = Machine::start(GOOD) else { return };
    machine.ok(&["systemctl", "start", "mailintake"]);
    assert_eq!(machine.property("ActiveState"), "active");
    machine.until("StatusText", |text| text.starts_with("1 mailbox"));

    let started = machine.event("daemon.started");
    assert_eq!(started["PRIORITY"], "6");
    assert_eq!(started["SYSLOG_IDENTIFIER"], "mailintake");
    assert_eq!(started["_SYSTEMD_UNIT"], "mailintake.service");

    machine.ok(&["systemctl", "reload", "mailintake"]);
    machine.event("config.reloaded");
    assert_eq!(machine.property("NRestarts"), "0");

    machine.ok(&["systemctl", "stop", "mailintake"]);
    assert_eq!(machine.property("ExecMainStatus"), "0");
    assert_eq!(machine.property("Result"), "success");
}

#[test]
fn an_alert_in_the_journal_names_its_mailbox_and_its_remedy() {
    let Some(machine) = Machine::start(GOOD) else { return };
    machine.ok(&["systemctl", "start", "mailintake"]);
    // Nobody listens at the mailbox's port.
    let alert = machine.event("alert.raised");
    assert_eq!(alert["MAILBOX"], "support");
    assert_eq!(alert["PRIORITY"], "3");
    assert_eq!(alert["MESSAGE_ID"], AlertKind::MailboxUnreachable.catalog_id());
    let explained = machine.ok(&[
        "journalctl",
        "-x",
        "-u",
        "mailintake",
        "EVENT=alert.raised",
        "MAILBOX=support",
    ]);
    assert!(explained.contains("A mail server cannot be reached"), "{explained}");
}

#[test]
fn a_faulty_file_fails_the_reload_and_the_daemon_goes_on() {
    let Some(machine) = Machine::start(GOOD) else { return };
    machine.ok(&["systemctl", "start", "mailintake"]);
    let before = machine.property("MainPID");
    machine.configure("nonsense");
    assert!(!machine.run(&["systemctl", "reload", "mailintake"]).status.success());
    assert_eq!(machine.property("ActiveState"), "active");
    assert_eq!(machine.property("MainPID"), before);
    machine.configure(GOOD);
    machine.ok(&["systemctl", "reload", "mailintake"]);
}

#[test]
fn a_refused_configuration_is_not_restarted() {
    let Some(machine) = Machine::start("nonsense") else {
        return;
    };
    assert!(!machine.run(&["systemctl", "start", "mailintake"]).status.success());
    assert_eq!(machine.property("ExecMainStatus"), "78");
    machine.until("ActiveState", |state| state == "failed");
    assert_eq!(machine.property("NRestarts"), "0");
}

#[test]
fn a_stuck_process_is_restarted() {
    let Some(machine) = Machine::start(GOOD) else { return };
    machine.drop_in("[Service]\nWatchdogSec=3\nRestartSec=1\n");
    machine.ok(&["systemctl", "start", "mailintake"]);
    let before = machine.property("MainPID");
    machine.ok(&["kill", "-STOP", &before]);
    machine.until("NRestarts", |count| count == "1");
    machine.until("ActiveState", |state| state == "active");
    assert_ne!(machine.property("MainPID"), before);
    // The one that is not stuck lives beyond its limit.
    std::thread::sleep(Duration::from_secs(7));
    assert_eq!(machine.property("NRestarts"), "1");
}

/// The socket on which systemd would listen.
struct Manager {
    path: PathBuf,
    socket: UnixDatagram,
    /// What was told and not yet asked for.
    lines: VecDeque<String>,
}

impl Manager {
    fn listen(path: PathBuf) -> Self {
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let lines = VecDeque::new();
        Self { path, socket, lines }
    }

    /// Waits for a line that begins so, and forgets all before it.
    fn is_told(&mut self, wanted: &str) {
        let told = wait(Duration::from_secs(15), || {
            let mut buffer = [0; 4096];
            // Nothing was told within the timeout: the next round asks again.
            let count = self.socket.recv(&mut buffer).unwrap_or(0);
            self.lines.extend(text_of(&buffer[..count]).lines().map(str::to_owned));
            let at = self.lines.iter().position(|line| line.starts_with(wanted))?;
            self.lines.drain(..=at);
            Some(())
        });
        assert!(told.is_some(), "systemd was not told {wanted}, but {:?}", self.lines);
    }
}

/// The password of [`GOOD`].
const SECRET: &str = r#"{ file = "/etc/mailintake/secrets/support" }"#;

/// A mailbox whose server is not there: port 9 of loopback is closed.
pub(crate) const GOOD: &str = r#"
[[mailbox]]
address = "support@contoso.example"
name = "support"
host = "127.0.0.1"
port = 9
tls = "none"
password = { file = "/etc/mailintake/secrets/support" }
"#;

/// A machine with systemd as its first process and the daemon installed; it ends with the test's process.
pub(crate) struct Machine {
    run: tempfile::TempDir,
}

impl Machine {
    /// Starts it with the daemon installed and configured, or says why the test is skipped.
    fn start(config: &str) -> Option<Self> {
        let built = Path::new(env!("CARGO_BIN_EXE_mailintake")).parent().unwrap();
        let machine = Self::bare(&[(&project("."), "/mailintake"), (built, "/built")])?;
        machine.ok(&["/mailintake/systemd/install", "/built/mailintake"]);
        machine.prepare(config);
        Some(machine)
    }

    /// Starts it with these folders of the host shown, and nothing of ours installed.
    pub(crate) fn bare(shown: &[(&Path, &str)]) -> Option<Self> {
        let Some(home) = peers() else {
            eprintln!("skipped: LAB_HOME is not set");
            return None;
        };
        let run = tempfile::tempdir().unwrap();
        let mut command = Command::new(home.join("systemd"));
        command.arg(run.path());
        command.args(["--until-exit-of", &std::process::id().to_string()]);
        for (from, to) in shown {
            command.args(["--bind", &format!("{}:{to}", from.display())]);
        }
        let output = command.output().unwrap();
        let reason = text_of(&output.stderr);
        if output.status.code() == Some(77) {
            eprintln!("skipped: {reason}");
            return None;
        }
        assert!(output.status.success(), "{reason}");
        Some(Self { run })
    }

    /// Writes the configuration, and the password that it names.
    pub(crate) fn prepare(&self, config: &str) {
        self.configure(config);
        self.ok(&[
            "install",
            "-m",
            "0640",
            "-g",
            "mailintake",
            "/etc/hostname",
            "/etc/mailintake/secrets/support",
        ]);
    }

    /// Writes a file below the machine's /etc.
    fn etc(&self, path: &str, text: &str) {
        let path = self.run.path().join("systemd/etc").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn configure(&self, config: &str) {
        self.etc("mailintake/config.toml", config);
    }

    fn drop_in(&self, text: &str) {
        self.etc("systemd/system/mailintake.service.d/test.conf", text);
        self.ok(&["systemctl", "daemon-reload"]);
    }

    fn run(&self, command: &[&str]) -> Output {
        Command::new(peers().unwrap().join("systemd-exec"))
            .arg(self.run.path())
            .arg("--")
            .args(command)
            .output()
            .unwrap()
    }

    /// Runs a command in it that must succeed, and returns what it printed.
    pub(crate) fn ok(&self, command: &[&str]) -> String {
        let output = self.run(command);
        assert!(
            output.status.success(),
            "{command:?}: {}{}\n{}",
            text_of(&output.stderr),
            text_of(&output.stdout),
            text_of(
                &self
                    .run(&["journalctl", "-u", "mailintake", "-n", "50", "-o", "cat"])
                    .stdout
            )
        );
        text_of(&output.stdout)
    }

    pub(crate) fn property(&self, name: &str) -> String {
        self.ok(&["systemctl", "show", "-P", name, "mailintake"])
    }

    /// Waits until a property of the unit is as it should be.
    fn until(&self, name: &str, is_right: impl Fn(&str) -> bool) {
        let right = wait(Duration::from_secs(40), || is_right(&self.property(name)).then_some(()));
        assert!(right.is_some(), "{name} is {}", self.property(name));
    }

    /// Waits for the first journal entry of an EVENT.
    pub(crate) fn event(&self, event: &str) -> Value {
        let filter = format!("EVENT={event}");
        let entry = wait(Duration::from_secs(40), || {
            let lines = self.ok(&["journalctl", "-u", "mailintake", &filter, "-o", "json"]);
            lines.lines().next().map(|line| serde_json::from_str(line).unwrap())
        });
        entry.unwrap_or_else(|| {
            panic!(
                "no {filter}:\n{}",
                self.ok(&["journalctl", "-u", "mailintake", "-o", "cat"])
            )
        })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let down = peers().unwrap().join("down");
        // It ends with this process in any case.
        drop(Command::new(down).arg(self.run.path()).arg("systemd").output());
    }
}

/// Where the programs lie that start a live systemd.
fn peers() -> Option<PathBuf> {
    std::env::var_os("LAB_HOME")
        .map(PathBuf::from)
        .filter(|home| Path::new(home).is_dir())
}

pub(crate) fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}
