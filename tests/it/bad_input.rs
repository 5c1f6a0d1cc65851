//! Every command with what it should not be given: databases that are none of ours, damaged or newer, a full disk,
//! readers that have gone, another user, files that are no mail. A clear sentence, the right exit code, nothing changed.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::Uid;
use sha2::{Digest as _, Sha256};

use crate::support::binary::{Output, Program};
use crate::support::disk::SmallDisk;
use crate::support::scene::{assert_sound, change, mail, query};

/// What a command does with the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Nothing; anybody may.
    Nothing,
    /// Only the configuration.
    Configuration,
    /// Reads it; does without where there is none.
    Look,
    /// Reads it.
    Read,
    /// Writes it.
    Write,
    /// Writes it, and makes it where there is none.
    Make,
}
use Needs::{Configuration, Look, Make, Nothing, Read, Write};

/// Every command, with `HOME` for the folder of the configuration.
const COMMANDS: [(&str, Needs); 56] = [
    ("issue list", Read),
    ("issue list --json", Read),
    ("issue show SUP-1", Read),
    ("issue show SUP-1 --json", Read),
    ("issue search text", Read),
    ("issue search text --json", Read),
    ("issue export --format jsonl", Read),
    ("issue export --format mbox", Read),
    ("issue attachment 1", Read),
    ("issue attachment 1 --output HOME/attachment", Read),
    ("issue close SUP-1", Write),
    ("issue reopen SUP-3", Write),
    ("issue comment SUP-1 hello", Write),
    ("issue comment SUP-1 --file HOME/new.eml", Write),
    ("issue merge SUP-2 SUP-1", Write),
    ("message list", Read),
    ("message list --json", Read),
    ("message show 1", Read),
    ("message show 1 --json", Read),
    ("message explain 1", Read),
    ("message explain 1 --json", Read),
    ("message raw 1", Read),
    ("message retry 4", Write),
    ("message release 3", Write),
    ("message release 3 --json", Write),
    ("message discard 3", Write),
    ("message reextract 1", Read),
    ("message reextract --since 30d --json", Read),
    ("alert list", Read),
    ("alert list --json", Read),
    ("alert acknowledge 1", Write),
    ("ingest HOME/new.eml", Make),
    ("ingest HOME/new.eml --json", Make),
    ("ingest -", Make),
    ("simulate HOME/new.eml", Look),
    ("simulate HOME/new.eml --json", Look),
    ("simulate --since 30d", Read),
    ("audit", Read),
    ("audit --json", Read),
    ("backup HOME/copy.db", Read),
    ("status", Look),
    ("status --json", Look),
    ("test", Look),
    ("test --json", Look),
    ("authorize support", Configuration),
    ("revoke support", Configuration),
    ("check", Configuration),
    ("check --json", Configuration),
    ("completions bash", Nothing),
    ("completions zsh", Nothing),
    ("completions fish", Nothing),
    ("man", Nothing),
    ("--help", Nothing),
    ("issue list --help", Nothing),
    ("--version", Nothing),
    ("issue erase SUP-1", Write),
];

/// A program whose server nobody reaches, with three issues (the last one closed), a held message, one that could
/// not be read with its alert, and a file of new mail.
fn busy() -> Program {
    let program = offline();
    let file = |name: &str, text: String| program.file(name, text).display().to_string();
    let attached = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nThe text.\n--b\n\
                    Content-Type: text/csv\nContent-Disposition: attachment; filename=a.csv\n\n1,2\n--b--\n";
    let one = file(
        "one.eml",
        mail("one").replace("\n\nThe text of one.\n", &format!("\n{attached}")),
    );
    let two = file("two.eml", mail("two"));
    let held = file(
        "held.eml",
        mail("held").replace("\n\n", "\nList-Id: <news.example>\n\n"),
    );
    program.ok(&["ingest", &one, &two, &held]);
    program.run_with(&["ingest", "-"], b"\0\0");
    program.ok(&["ingest", &file("three.eml", mail("three"))]);
    program.ok(&["issue", "close", "SUP-3"]);
    program.file("new.eml", mail("new"));
    settle(&program);
    program
}

