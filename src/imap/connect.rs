//! From a host name to a connection that is protected and has told what it can do.
//! No credential passes before TLS is verified.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::auth;
use super::command::lost;
use super::error::{ImapError, Step};
use super::guard::{Guard, Received};
use super::wire::Wire;
use super::{Credential, Session, Timeouts};
use crate::dial::{self, Carrier, DialError};
use crate::fault::printable;
use crate::mailbox::{Mailbox, Server, Tls};
use crate::tls::Trust;

/// Connections that are built at once: each costs some 50 ms of CPU for the TLS context.
const AT_ONCE: usize = 4;
/// Longest line of the dialogue before the sign-in, in bytes.
const LINE_LIMIT: usize = 8 * 1024;
/// Most lines in an answer of that dialogue.
const LINES_LIMIT: usize = 100;

/// Builds connections. Clones share the trust and the bound.
#[derive(Clone)]
pub struct Connector {
    trust: Arc<RwLock<Trust>>,
    at_once: Arc<Semaphore>,
    timeouts: Timeouts,
    /// Where large messages are while they are taken.
    spool: PathBuf,
}

impl Connector {
    /// A connector that trusts these roots.
    pub fn new(trust: Trust) -> Self {
        Self::with_timeouts(trust, Timeouts::default())
    }

    /// Keeps large messages in this directory while they are taken, not in that for temporary files, which may be in
    /// memory.
    #[must_use]
    pub fn spooling_in(self, directory: &Path) -> Self {
        Self {
            spool: directory.to_owned(),
            ..self
        }
    }

    /// A connector with other timeouts, for tests.
    pub fn with_timeouts(trust: Trust, timeouts: Timeouts) -> Self {
        Self {
            trust: Arc::new(RwLock::new(trust)),
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
            timeouts,
            spool: std::env::temp_dir(),
        }
    }

    /// Trusts other roots from now on.
    pub fn set_trust(&self, trust: Trust) {
        *self.trust.write().unwrap_or_else(PoisonError::into_inner) = trust;
    }

    /// Connects to the server of a mailbox and signs in.
    ///
    /// # Errors
    /// [`ImapError`], by the step that failed; [`ImapError::Timeout`] past `timeouts.connect`.
    pub async fn connect(&self, mailbox: &Mailbox, credential: &Credential) -> Result<Session, ImapError> {
        // The time to wait for one's turn is not counted.
        let turn = self.at_once.acquire().await.ok();
        let connected = tokio::time::timeout(self.timeouts.connect, self.protected(&mailbox.server)).await;
        drop(turn);
        let line = connected.unwrap_or(Err(ImapError::Timeout { step: Step::Connect }))?;
        let signing_in = tokio::time::timeout(self.timeouts.connect, self.sign_in(line, mailbox, credential));
        signing_in
            .await
            .unwrap_or(Err(ImapError::Timeout { step: Step::SignIn }))
    }

    async fn sign_in(&self, line: Line, mailbox: &Mailbox, credential: &Credential) -> Result<Session, ImapError> {
        let Line {
            wire,
            received,
            capabilities,
        } = line;
        let inner = auth::sign_in(wire, &capabilities, mailbox, credential).await?;
        let mut session = Session {
            inner,
            capabilities,
            received,
            timeouts: self.timeouts,
            spool: self.spool.clone(),
        };
        session.introduce().await?;
        Ok(session)
    }

    /// A protected connection that has greeted us, and what it offers before the sign-in.
    async fn protected(&self, server: &Server) -> Result<Line, ImapError> {
        let stream = dial(server).await?;
        match server.tls {
            Tls::Implicit => {
                let stream = self.wrap(server, stream).await?;
                let mut line = Line::over(Box::new(stream));
                line.greeting(server).await?;
                line.ask_capabilities().await?;
                Ok(line)
            }
            Tls::StartTls => {
                let mut line = Line::over(Box::new(stream));
                line.greeting(server).await?;
                line.start_tls(server).await?;
                // Whatever the server sent behind its OK meets the TLS handshake, which refuses it.
                let inner = line.wire.into_inner().into_inner();
                let stream = self.wrap(server, inner).await?;
                let mut line = Line::over(Box::new(stream));
                line.ask_capabilities().await?;
                Ok(line)
            }
            Tls::None => {
                let mut line = Line::over(Box::new(stream));
                line.greeting(server).await?;
                line.ask_capabilities().await?;
                Ok(line)
            }
        }
    }

