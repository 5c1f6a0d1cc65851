//! POP3 (RFC 1939, RFC 2449, RFC 2595, RFC 5034): connect, list, retrieve, delete. It knows servers, not issues.
//!
//! Every read has a deadline and a bound: a server that falls silent, never ends a line, an answer or a message, or
//! lists without end costs one session, and is named.

mod auth;
mod connect;
mod error;
mod fetch;
pub mod header;
mod kept;
mod list;
mod offer;
mod refusal;
mod settle;
mod stuffing;
mod wire;

use std::time::Duration;

pub use connect::Connector;
pub use error::{Pop3Error, Step};
pub use fetch::{Broken, Content, Haul, Retrieved};
pub use list::{Entry, id_of_bytes, is_of_bytes};
pub use offer::Offer;
pub use refusal::Refusal;

use self::wire::Wire;

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a connection with TLS and greeting, and again for the sign-in.
    pub connect: Duration,
    /// For the next byte of an answer.
    pub silence: Duration,
    /// For the whole answer to a command, however slowly it comes.
    pub command: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_mins(1),
            silence: Duration::from_mins(1),
            command: Duration::from_mins(10),
        }
    }
}

/// A connection that is signed in. After any error it is of no more use.
#[derive(Debug)]
pub struct Session {
    wire: Wire,
    offer: Offer,
    /// Where large messages are while they are taken; `None`: in memory.
    spool: Option<std::path::PathBuf>,
}

impl Session {
    /// What the server offers.
    pub fn offer(&self) -> &Offer {
        &self.offer
    }
}
