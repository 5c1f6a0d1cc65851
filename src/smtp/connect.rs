//! From a host name to a session: address, connection, TLS, EHLO, sign-in.
//! No credential passes before TLS is verified, and there is no way without TLS.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use lettre::transport::smtp::commands::{Ehlo, Starttls};
use lettre::transport::smtp::extension::ClientId;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::auth::SignIn;
use super::error::{Account, SmtpError, Step};
use super::line::{Carrier, Line};
use super::offer::Offer;
use super::send::refused;
use super::{Credential, Session, Timeouts};
use crate::fault::{chain, printable};
use crate::mailbox::Tls;
use crate::outgoing::Smtp;
use crate::tls::Trust;

/// Connections that are built at once: each costs some 50 ms of CPU for the TLS context.
const AT_ONCE: usize = 2;
/// Time for one address of a host to answer.
const ADDRESS_PATIENCE: Duration = Duration::from_secs(10);

/// Builds sessions. Clones share the trust and the bound.
#[derive(Clone)]
pub struct Connector {
    trust: Arc<RwLock<Trust>>,
    at_once: Arc<Semaphore>,
    timeouts: Timeouts,
}

/// A protected connection before the sign-in.
pub(super) struct Protected {
    line: Line<Box<dyn Carrier>>,
    offer: Offer,
}

impl Connector {
    /// A connector that trusts these roots.
    pub fn new(trust: Trust) -> Self {
        Self::with_timeouts(trust, Timeouts::default())
    }

    /// A connector with other timeouts, for tests.
    pub fn with_timeouts(trust: Trust, timeouts: Timeouts) -> Self {
        Self {
            trust: Arc::new(RwLock::new(trust)),
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
            timeouts,
        }
    }

    /// Trusts other roots from now on.
    pub fn set_trust(&self, trust: Trust) {
        *self.trust.write().unwrap_or_else(PoisonError::into_inner) = trust;
    }

    /// Connects to a server and signs in.
    ///
    /// # Errors
    /// [`SmtpError`], by the step that failed.
    pub async fn connect(&self, server: &Smtp, credential: &Credential) -> Result<Session, SmtpError> {
        let mut sign_in = SignIn {
            server,
            credential,
            patience: self.timeouts.command,
            unknown: Vec::new(),
        };
        loop {
            let known = sign_in.unknown.len();
            let Protected { mut line, offer } = self.protected(server, credential).await?;
            match sign_in.run(&mut line, &offer).await {
                Ok(()) => {
                    return Ok(Session {
                        line,
                        offer,
                        account: Account::of(server, credential),
                        timeouts: self.timeouts,
                        is_open: false,
                    });
                }
                // Some servers hang up on a mechanism that they do not know: the next is tried on a new connection.
                Err(SmtpError::Lost { .. }) if sign_in.unknown.len() > known => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// A protected connection, and what the server offers over it.
    async fn protected(&self, server: &Smtp, credential: &Credential) -> Result<Protected, SmtpError> {
        // The time to wait for one's turn is not counted.
        let _turn = self.at_once.acquire().await.ok();
        let account = Account::of(server, credential);
        let stream = tokio::time::timeout(self.timeouts.connect, dial(server))
            .await
            .unwrap_or(Err(SmtpError::Timeout { step: Step::Connect }))?;
        let hello = hello(&stream);
        let talk = Talk {
            account: &account,
            hello: &hello,
            patience: self.timeouts.command,
        };
        let mut line = match server.tls {
            Tls::Implicit => {
                let mut line = Line::over(self.wrap(server, stream).await?);
                talk.greeting(&mut line).await?;
                line.boxed()
            }
            Tls::StartTls => {
                let stream = talk.start_tls(stream).await?;
                Line::over(self.wrap(server, stream).await?).boxed()
            }
            // The configuration refuses it.
            Tls::None => {
                return Err(SmtpError::NoStartTls {
                    host: server.host.clone(),
                });
            }
        };
        let offer = talk.ehlo(&mut line).await?;
        Ok(Protected { line, offer })
    }

    async fn wrap(
        &self,
        server: &Smtp,
        stream: TcpStream,
    ) -> Result<async_native_tls::TlsStream<TcpStream>, SmtpError> {
        let builder = {
            let trust = self.trust.read().unwrap_or_else(PoisonError::into_inner);
            trust.connector(server.ca_file.as_deref())
        };
        let connector = async_native_tls::TlsConnector::from(builder);
        tokio::time::timeout(self.timeouts.connect, connector.connect(&server.host, stream))
            .await
            .map_err(|_| SmtpError::Timeout { step: Step::Tls })?
            .map_err(|error| SmtpError::Tls {
                host: server.host.clone(),
                reason: printable(&chain(&error), 200),
            })
    }
}

/// Connects to the first address of a host that answers.
async fn dial(server: &Smtp) -> Result<TcpStream, SmtpError> {
    let (host, port) = (server.host.clone(), server.port);
    let addresses = tokio::net::lookup_host((host.as_str(), port))
        .await
        .map_err(|source| SmtpError::Resolve {
            host: host.clone(),
            source,
        })?;
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match tokio::time::timeout(ADDRESS_PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "could not tune the connection");
                }
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = std::io::ErrorKind::TimedOut.into(),
        }
    }
    Err(SmtpError::Connect {
        host,
        port,
        source: last,
    })
}

