//! IMAP (RFC 3501, RFC 9051): connect, list, fetch, settle, wait. It knows servers, not issues.
//!
//! async-imap's typed commands take `NO`, `BAD`, `BYE` and a closed connection for success, so only its
//! `run_command` and `read_response` are used, under our own `command`, which looks at all of them.

mod auth;
mod command;
mod connect;
mod error;
mod fetch;
mod guard;
mod idle;
mod list;
mod name;
mod settle;
mod status;
mod wire;

use std::collections::HashSet;
use std::time::Duration;

pub use connect::Connector;
pub use error::{Challenge, ImapError, Step};
pub use fetch::Fetched;
pub use idle::Woken;
pub use list::Selected;
pub use status::Refusal;

pub use crate::mailbox::Credential;

use self::guard::Received;
use self::wire::Wire;

/// Time for the server to answer a goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a connection with TLS, greeting and sign-in.
    pub connect: Duration,
    /// For the next byte of an answer.
    pub silence: Duration,
    /// For the whole answer to a command, however slowly it comes.
    pub command: Duration,
    /// For the end of IDLE.
    pub done: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_mins(1),
            silence: Duration::from_mins(1),
            command: Duration::from_mins(10),
            done: Duration::from_secs(15),
        }
    }
}

/// A connection that is signed in. After any error it is of no more use.
pub struct Session {
    inner: async_imap::Session<Wire>,
    capabilities: HashSet<String>,
    received: Received,
    timeouts: Timeouts,
    /// Where large messages are while they are taken.
    spool: std::path::PathBuf,
}

impl Session {
    /// Whether the server offers a capability, named in upper case.
    pub fn has(&self, capability: &str) -> bool {
        self.capabilities.contains(capability)
    }

    /// Whether the server offers IDLE (RFC 2177).
    pub fn can_idle(&self) -> bool {
        self.has("IDLE")
    }

    /// Says goodbye; whether the server hears it does not matter.
    pub async fn logout(mut self) {
        let goodbye = self.inner.run_command("LOGOUT");
        if tokio::time::timeout(GOODBYE, goodbye).await.is_err() {
            tracing::debug!("the server did not take the goodbye");
        }
    }
}
