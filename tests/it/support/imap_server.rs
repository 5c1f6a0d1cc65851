//! A small but real IMAP server on loopback, in threads of this process, that can misbehave as told.
//! It keeps everything in memory, and knows no more of IMAP than this project asks for.
//!
//! Folders are named as on the wire (modified UTF-7). It stands on std and openssl alone, so that the
//! demonstration can use it, too.

#[path = "imap_server/fault.rs"]
pub(super) mod fault;
#[path = "imap_server/fetch.rs"]
mod fetch;
#[path = "imap_server/folder.rs"]
mod folder;
#[path = "imap_server/session.rs"]
mod session;
#[path = "imap_server/sign_in.rs"]
mod sign_in;
#[path = "imap_server/store.rs"]
mod store;
#[path = "imap_server/wire.rs"]
pub(super) mod wire;

use std::collections::BTreeSet;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use fault::{Action, Fault};
pub use store::{Folder, Message};

use super::certificate::Identity;
use store::World;

/// Decides whether a token signs a user in: (user, token).
pub type TokenCheck = Arc<dyn Fn(&str, &str) -> bool + Send + Sync>;

/// What a server offers unless told otherwise.
const CAPABILITIES: &str = "IMAP4rev1 SASL-IR ID IDLE UIDPLUS MOVE LITERAL+ ENABLE OBJECTID \
     AUTH=PLAIN AUTH=XOAUTH2 AUTH=OAUTHBEARER";

/// How the connection is protected.
#[derive(Clone)]
pub enum Security {
    /// In clear.
    Clear,
    /// TLS from the first byte.
    Implicit(Identity),
    /// TLS after STARTTLS; before it nobody can sign in.
    StartTls(Identity),
}

/// What a server is to be like.
#[derive(Clone)]
pub struct Options {
    security: Security,
    users: Vec<(String, String)>,
    token: TokenCheck,
    capabilities: Vec<String>,
    port: u16,
}

impl Options {
    /// A server with all capabilities, no users, and no token that it accepts.
    pub fn new(security: Security) -> Self {
        Self {
            security,
            users: Vec::new(),
            token: Arc::new(|_, _| false),
            capabilities: CAPABILITIES.split_whitespace().map(str::to_owned).collect(),
            port: 0,
        }
    }

    /// One more user, with an empty INBOX.
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.users.push((name.to_owned(), password.to_owned()));
        self
    }

    /// Tokens are checked by this.
    pub fn token(mut self, check: impl Fn(&str, &str) -> bool + Send + Sync + 'static) -> Self {
        self.token = Arc::new(check);
        self
    }

    /// One more capability.
    pub fn with(mut self, capability: &str) -> Self {
        self.capabilities.push(capability.to_owned());
        self
    }

    /// Without a capability; its commands are unknown then.
    pub fn without(mut self, capability: &str) -> Self {
        self.capabilities
            .retain(|offered| !offered.eq_ignore_ascii_case(capability));
        self
    }

    /// On a port that is known before, for example after an outage.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }
}

/// A running server. It ends when this is dropped, and hangs up on everybody.
pub struct ImapServer {
    shared: Arc<Shared>,
    port: u16,
    accepting: Option<JoinHandle<()>>,
}

/// What all threads see.
struct Shared {
    options: Options,
    stopping: AtomicBool,
    world: Mutex<World>,
}

impl Shared {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    fn offers(&self, capability: &str) -> bool {
        self.options
            .capabilities
            .iter()
            .any(|offered| offered.eq_ignore_ascii_case(capability))
    }
}

impl ImapServer {
    /// Starts a server on loopback.
    pub fn start(options: Options) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", options.port)).expect("a port on loopback");
        let port = listener.local_addr().expect("its address").port();
        let world = World::new(options.users.iter().map(|(name, _)| name.as_str()));
        let shared = Arc::new(Shared {
            options,
            stopping: AtomicBool::new(false),
            world: Mutex::new(world),
        });
        let inside = Arc::clone(&shared);
        let accepting = std::thread::spawn(move || accept(&inside, &listener));
        Self {
            shared,
            port,
            accepting: Some(accepting),
        }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Puts a message into a folder, which is made if it is missing; gives its UID. Line ends become CRLF.
    pub fn deliver(&self, user: &str, folder: &str, raw: impl AsRef<[u8]>) -> u32 {
        self.shared
            .world()
            .folder(user, folder)
            .add(wire::with_crlf(raw.as_ref()))
    }

