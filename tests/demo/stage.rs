//! Where the show plays: a temporary folder, the peers, and the program with a configuration for them.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};

use crate::interrupt::{self, wait};
use crate::narrator::Narrator;
use crate::peer::certificate::{Authority, LOOPBACK};
use crate::peer::imap_server::{ImapServer, Options, Security};
use crate::peer::provider::{CLIENT_ID, CLIENT_SECRET, Provider, Rotation};

/// The mailbox of the show.
pub(crate) const ADDRESS: &str = "support@example.org";
/// A command that has not ended by then hangs.
const COMMAND_LIMIT: Duration = Duration::from_secs(20);
/// What the terminal's environment may hold and the program must not see.
const NOT_INHERITED: [&str; 6] = [
    "MAILINTAKE_LOG",
    "STATE_DIRECTORY",
    "CREDENTIALS_DIRECTORY",
    "NOTIFY_SOCKET",
    "JOURNAL_STREAM",
    "WATCHDOG_USEC",
];

/// Everything that is there for the time of the show. It goes when this is dropped.
pub(crate) struct Stage {
    /// Who tells.
    pub(crate) narrator: Arc<Narrator>,
    /// Where the person signs in.
    pub(crate) provider: Provider,
    /// Where mail is delivered.
    pub(crate) mail: ImapServer,
    program: PathBuf,
    home: tempfile::TempDir,
    /// Holds the certificate's file.
    authority: Authority,
}

impl Stage {
    /// Starts the peers and makes an empty folder.
    pub(crate) fn new() -> Result<Self> {
        let program = program()?;
        let authority = Authority::new();
        let provider = Provider::start();
        provider.set(|behaviour| behaviour.rotation = Rotation::Strict);
        let checking = provider.clone();
        let options = Options::new(Security::Implicit(authority.issue(&LOOPBACK)))
            .user(ADDRESS, "no password signs in here")
            .token(move |user, token| checking.user_of(token).as_deref() == Some(user))
            .without("AUTH=PLAIN");
        Ok(Self {
            narrator: Arc::new(Narrator::new()),
            provider,
            mail: ImapServer::start(options),
            program,
            home: tempfile::Builder::new().prefix("mailintake-demo-").tempdir()?,
            authority,
        })
    }

    /// The folder of the show.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Writes the configuration and its secret; returns what is in it.
    pub(crate) fn configure(&self) -> Result<String> {
        let secret = self.home().join("secret");
        fs::write(&secret, CLIENT_SECRET)?;
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
        fs::copy(self.authority.ca_file(), self.home().join("ca.pem"))?;
        // Nobody else takes it in the moment until the daemon listens, or the show fails.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let issuer = self.provider.issuer();
        let imap = self.mail.port();
        let text = format!(
            r#"[daemon]
state_dir  = "state"
listen     = "127.0.0.1:{port}"
public_url = "http://127.0.0.1:{port}"

[[integration]]
name      = "idp"
provider  = "custom"
issuer    = "{issuer}"
flow      = "authorization-code"
scopes    = ["openid", "mail"]
client_id = "{CLIENT_ID}"
client_secret = {{ file = "secret" }}
client_secret_expires = "never"

[[mailbox]]
address = "{ADDRESS}"
name    = "support"
integration = "idp"
host    = "127.0.0.1"
port    = {imap}
ca_file = "ca.pem"

[[project]]
key = "SUP"
"#
        );
        fs::write(self.home().join("config.toml"), &text)?;
        Ok(text)
    }

