//! The byte stream that a session runs over, with or without TLS.

use tokio::io::{AsyncRead, AsyncWrite, BufWriter};
use tokio::net::TcpStream;

use super::guard::Guard;

/// Anything that carries bytes both ways.
pub(super) trait Carrier: AsyncRead + AsyncWrite + Unpin + Send + std::fmt::Debug {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + std::fmt::Debug> Carrier for T {}

/// Writes are gathered, since the crate writes each command in four pieces; reads are guarded.
pub(super) type Wire = BufWriter<Guard<Box<dyn Carrier>>>;

/// Bounds the wait for a peer that is gone: probes after 60 s, every 15 s, four times.
pub(super) fn tune(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(std::time::Duration::from_mins(1))
        .with_interval(std::time::Duration::from_secs(15))
        .with_retries(4);
    let tuned = stream
        .set_nodelay(true)
        .and_then(|()| socket.set_tcp_keepalive(&keepalive))
        .and_then(|()| socket.set_tcp_user_timeout(Some(std::time::Duration::from_mins(2))));
    if let Err(error) = tuned {
        tracing::debug!(%error, "could not tune the connection");
    }
}
