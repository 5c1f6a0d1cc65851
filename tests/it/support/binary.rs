//! The built program, driven as a user drives it: its commands, and the daemon with its log.
//! It looks at nothing but output, exit codes and signals.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// A command that has not ended by then hangs.
const COMMAND_LIMIT: Duration = Duration::from_mins(1);
/// The daemon stops within 20 s of SIGTERM; beyond this it is stuck.
const STOP_LIMIT: Duration = Duration::from_secs(25);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(30);

/// What the environment of the test run may hold and the program must not see.
const NOT_INHERITED: [&str; 11] = [
    "MAILINTAKE_CONFIG",
    "MAILINTAKE_LOG",
    "STATE_DIRECTORY",
    "CREDENTIALS_DIRECTORY",
    "NOTIFY_SOCKET",
    "JOURNAL_STREAM",
    "INVOCATION_ID",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "RUST_LOG",
    "RUST_BACKTRACE",
];

/// The program with a configuration and a state directory of its own, which go when it is dropped.
pub struct Program {
    home: tempfile::TempDir,
    environment: BTreeMap<String, String>,
}

/// What a command left.
#[derive(Debug)]
pub struct Output {
    /// The exit code, `None` after a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Program {
    /// A program that has no configuration yet.
    pub fn bare() -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
            environment: BTreeMap::new(),
        }
    }

    /// A program with this configuration; `[daemon]` with a `state_dir` of its own is put in front.
    pub fn new(config: &str) -> Self {
        let program = Self::bare();
        program.configure("", config);
        program
    }

    /// Writes the configuration: `daemon` are further lines of `[daemon]`, `rest` all other sections.
    pub fn configure(&self, daemon: &str, rest: &str) {
        let state = self.state_dir();
        let state = state.display();
        self.write(&format!("[daemon]\nstate_dir = \"{state}\"\n{daemon}\n{rest}"));
    }

    /// Writes the configuration as it stands.
    pub fn write(&self, config: &str) {
        std::fs::write(self.config(), config).unwrap();
    }

    /// The configuration's file.
    pub fn config(&self) -> PathBuf {
        self.home.path().join("config.toml")
    }

    /// The state directory.
    pub fn state_dir(&self) -> PathBuf {
        self.home.path().join("state")
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.state_dir().join("mailintake.db")
    }

    /// A file beside the configuration.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// A secret file, mode 0600, as the value of a key: `{ file = "…" }`.
    pub fn secret(&self, name: &str, value: &str) -> String {
        let path = self.file(name, value);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        format!("{{ file = \"{}\" }}", path.display())
    }

    /// Sets an environment variable of all that is run from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.insert(name.to_owned(), value.to_owned());
    }

    fn command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mailintake"));
        command.arg("--config").arg(self.config()).args(arguments);
        for name in NOT_INHERITED {
            command.env_remove(name);
        }
        command.envs([("LC_ALL", "C.UTF-8"), ("TZ", "Europe/Berlin"), ("NO_PROXY", "*")]);
        command.envs(&self.environment);
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, b"")
    }

    /// Runs a command with something on its standard input.
    pub fn run_with(&self, arguments: &[&str], input: &[u8]) -> Output {
        self.start(arguments, input).end()
    }

    /// Starts a command that will wait for something, such as `authorize`; [`Running::end`] waits for its end.
    pub fn start(&self, arguments: &[&str], input: &[u8]) -> Running {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // A program that does not read its input closes the pipe: no fault of the test.
        std::thread::spawn(move || drop(stdin.write_all(&input)));
        Running {
            said: arguments.join(" "),
            stdout: gather(child.stdout.take().unwrap()),
            stderr: gather(child.stderr.take().unwrap()),
            child,
        }
    }

    /// Runs a command that must succeed, and returns what it printed.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.code, Some(0), "`{}`: {}", arguments.join(" "), output.stderr);
        output.stdout
    }

    /// Runs a command with `--json` that must succeed.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let mut arguments = arguments.to_vec();
        arguments.push("--json");
        let text = self.ok(&arguments);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("`{}`: {error} in {text:?}", arguments.join(" ")))
    }

    /// Starts the daemon; its log is added to that of an earlier one.
    pub fn daemon(&self) -> Daemon {
        let log = self.home.path().join("daemon.log");
        let sink = std::fs::File::options().append(true).create(true).open(&log).unwrap();
        let offset = sink.metadata().unwrap().len();
        let child = self
            .command(&["run"])
            .stdin(Stdio::null())
            .stdout(sink.try_clone().unwrap())
            .stderr(sink)
            .spawn()
            .unwrap();
        Daemon {
            child,
            log,
            offset,
            may_panic: false,
        }
    }
}

/// A command that has been started.
pub struct Running {
    said: String,
    child: Child,
    stdout: Gathered,
    stderr: Gathered,
}

