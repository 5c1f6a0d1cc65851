//! Measures: a backlog drained from a real Dovecot over TLS into issues, beside mbsync and a program that only keeps the
//! bytes; the way of a single mail; the start; a hundred idle mailboxes; and `simulate` over a folder. It prints figures
//! and asserts none, for machines differ. Usage: `tests/bench/run [MESSAGES [BYTES]]`, or with a folder of mail files
//! instead of the two numbers.
#![expect(
    dead_code,
    unreachable_pub,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::zombie_processes,
    reason = "a measurement prints, stops where its peers cannot start, and uses a part of the tests' peers"
)]

#[path = "../it/support/certificate.rs"]
mod certificate;
#[path = "../it/support/dovecot.rs"]
mod dovecot;
mod measure;

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use certificate::{Authority, LOOPBACK};
use dovecot::Dovecot;
use measure::{Usage, look, stop, wait};

const USER: &str = "bench@example.org";
const PASSWORD: &str = "bench-password";
/// Mailboxes that only wait.
const IDLE: usize = 100;

fn main() {
    let mails = Mails::from_arguments();
    let authority = Authority::new();
    let identity = authority.issue(&LOOPBACK);
    let idle: Vec<String> = (0..IDLE).map(|number| format!("idle{number}@example.org")).collect();
    let users: Vec<(&str, &str)> = std::iter::once(USER)
        .chain(idle.iter().map(String::as_str))
        .map(|user| (user, PASSWORD))
        .collect();
    // By default it takes ten connections of one user from one address, and few logins at once.
    let more = "mail_max_userip_connections = 50\nservice imap-login {\n  service_count = 0\n}";
    let server = Dovecot::start(&authority, &identity, &users, more);
    let world = World {
        directory: tempfile::tempdir().expect("a temporary directory"),
        ca_file: authority.ca_file().to_owned(),
        server,
    };
    let bytes = world.fill(&mails);
    println!(
        "{} messages, {:.0} MB, in a Dovecot on this machine",
        mails.count(),
        bytes / 1e6
    );
    println!(
        "{:42} {:>9} {:>9} {:>9} {:>9}",
        "", "wall s", "mails/s", "CPU s", "peak MB"
    );
    let ours = drain(&world, &mails);
    yardstick(&world, &mails);
    mbsync(&world, &mails);
    single(&world, &mails, &ours);
    idle_mailboxes(&world, &idle);
    simulate(&world, &mails);
}

/// What is in the mailbox.
enum Mails {
    /// So many, of this size.
    Made { count: usize, bytes: usize },
    /// These files.
    Files(Vec<PathBuf>),
}