    /// The program with arguments. It has a process group of its own: Ctrl-C is for the show, which ends it in order.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).process_group(0);
        for name in NOT_INHERITED {
            command.env_remove(name);
        }
        command.env("MAILINTAKE_CONFIG", self.home().join("config.toml"));
        command.envs([("NO_PROXY", "*"), ("no_proxy", "*")]);
        command
    }

    /// Shows a command and starts it.
    pub(crate) fn start(&self, arguments: &[&str]) -> Result<Running> {
        self.narrator.command(arguments);
        Running::new(self.command(arguments))
    }

    /// Shows a command, runs it and shows what it prints; it must succeed.
    pub(crate) fn run(&self, arguments: &[&str], show: impl Fn(&Narrator, &str)) -> Result<String> {
        let printed = self.start(arguments)?.end()?;
        show(&self.narrator, &printed);
        Ok(printed)
    }

    /// What a command answers as JSON, without a word.
    pub(crate) fn json(&self, arguments: &[&str]) -> Result<serde_json::Value> {
        let printed = Running::new(self.command(&[arguments, &["--json"]].concat()))?.end()?;
        Ok(serde_json::from_str(&printed)?)
    }

    /// Waits until an answer as JSON is as wanted.
    pub(crate) fn until(
        &self,
        arguments: &[&str],
        limit: Duration,
        is_wanted: impl Fn(&serde_json::Value) -> bool,
    ) -> Result<()> {
        let found = wait(limit, || match self.json(arguments) {
            Ok(value) => is_wanted(&value).then_some(Ok(())),
            Err(error) => Some(Err(error)),
        });
        found.with_context(|| format!("`mailintake {}` is not as it must be", arguments.join(" ")))?
    }
}

/// The program that was built beside this one: examples lie in a folder of their own.
fn program() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own
        .parent()
        .and_then(Path::parent)
        .context("this program lies nowhere")?;
    let program = folder.join("mailintake");
    if !program.exists() {
        bail!("{} is missing; `cargo build` makes it", program.display());
    }
    Ok(program)
}

/// A command that has been started.
pub(crate) struct Running {
    child: Child,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
    first: std::sync::mpsc::Receiver<String>,
}

impl Running {
    fn new(mut command: Command) -> Result<Self> {
        let command = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start mailintake")?;
        let (tell, first) = std::sync::mpsc::channel();
        let stdout = child.stdout.take().map(|pipe| gather(pipe, Some(tell)));
        let stderr = child.stderr.take().map(|pipe| gather(pipe, None));
        Ok(Self {
            child,
            stdout,
            stderr,
            first,
        })
    }

    /// The first word of its output that begins so, as soon as it is there.
    pub(crate) fn word(&self, beginning: &str) -> Result<String> {
        let mut seen = String::new();
        let word = wait(COMMAND_LIMIT, || {
            seen.extend(self.first.try_iter());
            let whole = seen.rsplit_once('\n').map_or("", |(lines, _)| lines);
            whole
                .split_whitespace()
                .find(|word| word.starts_with(beginning))
                .map(str::to_owned)
        });
        word.with_context(|| format!("the command did not print {beginning}…"))
    }

    /// Waits for its end, which must be a success; what it printed.
    pub(crate) fn end(mut self) -> Result<String> {
        let status = wait(COMMAND_LIMIT, || self.child.try_wait().transpose())
            .context("the command did not end")?
            .context("the command is lost")?;
        let stdout = read(self.stdout.take())?;
        let stderr = read(self.stderr.take())?;
        if status.success() {
            Ok(stdout)
        } else {
            Err(anyhow!("the command failed ({status}): {stderr}{stdout}"))
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended, or the show is broken off.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn gather(
    mut pipe: impl std::io::Read + Send + 'static,
    tell: Option<std::sync::mpsc::Sender<String>>,
) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        let mut chunk = [0; 4096];
        while let Ok(count @ 1..) = pipe.read(&mut chunk) {
            let piece = String::from_utf8_lossy(chunk.get(..count).unwrap_or_default()).into_owned();
            text.push_str(&piece);
            if let Some(tell) = &tell {
                // Nobody may listen any more.
                drop(tell.send(piece));
            }
        }
        text
    })
}

fn read(reader: Option<JoinHandle<String>>) -> Result<String> {
    let text = reader.map_or(Ok(String::new()), JoinHandle::join);
    text.map_err(|_| anyhow!("the command's output is lost"))
}

/// Whether an error says that the show is to end.
pub(crate) fn is_interrupted(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.downcast_ref() == Some(&interrupt::Ended::Interrupted))
}
