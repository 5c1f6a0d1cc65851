//! SMTP submission (RFC 5321, RFC 6409): connect, sign in, hand a message over. It knows servers, not issues, and
//! never sends a credential or a mail over a connection that is not protected.
//!
//! lettre writes the commands. The connection is our own: lettre's keeps text that was sent before TLS and reads it
//! afterwards, reads a line without a bound, forgets mechanisms that it does not know, leaves the challenge of a
//! refused token unanswered, and cannot tell what was lost before a message was complete from what was lost after.

mod address;
mod auth;
mod catalogue;
mod connect;
mod content;
mod error;
mod line;
mod offer;
mod reply;
mod send;

use std::time::Duration;

use secrecy::SecretString;

pub use auth::Challenge;
pub use connect::Connector;
pub use error::{Account, SmtpError, Step};
pub use reply::Refusal;

use self::line::{Carrier, Line};
use self::offer::Offer;

/// What we sign in with.
#[derive(Debug, Clone)]
pub enum Credential {
    /// Nothing: a relay that knows us by our network address.
    None,
    /// A user name and its password.
    Password {
        /// The user name.
        username: String,
        /// The password.
        password: SecretString,
    },
    /// An OAuth 2.0 access token.
    Token {
        /// The SASL user name.
        user: String,
        /// The token.
        token: SecretString,
    },
}

/// Between whom a message goes, whatever its header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Who hears of a failure; `None` for the null return path `<>`.
    pub sender: Option<String>,
    /// Who gets it; at least one.
    pub recipients: Vec<String>,
}

/// What the server said when it took a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Its words, printable, at most 200 characters; many put their own identifier into it.
    pub response: String,
    /// Recipients that it refused while it took others.
    pub refused: Vec<(String, Refusal)>,
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a connection, and again for TLS over it.
    pub connect: Duration,
    /// For the whole answer to a command, the greeting too, and for the next piece of a message to be taken.
    pub command: Duration,
    /// For the answer to a complete message.
    pub answer: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(20),
            command: Duration::from_mins(1),
            answer: Duration::from_mins(5),
        }
    }
}

/// A connection that is signed in. After an error other than a refusal it is of no more use.
pub struct Session {
    line: Line<Box<dyn Carrier>>,
    offer: Offer,
    account: Account,
    timeouts: Timeouts,
    /// Whether a transaction was begun and not ended.
    is_open: bool,
}

impl Session {
    /// Says goodbye; whether the server hears it does not matter.
    pub async fn quit(mut self) {
        let quit = lettre::transport::smtp::commands::Quit.to_string();
        let goodbye = self.line.ask(Step::Quit, quit.as_bytes(), Duration::from_secs(2));
        if goodbye.await.is_err() {
            tracing::debug!("the server did not take the goodbye");
        }
    }
}
