//! The configuration file as an administrator writes it: what is accepted, what it means, and what is refused with which words.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mailintake::cli::check;
use mailintake::config::{self, Config, Environment, LogLevel, NameError, Named, Refused};
use mailintake::grant::{ClientAuthentication, EndpointSource};
use mailintake::mail::Class;
use mailintake::mailbox::{After, Protocol, Sasl, SignIn, Start, Tls, Watch};
use mailintake::outgoing::SmtpSignIn;
use mailintake::project::{Acknowledge, Permission};
use mailintake::time::Timestamp;

/// What no output may show.
const CANARY: &str = "CANARY-client-secret-value";

/// A directory with secrets, in which configurations are written.
struct Desk {
    directory: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        desk.write("good.secret", CANARY, 0o600);
        desk.write("open.secret", CANARY, 0o644);
        desk
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn load(&self, text: &str) -> Result<Config, Refused> {
        self.load_in(text, &Environment::default())
    }

    fn load_in(&self, text: &str, environment: &Environment) -> Result<Config, Refused> {
        let path = self.write("config.toml", text, 0o644);
        config::load_in(&path, environment)
    }

    fn accept(&self, text: &str) -> Config {
        self.load(text).unwrap_or_else(|refused| panic!("{refused}\n{text}"))
    }

    /// The faults, each as `LINE: MESSAGE`.
    fn faults(&self, text: &str) -> Vec<String> {
        let refused = self.load(text).expect_err(text);
        let shown = refused.to_string();
        assert!(!shown.contains("CANARY"), "{shown}");
        let prefix = format!("{}:", self.path().join("config.toml").display());
        for line in shown.lines() {
            assert!(line.starts_with(&prefix), "{line}");
        }
        let directory = format!("{}/", self.path().display());
        shown
            .lines()
            .map(|line| line.replace(&prefix, "").replace(&directory, ""))
            .collect()
    }
}

const GOOD: &str = r#"[daemon]
state_dir = "state"

[[integration]]
name = "idp"
provider = "custom"
flow = "authorization-code"
client_id = "abc"
client_secret = { file = "good.secret" }
client_secret_expires = "never"
authorization_endpoint = "https://idp.example.org/auth"
token_endpoint = "https://idp.example.org/token"

[[mailbox]]
name = "support"
address = "support@example.org"
integration = "idp"
host = "imap.example.org"
project = "SUP"

[[mailbox]]
name = "billing"
address = "billing@example.org"
password = { file = "good.secret" }
host = "imap.example.org"
project = "SUP"

[[project]]
key = "SUP"
name = "Support"
"#;

