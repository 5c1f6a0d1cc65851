//! A small but real POP3 server on loopback, in threads of this process, that can misbehave as told.
//! It keeps everything in memory, and carries deletions out at QUIT alone, as RFC 1939 says.

#[path = "pop3_server/session.rs"]
mod session;

use std::collections::HashMap;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::imap_server::wire;
pub use super::imap_server::{Action, Fault, Security};

/// Decides whether a token signs a user in: (user, token).
pub type TokenCheck = Arc<dyn Fn(&str, &str) -> bool + Send + Sync>;

/// What a server offers unless told otherwise.
const CAPABILITIES: [&str; 7] = [
    "TOP",
    "UIDL",
    "USER",
    "PIPELINING",
    "RESP-CODES",
    "AUTH-RESP-CODE",
    "SASL PLAIN XOAUTH2",
];

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
            capabilities: CAPABILITIES.map(str::to_owned).to_vec(),
            port: 0,
        }
    }

    /// One more user, with an empty mailbox.
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.users.push((name.to_owned(), password.to_owned()));
        self
    }

    /// Tokens are checked by this.
    pub fn token(mut self, check: impl Fn(&str, &str) -> bool + Send + Sync + 'static) -> Self {
        self.token = Arc::new(check);
        self
    }

    /// One more line of CAPA.
    pub fn with(mut self, capability: &str) -> Self {
        self.capabilities.push(capability.to_owned());
        self
    }

    /// Without a line of CAPA; its command is unknown then. `CAPA`: without all of them.
    pub fn without(mut self, capability: &str) -> Self {
        if capability == "CAPA" {
            self.capabilities.clear();
        }
        self.capabilities
            .retain(|offered| offered.split(' ').next() != Some(capability));
        self
    }

    /// On a port that is known before, for example after an outage.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    pub uidl: String,
    pub raw: Vec<u8>,
    /// What LIST says, where that is not its size.
    pub stated: Option<u64>,
}

/// A running server. It ends when this is dropped, and hangs up on everybody.
pub struct Pop3Server {
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

#[derive(Default)]
struct World {
    mailboxes: HashMap<String, Vec<Mail>>,
    faults: Vec<Fault>,
    log: Vec<String>,
    connections: HashMap<u64, TcpStream>,
    next: u64,
    mails: u64,
}

impl World {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn uidl(&mut self) -> String {
        self.mails += 1;
        format!("u{}", self.mails)
    }

    fn fault_at(&mut self, command: &str, user: &str) -> Option<Action> {
        let index = self.faults.iter_mut().position(|fault| fault.applies(command, user))?;
        let now = self.faults[index].clone();
        if self.faults[index].is_used_up() {
            self.faults.remove(index);
        }
        Some(now.action())
    }
}

impl Shared {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    fn offers(&self, capability: &str) -> bool {
        let mut lines = self.options.capabilities.iter();
        lines.any(|line| line.split(' ').next() == Some(capability))
    }
}

impl Pop3Server {
    /// Starts a server on loopback.
    pub fn start(options: Options) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", options.port)).expect("a port on loopback");
        let port = listener.local_addr().expect("its address").port();
        let mut world = World::default();
        for (name, _) in &options.users {
            world.mailboxes.insert(name.clone(), Vec::new());
        }
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

    /// Puts a message into a mailbox, with a UIDL of its own. Line ends become CRLF.
    pub fn deliver(&self, user: &str, raw: impl AsRef<[u8]>) -> String {
        let uidl = self.shared.world().uidl();
        self.deliver_as(user, &uidl, raw);
        uidl
    }

    /// The same with a given UIDL.
    pub fn deliver_as(&self, user: &str, uidl: &str, raw: impl AsRef<[u8]>) {
        let mail = Mail {
            uidl: uidl.to_owned(),
            raw: wire::with_crlf(raw.as_ref()),
            stated: None,
        };
        self.change(user, |mails| mails.push(mail));
    }

    /// The messages of a mailbox.
    pub fn messages(&self, user: &str) -> Vec<Mail> {
        self.change(user, |mails| mails.clone())
    }

    /// Changes a mailbox, as another client could, or as none could.
    pub fn change<T>(&self, user: &str, change: impl FnOnce(&mut Vec<Mail>) -> T) -> T {
        change(self.shared.world().mailboxes.entry(user.to_owned()).or_default())
    }

    /// Misbehaves from now on, until the fault is used up.
    pub fn fault(&self, fault: Fault) {
        self.shared.world().faults.push(fault);
    }

    /// Behaves again.
    pub fn clear_faults(&self) {
        self.shared.world().faults.clear();
    }

    /// The commands that came, without secrets, in order.
    pub fn log(&self) -> Vec<String> {
        self.shared.world().log.clone()
    }

    /// Forgets the log.
    pub fn clear_log(&self) {
        self.shared.world().log.clear();
    }

    /// Count of the commands that came and begin so.
    pub fn count(&self, beginning: &str) -> usize {
        let log = self.log();
        log.iter().filter(|line| line.starts_with(beginning)).count()
    }

    /// Waits until something holds of what `look` sees, for at most 20 s; tells whether it came to hold.
    pub fn wait_until(&self, holds: impl Fn(&Self) -> bool) -> bool {
        let end = Instant::now() + Duration::from_secs(20);
        while !holds(self) {
            if Instant::now() > end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }
}

impl Drop for Pop3Server {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // The acceptor looks at the flag after each connection: this is one.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(accepting) = self.accepting.take() {
            accepting.join().unwrap_or_default();
        }
        for stream in self.shared.world().connections.values() {
            stream.shutdown(Shutdown::Both).unwrap_or_default();
        }
    }
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    for stream in listener.incoming() {
        if shared.is_stopping() {
            return;
        }
        let Ok(stream) = stream else { continue };
        let Ok(handle) = stream.try_clone() else { continue };
        let number = {
            let mut world = shared.world();
            let number = world.number();
            world.connections.insert(number, handle);
            number
        };
        let inside = Arc::clone(shared);
        std::thread::spawn(move || {
            session::serve(&inside, stream);
            let gone = inside.world().connections.remove(&number);
            if let Some(stream) = gone {
                stream.shutdown(Shutdown::Both).unwrap_or_default();
            }
        });
    }
}