/// The dialogue before the sign-in.
struct Talk<'a> {
    account: &'a Account,
    hello: &'a ClientId,
    patience: Duration,
}

impl Talk<'_> {
    async fn greeting<S: Carrier>(&self, line: &mut Line<S>) -> Result<(), SmtpError> {
        let reply = line.hear(Step::Greeting, self.patience).await?;
        if reply.is_done() {
            return Ok(());
        }
        Err(refused(Step::Greeting, self.account, &reply))
    }

    async fn ehlo<S: Carrier>(&self, line: &mut Line<S>) -> Result<Offer, SmtpError> {
        let command = Ehlo::new(self.hello.clone()).to_string();
        let reply = line.ask(Step::Hello, command.as_bytes(), self.patience).await?;
        if reply.is_done() {
            return Ok(Offer::of(&reply));
        }
        Err(refused(Step::Hello, self.account, &reply))
    }

    /// Up to where TLS begins. Whatever was offered before counts for nothing but STARTTLS.
    async fn start_tls(&self, stream: TcpStream) -> Result<TcpStream, SmtpError> {
        let mut line = Line::over(stream);
        self.greeting(&mut line).await?;
        let offer = self.ehlo(&mut line).await?;
        let host = self.account.host.clone();
        if !offer.has_starttls {
            return Err(SmtpError::NoStartTls { host });
        }
        let command = Starttls.to_string();
        let reply = line.ask(Step::Tls, command.as_bytes(), self.patience).await?;
        if !reply.is_done() {
            return Err(refused(Step::Tls, self.account, &reply));
        }
        match line.into_inner() {
            (stream, false) => Ok(stream),
            (_, true) => Err(SmtpError::Injected { host }),
        }
    }
}

/// How we introduce ourselves: by our full host name, else by our address (RFC 5321 §4.1.4).
fn hello(stream: &TcpStream) -> ClientId {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let address = stream.local_addr().map(|address| address.ip()).ok();
    client_id(name.as_deref().unwrap_or_default(), address)
}

fn client_id(name: &str, address: Option<IpAddr>) -> ClientId {
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if name.contains('.') && name.split('.').all(is_label) {
        return ClientId::Domain(name.to_owned());
    }
    match address {
        Some(IpAddr::V4(address)) => ClientId::Ipv4(address),
        Some(IpAddr::V6(address)) => ClientId::Ipv6(address),
        None => ClientId::Domain("localhost".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_introduce_ourselves_by_a_name_that_may_stand_there() {
        let address = Some("192.0.2.1".parse().unwrap());
        for (name, expected) in [
            ("mail.example.org", "mail.example.org"),
            ("mail", "[192.0.2.1]"),
            ("my_host.example.org", "[192.0.2.1]"),
            ("x\r\n.y", "[192.0.2.1]"),
            ("", "[192.0.2.1]"),
        ] {
            assert_eq!(client_id(name, address).to_string(), expected, "{name:?}");
        }
        assert_eq!(client_id("", Some("::1".parse().unwrap())).to_string(), "[IPv6:::1]");
    }
}