impl Mails {
    fn from_arguments() -> Self {
        let words: Vec<String> = std::env::args().skip(1).collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<usize>().ok());
        match words.first() {
            Some(folder) if Path::new(folder).is_dir() => Self::Files(files(Path::new(folder))),
            Some(_) | None => Self::Made {
                count: number(0).unwrap_or(10_000),
                bytes: number(1).unwrap_or(13_000),
            },
        }
    }

    fn count(&self) -> usize {
        match self {
            Self::Made { count, .. } => *count,
            Self::Files(files) => files.len(),
        }
    }

    fn get(&self, number: usize) -> String {
        match self {
            Self::Made { bytes, .. } => message(number, *bytes),
            // Dovecot takes bytes; what is no text is of no account for the time it takes.
            Self::Files(files) => {
                let bytes = std::fs::read(&files[number % files.len()]).expect("a mail file");
                String::from_utf8_lossy(&bytes).into_owned()
            }
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
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

struct World {
    directory: tempfile::TempDir,
    ca_file: PathBuf,
    server: Dovecot,
}

impl World {
    /// Delivers all mails; gives their bytes.
    fn fill(&self, mails: &Mails) -> f64 {
        let mut bytes = 0;
        for number in 0..mails.count() {
            let raw = mails.get(number);
            bytes += raw.len();
            self.server.deliver(USER, "INBOX", &raw);
        }
        float(bytes)
    }

    /// A directory of its own for one measurement.
    fn place(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::create_dir(&path).expect("a directory");
        path
    }

    fn secret(&self) -> PathBuf {
        let secret = self.directory.path().join("password");
        std::fs::write(&secret, PASSWORD).expect("a secret file");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&secret, mode).expect("a mode");
        secret
    }

    fn configure(&self, name: &str, users: &[&str]) -> Installation {
        let place = self.place(name);
        let port = TcpListener::bind("127.0.0.1:0")
            .expect("a port")
            .local_addr()
            .expect("its number")
            .port();
        let mut text = format!(
            "[daemon]\nstate_dir = \"{}/state\"\nlog = \"warn\"\nlisten = \"127.0.0.1:{port}\"\n",
            place.display()
        );
        for user in users {
            write!(
                text,
                "\n[[mailbox]]\naddress = \"{user}\"\npassword = {{ file = \"{}\" }}\nhost = \"localhost\"\nport = {}\n\
                 ca_file = \"{}\"\nstart = \"all\"\nafter = \"seen\"\n",
                self.secret().display(),
                self.server.imaps_port(),
                self.ca_file.display()
            )
            .expect("a text grows");
        }
        let config = place.join("config.toml");
        std::fs::write(&config, text).expect("a configuration");
        Installation { place, config, port }
    }
}

struct Installation {
    place: PathBuf,
    config: PathBuf,
    port: u16,
}

impl Installation {
    /// Starts the daemon; gives it with the seconds until it said that it is ready.
    fn start(&self) -> (Child, f64) {
        let path = self.place.join("notify");
        drop(std::fs::remove_file(&path));
        let manager = UnixDatagram::bind(&path).expect("a socket");
        let begun = Instant::now();
        let daemon = Command::new(program("mailintake"))
            .arg("--config")
            .arg(&self.config)
            .arg("run")
            .env("NOTIFY_SOCKET", &path)
            .stdin(Stdio::null())
            .spawn()
            .expect("the daemon");
        let mut buffer = [0; 512];
        loop {
            let count = manager.recv(&mut buffer).expect("a notification");
            if buffer[..count].starts_with(b"READY=1") {
                return (daemon, begun.elapsed().as_secs_f64());
            }
        }
    }

    /// How many messages are in the ledger, asked of the database as anybody may.
    fn count(&self) -> usize {
        let database = self.place.join("state/mailintake.db");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            use sqlx::{ConnectOptions, Connection, Row};
            let options = sqlx::sqlite::SqliteConnectOptions::new()
                .filename(database)
                .read_only(true);
            let Ok(mut connection) = options.connect().await else {
                return 0;
            };
            let row = sqlx::query("SELECT count(*) FROM messages WHERE server_action <> 'pending'")
                .fetch_one(&mut connection)
                .await;
            drop(connection.close().await);
            row.map_or(0, |row| usize::try_from(row.get::<i64, _>(0)).unwrap_or(0))
        })
    }

    /// Seconds from the notifications of mail to its commits, in all, and the count of messages.
    fn ingested(&self) -> (f64, f64) {
        let mut line = TcpStream::connect(("127.0.0.1", self.port)).expect("the listener");
        let request = format!("GET /metrics HTTP/1.0\r\nHost: 127.0.0.1:{}\r\n\r\n", self.port);
        line.write_all(request.as_bytes()).expect("a request");
        let mut page = String::new();
        line.read_to_string(&mut page).expect("an answer");
        let value = |name: &str| {
            let found = page.lines().find_map(|line| line.strip_prefix(name));
            found.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
        };
        (
            value("mailintake_ingest_duration_seconds_sum "),
            value("mailintake_ingest_duration_seconds_count "),
        )
    }

    fn run(&self, arguments: &[&str]) -> String {
        let out = Command::new(program("mailintake"))
            .arg("--config")
            .arg(&self.config)
            .args(arguments)
            .output()
            .expect("the command");
        String::from_utf8_lossy(&out.stdout).into_owned()
    }
}

fn drain(world: &World, mails: &Mails) -> Installation {
    let ours = world.configure("ours", &[USER]);
    let begun = Instant::now();
    let (mut daemon, ready) = ours.start();
    wait(|| ours.count() >= mails.count());
    let seconds = begun.elapsed().as_secs_f64();
    let usage = look(daemon.id(), Usage::default());
    row("mailintake", mails, seconds, usage);
    stop(&mut daemon);
    let (mut daemon, again) = ours.start();
    stop(&mut daemon);
    println!(
        "mailintake: ready after {:.0} ms at the first start, {:.0} ms later",
        ready * 1000.0,
        again * 1000.0
    );
    ours
}

fn yardstick(world: &World, mails: &Mails) {
    let place = world.place("yardstick");
    let (seconds, usage) = measure::run(
        Command::new(program("examples/yardstick"))
            .arg("localhost")
            .arg(world.server.imaps_port().to_string())
            .arg(&world.ca_file)
            .arg(USER)
            .arg(world.secret())
            .arg(&place)
            .stdout(Stdio::null()),
    );
    row("fetch, commit the bytes (FULL), mark", mails, seconds, usage);
}

