//! A receiver of webhooks on loopback that answers as it is told: any status, late, never, or by hanging up.
//! It checks nothing by itself.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use openssl::ssl::SslAcceptor;
use serde_json::Value;

use super::certificate::Identity;

/// What a receiver does with a call.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Answers with a status and these further header lines, each with its CRLF.
    Status(u16, String),
    /// Reads the call and never answers.
    Hang,
    /// Reads the call and closes.
    Close,
    /// Answers 200 with a body that never ends.
    Flood,
}

impl Reply {
    /// A status without more.
    pub fn status(status: u16) -> Self {
        Self::Status(status, String::new())
    }
}

/// A call as it came.
#[derive(Debug, Clone)]
pub struct Call {
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
    pub at: Instant,
}

impl Call {
    /// The body.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// Its event.
    pub fn event(&self) -> String {
        self.json()["event"].as_str().unwrap().to_owned()
    }

    /// A header that must be there.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }
}

type Decide = Box<dyn FnMut(&Call) -> Reply + Send>;

/// The receiver; its port is closed with the test process.
pub struct Receiver {
    port: u16,
    scheme: &'static str,
    calls: Arc<Mutex<Vec<Call>>>,
    decide: Arc<Mutex<Decide>>,
}

impl Receiver {
    /// One that takes everything, in clear.
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// One that takes everything, behind TLS.
    pub fn start_tls(identity: &Identity) -> Self {
        Self::start_with(Some(identity.acceptor()))
    }

    fn start_with(acceptor: Option<SslAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let receiver = Self {
            port: listener.local_addr().unwrap().port(),
            scheme: if acceptor.is_some() { "https" } else { "http" },
            calls: Arc::default(),
            decide: Arc::new(Mutex::new(Box::new(|_| Reply::status(204)))),
        };
        let (calls, decide) = (Arc::clone(&receiver.calls), Arc::clone(&receiver.decide));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (calls, decide, acceptor) = (Arc::clone(&calls), Arc::clone(&decide), acceptor.clone());
                std::thread::spawn(move || match acceptor {
                    // Who does not trust us hangs up.
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream) {
                            serve(stream, &calls, &decide);
                        }
                    }
                    None => serve(stream, &calls, &decide),
                });
            }
        });
        receiver
    }

    /// Where it is called.
    pub fn url(&self, path: &str) -> String {
        format!("{}://127.0.0.1:{}{path}", self.scheme, self.port)
    }

    /// Does this with every call from now on.
    pub fn answer(&self, decide: impl FnMut(&Call) -> Reply + Send + 'static) {
        *self.decide.lock().unwrap() = Box::new(decide);
    }

    /// What came so far.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// The events of what came so far.
    pub fn events(&self) -> Vec<String> {
        self.calls().iter().map(Call::event).collect()
    }
}

fn serve(stream: impl Read + Write, calls: &Mutex<Vec<Call>>, decide: &Mutex<Decide>) {
    let mut reader = BufReader::new(stream);
    while let Some(call) = read(&mut reader) {
        let reply = decide.lock().unwrap()(&call);
        let writer = reader.get_mut();
        calls.lock().unwrap().push(call);
        let sent = match reply {
            Reply::Status(status, headers) => {
                let length = if status == 204 { "" } else { "Content-Length: 0\r\n" };
                writer.write_all(format!("HTTP/1.1 {status} So\r\n{length}{headers}\r\n").as_bytes())
            }
            Reply::Hang => {
                std::thread::sleep(Duration::from_mins(1));
                return;
            }
            Reply::Close => return,
            Reply::Flood => {
                let mut sent = writer.write_all(b"HTTP/1.1 200 So\r\nContent-Length: 100000000000\r\n\r\n");
                while sent.is_ok() {
                    sent = writer.write_all(&[b'x'; 4096]);
                }
                sent
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

fn read(reader: &mut impl BufRead) -> Option<Call> {
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|count| *count > 0)?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers
        .get("content-length")
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Call {
        path,
        headers,
        body: String::from_utf8(body).unwrap(),
        at: Instant::now(),
    })
}
