//! The alert command: JSON on its standard input, a time limit, no shell.
//! It never gets a secret: of our environment it sees nothing.

use std::process::Stdio;
use std::time::Duration;

use futures::FutureExt as _;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, Command};

use super::{Delivery, Targets};
use crate::fault::{chain, printable};
use crate::grant::Problem;
use crate::store::outgoing::Outgoing;

/// Time that a command may take.
const LIMIT: Duration = Duration::from_secs(30);
/// Time from the request to end until it is ended.
const GRACE: Duration = Duration::from_secs(2);
/// Time that its output is waited for once it has ended: a child of its own may keep it open for ever.
const DRAIN: Duration = Duration::from_millis(500);
/// Most of its output that is read, in bytes; the rest is thrown away.
const OUTPUT_LIMIT: usize = 64 * 1024;
/// Most of its output that is said, in characters.
const SAID_LIMIT: usize = 300;
/// Longest value in its environment, in characters.
const VALUE_LIMIT: usize = 4_000;
/// Where it finds programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How a command ended.
enum Ended {
    /// With this exit status, having said this.
    Status(std::process::ExitStatus, String),
    /// It did not, and was killed.
    Killed(String),
}

pub(super) async fn deliver(targets: &Targets, row: &Outgoing) -> Delivery {
    let Some((program, arguments)) = targets.alerts.command.split_first() else {
        return Delivery::Refused(problem(
            "not-configured",
            "there is no alert command any more".to_owned(),
            "Nothing is to be done",
        ));
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("LANG", "C.UTF-8")
        .envs(environment(&row.payload))
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let ended = match command.spawn() {
        Ok(child) => run(child, &row.payload, LIMIT).await,
        Err(error) => Err(error),
    };
    judge(program, ended)
}

fn judge(program: &str, ended: std::io::Result<Ended>) -> Delivery {
    let (code, summary) = match ended {
        Ok(Ended::Status(status, _)) if status.success() => {
            return Delivery::Sent("the command exited with 0".to_owned());
        }
        Ok(Ended::Status(status, said)) => {
            let code = status
                .code()
                .map_or_else(|| "signal".to_owned(), |code| format!("exit-{code}"));
            (code, format!("{program} ended with {status}{}", quoted(&said)))
        }
        Ok(Ended::Killed(said)) => {
            let seconds = LIMIT.as_secs();
            let summary = format!(
                "{program} did not end within {seconds} s and was killed{}",
                quoted(&said)
            );
            ("timeout".to_owned(), summary)
        }
        Err(error) => (
            "not-run".to_owned(),
            format!("{program} could not be run: {}", chain(&error)),
        ),
    };
    Delivery::Retry {
        problem: problem(
            &code,
            summary,
            "run it by hand as the user of the service, with the JSON of `mailintake alert list --json` on its standard \
             input, and see `command` in [alerts]",
        ),
        after: None,
        is_target: true,
    }
}

fn quoted(said: &str) -> String {
    let said = printable(said.trim(), SAID_LIMIT);
    if said.is_empty() { said } else { format!(": {said}") }
}

/// The variables of an alert, from its JSON. None holds a control character.
fn environment(payload: &str) -> Vec<(String, String)> {
    let body: Value = serde_json::from_str(payload).unwrap_or_default();
    let field = |name: &str| body.pointer(name).and_then(Value::as_str).unwrap_or_default();
    [
        ("EVENT", "/event"),
        ("KIND", "/data/kind"),
        ("SEVERITY", "/data/severity"),
        ("SUBJECT", "/data/subject"),
        ("SUMMARY", "/data/summary"),
        ("REMEDY", "/data/remedy"),
    ]
    .into_iter()
    .map(|(name, path)| (format!("MAILINTAKE_ALERT_{name}"), printable(field(path), VALUE_LIMIT)))
    .collect()
}

/// The group of a command, which is killed where nobody waits for it any more.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // It may have ended by itself.
            killpg(group, signal).unwrap_or_default();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

/// Hands a command its input, and waits for its end within `limit`. Beyond it the command and its children are ended.
async fn run(mut child: Child, input: &str, limit: Duration) -> std::io::Result<Ended> {
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    let mut group = Group(id.map(Pid::from_raw));
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let talk = async { tokio::join!(write(stdin, input), listen(stdout, &mut out), listen(stderr, &mut err)) };
    let mut talk = Box::pin(talk.fuse());
    let status = tokio::time::timeout(limit, async {
        tokio::select! {
            status = child.wait() => status,
            _ = talk.as_mut() => child.wait().await,
        }
    })
    .await;
    if status.is_err() {
        end(&mut child, &group).await?;
    }
    // What it left running on purpose goes on, and the number of a group that has ended may be given away.
    group.0 = None;
    drop(tokio::time::timeout(DRAIN, talk.as_mut()).await);
    drop(talk);
    let said = String::from_utf8_lossy(if err.is_empty() { &out } else { &err }).into_owned();
    match status {
        Ok(status) => Ok(Ended::Status(status?, said)),
        Err(_) => Ok(Ended::Killed(said)),
    }
}

/// Asks a command and its children to end, and ends them.
async fn end(child: &mut Child, group: &Group) -> std::io::Result<()> {
    group.signal(Signal::SIGTERM);
    drop(tokio::time::timeout(GRACE, child.wait()).await);
    group.signal(Signal::SIGKILL);
    child.wait().await.map(drop)
}

async fn write(stdin: Option<ChildStdin>, input: &str) {
    if let Some(mut stdin) = stdin {
        // A command need not read its input.
        drop(stdin.write_all(input.as_bytes()).await);
    }
}

/// Reads a stream to its end, and keeps its beginning.
async fn listen(stream: Option<impl AsyncRead + Unpin>, said: &mut Vec<u8>) {
    let Some(mut stream) = stream else { return };
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        let room = OUTPUT_LIMIT.saturating_sub(said.len());
        said.extend(buffer.iter().take(count.min(room)));
    }
}

