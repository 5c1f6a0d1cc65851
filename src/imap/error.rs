//! How a mail server fails us, by what a caller can tell apart, with the advice for the administrator.
//! Control flow follows variants and codes; a server's words only choose the advice.

use crate::fault::Remedy;
use crate::grant::Problem;

use super::status::Refusal;

/// What was being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is its word")]
pub enum Step {
    Connect,
    Greeting,
    StartTls,
    SignIn,
    Select,
    List,
    Fetch,
    Settle,
    Idle,
    Noop,
}

impl Step {
    /// The words for it in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connecting",
            Self::Greeting => "the greeting",
            Self::StartTls => "STARTTLS",
            Self::SignIn => "signing in",
            Self::Select => "opening the folder",
            Self::List => "listing the folder",
            Self::Fetch => "fetching mail",
            Self::Settle => "marking, moving or deleting mail",
            Self::Idle => "waiting for mail",
            Self::Noop => "asking for a sign of life",
        }
    }
}

/// What a server answered to a token that it refused (RFC 7628 §3.2.2, and XOAUTH2).
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Deserialize)]
pub struct Challenge {
    /// `401`, `400`, `invalid_token`, …
    #[serde(default)]
    pub status: String,
    /// The scope that it wants.
    #[serde(default)]
    pub scope: Option<String>,
}

