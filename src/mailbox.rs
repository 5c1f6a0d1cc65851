//! A watched mailbox, the place of a message in it, and a message as fetched: the facts that the
//! sources, the ledger and the intake share. It holds settings only, never a connection.

mod state;

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use self::state::MailboxState;
use crate::grant::GrantRef;
use crate::secret::Secret;
use crate::skimmed::Skimmed;
use crate::time::Timestamp;

/// The unique identifier of a message in one folder under one [`UidValidity`] (RFC 9051 §2.3.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(pub NonZeroU32);

impl Uid {
    /// The lowest.
    pub const MIN: Self = Self(NonZeroU32::MIN);

    /// The identifier of a number, if that is not 0.
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

/// The generation of a folder's UIDs (RFC 9051 §2.3.1.1). Some servers announce 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UidValidity(pub u32);

/// The row of a mailbox in the database. It belongs to the address and outlives a change of the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailboxId(pub i64);

/// One `[[mailbox]]`, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Mailbox {
    /// The identity of the mailbox, as written; compared without regard to case.
    pub address: String,
    /// What it is called; the address where the configuration gives no name.
    pub name: String,
    /// The user name for a password, or whose grant it is.
    pub login: String,
    /// How it signs in.
    pub sign_in: SignIn,
    /// The SASL user name with a token; the address unless overridden.
    pub sasl_user: String,
    /// Which mechanism may be used.
    pub sasl: Sasl,
    /// The server.
    pub server: Server,
    /// Names of the watched folders, at least one.
    pub folders: Vec<String>,
    /// How new mail is noticed.
    pub watch: Watch,
    /// Time between polls; under IDLE the safety poll.
    pub poll_interval: Duration,
    /// What the first listing of a folder takes.
    pub start: Start,
    /// Key of the project that its mail goes to unless a route says otherwise.
    pub project: String,
    /// What is done on the server after the commit.
    pub after: After,
    /// Largest message that is fetched whole, in bytes.
    pub max_message_size: u64,
    /// Names of the servers whose Authentication-Results are believed (RFC 8601 §2.2).
    pub authserv_id: Vec<String>,
}

/// A mail server to read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The protocol.
    pub protocol: Protocol,
    /// Host name or address; the certificate must be for it.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: Tls,
    /// Private roots that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
}

/// How mail is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// IMAP4rev1 or rev2 (RFC 3501, RFC 9051).
    Imap,
    /// POP3 (RFC 1939).
    Pop3,
}

/// How a connection is protected (RFC 8314).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// TLS from the first byte.
    Implicit,
    /// TLS after the STARTTLS or STLS command, never silently without.
    StartTls,
    /// In clear; only for a server on loopback.
    None,
}

/// How a mailbox signs in.
#[derive(Debug, Clone, PartialEq)]
pub enum SignIn {
    /// By user name and password.
    Password(Secret),
    /// By an OAuth 2.0 access token.
    Token(GrantRef),
}

/// What a mailbox signs in with, at hand.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A password.
    Password(secrecy::SecretString),
    /// An OAuth 2.0 access token.
    Token(secrecy::SecretString),
}

/// Which SASL mechanism may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sasl {
    /// The best that the server offers for this way of signing in.
    Auto,
    /// XOAUTH2 (Google, Microsoft).
    XOAuth2,
    /// OAUTHBEARER (RFC 7628).
    OAuthBearer,
    /// PLAIN (RFC 4616).
    Plain,
    /// The LOGIN command (RFC 9051 §6.2.3).
    Login,
}

/// How new mail is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// By IDLE (RFC 2177) where the server has it, else by polling.
    Idle,
    /// By looking every `poll_interval`.
    Poll,
}

/// What the first listing of a folder takes; the rest is recorded as ignored, unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Nothing that is there already.
    New,
    /// What is not marked `\Seen`.
    Unseen,
    /// Everything.
    All,
    /// What arrived (INTERNALDATE) at this instant or later.
    Since(Timestamp),
}

impl Start {
    /// Whether the first listing takes a message.
    pub fn takes(self, listed: &Listed) -> bool {
        match self {
            Self::All => true,
            Self::New => false,
            Self::Unseen => !listed.is_seen,
            Self::Since(since) => listed.received_at.is_some_and(|at| at >= since),
        }
    }
}