    /// The same for a message that is taken as it is, line ends and all.
    pub fn deliver_exactly(&self, user: &str, folder: &str, raw: impl Into<Vec<u8>>) -> u32 {
        self.shared.world().folder(user, folder).add(raw.into())
    }

    /// The messages of a folder, by UID.
    pub fn messages(&self, user: &str, folder: &str) -> Vec<Message> {
        self.shared.world().folder(user, folder).messages.clone()
    }

    /// Changes a folder as another client could, or as none could; it is made if it is missing.
    pub fn change<T>(&self, user: &str, folder: &str, change: impl FnOnce(&mut Folder) -> T) -> T {
        change(self.shared.world().folder(user, folder))
    }

    /// Takes a message away, as another client would.
    pub fn remove(&self, user: &str, folder: &str, uid: u32) {
        self.change(user, folder, |folder| {
            folder.messages.retain(|message| message.uid != uid);
        });
    }

    /// Marks a message, as another client would.
    pub fn flag(&self, user: &str, folder: &str, uid: u32, flag: &str) {
        self.change(user, folder, |folder| {
            folder.mark(uid, &BTreeSet::from([flag.to_owned()]), true);
        });
    }

    /// Gives a folder another generation of UIDs: the messages are numbered from 1 again.
    pub fn set_uidvalidity(&self, user: &str, folder: &str, uidvalidity: u32) {
        self.change(user, folder, |folder| folder.begin_anew(uidvalidity));
    }

    /// Takes a folder away with all that is in it.
    pub fn remove_folder(&self, user: &str, folder: &str) {
        self.shared.world().remove_folder(user, folder);
    }

    /// Misbehaves from now on, until the fault is used up.
    pub fn fault(&self, fault: Fault) {
        self.shared.world().faults.push(fault);
    }

    /// Behaves again.
    pub fn clear_faults(&self) {
        self.shared.world().faults.clear();
    }

    /// The commands that came, without tag and without secrets, in order.
    pub fn log(&self) -> Vec<String> {
        self.shared.world().log.clone()
    }

    /// Forgets the log.
    pub fn clear_log(&self) {
        self.shared.world().log.clear();
    }

    /// Count of the commands that came and begin so.
    pub fn count(&self, beginning: &str) -> usize {
        self.shared
            .world()
            .log
            .iter()
            .filter(|line| line.starts_with(beginning))
            .count()
    }

    /// Count of connections that are open now.
    pub fn connections(&self) -> usize {
        self.shared.world().connections.len()
    }

    /// Hangs up on everybody.
    pub fn hang_up(&self) {
        for stream in self.shared.world().connections.values() {
            hang_up(stream);
        }
    }

    /// Waits until something holds of what `look` sees, for at most 10 s; tells whether it came to hold.
    pub fn wait_until(&self, holds: impl Fn(&Self) -> bool) -> bool {
        let end = Instant::now() + Duration::from_secs(10);
        while !holds(self) {
            if Instant::now() > end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }
}

impl Drop for ImapServer {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // The acceptor looks at the flag after each connection: this is one.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(accepting) = self.accepting.take() {
            accepting.join().unwrap_or_default();
        }
        self.hang_up();
    }
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    for stream in listener.incoming() {
        if shared.is_stopping() {
            return;
        }
        let Ok(stream) = stream else { continue };
        let Ok(handle) = stream.try_clone() else { continue };
        let number = shared.world().connected(handle);
        let inside = Arc::clone(shared);
        std::thread::spawn(move || {
            session::serve(&inside, stream);
            let gone = inside.world().connections.remove(&number);
            if let Some(stream) = gone {
                hang_up(&stream);
            }
        });
    }
}

/// A peer that is gone already is what was wanted.
fn hang_up(stream: &TcpStream) {
    stream.shutdown(Shutdown::Both).unwrap_or_default();
}
