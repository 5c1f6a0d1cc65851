//! From a host name to a connection that is protected, signed in, and has told what it can do.
//! No credential passes before TLS is verified.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Semaphore;

use super::error::{Pop3Error, Step};
use super::offer::Offer;
use super::refusal::Refusal;
use super::wire::Wire;
use super::{Session, Timeouts, auth};
use crate::dial::{self, Carrier, DialError};
use crate::mailbox::{Credential, Mailbox, Server, Tls};
use crate::tls::Trust;

/// Connections that are built at once: each costs some 50 ms of CPU for the TLS context.
const AT_ONCE: usize = 4;
/// Most lines of the answer to CAPA.
const CAPABILITIES_LIMIT: usize = 100;

/// Builds connections. Clones share the trust and the bound.
#[derive(Clone)]
pub struct Connector {
    trust: Arc<RwLock<Trust>>,
    at_once: Arc<Semaphore>,
    timeouts: Timeouts,
    /// Where large messages are while they are taken; `None`: in memory.
    spool: Option<PathBuf>,
}

impl Connector {
    /// A connector that trusts these roots.
    pub fn new(trust: Trust) -> Self {
        Self::with_timeouts(trust, Timeouts::default())
    }

    /// Keeps large messages in this directory while they are taken.
    #[must_use]
    pub fn spooling_in(self, directory: &Path) -> Self {
        Self {
            spool: Some(directory.to_owned()),
            ..self
        }
    }

    /// A connector with other timeouts, for tests.
    pub fn with_timeouts(trust: Trust, timeouts: Timeouts) -> Self {
        Self {
            trust: Arc::new(RwLock::new(trust)),
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
            timeouts,
            spool: None,
        }
    }

    /// Trusts other roots from now on.
    pub fn set_trust(&self, trust: Trust) {
        *self.trust.write().unwrap_or_else(PoisonError::into_inner) = trust;
    }

    /// Connects to the server of a mailbox and signs in.
    ///
    /// # Errors
    /// [`Pop3Error`], by the step that failed; [`Pop3Error::Timeout`] past `timeouts.connect`.
    pub async fn connect(&self, mailbox: &Mailbox, credential: &Credential) -> Result<Session, Pop3Error> {
        // The time to wait for one's turn is not counted.
        let turn = self.at_once.acquire().await.ok();
        let connected = tokio::time::timeout(self.timeouts.connect, self.protected(&mailbox.server)).await;
        drop(turn);
        let wire = connected.unwrap_or(Err(Pop3Error::Timeout { step: Step::Connect }))?;
        let signing_in = tokio::time::timeout(self.timeouts.connect, sign_in(wire, mailbox, credential));
        let (wire, offer) = signing_in
            .await
            .unwrap_or(Err(Pop3Error::Timeout { step: Step::SignIn }))?;
        let spool = self.spool.clone();
        Ok(Session { wire, offer, spool })
    }

    /// A protected connection that has greeted us.
    async fn protected(&self, server: &Server) -> Result<Wire, Pop3Error> {
        let stream = dial(server).await?;
        match server.tls {
            Tls::Implicit => {
                let stream = self.wrap(server, stream).await?;
                self.greeted(server, Box::new(stream)).await
            }
            Tls::StartTls => {
                let mut wire = self.greeted(server, Box::new(stream)).await?;
                let unprotected = |reason| Pop3Error::Unprotected {
                    host: server.host.clone(),
                    reason,
                };
                if wire.ask(Step::StartTls, "STLS").await?.is_err() {
                    return Err(unprotected("it does not begin TLS on STLS"));
                }
                // What came in clear must not pass for an answer under TLS.
                let Some(inner) = wire.into_inner() else {
                    return Err(unprotected("it sent more than its answer to STLS"));
                };
                let stream = self.wrap(server, inner).await?;
                Ok(Wire::over(Box::new(stream), self.timeouts))
            }
            Tls::None => self.greeted(server, Box::new(stream)).await,
        }
    }

    async fn greeted(&self, server: &Server, stream: Box<dyn Carrier>) -> Result<Wire, Pop3Error> {
        let mut wire = Wire::over(stream, self.timeouts);
        let refusal = match wire.status(Step::Greeting).await {
            Ok(Ok(_)) => return Ok(wire),
            Ok(Err(refusal)) => refusal,
            Err(Pop3Error::Garbled { .. }) => Refusal::of_text("something else"),
            Err(error) => return Err(error),
        };
        Err(Pop3Error::Greeting {
            host: server.host.clone(),
            refusal,
        })
    }

    async fn wrap<S: Carrier>(&self, server: &Server, stream: S) -> Result<async_native_tls::TlsStream<S>, Pop3Error> {
        let builder = {
            let trust = self.trust.read().unwrap_or_else(PoisonError::into_inner);
            trust.connector(server.ca_file.as_deref())
        };
        let wrapped = dial::protect(builder, &server.host, stream).await;
        wrapped.map_err(|reason| Pop3Error::Tls {
            host: server.host.clone(),
            reason,
        })
    }
}

async fn dial(server: &Server) -> Result<tokio::net::TcpStream, Pop3Error> {
    let (host, port) = (server.host.clone(), server.port);
    dial::dial(&host, port).await.map_err(|error| match error {
        DialError::Resolve(source) => Pop3Error::Resolve { host, source },
        DialError::Connect(source) => Pop3Error::Connect { host, port, source },
    })
}

/// What is offered may change with the sign-in (RFC 2449 §5).
async fn sign_in(mut wire: Wire, mailbox: &Mailbox, credential: &Credential) -> Result<(Wire, Offer), Pop3Error> {
    let before = offer(&mut wire).await?;
    auth::sign_in(&mut wire, &before, mailbox, credential).await?;
    let offer = if before.is_told {
        offer(&mut wire).await?
    } else {
        before
    };
    Ok((wire, offer))
}

async fn offer(wire: &mut Wire) -> Result<Offer, Pop3Error> {
    if wire.ask(Step::Greeting, "CAPA").await?.is_err() {
        return Ok(Offer::untold());
    }
    let mut lines = Vec::new();
    wire.list(Step::Greeting, CAPABILITIES_LIMIT, |line| lines.push(line.to_owned()))
        .await?;
    Ok(Offer::of(lines.iter().map(String::as_str)))
}