impl Running {
    /// Waits until its output has a line that `pick` takes, within 30 s.
    pub fn line<T>(&self, pick: impl Fn(&str) -> Option<T>) -> T {
        let found = wait(Duration::from_secs(30), || {
            let stdout = self.stdout.so_far();
            let stderr = self.stderr.so_far();
            stdout.lines().chain(stderr.lines()).find_map(&pick)
        });
        found.unwrap_or_else(|| {
            panic!(
                "`{}` did not print it: {}{}",
                self.said,
                self.stdout.so_far(),
                self.stderr.so_far()
            )
        })
    }

    /// Waits for its end.
    pub fn end(mut self) -> Output {
        let ended = wait(COMMAND_LIMIT, || self.child.try_wait().unwrap());
        let Some(status) = ended else {
            self.child.kill().unwrap();
            panic!(
                "`{}` did not end within {COMMAND_LIMIT:?}: {}",
                self.said,
                self.stderr.so_far()
            );
        };
        Output {
            code: status.code(),
            stdout: self.stdout.all(),
            stderr: self.stderr.all(),
        }
    }
}

/// A pipe that a thread reads.
struct Gathered {
    bytes: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
    reader: std::thread::JoinHandle<()>,
}

fn gather(mut pipe: impl std::io::Read + Send + 'static) -> Gathered {
    let bytes = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink = std::sync::Arc::clone(&bytes);
    let reader = std::thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(count @ 1..) = pipe.read(&mut chunk) {
            sink.lock().unwrap().extend_from_slice(&chunk[..count]);
        }
    });
    Gathered { bytes, reader }
}

impl Gathered {
    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    fn all(self) -> String {
        self.reader.join().unwrap();
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }
}

/// The running daemon. Dropped, it is killed; a panic in its log fails the test.
pub struct Daemon {
    child: Child,
    log: PathBuf,
    /// Where in the log this daemon begins.
    offset: u64,
    /// Set by a test that makes it panic.
    pub may_panic: bool,
}

impl Daemon {
    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        let mut file = std::fs::File::open(&self.log).unwrap();
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(self.offset)).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The log's lines of one EVENT, each as its fields.
    pub fn events(&self, event: &str) -> Vec<BTreeMap<String, String>> {
        let all = self.log();
        all.lines()
            .map(fields)
            .filter(|fields| fields.get("event").is_some_and(|found| found == event))
            .collect()
    }

    /// Waits until the log has the line of an EVENT.
    pub fn wait_event(&mut self, event: &str, limit: Duration) -> BTreeMap<String, String> {
        self.wait_for(&format!("event={event}"), limit, |daemon| daemon.events(event).pop())
    }

    /// Waits until `look` finds something. Fails after `limit`, or at once where the daemon has ended.
    pub fn wait_for<T>(&mut self, what: &str, limit: Duration, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let until = Instant::now() + limit;
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the daemon ended ({status}) before {what}:\n{}", self.log());
            }
            assert!(Instant::now() < until, "no {what} within {limit:?}:\n{}", self.log());
            std::thread::sleep(POLL);
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Asks for a reload (SIGHUP).
    pub fn reload(&self) {
        self.signal(Signal::SIGHUP);
    }

    /// Ends it by SIGTERM; returns its exit code, which must come in time.
    pub fn terminate(&mut self) -> Option<i32> {
        if self.child.try_wait().unwrap().is_none() {
            self.signal(Signal::SIGTERM);
        }
        self.ended(STOP_LIMIT)
    }

    /// Ends it as a power cut would (SIGKILL).
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for it to end by itself; returns its exit code.
    pub fn ended(&mut self, limit: Duration) -> Option<i32> {
        match wait(limit, || self.child.try_wait().unwrap()) {
            Some(status) => status.code(),
            None => panic!("the daemon did not end within {limit:?}:\n{}", self.log()),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended before.
        drop(self.child.kill());
        drop(self.child.wait());
        if !std::thread::panicking() && !self.may_panic {
            let log = self.log();
            assert!(!log.contains("panicked at"), "the daemon panicked:\n{log}");
        }
    }
}

/// Looks until `look` finds something, for `limit` at most.
pub fn wait<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let until = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= until {
            return None;
        }
        std::thread::sleep(POLL);
    }
}

/// The `key=value` pairs of a log line.
pub fn fields(line: &str) -> BTreeMap<String, String> {
    let pattern = regex::Regex::new(r#"(?:^| )([a-z_][a-z0-9_.]*)=("(?:[^"\\]|\\.)*"|[^\s"]+)"#).unwrap();
    pattern
        .captures_iter(line)
        .map(|pair| (pair[1].to_owned(), pair[2].trim_matches('"').to_owned()))
        .collect()
}

/// A path of the project.
pub fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
