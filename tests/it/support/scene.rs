//! The built program before an IMAP server: mailboxes in its configuration, mails, and looks into its database.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use super::binary::{Daemon, Program};
use super::certificate::{Authority, LOOPBACK};
use super::imap_server::{ImapServer, Options, Security};

/// The password of every user.
pub const PASSWORD: &str = "correct horse";
/// Enough for anything that should take a moment, on a machine that is busy with other tests.
pub const SOON: Duration = Duration::from_secs(30);

/// A program, and a scripted server that it trusts.
pub struct Scene {
    pub authority: Authority,
    pub server: ImapServer,
    pub program: Program,
}

impl Scene {
    /// A server with these users (`NAME@example.org`) and nothing configured.
    pub fn with(users: &[&str], shape: impl FnOnce(Options) -> Options) -> Self {
        let authority = Authority::new();
        let identity = authority.issue(&LOOPBACK);
        let options = users
            .iter()
            .fold(Options::new(Security::Implicit(identity)), |options, user| {
                options.user(&address(user), PASSWORD)
            });
        let server = ImapServer::start(shape(options));
        Self {
            authority,
            server,
            program: Program::bare(),
        }
    }

    /// The user `support`, watched, with these further lines of `[[mailbox]]`.
    pub fn support(more: &str) -> Self {
        let scene = Self::with(&["support"], |options| options);
        let mailbox = scene.mailbox("support", more);
        scene.configure(&[&mailbox]);
        scene
    }

    /// Writes the configuration with these sections.
    pub fn configure(&self, sections: &[&str]) {
        self.program.configure("log = \"debug\"", &sections.join("\n"));
    }

    /// The section of a mailbox of the scripted server, from which all is taken.
    pub fn mailbox(&self, user: &str, more: &str) -> String {
        self.mailbox_at(self.server.port(), user, more)
    }

    /// The same at another port.
    pub fn mailbox_at(&self, port: u16, user: &str, more: &str) -> String {
        let secret = self.program.secret(&format!("{user}.password"), PASSWORD);
        let ca_file = self.authority.ca_file().display();
        let start = if more.contains("start =") {
            ""
        } else {
            "start = \"all\""
        };
        format!(
            "[[mailbox]]\naddress = \"{}\"\nname = \"{user}\"\nhost = \"127.0.0.1\"\nport = {port}\n\
             ca_file = \"{ca_file}\"\npassword = {secret}\n{start}\n{more}\n",
            address(user)
        )
    }

    /// Puts a mail into the INBOX of `support`; gives its UID.
    pub fn deliver(&self, raw: &str) -> u32 {
        self.server.deliver(&address("support"), "INBOX", raw)
    }

    /// Looks into the database.
    pub fn query(&self, sql: &str) -> Vec<Vec<String>> {
        query(&self.program.database(), sql)
    }

    /// The same where the daemon may not have come to make its tables: nothing then.
    pub fn look(&self, sql: &str) -> Vec<Vec<String>> {
        try_query(&self.program.database(), sql).unwrap_or_default()
    }

    /// Each message's verdict and reason, in the order of the ledger.
    pub fn verdicts(&self) -> Vec<String> {
        let rows = self.query("SELECT verdict || ' ' || reason FROM messages ORDER BY id");
        rows.into_iter().flatten().collect()
    }

    /// Waits until the ledger has so many rows, and nothing is left to do on the server.
    pub fn wait_rows(&self, daemon: &mut Daemon, count: usize) {
        let done = format!("{count} rows in the ledger");
        daemon.wait_for(&done, SOON, |_| {
            let rows = self.look("SELECT count(*), count(*) FILTER (WHERE server_action = 'pending') FROM messages");
            (rows == [[count.to_string(), "0".to_owned()]]).then_some(())
        });
    }

    /// What is open, as `KIND SUBJECT CODE`.
    pub fn alerts(&self) -> Vec<String> {
        alerts(&self.program)
    }

    /// Waits until the open alerts are of these kinds.
    pub fn wait_alerts(&self, daemon: &mut Daemon, kinds: &[&str], limit: Duration) {
        daemon.wait_for(&format!("alerts {kinds:?}"), limit, |_| {
            let rows = self.look("SELECT kind FROM alert WHERE resolved_at IS NULL ORDER BY kind");
            (rows.iter().flatten().eq(kinds)).then_some(())
        });
    }

    /// Waits until a mailbox is in a state.
    pub fn wait_state(&self, daemon: &mut Daemon, mailbox: &str, state: &str, limit: Duration) {
        daemon.wait_for(&format!("{mailbox} {state}"), limit, |_| {
            let rows = self.look(&format!("SELECT state FROM mailbox WHERE name = '{mailbox}'"));
            (rows == [[state]]).then_some(())
        });
    }
}