fn problem(code: &str, summary: String, remedy: &str) -> Problem {
    Problem {
        code: code.to_owned(),
        summary,
        remedy: remedy.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(script: &str, input: &str, limit: Duration) -> Ended {
        let child = Command::new("/bin/sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        run(child, input, limit).await.unwrap()
    }

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_command_gets_its_input_and_is_believed_by_its_exit_code() {
        for (script, code, words) in [
            ("cat", 0, "the input"),
            ("cat >&2; exit 3", 3, "the input"),
            ("exec <&-; echo deaf; exit 0", 0, "deaf\n"),
            // Output that fills the pipe before the input is read.
            ("head -c 300000 /dev/zero; cat >/dev/null; exit 4", 4, ""),
        ] {
            let Ended::Status(status, said) = shell(script, "the input", LONG).await else {
                panic!("{script} was killed");
            };
            assert_eq!(status.code(), Some(code), "{script}");
            assert!(
                said.len() <= OUTPUT_LIMIT && said.starts_with(words),
                "{script}: {said:.100}"
            );
        }
    }

    #[tokio::test]
    async fn a_command_that_left_a_child_behind_has_ended() {
        let begun = std::time::Instant::now();
        let ended = shell("sleep 30 & exit 0", "", LONG).await;
        assert!(matches!(ended, Ended::Status(status, _) if status.success()));
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_ended_with_its_children() {
        let script = "trap '' TERM; (trap '' TERM; sleep 600) & echo $!; echo why; wait; sleep 600";
        let Ended::Killed(said) = shell(script, "", Duration::from_millis(500)).await else {
            panic!("it ended by itself");
        };
        let mut lines = said.lines();
        let child: i32 = lines.next().unwrap().parse().unwrap();
        assert_eq!(lines.next(), Some("why"));
        let deadline = std::time::Instant::now() + LONG;
        let is_gone = || match std::fs::read_to_string(format!("/proc/{child}/stat")) {
            Ok(stat) => stat.contains(") Z "),
            Err(_) => true,
        };
        while !is_gone() {
            assert!(std::time::Instant::now() < deadline, "the child {child} lives");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[test]
    fn the_environment_is_made_of_the_alert_and_safe() {
        let payload = serde_json::json!({"event": "alert.raised", "data": {
            "kind": "disk-low", "severity": "critical", "subject": "/var", "summary": "a\0b\nc", "remedy": null}});
        let found = environment(&payload.to_string());
        let expected = [
            ("EVENT", "alert.raised"),
            ("KIND", "disk-low"),
            ("SEVERITY", "critical"),
            ("SUBJECT", "/var"),
            ("SUMMARY", "a b c"),
            ("REMEDY", ""),
        ];
        let expected = expected.map(|(name, value)| (format!("MAILINTAKE_ALERT_{name}"), value.to_owned()));
        assert_eq!(found, expected);
    }
}