fn offline() -> Program {
    let program = Program::bare();
    let secret = program.secret("support.password", "secret");
    program.configure(
        "",
        &format!(
            "[[mailbox]]\naddress = \"support@example.org\"\nname = \"support\"\nhost = \"127.0.0.1\"\nport = 9\n\
             password = {secret}\n[[project]]\nkey = \"SUP\"\nclasses = {{ list = \"hold\" }}\n"
        ),
    );
    program
}

/// Folds the write-ahead log back, so that the database is one file.
fn settle(program: &Program) {
    query(&program.database(), "SELECT 1");
    change(&program.database(), "PRAGMA wal_checkpoint(TRUNCATE)");
}

fn home(program: &Program) -> PathBuf {
    program.config().parent().unwrap().to_owned()
}

fn run(program: &Program, command: &str) -> Output {
    let command = command.replace("HOME", home(program).to_str().unwrap());
    let arguments: Vec<&str> = command.split(' ').collect();
    program.run_with(&arguments, mail("piped").as_bytes())
}

/// What is in the folder of the configuration and below, as hashes, but for what SQLite keeps beside a database.
fn contents(program: &Program) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![home(program)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.display().to_string();
            if path.is_dir() {
                folders.push(path);
            } else if !["-shm", ".lock"].iter().any(|end| name.ends_with(end)) {
                let mut bytes = std::fs::read(&path).unwrap();
                if name.ends_with("mailintake.db") && bytes.len() > 100 {
                    // The counters of changes, which a new connection may move on without any.
                    bytes[24..28].fill(0);
                    bytes[92..96].fill(0);
                }
                if !(name.ends_with("-wal") && bytes.is_empty()) {
                    found.insert(path, format!("{:x}", Sha256::digest(&bytes)));
                }
            }
        }
    }
    found
}

/// It says one thing on standard error, nothing on standard output, and has this exit code.
fn assert_refused(command: &str, output: &Output, code: i32, words: &str) {
    let code = if command.starts_with("ingest -") { 75 } else { code };
    assert_eq!(output.code, Some(code), "{command}: {output:?}");
    assert_eq!(output.stdout, "", "{command}");
    assert!(output.stderr.contains(words), "{command}: {}", output.stderr);
    assert!(output.stderr.lines().count() <= 2, "{command}: {}", output.stderr);
    assert!(!output.stderr.contains("panicked"), "{command}: {}", output.stderr);
}

/// Replaces the database.
type Spoil = fn(&Program);

const SPOILT: [(&str, Spoil, &str); 5] = [
    (
        "text",
        |program| std::fs::write(program.database(), "This is no database.\n".repeat(500)).unwrap(),
        "is no database of mailintake",
    ),
    (
        "of another program",
        |program| {
            let other = program.file("other.db", "");
            change(&other, "CREATE TABLE mailbox (name TEXT)");
            std::fs::rename(other, program.database()).unwrap();
        },
        "is no database of mailintake",
    ),
    (
        "of another program with the same library",
        |program| {
            change(
                &program.database(),
                "UPDATE _sqlx_migrations SET description = 'users' WHERE version = 1",
            );
            settle(program);
        },
        "is no database of mailintake",
    ),
    (
        "newer",
        |program| {
            let row = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                           VALUES (999, 'next', 1, x'00', 1)";
            change(&program.database(), row);
            settle(program);
        },
        "was made by a newer mailintake",
    ),
    (
        "damaged",
        |program| {
            let mut bytes = std::fs::read(program.database()).unwrap();
            let whole = bytes.len();
            bytes[8192..whole - 4096].fill(0x5a);
            std::fs::write(program.database(), bytes).unwrap();
        },
        "is damaged; restore a backup",
    ),
];

