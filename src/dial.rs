//! A TCP connection to a mail server, and TLS over it. It sends nothing of its own.

use std::time::Duration;

use native_tls::TlsConnectorBuilder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::fault::{chain, printable};

/// Time for one address of a host to answer.
const ADDRESS_PATIENCE: Duration = Duration::from_secs(10);

/// Anything that carries bytes both ways.
pub(crate) trait Carrier: AsyncRead + AsyncWrite + Unpin + Send + std::fmt::Debug {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + std::fmt::Debug> Carrier for T {}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum DialError {
    /// The name has no address.
    Resolve(std::io::Error),
    /// Nobody answers there.
    Connect(std::io::Error),
}

/// Connects to the first address of a host that answers.
///
/// # Errors
/// [`DialError`].
pub(crate) async fn dial(host: &str, port: u16) -> Result<TcpStream, DialError> {
    let addresses = tokio::net::lookup_host((host, port))
        .await
        .map_err(DialError::Resolve)?;
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match tokio::time::timeout(ADDRESS_PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                tune(&stream);
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = std::io::ErrorKind::TimedOut.into(),
        }
    }
    Err(DialError::Connect(last))
}

/// Bounds the wait for a peer that is gone: probes after 60 s, every 15 s, four times.
fn tune(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_mins(1))
        .with_interval(Duration::from_secs(15))
        .with_retries(4);
    let tuned = stream
        .set_nodelay(true)
        .and_then(|()| socket.set_tcp_keepalive(&keepalive))
        .and_then(|()| socket.set_tcp_user_timeout(Some(Duration::from_mins(2))));
    if let Err(error) = tuned {
        tracing::debug!(%error, "could not tune the connection");
    }
}

/// Begins TLS over a connection; the certificate must be for `host`.
///
/// # Errors
/// Why not, in the words of the TLS library.
pub(crate) async fn protect<S: Carrier>(
    builder: TlsConnectorBuilder,
    host: &str,
    stream: S,
) -> Result<async_native_tls::TlsStream<S>, String> {
    let connector = async_native_tls::TlsConnector::from(builder);
    connector
        .connect(host, stream)
        .await
        .map_err(|error| printable(&chain(&error), 200))
}
