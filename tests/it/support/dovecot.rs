//! A private Dovecot 2.3 on loopback, as Debian packages it: IMAP with and without TLS, and LMTP to deliver by.
//! It leaves the machine's own Dovecot, if there is one, alone.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, User};

use super::certificate::{Authority, Identity};

const PROGRAM: &str = "/usr/sbin/dovecot";
const MISSING: &str = "Dovecot is missing: apt-get install -y --no-install-recommends dovecot-core dovecot-imapd dovecot-lmtpd dovecot-pop3d";
/// It is up within a second; a machine that is busy with other tests may take its time.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A running Dovecot. It ends when this is dropped, and its mail with it.
pub struct Dovecot {
    process: Child,
    directory: tempfile::TempDir,
    ports: Ports,
}

#[derive(Clone, Copy)]
struct Ports {
    imap: u16,
    imaps: u16,
    lmtp: u16,
}

impl Dovecot {
    /// Starts one with these users (name, password), and lines of configuration beside the usual ones.
    pub fn start(authority: &Authority, identity: &Identity, users: &[(&str, &str)], more: &str) -> Self {
        assert!(Path::new(PROGRAM).exists(), "{MISSING}");
        // Somebody may take a port between our look and Dovecot's start.
        let mut log = String::new();
        for _ in 0..3 {
            match Self::try_start(authority, identity, users, more) {
                Ok(running) => return running,
                Err(words) => log = words,
            }
        }
        panic!("Dovecot did not start in three tries: {log}");
    }

    fn try_start(
        authority: &Authority,
        identity: &Identity,
        users: &[(&str, &str)],
        more: &str,
    ) -> Result<Self, String> {
        // Unix socket paths end at 107 bytes, so it is right under the temporary directory.
        let directory = tempfile::Builder::new()
            .prefix("dovecot-")
            .tempdir()
            .expect("a temporary directory");
        let work = directory.path();
        let owner = Owner::choose();
        owner.open(work);
        let ports = Ports::free();
        let lines: Vec<String> = users
            .iter()
            .map(|(name, password)| format!("{name}:{{PLAIN}}{password}::::::\n"))
            .collect();
        std::fs::write(work.join("users"), lines.concat()).expect("the users");
        let configuration = work.join("dovecot.conf");
        let text = text(work, &authority.write(identity), ports, &owner) + more + "\n";
        std::fs::write(&configuration, text).expect("the configuration");
        let process = Command::new(PROGRAM)
            .arg("-F")
            .arg("-c")
            .arg(&configuration)
            .stdin(Stdio::null())
            .spawn()
            .expect("the process");
        let mut running = Self {
            process,
            directory,
            ports,
        };
        if running.is_up() {
            return Ok(running);
        }
        Err(running.log())
    }

    /// The port for IMAP in clear and by STARTTLS.
    pub fn imap_port(&self) -> u16 {
        self.ports.imap
    }