/// What is replaced in [`GOOD`], by what, and every fault that this makes.
const BAD: &[(&str, &str, &[&str])] = &[
    // TOML
    (
        "host = \"imap.example.org\"\nproject",
        "host = \"imap.example.org\"\nhots = 1\nproject",
        &["19: mailbox \"support\": hots is no key; did you mean host?"],
    ),
    (
        "[[project]]",
        "[projekt]\nx = 1\n\n[[project]]",
        &["28: projekt is no section; did you mean project?"],
    ),
    (
        "[[project]]",
        "[project]",
        &["28: project can be repeated; write [[project]]"],
    ),
    ("[daemon]", "[[daemon]]", &["1: daemon is one section; write [daemon]"]),
    (
        "[[project]]",
        "[[project\n",
        &["28: no valid TOML: unclosed array table, expected `]]`"],
    ),
    (
        "client_id = \"abc\"",
        "client_id = \"abc",
        &["8: no valid TOML: invalid basic string, expected `\"`"],
    ),
    (
        "name = \"support\"\n",
        "name = \"support\"\nname = \"support2\"\n",
        &["16: name is there twice"],
    ),
    (
        "[daemon]",
        "log = \"info\"\n[daemon]",
        &["1: log stands outside of any section; move it under one, such as [daemon]"],
    ),
    // types and ranges
    (
        "host = \"imap.example.org\"\nproject",
        "host = \"imap.example.org\"\nport = \"many\"\nproject",
        &["19: mailbox \"support\": port = \"many\" must be a number; the usual port is 993"],
    ),
    (
        "host = \"imap.example.org\"\nproject",
        "host = \"imap.example.org\"\nport = 99999\nproject",
        &["19: mailbox \"support\": port = 99999 is over 65535; the usual port is 993"],
    ),
    (
        "host = \"imap.example.org\"\nproject",
        "host = \"imap.example.org\"\nport = 0\nproject",
        &["19: mailbox \"support\": port = 0 is no port; the usual port is 993"],
    ),
    (
        "host = \"imap.example.org\"\nproject",
        "host = \"imap.example.org\"\nport = -1\nproject",
        &["19: mailbox \"support\": port = -1 is under 1; the usual port is 993"],
    ),
    (
        "host = \"imap.example.org\"\nproject",
        "host = \"imap.example.org\"\nport = 9.5\nproject",
        &["19: mailbox \"support\": port = 9.5 must be a number; the usual port is 993"],
    ),
    (
        "host = \"imap.example.org\"\nproject",
        "host = \"imap.example.org\"\ntls = \"ssl3\"\nproject",
        &["19: mailbox \"support\": tls = \"ssl3\" is not known; write one of implicit, starttls, none"],
    ),
    (
        "host = \"imap.example.org\"\nproject",
        "host = \"imap.example.org\"\ntls = \"startls\"\nproject",
        &["19: mailbox \"support\": tls = \"startls\" is not known; did you mean \"starttls\"?"],
    ),
    (
        "host = \"imap.example.org\"\nproject",
        "host = \"imap.example.org\"\nwatch = true\nproject",
        &["19: mailbox \"support\": watch = true must be a text in quotes"],
    ),
    (
        "host = \"imap.example.org\"\nproject",
        "host = \"imap.example.org\"\npoll_interval = \"5 fortnights\"\nproject",
        &[
            "19: mailbox \"support\": poll_interval = \"5 fortnights\" is no duration; write a number and s, m, h or d, such as \"5m\"",
        ],
    ),
    (
        "host = \"imap.example.org\"\nproject",
        "host = \"imap.example.org\"\npoll_interval = \"0s\"\nproject",
        &["19: mailbox \"support\": poll_interval = \"0s\" is out of range; write 1s to 1d"],
    ),
    (
        "host = \"imap.example.org\"\nproject",
        "host = \"imap.example.org\"\npoll_interval = 5\nproject",
        &["19: mailbox \"support\": poll_interval = 5 must be a text in quotes"],
    ),
    (
        "host = \"imap.example.org\"\nproject",
        "host = \"imap.example.org\"\nmax_message_size = \"25\"\nproject",
        &[
            "19: mailbox \"support\": max_message_size = \"25\" is no size; write a number and KiB, MiB or GiB, such as \"25 MiB\"",
        ],
    ),
    (
        "host = \"imap.example.org\"\nproject",
        "host = \"imap.example.org\"\nmax_message_size = \"1 B\"\nproject",
        &["19: mailbox \"support\": max_message_size = \"1 B\" is out of range; write 1 KiB to 512 MiB"],
    ),
    (
        "host = \"imap.example.org\"\nproject",
        "host = \"imap.example.org\"\nfolders = \"INBOX\"\nproject",
        &["19: mailbox \"support\": folders = \"INBOX\" must be a list such as [\"one\", \"two\"]"],
    ),
    (
        "host = \"imap.example.org\"\nproject",
        "host = \"imap.example.org\"\nfolders = []\nproject",
        &["19: mailbox \"support\": folders = [] is empty; name a folder, or leave the key out for INBOX"],
    ),
    (
        "host = \"imap.example.org\"\nproject",
        "host = \"imap.example.org\"\nfolders = [\"INBOX\", \"inbox\"]\nproject",
        &["19: mailbox \"support\": folders = [\"INBOX\", \"inbox\"] names inbox twice"],
    ),
    (
        "host = \"imap.example.org\"\nproject",
        "host = \"imap.example.org\"\nfolders = [\"A\", 3]\nproject",
        &["19: mailbox \"support\": folders = [\"A\", 3] must be a list of texts in quotes, none of them empty"],
    ),
    (
        "host = \"imap.example.org\"\nproject",
        "host = \"imap.example.org\"\nstart = \"tomorrow\"\nproject",
        &[
            "19: mailbox \"support\": start = \"tomorrow\" is not known; write new, unseen, all or a date such as 2026-11-02",
        ],
    ),
    (
        "host = \"imap.example.org\"\nproject",
        "host = \"imap.example.org\"\nstart = 2026-02-30\nproject",
        &["19: no valid TOML: invalid date, expected day between 01 and 28"],
    ),
    (
        "host = \"imap.example.org\"\nproject",
        "host = \"imap.example.org\"\nstart = 3\nproject",
        &["19: mailbox \"support\": start = 3 is not known; write new, unseen, all or a date such as 2026-11-02"],
    ),
    (
        "host = \"imap.example.org\"\nproject",
        "host = \"imap.example.org\"\nafter = \"burn\"\nproject",
        &[
            "19: mailbox \"support\": after = \"burn\" is not known; write one of keep, seen, delete, { flag = \"…\" }, { move = \"…\" }",
        ],
    ),
    (
        "host = \"imap.example.org\"\nproject",
        "host = \"imap.example.org\"\nafter = { move = \"INBOX\" }\nproject",
        &[
            "19: mailbox \"support\": after: move = \"INBOX\" is a folder that is watched, so that each mail would come again; use another",
        ],
    ),
    (
        "host = \"imap.example.org\"\nproject",
        "host = \"imap.example.org\"\nafter = { flag = \"\\\\Seen\" }\nproject",
        &[
            "19: mailbox \"support\": after: flag = \"\\\\Seen\" is no keyword; write one such as \"$Ingested\" (for \\Seen write after = \"seen\")",
        ],
    ),
    (
        "host = \"imap.example.org\"\nproject",
        "host = \"imap.example.org\"\nafter = { flag = \"a\", move = \"b\" }\nproject",
        &["19: mailbox \"support\": after = { flag = \"a\", move = \"b\" } has both flag and move; take one out"],
    ),
    (
        "host = \"imap.example.org\"\nproject",
        "host = \"imap.example.org\"\nafter = {}\nproject",
        &["19: mailbox \"support\": after = {} must be keep, seen, delete, { flag = \"…\" } or { move = \"…\" }"],
    ),
    (
        "host = \"imap.example.org\"\nproject",
        "host = \"imap.example.org\"\nafter = { mov = \"Archive\" }\nproject",
        &[
            "19: mailbox \"support\": after: mov is no key; did you mean move?",
            "19: mailbox \"support\": after = { mov = \"Archive\" } must be keep, seen, delete, { flag = \"…\" } or { move = \"…\" }",
        ],
    ),
    (
        "host = \"imap.example.org\"\nproject",
        "host = \"imaps://imap.example.org\"\nproject",
        &[
            "18: mailbox \"support\": host = \"imaps://imap.example.org\" is no host name; write it alone, such as \"imap.example.org\"",
        ],
    ),
    (
        "host = \"imap.example.org\"\nproject",
        "host = \"\"\nproject",
        &["18: mailbox \"support\": host = \"\" is empty; write a value or leave the key out"],
    ),
    (
        "host = \"imap.example.org\"\nproject",
        "project",
        &["14: mailbox \"support\": host is missing; write the name of the server"],
    ),
    (
        "address = \"billing@example.org\"",
        "address = \"billing\"",
        &[
            "23: mailbox \"billing\": address = \"billing\" is no mail address; write one such as \"support@example.org\"",
        ],
    ),
    (
        "address = \"billing@example.org\"\n",
        "",
        &["21: mailbox \"billing\": address is missing; write the mail address of the mailbox"],
    ),
    (
        "key = \"SUP\"",
        "key = \"sup port\"",
        &[
            "19: mailbox \"support\": project = \"SUP\" names no [[project]]; there is sup port",
            "26: mailbox \"billing\": project = \"SUP\" names no [[project]]; there is sup port",
            "29: project \"sup port\": key = \"sup port\" is no key; write 2 to 10 capital letters and digits, a letter first, such as \"SUP\"",
        ],
    ),
    (
        "name = \"Support\"",
        "name = \"Support\"\nclasses = { spam = \"ignore\" }",
        &[
            "31: project \"SUP\": classes: class spam is not known; write one of human, list, bulk, auto-generated, auto-reply, bounce, receipt, calendar, own",
        ],
    ),
    (
        "name = \"Support\"",
        "name = \"Support\"\nclasses = { bulk = \"burn\" }",
        &[
            "31: project \"SUP\": classes: bulk = \"burn\" is not known; write one of open, comment, event, hold, ignore",
        ],
    ),
    (
        "name = \"Support\"",
        "name = \"Support\"\nwatchers_from_cc = \"yes\"",
        &["31: project \"SUP\": watchers_from_cc = \"yes\" must be true or false"],
    ),
    (
        "name = \"Support\"",
        "name = \"Support\"\nnon_participant = \"new\"",
        &["31: project \"SUP\": non_participant = \"new\" is not known; write one of linked-issue, comment, hold"],
    ),
    (
        "name = \"Support\"",
        "name = \"Support\"\nfrom = \"Support\"",
        &["31: project \"SUP\": from = \"Support\" is no sender; write one such as \"Support <support@example.org>\""],
    ),
    (
        "name = \"Support\"",
        "name = \"Support\"\nallow = [\"a b\"]",
        &[
            "31: project \"SUP\": allow = [\"a b\"] must hold one address, domain or glob in each text, such as \"*@example.org\"",
        ],
    ),
    (
        "name = \"Support\"",
        "name = \"Support\"\nacknowledge = true",
        &["31: project \"SUP\": acknowledge = true needs a server that sends it; add an [[smtp]] section"],
    ),
    (
        "name = \"Support\"",
        "name = \"Support\"\nacknowledge = { template = \"absent.txt\" }",
        &[
            "31: project \"SUP\": acknowledge: template: cannot read absent.txt: No such file or directory (os error 2)",
            "31: project \"SUP\": acknowledge = { template = \"absent.txt\" } needs a server that sends it; add an [[smtp]] section",
        ],
    ),
    (
        "name = \"Support\"",
        "name = \"Sup\\nport\"",
        &["30: project \"SUP\": name = \"Sup\\nport\" has a control character, such as a line end; take it out"],
    ),
    // daemon
    (
        "[[integration]]",
        "log = \"loud\"\n\n[[integration]]",
        &["4: daemon: log = \"loud\" is not known; write one of error, warn, info, debug"],
    ),
    (
        "[[integration]]",
        "listen = \"everywhere\"\n\n[[integration]]",
        &["4: daemon: listen = \"everywhere\" is no address with a port; write one such as \"127.0.0.1:8425\""],
    ),
    (
        "[[integration]]",
        "public_url = \"http://intake.example.org\"\n\n[[integration]]",
        &[
            "4: daemon: public_url = \"http://intake.example.org\" must begin with https:// (http:// is for loopback only)",
        ],
    ),
    (
        "[[integration]]",
        "public_url = \"https://intake.example.org/?x\"\n\n[[integration]]",
        &[
            "4: daemon: public_url = \"https://intake.example.org/?x\" must end with the host or a path, without ? and #",
        ],
    ),
    (
        "[[integration]]",
        "ca_file = \"absent.pem\"\n\n[[integration]]",
        &[
            "4: daemon: ca_file: cannot read the CA file absent.pem: No such file or directory (os error 2); it must be a PEM file",
        ],
    ),
    (
        "[[integration]]",
        "ca_file = \"good.secret\"\n\n[[integration]]",
        &["4: daemon: ca_file: no usable PEM certificate in the CA file good.secret; it must be a PEM file"],
    ),
    (
        "[[integration]]",
        "token_key = \"CANARY\"\n\n[[integration]]",
        &[
            "4: daemon: token_key holds the secret itself; write it into a file of its own with mode 0600 and its place here: { file = \"…\" }",
        ],
    ),
    // names and references
    (
        "name = \"billing\"",
        "name = \"Support\"",
        &["22: mailbox \"Support\": name = \"Support\" is there already, in line 15; use another"],
    ),
    (
        "address = \"billing@example.org\"",
        "address = \"Support@example.org\"",
        &["23: mailbox \"billing\": address = \"Support@example.org\" is there already, in line 16; use another"],
    ),
    (
        "[[project]]",
        "[[project]]\nkey = \"SUP\"\n\n[[project]]",
        &["32: project \"SUP\": key = \"SUP\" is there already, in line 29; use another"],
    ),
    (
        "[[mailbox]]",
        "[[integration]]\nname = \"idp\"\nprovider = \"custom\"\nflow = \"authorization-code\"\nclient_id = \"x\"\nissuer = \"https://idp.example.org\"\n\n[[mailbox]]",
        &["15: integration \"idp\": name = \"idp\" is there already, in line 5; use another"],
    ),
    (
        "integration = \"idp\"",
        "integration = \"ipd\"",
        &["17: mailbox \"support\": integration = \"ipd\" names no [[integration]]; did you mean \"idp\"?"],
    ),
    (
        "integration = \"idp\"\n",
        "",
        &[
            "14: mailbox \"support\": integration is missing; write integration = \"NAME\", or password = { file = \"…\" }",
        ],
    ),
    (
        "integration = \"idp\"",
        "integration = \"idp\"\npassword = { file = \"good.secret\" }",
        &["18: mailbox \"support\": password and integration exclude each other; take one out"],
    ),
    (
        "project = \"SUP\"\n\n[[project]]",
        "project = \"NOPE\"\n\n[[project]]",
        &["26: mailbox \"billing\": project = \"NOPE\" names no [[project]]; there is SUP"],
    ),
    (
        "project = \"SUP\"\n\n[[project]]",
        "\n[[project]]\nkey = \"BIL\"\n\n[[project]]",
        &["21: mailbox \"billing\": project is missing; there are several, write one of BIL, SUP"],
    ),
    (
        "name = \"Support\"",
        "name = \"Support\"\nsmtp = \"no-relay\"",
        &["31: project \"SUP\": smtp = \"no-relay\" names no [[smtp]]; add a [[smtp]] section"],
    ),
    (
        "[[project]]",
        "[[route]]\nto = \"*@example.org\"\nproject = \"GONE\"\n\n[[project]]",
        &["30: route 1: project = \"GONE\" names no [[project]]; there is SUP"],
    ),
    (
        "[[project]]",
        "[[route]]\nproject = \"SUP\"\n\n[[project]]",
        &["28: route 1: to is missing; it would match every message; give one of to, from, subject, mailbox, header"],
    ),
    (
        "[[project]]",
        "[[route]]\nto = \"*\"\n\n[[project]]",
        &["28: route 1: project is missing; write project = \"KEY\", or action = \"ignore\" or \"hold\""],
    ),
    (
        "[[project]]",
        "[[route]]\nmailbox = \"sales*\"\naction = \"hold\"\n\n[[project]]",
        &["29: route 1: mailbox = \"sales*\" matches no name or address of a [[mailbox]]"],
    ),
    (
        "[[project]]",
        "[[route]]\nto = \"*\"\nproject = \"SUP\"\naction = \"hold\"\n\n[[project]]",
        &["31: route 1: project and action exclude each other; take one out"],
    ),
    (
        "[[project]]",
        "[[route]]\nheader = { \"List Id\" = \"*\" }\naction = \"hold\"\n\n[[project]]",
        &["29: route 1: header: \"List Id\" is no name of a header; write one such as \"List-Id\""],
    ),
    (
        "[[project]]",
        "[[route]]\nheader = {}\naction = \"hold\"\n\n[[project]]",
        &["28: route 1: to is missing; it would match every message; give one of to, from, subject, mailbox, header"],
    ),
    // secrets
    (
        "client_secret = { file = \"good.secret\" }",
        "client_secret = { file = \"open.secret\" }",
        &[
            "9: integration \"idp\": client_secret: the secret file open.secret can be read by others (mode 0644); `chmod 600 open.secret`, or `chmod 640` with the daemon's group",
        ],
    ),
    (
        "client_secret = { file = \"good.secret\" }",
        "client_secret = { file = \"absent.secret\" }",
        &[
            "9: integration \"idp\": client_secret: cannot read the secret file absent.secret: No such file or directory (os error 2); write the secret into it, mode 0600 and owned by the daemon's user",
        ],
    ),
    (
        "client_secret = { file = \"good.secret\" }",
        "client_secret = \"CANARY-inline-secret\"",
        &[
            "9: integration \"idp\": client_secret holds the secret itself; write it into a file of its own with mode 0600 and its place here: { file = \"…\" }",
        ],
    ),
    (
        "client_secret = { file = \"good.secret\" }",
        "client_secret = [\"CANARY\"]",
        &["9: integration \"idp\": client_secret must be { file = \"…\" }, { credential = \"…\" } or { env = \"…\" }"],
    ),
    (
        "client_secret = { file = \"good.secret\" }",
        "client_secret = { credential = \"not-there\" }",
        &[
            "9: integration \"idp\": client_secret: no credential not-there in $CREDENTIALS_DIRECTORY, /run/credentials/mailintake.service or /etc/credstore; add `LoadCredential=not-there` to the unit",
        ],
    ),
    (
        "client_secret = { file = \"good.secret\" }",
        "client_secret = { env = \"NOT_THERE_AT_ALL\" }",
        &[
            "9: integration \"idp\": client_secret: the environment variable NOT_THERE_AT_ALL is not set; set it in the unit, or better use a file",
        ],
    ),
    (
        "client_secret = { file = \"good.secret\" }",
        "client_secret = { file = \"good.secret\", env = \"X\" }",
        &[
            "9: integration \"idp\": client_secret must be one of { file = \"…\" }, { credential = \"…\" } or { env = \"…\" }",
        ],
    ),
    (
        "client_secret = { file = \"good.secret\" }",
        "client_secret = { fil = \"good.secret\" }",
        &[
            "9: integration \"idp\": client_secret must be one of { file = \"…\" }, { credential = \"…\" } or { env = \"…\" }",
        ],
    ),
    (
        "client_secret = { file = \"good.secret\" }",
        "client_secret = { file = \"open.secret/x\" }",
        &[
            "9: integration \"idp\": client_secret: cannot read the secret file open.secret/x: Not a directory (os error 20); write the secret into it, mode 0600 and owned by the daemon's user",
        ],
    ),
    (
        "client_secret_expires = \"never\"",
        "client_secret_expires = \"soon\"",
        &[
            "10: integration \"idp\": client_secret_expires = \"soon\" is no date; write one such as 2027-03-01, or \"never\"",
        ],
    ),
    // integrations
    (
        "client_id = \"abc\"\n",
        "",
        &["4: integration \"idp\": client_id is missing; write the client ID of the registration at the provider"],
    ),
    (
        "provider = \"custom\"",
        "provider = \"hotmail\"",
        &[
            "6: integration \"idp\": provider = \"hotmail\" is not known; write one of google, microsoft, microsoft-gcc, microsoft-gcc-high, microsoft-dod, microsoft-china, yahoo, fastmail, custom",
        ],
    ),
    (
        "provider = \"custom\"\n",
        "",
        &[
            "4: integration \"idp\": provider is missing; write one of google, microsoft, microsoft-gcc, microsoft-gcc-high, microsoft-dod, microsoft-china, yahoo, fastmail, custom",
        ],
    ),
    (
        "flow = \"authorization-code\"",
        "flow = \"password\"",
        &[
            "7: integration \"idp\": flow = \"password\" is not known; write one of authorization-code, device-code, client-credentials, service-account",
        ],
    ),
    (
        "name = \"idp\"\n",
        "name = \"id p\"\n",
        &[
            "5: integration \"id p\": name = \"id p\" becomes part of the redirect URI; use letters, digits, dot, hyphen and underscore",
            "17: mailbox \"support\": integration = \"idp\" names no [[integration]]; did you mean \"id p\"?",
        ],
    ),
    (
        "token_endpoint = \"https:",
        "token_endpoint = \"http:",
        &[
            "12: integration \"idp\": token_endpoint = \"http://idp.example.org/token\" must begin with https:// (http:// is for loopback only)",
        ],
    ),
    (
        "token_endpoint = \"https://idp",
        "token_endpoint = \"https://u:CANARY@idp",
        &["12: integration \"idp\": token_endpoint must not hold a user name or password; take it out of the URL"],
    ),
    (
        "token_endpoint = \"https://idp.example.org/token\"\n",
        "",
        &[
            "4: integration \"idp\": token_endpoint is missing; a custom provider needs it, or issuer = \"https://…\" for discovery",
        ],
    ),
    (
        "authorization_endpoint = \"https://idp.example.org/auth\"\n",
        "",
        &[
            "4: integration \"idp\": authorization_endpoint is missing; a custom provider needs it, or issuer = \"https://…\" for discovery",
        ],
    ),
    (
        "provider = \"custom\"\nflow = \"authorization-code\"",
        "provider = \"google\"\nflow = \"device-code\"",
        &[
            "7: integration \"idp\": flow = \"device-code\" does not work at google: its device flow refuses the mail scope; use authorization-code",
        ],
    ),
    (
        "provider = \"custom\"\nflow = \"authorization-code\"",
        "provider = \"google\"\nflow = \"client-credentials\"",
        &[
            "7: integration \"idp\": flow = \"client-credentials\" does not exist at google; use service-account with domain-wide delegation",
        ],
    ),
    (
        "provider = \"custom\"\nflow = \"authorization-code\"",
        "provider = \"yahoo\"\nflow = \"device-code\"",
        &["7: integration \"idp\": flow = \"device-code\" does not exist at this provider; use authorization-code"],
    ),
    (
        "flow = \"authorization-code\"",
        "flow = \"service-account\"",
        &[
            "4: integration \"idp\": service_account is missing; the flow needs service_account = { file = \"key.json\" }",
            "7: integration \"idp\": flow = \"service-account\" exists at google only; use client-credentials or authorization-code",
            "9: integration \"idp\": client_secret is of no use with flow = \"service-account\"; take it out",
        ],
    ),
    (
        "provider = \"custom\"\nflow = \"authorization-code\"",
        "provider = \"microsoft\"\nflow = \"client-credentials\"\ntenant = \"common\"",
        &[
            "8: integration \"idp\": tenant = \"common\" names no single directory, which client-credentials needs; write its domain or ID",
        ],
    ),
    (
        "provider = \"custom\"",
        "provider = \"microsoft\"",
        &[
            "4: integration \"idp\": tenant is missing; write the domain or ID of the directory, or consumers for personal accounts",
        ],
    ),
    (
        "provider = \"custom\"",
        "provider = \"microsoft\"\ntenant = \"a/b\"",
        &[
            "7: integration \"idp\": tenant = \"a/b\" is no tenant; write its domain or its ID, such as \"contoso.example\"",
        ],
    ),
    (
        "client_id = \"abc\"",
        "client_id = \"abc\"\ntenant = \"x.example\"",
        &["9: integration \"idp\": tenant = \"x.example\" is for the microsoft providers; take it out"],
    ),
    (
        "provider = \"custom\"",
        "provider = \"microsoft\"\ntenant = \"contoso.example\"\nscopes = [\"https://outlook.office.com/IMAP.AccessAsUser.All\"]",
        &[
            "8: integration \"idp\": scopes = [\"https://outlook.office.com/IMAP.AccessAsUser.All\"] lacks offline_access, without which Microsoft gives no refresh token; add it",
        ],
    ),
    (
        "provider = \"custom\"\nflow = \"authorization-code\"",
        "provider = \"microsoft\"\nflow = \"client-credentials\"\ntenant = \"contoso.example\"\nscopes = [\"https://outlook.office365.com/IMAP.AccessAsApp\"]",
        &[
            "9: integration \"idp\": scopes = [\"https://outlook.office365.com/IMAP.AccessAsApp\"] must be one scope that ends in /.default, as client-credentials at Microsoft needs",
        ],
    ),
    (
        "provider = \"custom\"",
        "provider = \"google\"\nscopes = [\"https://mail.google.com/\", \"offline_access\"]",
        &[
            "7: integration \"idp\": scopes = [\"https://mail.google.com/\", \"offline_access\"] has offline_access, which Google refuses; take it out",
        ],
    ),
    (
        "[[integration]]\nname = \"idp\"\nprovider = \"custom\"",
        "public_url = \"https://intake.lan\"\n\n[[integration]]\nname = \"idp\"\nprovider = \"google\"",
        &[
            "8: integration \"idp\": provider google redirects to public host names only, and public_url is at intake.lan; use a public name there, or leave public_url out and sign in with `authorize NAME --paste`",
        ],
    ),
    (
        "[[integration]]\nname = \"idp\"\nprovider = \"custom\"",
        "public_url = \"https://10.1.2.3\"\n\n[[integration]]\nname = \"idp\"\nprovider = \"google\"",
        &[
            "8: integration \"idp\": provider google redirects to public host names only, and public_url is at 10.1.2.3; use a public name there, or leave public_url out and sign in with `authorize NAME --paste`",
        ],
    ),
    (
        "flow = \"authorization-code\"\nclient_id = \"abc\"\nclient_secret = { file = \"good.secret\" }\nclient_secret_expires = \"never\"",
        "flow = \"client-credentials\"\nclient_id = \"abc\"",
        &[
            "4: integration \"idp\": client_secret is missing; client-credentials needs client_secret = { file = \"…\" }, or certificate and private_key",
        ],
    ),
    (
        "client_secret_expires = \"never\"",
        "client_secret_expires = \"never\"\ncertificate = \"good.secret\"\nprivate_key = { file = \"good.secret\" }",
        &[
            "11: integration \"idp\": client_secret and certificate exclude each other; take one out",
            "11: integration \"idp\": certificate: good.secret holds no usable certificate in PEM form",
            "12: integration \"idp\": private_key: good.secret holds no private key in PEM form",
        ],
    ),
    (
        "client_secret = { file = \"good.secret\" }\nclient_secret_expires = \"never\"",
        "certificate = \"absent.pem\"",
        &[
            "4: integration \"idp\": private_key is missing; certificate needs private_key = { file = \"…\" }",
            "9: integration \"idp\": certificate: cannot read absent.pem: No such file or directory (os error 2)",
        ],
    ),
    (
        "client_secret = { file = \"good.secret\" }\nclient_secret_expires = \"never\"",
        "client_authentication = \"basic\"",
        &["9: integration \"idp\": client_authentication = \"basic\" needs a client_secret"],
    ),
    (
        "client_secret_expires = \"never\"",
        "client_secret_expires = \"never\"\nclient_authentication = \"private-key-jwt\"",
        &["11: integration \"idp\": client_authentication = \"private-key-jwt\" needs certificate and private_key"],
    ),
    (
        "client_secret = { file = \"good.secret\" }\n",
        "next_client_secret = { file = \"good.secret\" }\n",
        &[
            "9: integration \"idp\": next_client_secret is of no use without client_secret; add that or take it out",
            "10: integration \"idp\": client_secret_expires is of no use without client_secret; add that or take it out",
        ],
    ),
    (
        "client_id = \"abc\"",
        "client_id = \"abc\"\nauthorization_parameters = { state = \"x\" }",
        &[
            "9: integration \"idp\": authorization_parameters must not set state: it is part of the protocol; take it out",
        ],
    ),
    (
        "client_id = \"abc\"",
        "client_id = \"abc\"\nauthorization_parameters = { prompt = 1 }",
        &["9: integration \"idp\": authorization_parameters: prompt = 1 must be a text in quotes"],
    ),
    (
        "client_id = \"abc\"",
        "client_id = \"abc\"\nscopes = [\"a b\"]",
        &["9: integration \"idp\": scopes = [\"a b\"] must hold one scope in each text, without spaces"],
    ),
    (
        "client_id = \"abc\"",
        "client_id = \"abc\"\npublishing_status = \"testing\"",
        &["9: integration \"idp\": publishing_status = \"testing\" is for provider google; take it out"],
    ),
    (
        "client_id = \"abc\"",
        "client_id = \"abc\"\nservice_account = { file = \"good.secret\" }",
        &[
            "9: integration \"idp\": service_account is for flow = \"service-account\"; take it out or change the flow",
            "9: integration \"idp\": service_account: good.secret is no key of a service account; download it as JSON from Google's console",
        ],
    ),
    // mailbox pairs
    (
        "host = \"imap.example.org\"\nproject",
        "host = \"imap.example.org\"\ntls = \"none\"\nproject",
        &[
            "19: mailbox \"support\": tls = \"none\" would send password and mail in clear; it is for loopback only, use implicit or starttls",
        ],
    ),
    (
        "host = \"imap.example.org\"\nproject",
        "host = \"imap.example.org\"\nsasl = \"plain\"\nproject",
        &[
            "19: mailbox \"support\": sasl = \"plain\" is for a password; with an integration use xoauth2 or oauthbearer",
        ],
    ),
    (
        "password = { file = \"good.secret\" }",
        "password = { file = \"good.secret\" }\nsasl = \"xoauth2\"",
        &["25: mailbox \"billing\": sasl = \"xoauth2\" is for an integration; with a password use plain or login"],
    ),
    (
        "password = { file = \"good.secret\" }",
        "password = { file = \"good.secret\" }\nsasl_user = \"x\"",
        &["25: mailbox \"billing\": sasl_user = \"x\" is for an integration; with a password use login"],
    ),
    (
        "host = \"imap.example.org\"\nproject",
        "host = \"imap.example.org\"\nprotocol = \"pop3\"\nfolders = [\"INBOX\"]\nwatch = \"idle\"\nstart = \"unseen\"\nafter = \"seen\"\nproject",
        &[
            "20: mailbox \"support\": folders = [\"INBOX\"] does not exist in POP3; take it out, or use protocol = \"imap\"",
            "21: mailbox \"support\": watch = \"idle\" does not exist in POP3; use poll",
            "22: mailbox \"support\": start = \"unseen\" does not exist in POP3; use new, all or a date",
            "23: mailbox \"support\": after = \"seen\" does not exist in POP3; use keep or delete",
        ],
    ),
    // outgoing
    (
        "[[project]]",
        "[[webhook]]\nurl = \"http://hooks.example.org/x\"\nsecret = { file = \"good.secret\" }\n\n[[project]]",
        &[
            "29: webhook 1: url = \"http://hooks.example.org/x\" must begin with https:// (http:// is for loopback only)",
        ],
    ),
    (
        "[[project]]",
        "[[webhook]]\nurl = \"https://hooks.example.org/x\"\nsecret = { file = \"good.secret\" }\nevents = [\"issue.exploded\", \"alert.*\"]\n\n[[project]]",
        &[
            "31: webhook 1: events: \"issue.exploded\" is not known; write one of daemon.started, mailbox.connected, mailbox.disconnected, message.ingested, token.refreshed, token.refresh_failed, alert.raised, alert.reminded, alert.resolved, config.reloaded, config.refused, issue.created, comment.added, server_action.done",
        ],
    ),
    (
        "[[project]]",
        "[[webhook]]\n\n[[project]]",
        &["28: webhook 1: url is missing; write the address to call, https://…"],
    ),
    (
        "[[project]]",
        "[[smtp]]\nname = \"relay\"\ntls = \"none\"\n\n[[project]]",
        &[
            "28: smtp \"relay\": host is missing; write the name of the server",
            "30: smtp \"relay\": tls = \"none\" is not known; write one of starttls, implicit",
        ],
    ),
    (
        "[[project]]",
        "[[smtp]]\nhost = \"smtp.example.org\"\npassword = { file = \"good.secret\" }\n\n[[project]]",
        &["28: smtp \"smtp.example.org\": username is missing; password needs username = \"…\""],
    ),
    (
        "[[project]]",
        "[[smtp]]\nhost = \"smtp.example.org\"\nintegration = \"idp\"\n\n[[project]]",
        &["28: smtp \"smtp.example.org\": login is missing; write whose grant it is, such as \"ann@example.org\""],
    ),
    (
        "[[project]]",
        "[[smtp]]\nhost = \"smtp.example.org\"\nusername = \"x\"\nlogin = \"y\"\npassword_expires = \"never\"\n\n[[project]]",
        &[
            "30: smtp \"smtp.example.org\": username needs password = { file = \"…\" } or integration = \"NAME\"",
            "31: smtp \"smtp.example.org\": login needs password = { file = \"…\" } or integration = \"NAME\"",
            "32: smtp \"smtp.example.org\": password_expires is of no use without password; take it out",
        ],
    ),
    (
        "[[project]]",
        "[[smtp]]\nhost = \"smtp.example.org\"\n\n[[smtp]]\nhost = \"SMTP.example.org\"\n\n[[project]]",
        &["31: smtp \"SMTP.example.org\": name = \"SMTP.example.org\" is there already, in line 28; use another"],
    ),
    (
        "[[project]]",
        "[alerts]\nemail = [\"ops\"]\ncommand = [\"page\"]\nremind_after = [\"6h\", \"1h\"]\n\n[[project]]",
        &[
            "29: alerts: email: \"ops\" is no mail address",
            "29: alerts: email = [\"ops\"] needs a server that sends it; add an [[smtp]] section",
            "30: alerts: command = [\"page\"] must begin with the full path of a program",
            "31: alerts: remind_after = [\"6h\", \"1h\"] must ascend from more than 0s: each delay counts from the first notice",
        ],
    ),
    (
        "[[project]]",
        "[alerts]\nremind_after = [\"soon\"]\n\n[[project]]",
        &["29: alerts: remind_after = [\"soon\"] must be a list of durations such as [\"1h\", \"6h\"]"],
    ),
    (
        "[[project]]",
        "[retention]\nraw_messages = \"0d\"\n\n[[project]]",
        &["29: retention: raw_messages = \"0d\" is out of range; write 1s to 3650d"],
    ),
    (
        "[[project]]",
        "[retention]\nraw_messages = \"90 days\"\n\n[[project]]",
        &["29: retention: raw_messages = \"90 days\" is no duration; write a number and s, m, h or d, such as \"5m\""],
    ),
];