#[test]
fn a_database_that_cannot_be_used_is_named_and_left_as_it_is() {
    let program = busy();
    let sound = std::fs::read(program.database()).unwrap();
    for (what, spoil, words) in SPOILT {
        std::fs::write(program.database(), &sound).unwrap();
        for beside in ["-wal", "-shm"] {
            drop(std::fs::remove_file(format!(
                "{}{beside}",
                program.database().display()
            )));
        }
        spoil(&program);
        let before = contents(&program);
        for (command, needs) in COMMANDS {
            if matches!(needs, Nothing | Configuration) {
                continue;
            }
            let output = run(&program, command);
            assert_refused(command, &output, 74, words);
            assert_eq!(
                contents(&program),
                before,
                "{command} changed a database that is {what}"
            );
        }
        let monitored = run(&program, "status --check");
        assert_eq!(monitored.code, Some(3), "{what}: {monitored:?}");
        assert_eq!(monitored.stdout.lines().count(), 1, "{what}: {monitored:?}");
    }
}

#[test]
fn without_a_database_nothing_is_made_by_looking() {
    let program = offline();
    program.file("new.eml", mail("new"));
    let before = contents(&program);
    for (command, needs) in COMMANDS {
        if matches!(needs, Read | Write) {
            assert_refused(command, &run(&program, command), 74, "there is no database at");
        } else if needs == Look {
            let output = run(&program, command);
            let code = i32::from(command.starts_with("test"));
            assert_eq!(output.code, Some(code), "{command}: {output:?}");
        }
        if needs != Make {
            assert_eq!(contents(&program), before, "{command}");
        }
    }
    assert!(!program.state_dir().exists());
}

#[test]
fn what_is_not_there_is_named_with_exit_1_and_no_broken_json() {
    let program = busy();
    let before = query(
        &program.database(),
        "SELECT count(*), (SELECT count(*) FROM issue), max(id) FROM message",
    );
    for (command, words) in [
        ("issue show SUP-9 --json", "SUP-9"),
        ("issue close SUP-9", "SUP-9"),
        ("issue reopen nonsense", "nonsense"),
        ("issue comment SUP-9 text", "SUP-9"),
        ("issue comment SUP-1 --file HOME/missing", "HOME/missing"),
        ("issue attachment 9", "9"),
        ("issue attachment 1 --output HOME/one.eml", "HOME/one.eml"),
        ("issue attachment 1 --output HOME/missing/a", "HOME/missing/a"),
        ("issue merge SUP-1 SUP-9", "SUP-9"),
        ("issue merge SUP-1 SUP-1", "SUP-1"),
        ("issue erase SUP-9", "SUP-9"),
        ("issue export SUP-9 --format jsonl", "SUP-9"),
        ("message show 99 --json", "99"),
        ("message explain 99 --json", "99"),
        ("message raw 99", "99"),
        ("message retry 99 --json", "99"),
        ("message retry 1 --json", "message 1 is issue"),
        ("message release 1 --json", "message 1 is issue"),
        ("message discard 3 1 --json", "message 1 is issue"),
        ("message reextract 99 --json", "99"),
        ("message reextract 3 --json", "message 3 is held"),
        ("alert acknowledge 99", "99"),
        ("ingest HOME/missing --json", "HOME/missing"),
        ("simulate HOME/missing --json", "HOME/missing"),
        (
            "simulate HOME/new.eml --against HOME/missing.toml --json",
            "missing.toml",
        ),
        ("restore HOME/missing", "HOME/missing"),
        ("restore HOME", "is no file"),
        ("restore HOME/one.eml", "HOME/one.eml"),
        ("backup HOME/one.eml", "HOME/one.eml"),
        ("key rotate", "no token key"),
        ("key rotate --new HOME/missing", "HOME/missing"),
    ] {
        let output = run(&program, command);
        let words = words.replace("HOME", home(&program).to_str().unwrap());
        let code = if command.contains("--against") { 78 } else { 1 };
        assert_eq!(output.code, Some(code), "{command}: {output:?}");
        assert!(output.stderr.contains(&words), "{command}: {}", output.stderr);
        assert_eq!(output.stdout, "", "{command}");
    }
    let after = query(
        &program.database(),
        "SELECT count(*), (SELECT count(*) FROM issue), max(id) FROM message",
    );
    assert_eq!(after, before);
    assert_eq!(
        query(&program.database(), "SELECT verdict FROM message WHERE id = 3"),
        [["held"]]
    );
}