    /// The port for IMAP by TLS.
    pub fn imaps_port(&self) -> u16 {
        self.ports.imaps
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Delivers a message as a mail server would, by LMTP (RFC 2033); a missing folder is made.
    pub fn deliver(&self, user: &str, folder: &str, raw: &str) {
        let recipient = match (folder, user.split_once('@')) {
            ("INBOX", _) | (_, None) => user.to_owned(),
            (_, Some((local, domain))) => format!("{local}+{folder}@{domain}"),
        };
        let mut stream = TcpStream::connect(("127.0.0.1", self.ports.lmtp)).expect("LMTP");
        let mut answers = BufReader::new(stream.try_clone().expect("a handle"));
        expect(&mut answers, "220");
        let data = raw
            .replace("\r\n", "\n")
            .replace('\n', "\r\n")
            .replace("\r\n.", "\r\n..");
        let end = if data.ends_with("\r\n") { ".\r\n" } else { "\r\n.\r\n" };
        for (said, code) in [
            ("LHLO localhost\r\n".to_owned(), "250"),
            ("MAIL FROM:<customer@example.org>\r\n".to_owned(), "250"),
            (format!("RCPT TO:<{recipient}>\r\n"), "250"),
            ("DATA\r\n".to_owned(), "354"),
            (data + end, "250"),
            ("QUIT\r\n".to_owned(), "221"),
        ] {
            stream.write_all(said.as_bytes()).expect("LMTP");
            expect(&mut answers, code);
        }
    }

    /// Waits until all ports take connections; false if the process ended instead.
    fn is_up(&mut self) -> bool {
        let end = Instant::now() + START_LIMIT;
        let ports = [self.ports.imap, self.ports.imaps, self.ports.lmtp];
        while Instant::now() < end {
            if ports
                .iter()
                .all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok())
            {
                return true;
            }
            if !matches!(self.process.try_wait(), Ok(None)) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        // The master takes its children along. If it is gone already, that is what was wanted.
        if let Ok(id) = i32::try_from(self.process.id()) {
            kill(Pid::from_raw(id), Signal::SIGTERM).unwrap_or_default();
        }
        drop(self.process.wait());
    }
}

impl Ports {
    fn free() -> Self {
        let bind = || TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
        let held = [bind(), bind(), bind()];
        let [imap, imaps, lmtp] = held
            .each_ref()
            .map(|listener| listener.local_addr().expect("its address").port());
        Self { imap, imaps, lmtp }
    }
}

/// As whom it works. It refuses root for logins and mail, and takes the users of Debian's package then.
struct Owner {
    internal: User,
    login: String,
}

impl Owner {
    fn choose() -> Self {
        let find = |name: &str| {
            User::from_name(name)
                .expect("the user database")
                .unwrap_or_else(|| panic!("{MISSING}"))
        };
        if Uid::effective().is_root() {
            return Self {
                internal: find("dovecot"),
                login: "dovenull".into(),
            };
        }
        let me = User::from_uid(Uid::effective())
            .expect("the user database")
            .expect("a name of our own");
        let login = me.name.clone();
        Self { internal: me, login }
    }

    /// Lets it pass through the directory and own the mail.
    fn open(&self, work: &Path) {
        std::fs::set_permissions(work, std::fs::Permissions::from_mode(0o755)).expect("the mode");
        let mail = work.join("mail");
        std::fs::create_dir(&mail).expect("a directory for mail");
        if Uid::effective().is_root() {
            let (user, group) = (self.internal.uid.as_raw(), self.internal.gid.as_raw());
            std::os::unix::fs::chown(&mail, Some(user), Some(group)).expect("the owner");
        }
    }

    fn group(&self) -> String {
        let group = nix::unistd::Group::from_gid(Gid::from_raw(self.internal.gid.as_raw()));
        group.expect("the group database").expect("a group").name
    }
}

#[expect(clippy::too_many_lines, reason = "a file's text, to be read as one")]
fn text(work: &Path, (certificate, key): &(PathBuf, PathBuf), ports: Ports, owner: &Owner) -> String {
    let (user, login, group) = (&owner.internal.name, &owner.login, owner.group());
    let (work, certificate, key) = (work.display(), certificate.display(), key.display());
    let no_chroot = if Uid::effective().is_root() { "" } else { "chroot =" };
    let Ports { imap, imaps, lmtp } = ports;
    format!(
        "\
base_dir = {work}/run
state_dir = {work}/run
log_path = {work}/log
protocols = imap lmtp
listen = 127.0.0.1
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {login}
mail_uid = {user}
mail_gid = {group}
first_valid_uid = 1
first_valid_gid = 1
ssl = yes
ssl_cert = <{certificate}
ssl_key = <{key}
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_failure_delay = 0
passdb {{
  driver = passwd-file
  args = {work}/users
}}
userdb {{
  driver = static
  args = home={work}/mail/%u allow_all_users=yes
}}
mail_location = maildir:~/Maildir
mail_fsync = never
mailbox_idle_check_interval = 1s
namespace inbox {{
  inbox = yes
  separator = /
}}
recipient_delimiter = +
lmtp_save_to_detail_mailbox = yes
lda_mailbox_autocreate = yes
default_vsz_limit = 0
service imap-login {{
  {no_chroot}
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    port = {lmtp}
  }}
}}
service anvil {{
  {no_chroot}
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  {no_chroot}
}}
"
    )
}

/// Reads an answer, of several lines if need be.
fn expect(answers: &mut impl BufRead, code: &str) {
    loop {
        let mut line = String::new();
        answers.read_line(&mut line).expect("LMTP");
        assert!(line.starts_with(code), "LMTP answered {line:?} instead of {code}");
        if !line.starts_with(&format!("{code}-")) {
            return;
        }
    }
}