/// What is open, as `KIND SUBJECT CODE`.
pub fn alerts(program: &Program) -> Vec<String> {
    let open = program.json(&["alert", "list"]);
    let field = |alert: &Value, name: &str| alert[name].as_str().unwrap().to_owned();
    open.as_array()
        .unwrap()
        .iter()
        .map(|alert| [field(alert, "kind"), field(alert, "subject"), field(alert, "code")].join(" "))
        .collect()
}

/// The address of a user.
pub fn address(user: &str) -> String {
    format!("{user}@example.org")
}

/// A mail with a Message-ID of its own.
pub fn mail(name: &str) -> String {
    format!(
        "From: Ann <ann@customer.example>\nTo: support@example.org\nSubject: About {name}\n\
         Date: Mon, 2 Nov 2026 10:00:00 +0000\nMessage-ID: <{name}@customer.example>\n\nThe text of {name}.\n"
    )
}

/// Asks a database, opened for reading only as anybody may; each value as text, NULL as `-`.
pub fn query(database: &Path, sql: &str) -> Vec<Vec<String>> {
    try_query(database, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

fn try_query(database: &Path, sql: &str) -> Result<Vec<Vec<String>>, sqlx::Error> {
    // A thread of its own, so that tests with a runtime can ask, too.
    let asked = std::thread::scope(|scope| scope.spawn(|| ask(database, sql)).join());
    asked.unwrap()
}

fn ask(database: &Path, sql: &str) -> Result<Vec<Vec<String>>, sqlx::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let options = SqliteConnectOptions::new()
            .filename(database)
            .read_only(true)
            .busy_timeout(Duration::from_secs(10));
        let mut connection = sqlx::SqliteConnection::connect_with(&options).await?;
        let rows = sqlx::query(AssertSqlSafe(sql.to_owned()))
            .fetch_all(&mut connection)
            .await?;
        connection.close().await?;
        let texts = |row| {
            (0..sqlx::sqlite::SqliteRow::len(row))
                .map(|column| text(row, column))
                .collect()
        };
        Ok(rows.iter().map(texts).collect())
    })
}

fn text(row: &sqlx::sqlite::SqliteRow, column: usize) -> String {
    let value = row.try_get_unchecked::<Option<String>, _>(column);
    value.unwrap().unwrap_or_else(|| "-".to_owned())
}

/// Changes a database behind the back of the program, which should not run.
pub fn change(database: &Path, sql: &str) {
    let changed = std::thread::scope(|scope| {
        let write = || -> Result<(), sqlx::Error> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let options = SqliteConnectOptions::new().filename(database);
                let mut connection = sqlx::SqliteConnection::connect_with(&options).await?;
                sqlx::query(AssertSqlSafe(sql.to_owned()))
                    .execute(&mut connection)
                    .await?;
                connection.close().await
            })
        };
        scope.spawn(write).join()
    });
    changed.unwrap().unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// What must hold of a database at rest, whatever happened: sound pages and references, numbers without
/// gaps, one row for a place, and each issue and comment with the one message that it came by.
pub fn assert_sound(database: &Path) {
    assert_eq!(query(database, "PRAGMA integrity_check"), [["ok"]]);
    assert_eq!(query(database, "PRAGMA foreign_key_check"), [] as [Vec<String>; 0]);
    for (what, wrong) in [
        (
            "rows without verdict",
            "SELECT count(*) FROM message WHERE verdict IS NULL",
        ),
        (
            "gaps in issue numbers",
            "SELECT count(*) FROM project p WHERE last_number <> (SELECT count(*) FROM issue i WHERE i.project = p.key)",
        ),
        (
            "issues without the one message that opened them",
            "SELECT count(*) FROM issue i
             WHERE 1 <> (SELECT count(*) FROM message m WHERE m.issue = i.id AND m.verdict = 'issue')",
        ),
        (
            "comments without the one message that brought them",
            "SELECT count(*) FROM comment c WHERE message IS NOT NULL
               AND 1 <> (SELECT count(*) FROM message m WHERE m.comment = c.id AND m.id = c.message)",
        ),
        (
            "messages without their bytes",
            "SELECT count(*) FROM message m WHERE verdict IN ('issue', 'comment', 'quarantined')
               AND NOT EXISTS (SELECT 1 FROM original o WHERE o.message = m.id)",
        ),
    ] {
        assert_eq!(query(database, wrong), [["0"]], "{what}");
    }
}