fn mbsync(world: &World, mails: &Mails) {
    if Command::new("mbsync").arg("--version").output().is_err() {
        println!("mbsync is not installed: apt-get install -y isync");
        return;
    }
    for (sync, name) in [("yes", "mbsync, fsync on"), ("no", "mbsync, fsync off")] {
        let place = world.place(&format!("mbsync-{sync}"));
        let text = format!(
            "FSync {sync}\n\nIMAPStore remote\nHost localhost\nPort {}\nUser {USER}\nPass {PASSWORD}\nSSLType IMAPS\n\
             CertificateFile {}\n\nMaildirStore local\nInbox {place}/inbox\n\nChannel all\nFar :remote:\nNear :local:\n\
             Patterns INBOX\nSync Pull New\nCreate Near\nSyncState {place}/state-\n",
            world.server.imaps_port(),
            world.ca_file.display(),
            place = place.display(),
        );
        let config = place.join("mbsyncrc");
        std::fs::write(&config, text).expect("a configuration");
        let (seconds, usage) = measure::run(Command::new("mbsync").arg("-q").arg("-c").arg(&config).arg("all"));
        row(name, mails, seconds, usage);
    }
}

fn single(world: &World, mails: &Mails, ours: &Installation) {
    let (mut daemon, _) = ours.start();
    wait(|| ours.run(&["status", "--json"]).contains("\"watching\""));
    let (before_s, before_count) = ours.ingested();
    let mut delays: Vec<f64> = (0..20)
        .map(|number| {
            let before = ours.count();
            let begun = Instant::now();
            world.server.deliver(USER, "INBOX", &mails.get(mails.count() + number));
            wait(|| ours.count() != before);
            begun.elapsed().as_secs_f64()
        })
        .collect();
    let (after_s, after_count) = ours.ingested();
    println!(
        "notification to commit: mean {:.1} ms",
        (after_s - before_s) * 1000.0 / (after_count - before_count)
    );
    delays.sort_by(f64::total_cmp);
    println!(
        "delivery to committed issue: median {:.0} ms, longest {:.0} ms, 500 ms of which are Dovecot's own",
        delays[10] * 1000.0,
        delays[19] * 1000.0
    );
    stop(&mut daemon);
}

fn idle_mailboxes(world: &World, users: &[String]) {
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    let ours = world.configure("idle", &users);
    let begun = Instant::now();
    let (mut daemon, _) = ours.start();
    let watching = || ours.run(&["status", "--json"]).matches("\"watching\"").count();
    wait(|| watching() == users.len());
    let seconds = begun.elapsed().as_secs_f64();
    let before = look(daemon.id(), Usage::default());
    std::thread::sleep(Duration::from_secs(30));
    let after = look(daemon.id(), before);
    println!(
        "{} mailboxes: all watching after {seconds:.1} s; then {:.0} MB (peak {:.0} MB) and {:.2} % of a core",
        users.len(),
        after.now_mb,
        after.peak_mb,
        (after.cpu - before.cpu) / 30.0 * 100.0
    );
    stop(&mut daemon);
}

fn simulate(world: &World, mails: &Mails) {
    let ours = world.configure("simulate", &[USER]);
    let folder = ours.place.join("mail");
    std::fs::create_dir(&folder).expect("a folder");
    for number in 0..mails.count() {
        std::fs::write(folder.join(format!("{number:06}.eml")), mails.get(number)).expect("a mail file");
    }
    let (seconds, usage) = measure::run(
        Command::new(program("mailintake"))
            .arg("--config")
            .arg(&ours.config)
            .args(["simulate", "--json"])
            .arg(&folder)
            .stdout(Stdio::null()),
    );
    row("simulate (parse, decide; no database)", mails, seconds, usage);
    println!(
        "simulate: {:.0} mails a second and core",
        float(mails.count()) / usage.cpu
    );
}

fn row(name: &str, mails: &Mails, seconds: f64, usage: Usage) {
    println!(
        "{name:42} {seconds:9.2} {:9.0} {:9.2} {:9.0}",
        float(mails.count()) / seconds,
        usage.cpu,
        usage.peak_mb
    );
}

fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("our own path");
    let directory = own.parent().and_then(Path::parent).expect("the target directory");
    directory.join(name)
}
