//! An SMTP server on loopback that plays a script, one for each connection, and writes down what it hears.
//! It decides nothing: what a server would do is written in the script.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use openssl::ssl::SslStream;

use super::certificate::Identity;

/// One act of a server.
#[derive(Debug, Clone)]
pub enum Act {
    /// Says this, without a line end of its own.
    Say(String),
    /// Hears a line that begins so; anything else ends the connection.
    Hear(&'static str),
    /// Hears a message to its end.
    HearMessage,
    /// Turns to TLS.
    Tls,
    /// Says nothing more, and reads until the client goes.
    Hang,
    /// Says this without end, until the client goes.
    Flood(&'static str),
}

/// Says a line.
pub fn say(line: &str) -> Act {
    Act::Say(format!("{line}\r\n"))
}

/// Hears a line and answers with one.
pub fn on(heard: &'static str, answer: &str) -> [Act; 2] {
    [Act::Hear(heard), say(answer)]
}

/// A script of pieces.
#[macro_export]
macro_rules! script {
    ($($piece:expr),* $(,)?) => {{
        let mut acts: Vec<$crate::support::smtp_server::Act> = Vec::new();
        $(acts.extend($piece);)*
        acts
    }};
}

/// Greeting, EHLO, STARTTLS, TLS, EHLO: the answer to the last offers this besides 8BITMIME.
pub fn protected(offers: &str) -> Vec<Act> {
    let mut acts = vec![say("220 mx.example.org ESMTP")];
    acts.extend(on("EHLO ", "250-mx.example.org\r\n250-AUTH NTLM\r\n250 STARTTLS"));
    acts.extend(on("STARTTLS", "220 go ahead"));
    acts.push(Act::Tls);
    acts.extend(on(
        "EHLO ",
        &format!("250-mx.example.org\r\n250-{offers}\r\n250 8BITMIME"),
    ));
    acts
}

/// A running server. It ends when this is dropped.
pub struct SmtpServer {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    heard: Mutex<Vec<Vec<String>>>,
    is_stopping: AtomicBool,
}

impl SmtpServer {
    /// Starts a server with a script for each connection; the last serves all that follow. `is_implicit`: TLS comes
    /// before the script.
    pub fn start(identity: &Identity, is_implicit: bool, scripts: Vec<Vec<Act>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            heard: Mutex::default(),
            is_stopping: AtomicBool::new(false),
        });
        let (inside, identity) = (Arc::clone(&shared), identity.clone());
        std::thread::spawn(move || {
            for (index, stream) in listener.incoming().enumerate() {
                if inside.is_stopping.load(Ordering::SeqCst) {
                    return;
                }
                let script = scripts.get(index).or(scripts.last()).cloned().unwrap_or_default();
                let (inside, identity) = (Arc::clone(&inside), identity.clone());
                inside.heard().push(Vec::new());
                std::thread::spawn(move || {
                    let mut peer = Peer {
                        carrier: Carrier::Clear(stream.unwrap()),
                        pending: Vec::new(),
                    };
                    if !is_implicit || peer.protect(&identity).is_some() {
                        for act in script {
                            if peer.play(act, &identity, (&inside, index)).is_none() {
                                break;
                            }
                        }
                    }
                    peer.end();
                });
            }
        });
        Self { port, shared }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The lines that were heard, by connection; a message is one line.
    pub fn heard(&self) -> Vec<Vec<String>> {
        self.shared.heard().clone()
    }
}

impl Shared {
    fn heard(&self) -> std::sync::MutexGuard<'_, Vec<Vec<String>>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

enum Carrier {
    Clear(TcpStream),
    Tls(Box<SslStream<TcpStream>>),
    Gone,
}

struct Peer {
    carrier: Carrier,
    pending: Vec<u8>,
}

impl Peer {
    /// Plays an act; `None` ends the connection.
    fn play(&mut self, act: Act, identity: &Identity, (shared, index): (&Shared, usize)) -> Option<()> {
        match act {
            Act::Say(text) => self.write(text.as_bytes()),
            Act::Hear(beginning) => {
                let line = self.until(b"\r\n")?;
                let is_expected = line.starts_with(beginning);
                shared.heard()[index].push(line);
                is_expected.then_some(())
            }
            Act::HearMessage => {
                let message = self.until(b"\r\n.\r\n")?;
                shared.heard()[index].push(message);
                Some(())
            }
            Act::Tls => self.protect(identity),
            Act::Hang => self.until(b"\0never\0").map(drop),
            Act::Flood(text) => loop {
                self.write(text.as_bytes())?;
            },
        }
    }

    fn protect(&mut self, identity: &Identity) -> Option<()> {
        let Carrier::Clear(stream) = std::mem::replace(&mut self.carrier, Carrier::Gone) else {
            return None;
        };
        self.carrier = Carrier::Tls(Box::new(identity.acceptor().accept(stream).ok()?));
        Some(())
    }

    fn write(&mut self, bytes: &[u8]) -> Option<()> {
        match &mut self.carrier {
            Carrier::Clear(stream) => stream.write_all(bytes).ok(),
            Carrier::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()).ok(),
            Carrier::Gone => None,
        }
    }

    /// What comes before this end.
    fn until(&mut self, end: &[u8]) -> Option<String> {
        loop {
            if let Some(at) = self.pending.windows(end.len()).position(|window| window == end) {
                let text = self.pending.drain(..at + end.len()).collect::<Vec<u8>>();
                return Some(String::from_utf8_lossy(&text[..at]).into_owned());
            }
            let mut piece = [0; 4096];
            let count = match &mut self.carrier {
                Carrier::Clear(stream) => stream.read(&mut piece).ok()?,
                Carrier::Tls(stream) => stream.read(&mut piece).ok()?,
                Carrier::Gone => return None,
            };
            if count == 0 {
                return None;
            }
            self.pending.extend(&piece[..count]);
        }
    }

    fn end(&mut self) {
        match &self.carrier {
            Carrier::Clear(stream) => drop(stream.shutdown(Shutdown::Both)),
            Carrier::Tls(stream) => drop(stream.get_ref().shutdown(Shutdown::Both)),
            Carrier::Gone => {}
        }
    }
}