/// A pipe that nobody reads.
fn closed_pipe() -> OwnedFd {
    let (_reader, writer) = nix::unistd::pipe().unwrap();
    writer
}

#[test]
fn a_reader_that_has_gone_is_no_fault_of_any_command() {
    let program = busy();
    for (command, _) in COMMANDS {
        let expected = match command {
            // The server is not there.
            "audit" | "audit --json" | "test" | "test --json" 
            // It cannot be read still, or was decided on before.
            | "message retry 4" | "message release 3 --json" | "message discard 3" => 1,
            "authorize support" | "revoke support" => 2,
            _ => 0,
        };
        let command = command.replace("HOME", home(&program).to_str().unwrap());
        let output = Command::new(env!("CARGO_BIN_EXE_mailintake"))
            .arg("--config")
            .arg(program.config())
            .args(command.split(' '))
            .stdin(std::fs::File::open(home(&program).join("two.eml")).unwrap())
            .stdout(closed_pipe())
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(expected), "{command}: {stderr}");
        assert!(
            !stderr.contains("panicked") && !stderr.contains("roken pipe"),
            "{command}: {stderr}"
        );
        drop(std::fs::remove_file(home(&program).join("copy.db")));
    }
    assert_eq!(query(&program.database(), "PRAGMA integrity_check"), [["ok"]]);
}

#[test]
fn a_full_disk_is_said_to_be_full_and_what_was_there_stays() {
    let program = busy();
    let state = program.state_dir();
    let kept = std::fs::read(program.database()).unwrap();
    let Some(disk) = SmallDisk::mount(&state, "24m") else {
        return;
    };
    std::fs::write(program.database(), kept).unwrap();
    let counts = "SELECT count(*), (SELECT count(*) FROM issue), (SELECT count(*) FROM comment),
                         (SELECT group_concat(verdict || state) FROM message m LEFT JOIN issue i ON i.id = m.issue)
                  FROM message";
    let before = query(&program.database(), counts);
    run(&program, "message list");
    disk.fill(0);
    for (command, needs) in COMMANDS {
        let output = run(&program, command);
        if matches!(needs, Write | Make) {
            assert_refused(command, &output, 74, "disk");
        } else if matches!(needs, Nothing | Configuration) {
            assert_ne!(output.code, Some(74), "{command}: {output:?}");
        }
        assert!(!output.stderr.contains("panicked"), "{command}: {}", output.stderr);
        drop(std::fs::remove_file(home(&program).join("copy.db")));
        drop(std::fs::remove_file(home(&program).join("attachment")));
    }
    disk.make_room();
    assert_eq!(query(&program.database(), counts), before);
    assert_sound(&program.database());
    for (command, needs) in COMMANDS {
        if needs == Write && !command.contains("discard") && !command.contains("--json") && !command.contains("retry") {
            assert_eq!(run(&program, command).code, Some(0), "{command} once there is room");
        }
    }
}