    async fn wrap<S: Carrier>(&self, server: &Server, stream: S) -> Result<async_native_tls::TlsStream<S>, ImapError> {
        let builder = {
            let trust = self.trust.read().unwrap_or_else(PoisonError::into_inner);
            trust.connector(server.ca_file.as_deref())
        };
        dial::protect(builder, &server.host, stream)
            .await
            .map_err(|reason| ImapError::Tls {
                host: server.host.clone(),
                reason,
            })
    }
}

async fn dial(server: &Server) -> Result<TcpStream, ImapError> {
    let (host, port) = (server.host.clone(), server.port);
    dial::dial(&host, port).await.map_err(|error| match error {
        DialError::Resolve(source) => ImapError::Resolve { host, source },
        DialError::Connect(source) => ImapError::Connect { host, port, source },
    })
}

/// The connection before the sign-in: a few short lines, read byte by byte so that none is read ahead.
struct Line {
    wire: Wire,
    received: Received,
    capabilities: HashSet<String>,
}

impl Line {
    fn over(stream: Box<dyn Carrier>) -> Self {
        let guard = Guard::new(stream);
        Self {
            received: guard.received(),
            wire: BufWriter::new(guard),
            capabilities: HashSet::new(),
        }
    }

    async fn greeting(&mut self, server: &Server) -> Result<(), ImapError> {
        let text = self.read(Step::Greeting).await?;
        let upper = text.to_uppercase();
        if upper.starts_with("* OK") {
            return Ok(());
        }
        if upper.starts_with("* PREAUTH") {
            return Err(ImapError::Unprotected {
                host: server.host.clone(),
                reason: "it takes us for signed in before we did",
            });
        }
        Err(ImapError::Greeting {
            host: server.host.clone(),
            text: printable(&text, 120),
        })
    }

    async fn start_tls(&mut self, server: &Server) -> Result<(), ImapError> {
        let (_, answer) = self.ask(Step::StartTls, "i0 STARTTLS").await?;
        if answer.to_uppercase().starts_with("I0 OK") {
            return Ok(());
        }
        Err(ImapError::Unprotected {
            host: server.host.clone(),
            reason: "it does not begin TLS on STARTTLS",
        })
    }

    async fn ask_capabilities(&mut self) -> Result<(), ImapError> {
        let (lines, _) = self.ask(Step::Greeting, "i1 CAPABILITY").await?;
        let told = lines
            .iter()
            .filter_map(|line| line.to_uppercase().strip_prefix("* CAPABILITY ").map(str::to_owned));
        self.capabilities = told
            .flat_map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        Ok(())
    }

    /// Sends a command; returns the untagged lines and the tagged one.
    async fn ask(&mut self, step: Step, command: &str) -> Result<(Vec<String>, String), ImapError> {
        let tag = command.split(' ').next().unwrap_or_default().to_uppercase() + " ";
        let bytes = format!("{command}\r\n");
        let sent = async {
            self.wire.write_all(bytes.as_bytes()).await?;
            self.wire.flush().await
        };
        sent.await.map_err(|error| lost(step, &error))?;
        let mut lines = Vec::new();
        while lines.len() < LINES_LIMIT {
            let line = self.read(step).await?;
            if line.to_uppercase().starts_with(&tag) {
                return Ok((lines, line));
            }
            lines.push(line);
        }
        Err(ImapError::Lost {
            step,
            reason: "too many lines".into(),
        })
    }

    async fn read(&mut self, step: Step) -> Result<String, ImapError> {
        let mut line = Vec::new();
        while line.len() < LINE_LIMIT {
            let byte = self.wire.read_u8().await.map_err(|error| lost(step, &error))?;
            if byte == b'\n' {
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            line.push(byte);
        }
        Err(ImapError::Lost {
            step,
            reason: "a line over the limit".into(),
        })
    }
}

impl Session {
    /// Asks anew what the server can do, and says who we are: some servers want to know (mail.163.com).
    async fn introduce(&mut self) -> Result<(), ImapError> {
        let mut capabilities = HashSet::new();
        self.command(Step::SignIn, "CAPABILITY", |response| {
            auth::note_capabilities(&mut capabilities, response);
        })
        .await?;
        self.capabilities = capabilities;
        if self.has("ID") {
            let command = concat!(
                "ID (\"name\" \"mailintake\" \"version\" \"",
                env!("CARGO_PKG_VERSION"),
                "\")"
            );
            match self.command(Step::SignIn, command, |_| {}).await {
                Ok(()) | Err(ImapError::No { .. } | ImapError::Bad { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