#[test]
fn the_sound_configuration_is_accepted() {
    let config = Desk::new().accept(GOOD);
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn each_fault_is_told_with_line_key_and_remedy() {
    let desk = Desk::new();
    for (old, new, wanted) in BAD {
        assert!(GOOD.contains(old), "{old}");
        let faults = desk.faults(&GOOD.replacen(old, new, 1));
        assert_eq!(faults, *wanted, "{new}");
    }
}

#[test]
fn all_faults_are_told_in_one_run() {
    let mut text = GOOD.to_owned();
    for (old, new) in [
        ("state_dir = \"state\"", "state_dir = \"state\"\nlog = \"loud\""),
        ("token_endpoint = \"https:", "token_endpoint = \"http:"),
        ("integration = \"idp\"", "integration = \"nobody\""),
        (
            "project = \"SUP\"\n\n[[mailbox]]",
            "project = \"SUP\"\nport = 99999\n\n[[mailbox]]",
        ),
        (
            "name = \"Support\"",
            "name = \"Support\"\nnon_participant = \"sometimes\"\nnon_participant = \"hold\"",
        ),
    ] {
        assert!(text.contains(old), "{old}");
        text = text.replacen(old, new, 1);
    }
    assert_eq!(
        Desk::new().faults(&text),
        [
            "3: daemon: log = \"loud\" is not known; write one of error, warn, info, debug",
            "13: integration \"idp\": token_endpoint = \"http://idp.example.org/token\" must begin with https:// (http:// is for loopback only)",
            "18: mailbox \"support\": integration = \"nobody\" names no [[integration]]; there is idp",
            "21: mailbox \"support\": port = 99999 is over 65535; the usual port is 993",
            "33: project \"SUP\": non_participant = \"sometimes\" is not known; write one of linked-issue, comment, hold",
            "34: non_participant is there twice",
        ]
    );
}

#[test]
fn alert_mail_needs_a_sender() {
    let smtp = "\n[[smtp]]\nhost = \"smtp.example.org\"\nusername = \"USER\"\npassword = { file = \"good.secret\" }\n\n[alerts]\nemail = [\"ops@example.org\"]\n";
    let desk = Desk::new();
    assert_eq!(
        desk.faults(&format!("{GOOD}{smtp}").replace("USER", "relay")),
        ["38: alerts: email = [\"ops@example.org\"] has no sender; add from = \"…\" to smtp \"smtp.example.org\""]
    );
    let config = desk.accept(&format!("{GOOD}{smtp}").replace("USER", "relay@example.org"));
    assert_eq!(config.smtp.first().unwrap().alert_sender(), Some("relay@example.org"));
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_are_accepted() {
    let desk = Desk::new();
    desk.accept(&format!("\u{feff}{}", GOOD.replace('\n', "\r\n")));
    let faults = desk.faults(&GOOD.replace('\n', "\r\n").replace("\"idp\"\r\nhost", "\"ipd\"\r\nhost"));
    assert_eq!(
        faults,
        ["17: mailbox \"support\": integration = \"ipd\" names no [[integration]]; did you mean \"idp\"?"]
    );
}

#[test]
fn hosts_are_names_or_addresses() {
    for (written, host) in [
        ("IMAP.example.org", "imap.example.org"),
        ("[::1]", "::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("10.1.2.3", "10.1.2.3"),
        ("mail.bücher.example", "mail.xn--bcher-kva.example"),
    ] {
        let text = GOOD.replace("host = \"imap.example.org\"", &format!("host = \"{written}\""));
        assert_eq!(Desk::new().accept(&text).mailboxes.first().unwrap().server.host, host);
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(300))]

    /// Whatever an editor does to the file: no panic, no secret, each fault on a line of the file.
    #[test]
    fn a_spoiled_file_is_answered_calmly(edits in proptest::collection::vec((0_usize..2000, 0_usize..60, "[\"{}=\\[\\]#\\\\a-z0-9 \n]{0,6}"), 1..6)) {
        let mut text: Vec<char> = format!("{RICH}# {}\nclient_secret = \"CANARY-inline\"\n", "-".repeat(400)).chars().collect();
        for (at, length, insert) in edits {
            let at = at.min(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, insert.chars());
        }
        let text: String = text.into_iter().collect();
        let refused = match Desk::new().load(&text) {
            Ok(config) => {
                proptest::prop_assert!(!check::run(&config, false).contains("CANARY"));
                return Ok(());
            }
            Err(refused) => refused,
        };
        let shown = refused.to_string();
        proptest::prop_assert!(!shown.contains("CANARY"), "{}", shown);
        let lines = text.lines().count() + 1;
        proptest::prop_assert!(refused.faults.iter().all(|fault| fault.line.is_none_or(|line| (1..=lines).contains(&line))));
        proptest::prop_assert!(refused.faults.is_sorted_by_key(|fault| fault.line));
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let desk = Desk::new();
    let absent = desk.path().join("absent.toml");
    let refused = config::load(&absent).unwrap_err();
    assert_eq!(refused.faults.len(), 1);
    assert!(
        refused
            .to_string()
            .starts_with(&format!("{}: there is no such file", absent.display()))
    );
    assert!(
        config::load(desk.path())
            .unwrap_err()
            .to_string()
            .contains("is no file")
    );
    let binary = desk.path().join("binary.toml");
    std::fs::write(&binary, [0xff, 0xfe, 0x00]).unwrap();
    assert!(config::load(&binary).unwrap_err().to_string().contains("no UTF-8 text"));
}

#[test]
fn hostile_files_are_refused_without_a_panic() {
    let desk = Desk::new();
    for text in [
        "[[[[".to_owned(),
        "a".repeat(100_000),
        "[mailbox".repeat(1000),
        format!("x = {}1{}", "[".repeat(10_000), "]".repeat(10_000)),
        "\u{0}\u{feff}[daemon]".to_owned(),
        "daemon = 1\nmailbox = 2\nalerts = [1]\nproject = [[1]]\nsmtp = [{}]\n".to_owned(),
        "[[mailbox]]\n\"\\u0007\\n\" = 1\n".to_owned(),
        "[daemon]\nlisten = \"\"\"\n1\n\"\"\"\n".to_owned(),
    ] {
        assert!(!desk.faults(&text).is_empty());
    }
}

#[test]
fn an_empty_file_is_a_daemon_that_watches_nothing() {
    let config = Desk::new().accept("");
    assert_eq!(config.daemon.state_dir, Path::new("/var/lib/mailintake"));
    assert_eq!(config.warnings, ["there is no [[mailbox]], so nothing is watched"]);
}

#[test]
fn the_shortest_configuration_has_the_defaults_of_the_contract() {
    let config = Desk::new().accept(
        "[[mailbox]]\naddress = \"Support@example.org\"\npassword = { file = \"good.secret\" }\nhost = \"imap.example.org\"\n",
    );
    let mailbox = config.mailboxes.first().unwrap();
    assert_eq!(
        (mailbox.name.as_str(), mailbox.login.as_str()),
        ("Support@example.org", "Support@example.org")
    );
    assert!(matches!(mailbox.sign_in, SignIn::Password(_)));
    assert_eq!(
        (mailbox.server.protocol, mailbox.server.tls, mailbox.server.port),
        (Protocol::Imap, Tls::Implicit, 993)
    );
    assert_eq!(
        (mailbox.sasl, mailbox.watch, mailbox.start),
        (Sasl::Auto, Watch::Idle, Start::New)
    );
    assert_eq!(mailbox.folders, ["INBOX"]);
    assert_eq!(mailbox.poll_interval, Duration::from_mins(5));
    assert_eq!((&mailbox.after, mailbox.max_message_size), (&After::Keep, 25 << 20));
    assert_eq!(mailbox.project, "MAIL");
    let project = config.project("MAIL").unwrap();
    assert_eq!((config.projects.len(), &project.acknowledge), (1, &Acknowledge::Off));
    assert_eq!(project.classes.of(Class::Bulk), Permission::Hold);
    assert_eq!(config.daemon.log, LogLevel::Info);
    assert_eq!((config.daemon.listen, &config.daemon.public_url), (None, &None));
    assert_eq!(
        config.daemon.token_key_file(),
        Path::new("/var/lib/mailintake/token.key")
    );
    assert_eq!(config.alerts.remind_after, [1, 6, 24].map(Duration::from_hours));
    assert_eq!(config.retention.raw_messages, Duration::from_hours(90 * 24));
}

#[test]
fn ports_and_intervals_follow_protocol_tls_and_watch() {
    for (keys, port, interval) in [
        ("", 993, 300),
        ("tls = \"starttls\"", 143, 300),
        ("protocol = \"pop3\"", 995, 60),
        ("protocol = \"pop3\"\ntls = \"starttls\"", 110, 60),
        ("watch = \"poll\"", 993, 60),
        ("port = 1993\npoll_interval = \"5s\"", 1993, 5),
    ] {
        let config = Desk::new().accept(&format!(
            "[[mailbox]]\naddress = \"a@example.org\"\npassword = {{ file = \"good.secret\" }}\nhost = \"imap.example.org\"\n{keys}\n"
        ));
        let mailbox = config.mailboxes.first().unwrap();
        assert_eq!(
            (mailbox.server.port, mailbox.poll_interval.as_secs()),
            (port, interval),
            "{keys}"
        );
    }
}

#[test]
fn a_poll_that_gmail_would_refuse_is_a_warning() {
    for (host, interval, warnings) in [
        ("pop.gmail.com", "1m", 1),
        ("pop.gmail.com", "5m", 0),
        ("pop.example.org", "1m", 0),
    ] {
        let config = Desk::new().accept(&format!(
            "[[mailbox]]\naddress = \"a@example.org\"\npassword = {{ file = \"good.secret\" }}\nhost = \"{host}\"\n\
             protocol = \"pop3\"\npoll_interval = \"{interval}\"\n"
        ));
        assert_eq!(
            config.warnings.len(),
            warnings,
            "{host} {interval}: {:?}",
            config.warnings
        );
    }
}

#[test]
fn the_environment_counts_where_the_contract_says_so() {
    let desk = Desk::new();
    let environment = Environment {
        state_directory: Some(PathBuf::from("/srv/state")),
        log: Some("debug".to_owned()),
    };
    let config = desk.load_in("", &environment).unwrap();
    assert_eq!(config.daemon.state_dir, Path::new("/srv/state"));
    assert_eq!(config.daemon.log, LogLevel::Debug);
    let config = desk
        .load_in("[daemon]\nstate_dir = \"state\"\nlog = \"error\"\n", &environment)
        .unwrap();
    assert_eq!(config.daemon.state_dir, desk.path().join("state"));
    assert_eq!(config.daemon.log, LogLevel::Debug);
    let wrong = Environment {
        state_directory: None,
        log: Some("loud".to_owned()),
    };
    let refused = desk.load_in("", &wrong).unwrap_err().to_string();
    assert!(refused.contains("$MAILINTAKE_LOG = \"loud\" is not known"), "{refused}");
}

/// A configuration with one integration of a provider, used by a mailbox and an smtp server.
fn with_provider(keys: &str) -> String {
    format!(
        "[[integration]]\nname = \"one\"\nclient_id = \"abc\"\n{keys}\n\n[[mailbox]]\naddress = \"support@example.org\"\nintegration = \"one\"\n\n\
         [[smtp]]\nname = \"out\"\nintegration = \"one\"\nlogin = \"support@example.org\"\n"
    )
}

#[test]
fn a_preset_fills_in_hosts_ports_and_scopes() {
    let secret = "client_secret = { file = \"good.secret\" }\nclient_secret_expires = \"never\"";
    for (keys, imap, smtp, scopes) in [
        (
            format!("provider = \"google\"\nflow = \"authorization-code\"\npublishing_status = \"internal\"\n{secret}"),
            ("imap.gmail.com", 993),
            ("smtp.gmail.com", 587, Tls::StartTls),
            "https://mail.google.com/ openid email",
        ),
        (
            "provider = \"microsoft\"\ntenant = \"contoso.example\"\nflow = \"device-code\"".to_owned(),
            ("outlook.office365.com", 993),
            ("smtp.office365.com", 587, Tls::StartTls),
            "https://outlook.office.com/IMAP.AccessAsUser.All https://outlook.office.com/SMTP.Send offline_access openid email profile",
        ),
        (
            format!("provider = \"microsoft\"\ntenant = \"contoso.example\"\nflow = \"client-credentials\"\n{secret}"),
            ("outlook.office365.com", 993),
            ("smtp.office365.com", 587, Tls::StartTls),
            "https://outlook.office365.com/.default",
        ),
        (
            "provider = \"fastmail\"\nflow = \"authorization-code\"".to_owned(),
            ("imap.fastmail.com", 993),
            ("smtp.fastmail.com", 465, Tls::Implicit),
            "https://www.fastmail.com/dev/protocol-imap https://www.fastmail.com/dev/protocol-smtp",
        ),
    ] {
        let config = Desk::new().accept(&with_provider(&keys));
        assert_eq!(config.warnings, Vec::<String>::new(), "{keys}");
        let mailbox = config.mailboxes.first().unwrap();
        assert_eq!((mailbox.server.host.as_str(), mailbox.server.port), imap, "{keys}");
        let server = config.smtp.first().unwrap();
        assert_eq!((server.host.as_str(), server.port, server.tls), smtp, "{keys}");
        assert_eq!(config.integrations.first().unwrap().scopes.join(" "), scopes, "{keys}");
    }
}

#[test]
fn scopes_and_endpoints_of_the_file_override_the_preset() {
    let config = Desk::new().accept(&with_provider(
        "provider = \"microsoft\"\ntenant = \"t.example\"\nflow = \"authorization-code\"\nscopes = [\"x\", \"offline_access\"]\ntoken_endpoint = \"http://127.0.0.1:1/token\"\nauthorization_parameters = { prompt = \"login\" }",
    ));
    let integration = config.integrations.first().unwrap();
    assert_eq!(integration.scopes, ["x", "offline_access"]);
    assert_eq!(
        integration.authorization_parameters.get("prompt").map(String::as_str),
        Some("login")
    );
    let EndpointSource::Fixed(endpoints) = &integration.endpoints else {
        panic!("{:?}", integration.endpoints);
    };
    assert_eq!(endpoints.token, "http://127.0.0.1:1/token");
    let preset = "https://login.microsoftonline.com/t.example/oauth2/v2.0/authorize";
    assert_eq!(endpoints.authorization.as_deref(), Some(preset));
}

#[test]
fn a_custom_provider_is_asked_or_told() {
    let config = Desk::new().accept(&GOOD.replace(
        "authorization_endpoint = \"https://idp.example.org/auth\"\ntoken_endpoint = \"https://idp.example.org/token\"",
        "issuer = \"https://idp.example.org/realm\"\nclient_authentication = \"basic\"",
    ));
    let integration = config.integrations.first().unwrap();
    let issuer = "https://idp.example.org/realm".to_owned();
    assert_eq!(integration.endpoints, EndpointSource::Issuer(issuer));
    assert_eq!(integration.client_authentication, ClientAuthentication::Basic);
    assert_eq!(integration.client_secret_expires, None);
}

#[test]
fn dates_are_toml_or_quoted() {
    let desk = Desk::new();
    let start = |value: &str| {
        let text = GOOD.replacen("project = \"SUP\"", &format!("project = \"SUP\"\nstart = {value}"), 1);
        desk.accept(&text).mailboxes.first().unwrap().start
    };
    assert_eq!(start("2026-11-02"), start("\"2026-11-02\""));
    assert_eq!(start("2026-11-02T10:00:00Z"), Start::Since(Timestamp(1_793_613_600)));
    assert_eq!((start("\"all\""), start("\"unseen\"")), (Start::All, Start::Unseen));
    let text = GOOD.replace(
        "client_secret_expires = \"never\"",
        "client_secret_expires = 2027-03-01",
    );
    let expires = desk.accept(&text).integrations.first().unwrap().client_secret_expires;
    // Local midnight, which is within 14 hours of that of UTC.
    assert!((expires.unwrap().0 - 1_803_859_200).abs() <= 14 * 3600, "{expires:?}");
}

#[test]
fn what_works_but_should_be_looked_at_is_a_warning() {
    let desk = Desk::new();
    let config = desk.accept(
        &GOOD
            .replace("client_secret_expires = \"never\"\n", "")
            .replace("state_dir = \"state\"", "listen = \"0.0.0.0:8425\"")
            .replacen(
                "host = \"imap.example.org\"",
                "host = \"imap.example.org\"\nport = 143",
                1,
            )
            .replace("password = { file = \"good.secret\" }", "password = { env = \"PATH\" }"),
    );
    assert_eq!(
        config.warnings,
        [
            "daemon: listen = 0.0.0.0:8425 can be reached from other hosts and has no TLS; put a reverse proxy before it",
            "integration \"idp\": client_secret_expires is not set, so nobody is warned before the secret ends; write its date, or \"never\"",
            "mailbox \"support\": port 143 is usually for tls = \"starttls\", and implicit is set",
            "mailbox \"billing\": password: other programs of the same user can read the environment variable PATH; a file or credential is safer",
        ]
    );
}

#[test]
fn thousands_of_mailboxes_are_read_in_no_time() {
    let desk = Desk::new();
    let mailboxes: Vec<String> = (0..2000)
        .map(|number| {
            format!("[[mailbox]]\naddress = \"user{number}@example.org\"\npassword = {{ file = \"good.secret\" }}\nhost = \"imap.example.org\"\n")
        })
        .collect();
    let mailboxes = mailboxes.concat();
    let begun = std::time::Instant::now();
    assert_eq!(desk.accept(&mailboxes).mailboxes.len(), 2000);
    // It takes a tenth of a second; what grows with the square of the mailboxes takes a minute.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn a_reload_tells_which_mailbox_changed() {
    let desk = Desk::new();
    let before = desk.accept(GOOD);
    assert_eq!(before.mailboxes, desk.accept(GOOD).mailboxes);
    desk.write("other.secret", "another", 0o600);
    let same = GOOD.replacen(
        "client_secret = { file = \"good.secret\" }",
        "client_secret = { file = \"other.secret\" }",
        1,
    );
    let after = desk.accept(&same);
    // Its integration is part of it.
    assert_ne!(before.mailboxes.first(), after.mailboxes.first());
    assert_eq!(before.mailboxes.get(1), after.mailboxes.get(1));
    desk.write("good.secret", "a new password", 0o600);
    assert_ne!(before.mailboxes.get(1), desk.accept(GOOD).mailboxes.get(1));
}

#[test]
fn a_name_finds_what_it_names() {
    let text = format!("{GOOD}\n[[smtp]]\nname = \"support\"\nhost = \"smtp.example.org\"\n");
    let config = Desk::new().accept(&text);
    assert!(matches!(config.named("IDP"), Ok(Named::Integration(found)) if found.name == "idp"));
    assert!(matches!(config.named("mailbox/support"), Ok(Named::Mailbox(found)) if found.name == "support"));
    assert!(matches!(config.named("smtp/support"), Ok(Named::Smtp(found)) if found.host == "smtp.example.org"));
    assert!(matches!(config.named("billing@example.org"), Ok(Named::Mailbox(_))));
    let ambiguous = config.named("support").unwrap_err();
    assert!(matches!(ambiguous, NameError::Ambiguous { .. }));
    assert_eq!(
        ambiguous.to_string(),
        "support names several things; write mailbox/support or smtp/support"
    );
    let unknown = config.named("biling").unwrap_err().to_string();
    assert_eq!(
        unknown,
        "no mailbox, integration or smtp server is called biling; did you mean billing?"
    );
    assert!(config.named("integration/support").is_err());
    let slashed = Desk::new().accept(&GOOD.replace("name = \"support\"", "name = \"smtp/desk\""));
    assert!(matches!(slashed.named("smtp/desk"), Ok(Named::Mailbox(_))));
    assert_eq!(
        config.mailbox_named("mailbox/Billing").map(|found| found.name.as_str()),
        Some("billing")
    );
}

#[test]
fn each_integration_has_a_redirect_uri_of_its_own() {
    for (public_url, custom, microsoft) in [
        (
            "https://intake.example.org",
            "https://intake.example.org/oauth/callback/idp",
            "https://intake.example.org/oauth/callback/ms",
        ),
        (
            "https://example.org/intake/",
            "https://example.org/intake/oauth/callback/idp",
            "https://example.org/intake/oauth/callback/ms",
        ),
        (
            "http://127.0.0.1:8425",
            "http://127.0.0.1:8425/oauth/callback/idp",
            "http://localhost:8425/oauth/callback/ms",
        ),
    ] {
        let text = GOOD.replace(
            "state_dir = \"state\"",
            &format!("listen = \"127.0.0.1:8425\"\npublic_url = \"{public_url}\""),
        );
        let more = "\n[[integration]]\nname = \"ms\"\nprovider = \"microsoft\"\ntenant = \"t.example\"\nflow = \"authorization-code\"\nclient_id = \"x\"\n";
        let config = Desk::new().accept(&format!("{text}{more}"));
        let uris: Vec<_> = config
            .integrations
            .iter()
            .map(|one| config.redirect_uri(one).unwrap())
            .collect();
        assert_eq!(uris, [custom, microsoft]);
    }
}

#[test]
fn our_own_addresses_are_those_that_we_write_from() {
    let text = GOOD.replace("name = \"Support\"", "from = \"Help <Help@Example.org>\"");
    let smtp = "\n[[smtp]]\nhost = \"smtp.example.org\"\nfrom = \"alerts@example.org\"\n";
    let config = Desk::new().accept(&format!("{text}{smtp}"));
    let own = config.own_addresses();
    for address in [
        "SUPPORT@example.org",
        "billing@example.org",
        "help@example.org",
        "alerts@example.org",
    ] {
        assert!(own.contains(&address.to_lowercase()), "{address}");
    }
    assert_eq!(own.len(), 4);
}

#[test]
fn smtp_signs_in_by_password_token_or_not_at_all() {
    let smtp = "\n[[smtp]]\nhost = \"a.example\"\n\n[[smtp]]\nhost = \"b.example\"\nport = 465\nusername = \"u\"\npassword = { file = \"good.secret\" }\n\n\
        [[smtp]]\nhost = \"c.example\"\nintegration = \"idp\"\nlogin = \"ann@example.org\"\n";
    let config = Desk::new().accept(&format!("{GOOD}{smtp}"));
    let ways: Vec<_> = config
        .smtp
        .iter()
        .map(|smtp| (&smtp.sign_in, smtp.tls, smtp.port))
        .collect();
    assert!(matches!(
        ways.first(),
        Some((SmtpSignIn::Anonymous, Tls::StartTls, 587))
    ));
    assert!(matches!(
        ways.get(1),
        Some((SmtpSignIn::Password { .. }, Tls::Implicit, 465))
    ));
    assert!(
        matches!(ways.get(2), Some((SmtpSignIn::Token { sasl_user, .. }, Tls::StartTls, 587)) if sasl_user == "ann@example.org")
    );
}

/// A configuration that uses much of what there is.
const RICH: &str = r#"[daemon]
state_dir = "state"
listen = "127.0.0.1:8425"
public_url = "https://intake.example.org"

[[integration]]
name = "idp"
description = "the staff's accounts"
provider = "custom"
flow = "authorization-code"
client_id = "abc"
client_secret = { file = "good.secret" }
authorization_endpoint = "https://idp.example.org/auth"
token_endpoint = "https://idp.example.org/token"
scopes = ["openid", "offline_access", "mail"]

[[mailbox]]
name = "support"
address = "support@example.org"
login = "ann@example.org"
integration = "idp"
host = "imap.example.org"
project = "SUP"
after = { move = "Archive" }

[[mailbox]]
address = "billing@example.org"
password = { file = "good.secret" }
host = "localhost"
protocol = "pop3"
project = "BIL"
start = "all"
after = "delete"

[[project]]
key = "SUP"
name = "Support"
acknowledge = true

[[project]]
key = "BIL"

[[route]]
to = "*+billing@example.org"
header = { "List-Id" = "*announce*" }
project = "BIL"

[[smtp]]
host = "smtp.example.org"
username = "relay"
password = { file = "good.secret" }
from = "mailintake <support@example.org>"

[[webhook]]
url = "https://hooks.example.org/x"
secret = { file = "good.secret" }
events = ["alert.*"]

[alerts]
email = ["ops@example.org"]
"#;

#[test]
fn check_says_all_there_is_to_know() {
    let desk = Desk::new();
    let config = desk.accept(RICH);
    let text = check::run(&config, false).replace(&format!("{}/", desk.path().display()), "");
    insta::assert_snapshot!(text);
    let json = check::run(&config, true);
    for shown in [&text, &json] {
        assert!(!shown.contains("CANARY"), "{shown}");
    }
    assert!(!desk.path().join("state").exists());
}

#[test]
fn check_has_the_same_facts_in_json() {
    let config = Desk::new().accept(RICH);
    let json: serde_json::Value = serde_json::from_str(&check::run(&config, true)).unwrap();
    for (pointer, wanted) in [
        (
            "/integrations/0/redirect_uris/0",
            "https://intake.example.org/oauth/callback/idp",
        ),
        ("/integrations/0/token_endpoint", "https://idp.example.org/token"),
        ("/integrations/0/client_authentication", "post"),
        ("/integrations/0/scopes/2", "mail"),
        ("/mailboxes/0/login", "ann@example.org"),
        ("/mailboxes/0/after/move", "Archive"),
        ("/mailboxes/1/protocol", "pop3"),
        ("/projects/0/classes/bulk", "hold"),
        ("/routes/0/header/List-Id", "*announce*"),
        ("/smtp/0/username", "relay"),
        ("/webhooks/0/events/0", "alert.*"),
        ("/alerts/remind_after/2", "1d"),
        ("/retention/raw_messages", "90d"),
    ] {
        assert_eq!(
            json.pointer(pointer).and_then(|value| value.as_str()),
            Some(wanted),
            "{pointer}"
        );
    }
}

#[test]
fn check_without_a_public_url_shows_the_loopback_form() {
    let config = Desk::new().accept(GOOD);
    assert!(check::run(&config, false).contains("http://127.0.0.1:PORT/oauth/callback/idp"));
}