impl std::fmt::Display for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::New => f.write_str("new"),
            Self::Unseen => f.write_str("unseen"),
            Self::All => f.write_str("all"),
            Self::Since(since) => f.write_str(&since.rfc3339()),
        }
    }
}

/// What is done to a message on the server once it is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum After {
    /// Nothing.
    Keep,
    /// It is marked `\Seen`.
    Seen,
    /// It is deleted for good.
    Delete,
    /// It gets this keyword.
    Flag(String),
    /// It is moved to this folder.
    Move(String),
}

/// How a message came to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Fetched by IMAP.
    Imap,
    /// Fetched by POP3.
    Pop3,
    /// Read from a file.
    File,
    /// Read from standard input.
    Pipe,
}

impl Source {
    /// The word for it in JSON and SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Imap => "imap",
            Self::Pop3 => "pop3",
            Self::File => "file",
            Self::Pipe => "pipe",
        }
    }
}

/// Where a message stands in its mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// In an IMAP folder.
    Imap {
        /// The folder's name.
        folder: String,
        /// The generation of its UIDs.
        uidvalidity: UidValidity,
        /// The message's UID.
        uid: Uid,
    },
    /// Anywhere else: a POP3 UIDL, a file's name, the hash of what came by a pipe.
    Other {
        /// What kind of source.
        source: OtherSource,
        /// Its name there.
        remote_id: String,
    },
}

/// A source without folders and UIDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OtherSource {
    /// POP3; the name is the UIDL.
    Pop3,
    /// A file.
    File,
    /// Standard input.
    Pipe,
}

impl Place {
    /// How the message came.
    pub fn source(&self) -> Source {
        match self {
            Self::Imap { .. } => Source::Imap,
            Self::Other {
                source: OtherSource::Pop3,
                ..
            } => Source::Pop3,
            Self::Other {
                source: OtherSource::File,
                ..
            } => Source::File,
            Self::Other {
                source: OtherSource::Pipe,
                ..
            } => Source::Pipe,
        }
    }

    /// The `remote_id` of the ledger: for IMAP `FOLDER;UIDVALIDITY=n;UID=n`, as RFC 5092 writes it.
    pub fn remote_id(&self) -> String {
        match self {
            Self::Imap {
                folder,
                uidvalidity,
                uid,
            } => {
                format!("{folder};UIDVALIDITY={};UID={}", uidvalidity.0, uid.get())
            }
            Self::Other { remote_id, .. } => remote_id.clone(),
        }
    }

    /// The UID, where the place is in an IMAP folder.
    pub fn uid(&self) -> Option<Uid> {
        match self {
            Self::Imap { uid, .. } => Some(*uid),
            Self::Other { .. } => None,
        }
    }
}

/// A message as a source hands it over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawMessage {
    /// Where it stands.
    pub place: Place,
    /// Its bytes: whole, or only the header where `is_stub`; empty where it is `large`.
    pub bytes: Vec<u8>,
    /// The message on disk, where it is too large to be held.
    pub large: Option<Arc<Skimmed>>,
    /// Size that the server stated, in bytes; a hint (Exchange estimates it).
    pub stated_size: u64,
    /// When the server received it (INTERNALDATE), where known.
    pub received_at: Option<Timestamp>,
    /// EMAILID (RFC 8474) or X-GM-MSGID, where the server has one.
    pub server_id: Option<String>,
    /// Whether only the header was fetched, since the message is over `max_message_size`.
    pub is_stub: bool,
}

impl RawMessage {
    /// What is parsed: its bytes, or the skeleton of a large one.
    pub fn parsed(&self) -> &[u8] {
        match &self.large {
            Some(large) => large.parsed(),
            None => &self.bytes,
        }
    }

    /// Count of its bytes, in memory or on disk.
    pub fn size(&self) -> u64 {
        match &self.large {
            Some(large) => large.size,
            None => self.bytes.len() as u64,
        }
    }
}

/// What a listing says about a message that is on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its UID.
    pub uid: Uid,
    /// Its size as the server states it, in bytes.
    pub size: u64,
    /// When the server received it.
    pub received_at: Option<Timestamp>,
    /// Whether it is marked `\Seen`; looked at only by the first listing.
    pub is_seen: bool,
    /// Whether another client marked it `\Deleted`.
    pub is_deleted: bool,
}