#[test]
fn another_user_gets_77_from_every_command_but_those_for_all() {
    if !Uid::effective().is_root() || !Path::new("/usr/bin/setpriv").exists() {
        println!("skipped: this needs root and setpriv");
        return;
    }
    let program = busy();
    let open = std::fs::Permissions::from_mode(0o755);
    // The build directory may be closed to others.
    let copy = program.file("mailintake", std::fs::read(env!("CARGO_BIN_EXE_mailintake")).unwrap());
    std::fs::set_permissions(&copy, open.clone()).unwrap();
    std::fs::set_permissions(home(&program), open).unwrap();
    chown(program.state_dir(), Some(65534), Some(65534)).unwrap();
    let secret = home(&program).join("support.password");
    // With secrets that are closed to the stranger, with his own, and with a configuration that is closed.
    for case in ["closed secrets", "readable secrets", "closed configuration"] {
        match case {
            "readable secrets" => chown(&secret, Some(1234), Some(1234)).unwrap(),
            "closed configuration" => {
                std::fs::set_permissions(program.config(), std::fs::Permissions::from_mode(0o600)).unwrap();
            }
            _ => assert_eq!(std::fs::metadata(&secret).unwrap().uid(), 0),
        }
        let all = COMMANDS
            .into_iter()
            .chain([("run", Write), ("restore HOME/new.eml", Write), ("key rotate", Write)]);
        for (command, needs) in all {
            let command = command.replace("HOME", home(&program).to_str().unwrap());
            let output = Command::new("setpriv")
                .args(["--reuid", "1234", "--regid", "1234", "--clear-groups"])
                .arg(&copy)
                .arg("--config")
                .arg(program.config())
                .args(command.split(' '))
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            let expected = match needs {
                Nothing => 0,
                _ if command == "ingest -" => 75,
                _ => 77,
            };
            assert_eq!(output.status.code(), Some(expected), "{case}: {command}: {stderr}");
            assert!(
                needs == Nothing || stderr.contains("type `sudo mailintake"),
                "{case}: {command}: {stderr}"
            );
            assert!(needs == Nothing || output.stdout.is_empty(), "{case}: {command}");
        }
    }
}

#[test]
fn what_is_no_mail_is_refused_and_links_are_left_out() {
    let program = busy();
    let home = home(&program);
    let maildir = home.join("maildir");
    for part in ["new", "cur", "tmp"] {
        std::fs::create_dir_all(maildir.join(part)).unwrap();
    }
    std::fs::write(maildir.join("new/1"), mail("in a folder")).unwrap();
    let _socket = UnixListener::bind(maildir.join("new/2")).unwrap();
    nix::unistd::mkfifo(&maildir.join("new/3"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    symlink(&maildir, maildir.join("new/4")).unwrap();
    symlink("nowhere", maildir.join("cur/5")).unwrap();
    symlink("/dev/zero", maildir.join("cur/6")).unwrap();
    std::fs::create_dir(maildir.join("cur/7")).unwrap();
    let simulated = run(&program, "simulate HOME/maildir --json");
    assert_eq!(simulated.stdout.lines().count(), 1, "{simulated:?}");
    let taken = run(&program, "ingest HOME/maildir");
    assert_eq!(
        (taken.code, taken.stdout.as_str()),
        (Some(0), "1 message: 1 issue\n"),
        "{taken:?}"
    );
    assert_eq!(
        taken.stderr.matches("is a link and is left out").count(),
        3,
        "{taken:?}"
    );
    program.file("picture.eml", b"\x89PNG\r\n\x1a\n\0\0\0");
    program.file("empty.eml", "");
    let postmark = "From a@b Mon Nov  2 10:00:00 2026\n";
    program.file(
        "cut.mbox",
        format!("{postmark}{}\n{postmark}From: Ann <ann@cus", mail("whole")),
    );
    let before = query(&program.database(), "SELECT count(*) FROM message");
    for (file, words) in [
        ("HOME/picture.eml", "is no mail"),
        ("HOME/empty.eml", "is no mail"),
        ("HOME/cut.mbox", "is cut off in the middle of message 1"),
        ("HOME/maildir/new/2", "is no file, pipe or folder"),
        ("/dev/null", "is no file, pipe or folder"),
        ("/dev/zero", "is no file, pipe or folder"),
        ("HOME/maildir/tmp", "has no .eml file"),
    ] {
        let output = run(&program, &format!("ingest HOME/new.eml {file} --json"));
        assert_eq!(
            (output.code, output.stdout.as_str()),
            (Some(1), ""),
            "{file}: {output:?}"
        );
        assert!(output.stderr.contains(words), "{file}: {}", output.stderr);
        assert!(!output.stderr.contains("panicked"), "{file}: {}", output.stderr);
    }
    assert_eq!(query(&program.database(), "SELECT count(*) FROM message"), before);
}