/// How a mail server fails us.
#[derive(Debug, thiserror::Error)]
pub enum ImapError {
    /// Its name has no address.
    #[error("cannot find the address of {host}")]
    Resolve {
        /// The name.
        host: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A large message cannot be kept on disk while it is taken.
    #[error("cannot keep a large message on disk while it is taken")]
    Spool(#[source] std::io::Error),
    /// Nobody answers there.
    #[error("cannot connect to {host}:{port}")]
    Connect {
        /// The name.
        host: String,
        /// The port.
        port: u16,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Its certificate is not accepted, or TLS failed.
    #[error("TLS with {host} failed: {reason}")]
    Tls {
        /// The name.
        host: String,
        /// Why, in the words of the TLS library.
        reason: String,
    },
    /// It is no IMAP server, or does not want us now.
    #[error("{host} did not greet as an IMAP server: {text}")]
    Greeting {
        /// The name.
        host: String,
        /// What it said.
        text: String,
    },
    /// It considers us signed in before TLS, or sent more than its answer to STARTTLS: somebody may be between us.
    #[error("{host} does not protect the connection: {reason}")]
    Unprotected {
        /// The name.
        host: String,
        /// What it did.
        reason: &'static str,
    },
    /// None of the ways to sign in that we know is offered.
    #[error("{host} offers no way to sign in that fits: it has {offered}")]
    NoMechanism {
        /// The name.
        host: String,
        /// What it offers.
        offered: String,
    },
    /// It refused to sign us in.
    #[error("{host} refused to sign in: {}", refusal.text)]
    SignInRefused {
        /// The name.
        host: String,
        /// Code and words.
        refusal: Refusal,
        /// What it answered to the token.
        challenge: Option<Challenge>,
        /// Whether it was a token.
        by_token: bool,
    },
    /// There is no such folder.
    #[error("cannot open the folder {folder:?}: {}", refusal.text)]
    FolderMissing {
        /// The folder.
        folder: String,
        /// Code and words.
        refusal: Refusal,
    },
    /// The name of a folder or keyword cannot be sent.
    #[error("{0:?} is no name that a server can be told")]
    BadName(String),
    /// `NO` to a command.
    #[error("the server refused while {}: {}", step.as_str(), refusal.text)]
    No {
        /// What was being done.
        step: Step,
        /// Code and words.
        refusal: Refusal,
    },
    /// `BAD` to a command.
    #[error("the server did not understand while {}: {}", step.as_str(), refusal.text)]
    Bad {
        /// What was being done.
        step: Step,
        /// Code and words.
        refusal: Refusal,
    },
    /// `BYE`: it ends the connection.
    #[error("the server ended the connection while {}: {}", step.as_str(), refusal.text)]
    Bye {
        /// What was being done.
        step: Step,
        /// Code and words.
        refusal: Refusal,
    },
    /// The connection is gone.
    #[error("the connection broke while {}: {reason}", step.as_str())]
    Lost {
        /// What was being done.
        step: Step,
        /// Why, bounded: the library quotes what it had received.
        reason: String,
    },
    /// It said nothing for too long.
    #[error("the server did not answer in time while {}", step.as_str())]
    Timeout {
        /// What was being done.
        step: Step,
    },
    /// It announced IDLE and refuses it.
    #[error("the server announces IDLE and refuses it")]
    IdleUnsupported,
}

impl ImapError {
    /// What it asks for.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Resolve { .. }
            | Self::Connect { .. }
            | Self::Tls { .. }
            | Self::Greeting { .. }
            | Self::Unprotected { .. }
            | Self::Lost { .. }
            | Self::Timeout { .. }
            | Self::Spool(_)
            | Self::IdleUnsupported => Remedy::RETRY,
            Self::NoMechanism { .. } | Self::BadName(_) => Remedy::FixConfiguration,
            Self::SignInRefused { refusal, .. } => refusal.remedy().unwrap_or(Remedy::Reauthorize),
            Self::FolderMissing { refusal, .. } | Self::No { refusal, .. } => {
                refusal.remedy().unwrap_or(Remedy::FixConfiguration)
            }
            Self::Bad { refusal, .. } | Self::Bye { refusal, .. } => match refusal.remedy() {
                Some(Remedy::Retry { after }) => Remedy::Retry { after },
                Some(_) | None => Remedy::RETRY,
            },
        }
    }

    /// Whether the password or token itself was refused, so that a newer token may help.
    pub fn is_credential_refused(&self) -> bool {
        matches!(self, Self::SignInRefused { .. }) && self.remedy() == Remedy::Reauthorize
    }

    /// Whether the server has signed us in and then does not let us go on, without saying how long. At Exchange that
    /// passes where it is throttling, and stays where the mailbox may not be opened: only time tells.
    pub fn is_unopened(&self) -> bool {
        match self {
            Self::Bad {
                step: Step::SignIn | Step::Select,
                refusal,
            } => refusal.remedy().is_none(),
            _ => false,
        }
    }

    /// A stable code of ours, or the server's own.
    pub fn code(&self) -> String {
        let own = match self {
            Self::Resolve { .. } => "dns",
            Self::Connect { .. } => "connect",
            Self::Tls { .. } => "tls",
            Self::Greeting { .. } => "greeting",
            Self::Unprotected { .. } => "unprotected",
            Self::NoMechanism { .. } => "no-mechanism",
            Self::FolderMissing { .. } => "folder-missing",
            Self::BadName(_) => "bad-name",
            Self::Lost { .. } => "connection-lost",
            Self::Timeout { .. } => "timeout",
            Self::Spool(_) => "disk",
            Self::IdleUnsupported => "idle-refused",
            Self::SignInRefused { refusal, challenge, .. } => {
                let status = challenge.as_ref().map(|challenge| challenge.status.clone());
                return refusal
                    .code
                    .clone()
                    .or(status)
                    .unwrap_or_else(|| "sign-in-refused".into());
            }
            Self::No { refusal, .. } => return refusal.code.clone().unwrap_or_else(|| "no".into()),
            Self::Bad { refusal, .. } => return refusal.code.clone().unwrap_or_else(|| "bad".into()),
            Self::Bye { refusal, .. } => return refusal.code.clone().unwrap_or_else(|| "bye".into()),
        };
        own.to_owned()
    }

    /// What is wrong and what to do, for the administrator.
    pub fn problem(&self) -> Problem {
        Problem {
            code: self.code(),
            summary: crate::fault::chain(self),
            remedy: self.advice(),
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Resolve { host, .. } => format!("Check the name {host} in the configuration and the server's DNS"),
            Self::Connect { host, port, .. } => {
                format!("Check host and port in the configuration, and whether a firewall lets us reach {host}:{port}")
            }
            Self::Tls { host, .. } => format!(
                "Have the certificate of {host} renewed or corrected; if a private CA signed it, name it as ca_file. No credential was sent"
            ),
            Self::Greeting { .. } => "Check host, port and tls in the configuration; it is tried again by itself".into(),
            Self::Unprotected { .. } => "Use tls = \"implicit\" with port 993; no credential was sent".into(),
            Self::NoMechanism { .. } => {
                "Check sasl in the configuration, and whether this server takes passwords or tokens at all".into()
            }
            Self::SignInRefused { refusal, by_token, .. } => sign_in_advice(refusal, *by_token),
            Self::FolderMissing { folder, .. } => {
                format!("Create the folder {folder:?} on the server, or correct folders in the configuration")
            }
            Self::BadName(_) => "Correct the name in the configuration".into(),
            Self::No { step: Step::Settle, .. } => {
                "Check after in the configuration, and the rights of this mailbox; the mail itself is taken all the same".into()
            }
            Self::Bad { refusal, .. } if self.is_unopened() => known_advice(refusal).unwrap_or(PASSING).to_owned(),
            Self::No { .. } | Self::Bad { .. } => PASSING.into(),
            Self::Spool(_) => "Make room on the disk of state_dir; it is tried again by itself".into(),
            Self::Bye { .. } | Self::Lost { .. } | Self::Timeout { .. } | Self::IdleUnsupported => {
                "Nothing is to be done: it is tried again by itself".into()
            }
        }
    }
}

/// Advice where a server has trouble.
const PASSING: &str = "It is tried again by itself; if it lasts, ask the server's administrator";

/// Known texts of large providers, and what they mean.
const SIGN_IN_ADVICE: [(&str, &str); 7] = [
    (
        "LOGIN failed",
        "Exchange Online takes no passwords any more: set up an [[integration]] with provider = \"microsoft\"",
    ),
    (
        "Application-specific password required",
        "Make an app password in the Google account, or set up an [[integration]] with provider = \"google\"",
    ),
    (
        "web browser",
        "Google holds the sign-in back: open the mailbox once in a browser and confirm that it was you",
    ),
    (
        "IMAP access is disabled",
        "Switch IMAP on in the settings of the mailbox",
    ),
    (
        "Too many simultaneous connections",
        "Watch fewer folders, or close other clients: Google allows 15 connections",
    ),
    (
        "Lookup failed",
        "The address is no mailbox at Google: for a service account, use the user's primary address",
    ),
    (
        "authenticated but not connected",
        "The mailbox cannot be opened: check its licence, that IMAP is enabled, and FullAccess for who signs in",
    ),
];

fn known_advice(refusal: &Refusal) -> Option<&'static str> {
    let known = SIGN_IN_ADVICE.iter().find(|(text, _)| refusal.text.contains(text));
    known.map(|(_, advice)| *advice)
}

fn sign_in_advice(refusal: &Refusal, by_token: bool) -> String {
    match (known_advice(refusal), by_token) {
        (Some(advice), _) => advice.to_owned(),
        (None, true) => "Check that the login may open this mailbox, then sign in again with `mailintake authorize NAME`".into(),
        (None, false) => {
            "Put the right password into the secret file and `systemctl reload mailintake`; after five wrong tries servers lock accounts, so we try seldom".into()
        }
    }
}
