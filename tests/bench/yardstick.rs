//! What any program must do that takes mail safely: fetches every message of a mailbox, commits its raw bytes to SQLite
//! (WAL, FULL) in windows of 100, and marks them on the server. The same IMAP client and the same database library as
//! mailintake, and nothing else. Usage: `yardstick HOST PORT CA_FILE USER PASSWORD_FILE DIRECTORY`.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a measurement prints, and stops where its peers do not answer"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mailintake::imap::{Connector, Credential, Session};
use mailintake::mailbox::{After, Listed, Mailbox, Protocol, RawMessage, Sasl, Server, SignIn, Start, Tls, Uid, Watch};
use mailintake::secret::{Secret, SecretSource};
use mailintake::tls::Trust;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};

/// Messages of a window.
const WINDOW: usize = 100;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [host, port, ca_file, user, password, directory] = words.as_slice() else {
        panic!("HOST PORT CA_FILE USER PASSWORD_FILE DIRECTORY")
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let mailbox = mailbox(
        host,
        port.parse().expect("a port"),
        Path::new(ca_file),
        (user, Path::new(password)),
    );
    let count = runtime.block_on(drain(mailbox, Path::new(directory)));
    println!("{count}");
}

fn mailbox(host: &str, port: u16, ca_file: &Path, (user, password): (&str, &Path)) -> Mailbox {
    let secret = Secret {
        source: SecretSource::File(password.to_owned()),
        value: std::fs::read_to_string(password)
            .expect("the password")
            .trim()
            .to_owned()
            .into(),
    };
    Mailbox {
        address: user.to_owned(),
        name: user.to_owned(),
        login: user.to_owned(),
        sign_in: SignIn::Password(secret),
        sasl_user: user.to_owned(),
        server: Server {
            protocol: Protocol::Imap,
            host: host.to_owned(),
            port,
            tls: Tls::Implicit,
            ca_file: Some(PathBuf::from(ca_file)),
        },
        sasl: Sasl::Auto,
        folders: vec!["INBOX".into()],
        watch: Watch::Poll,
        poll_interval: std::time::Duration::from_mins(1),
        start: Start::All,
        project: "MAIL".into(),
        after: After::Flag("$Counted".into()),
        max_message_size: 25 << 20,
        authserv_id: Vec::new(),
    }
}

async fn drain(mailbox: Mailbox, directory: &Path) -> usize {
    let mailbox = Arc::new(mailbox);
    let trust = Trust::load(None, mailbox.server.ca_file.as_deref()).expect("the roots");
    let SignIn::Password(secret) = &mailbox.sign_in else {
        panic!("a password")
    };
    let credential = Credential::Password(secret.value.clone());
    let mut session = Connector::new(trust)
        .connect(&mailbox, &credential)
        .await
        .expect("a session");
    let mut database = open(directory).await;
    let selected = session.select("INBOX").await.expect("the folder");
    let listed = session.list(Uid::MIN).await.expect("a list");
    let place = ("INBOX", selected.uidvalidity);
    let mut windows = listed.chunks(WINDOW);
    let mut ahead = match windows.next() {
        Some(window) => fetch(&mut session, place, window).await,
        None => return 0,
    };
    let mut count = 0;
    loop {
        let next = windows.next();
        let fetching = async {
            match next {
                Some(window) => fetch(&mut session, place, window).await,
                None => Vec::new(),
            }
        };
        let (next, uids) = tokio::join!(fetching, commit(&mut database, &ahead));
        session.settle(&uids, &mailbox.after).await.expect("a mark");
        count += uids.len();
        if next.is_empty() {
            return count;
        }
        ahead = next;
    }
}

async fn fetch(
    session: &mut Session,
    place: (&str, mailintake::mailbox::UidValidity),
    window: &[Listed],
) -> Vec<RawMessage> {
    session.fetch(place, window, 25 << 20).await.expect("messages").messages
}

async fn open(directory: &Path) -> SqliteConnection {
    let mut database = SqliteConnectOptions::new()
        .filename(directory.join("yardstick.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .connect()
        .await
        .expect("a database");
    sqlx::query("CREATE TABLE message (uid INTEGER PRIMARY KEY, bytes BLOB NOT NULL)")
        .execute(&mut database)
        .await
        .expect("a table");
    database
}

async fn commit(database: &mut SqliteConnection, messages: &[RawMessage]) -> Vec<Uid> {
    let mut transaction = database.begin().await.expect("a transaction");
    let mut uids = Vec::with_capacity(messages.len());
    for message in messages {
        let uid = message.place.uid().expect("a UID");
        let whole = message.large.as_ref().map(|large| large.read().expect("its bytes"));
        sqlx::query("INSERT INTO message (uid, bytes) VALUES (?1, ?2)")
            .bind(i64::from(uid.get()))
            .bind(whole.as_deref().unwrap_or(&message.bytes))
            .execute(&mut *transaction)
            .await
            .expect("a row");
        uids.push(uid);
    }
    transaction.commit().await.expect("a commit");
    uids
}
