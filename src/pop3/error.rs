//! How a POP3 server fails us, by what a caller can tell apart, with the advice for the administrator.
//! Control flow follows variants and codes; a server's words only choose the advice.

use crate::fault::Remedy;
use crate::grant::Problem;

use super::refusal::Refusal;

/// What was being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is its word")]
pub enum Step {
    Connect,
    Greeting,
    StartTls,
    SignIn,
    List,
    Fetch,
    Settle,
}

impl Step {
    /// The words for it in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connecting",
            Self::Greeting => "the greeting",
            Self::StartTls => "STLS",
            Self::SignIn => "signing in",
            Self::List => "listing the mailbox",
            Self::Fetch => "retrieving mail",
            Self::Settle => "deleting mail",
        }
    }
}

/// How a POP3 server fails us.
#[derive(Debug, thiserror::Error)]
pub enum Pop3Error {
    /// Its name has no address.
    #[error("cannot find the address of {host}")]
    Resolve {
        /// The name.
        host: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
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
    /// It is no POP3 server, or does not want us now.
    #[error("{host} did not greet as a POP3 server: {}", refusal.text)]
    Greeting {
        /// The name.
        host: String,
        /// Code and words.
        refusal: Refusal,
    },
    /// It does not begin TLS on STLS, or sent more than its answer: somebody may be between us.
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
    /// User name or password cannot be sent in a line.
    #[error("the user name or the password has a line end, which no server can be told")]
    BadName,
    /// It refused to sign us in.
    #[error("{host} refused to sign in: {}", refusal.text)]
    SignInRefused {
        /// The name.
        host: String,
        /// Code and words.
        refusal: Refusal,
        /// `401`, `400`, `invalid_token`, …: what it answered to the token (RFC 7628 §3.2.2, and XOAUTH2).
        status: Option<String>,
        /// Whether it was a token.
        by_token: bool,
    },
    /// `-ERR` to a command.
    #[error("the server refused while {}: {}", step.as_str(), refusal.text)]
    Refused {
        /// What was being done.
        step: Step,
        /// Code and words.
        refusal: Refusal,
    },
    /// Neither `+OK` nor `-ERR`.
    #[error("the server did not answer as POP3 says while {}", step.as_str())]
    Garbled {
        /// What was being done.
        step: Step,
    },
    /// A line, a list or a message without end.
    #[error("the server sent {what} over the limit while {}", step.as_str())]
    OverLimit {
        /// What was being done.
        step: Step,
        /// What was too large.
        what: &'static str,
    },
    /// The connection is gone.
    #[error("the connection broke while {}: {reason}", step.as_str())]
    Lost {
        /// What was being done.
        step: Step,
        /// Why.
        reason: String,
    },
    /// A large message could not be kept on disk while it was taken.
    #[error("cannot keep a large message on disk while it is taken")]
    Spool(#[source] std::io::Error),
    /// It said nothing for too long.
    #[error("the server did not answer in time while {}", step.as_str())]
    Timeout {
        /// What was being done.
        step: Step,
    },
}

impl Pop3Error {
    /// What it asks for.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Resolve { .. }
            | Self::Connect { .. }
            | Self::Tls { .. }
            | Self::Unprotected { .. }
            | Self::Garbled { .. }
            | Self::OverLimit { .. }
            | Self::Lost { .. }
            | Self::Spool(_)
            | Self::Timeout { .. } => Remedy::RETRY,
            Self::NoMechanism { .. } | Self::BadName => Remedy::FixConfiguration,
            Self::SignInRefused { refusal, .. } => refusal.remedy().unwrap_or(Remedy::Reauthorize),
            Self::Refused {
                step: Step::Settle,
                refusal,
            } => refusal.remedy().unwrap_or(Remedy::FixConfiguration),
            Self::Greeting { refusal, .. } | Self::Refused { refusal, .. } => refusal.remedy().unwrap_or(Remedy::RETRY),
        }
    }

    /// Whether the password or token itself was refused, so that a newer token may help.
    pub fn is_credential_refused(&self) -> bool {
        matches!(self, Self::SignInRefused { .. }) && self.remedy() == Remedy::Reauthorize
    }

    /// A stable code of ours, or the server's own.
    pub fn code(&self) -> String {
        let own = match self {
            Self::Resolve { .. } => "dns",
            Self::Connect { .. } => "connect",
            Self::Tls { .. } => "tls",
            Self::Unprotected { .. } => "unprotected",
            Self::NoMechanism { .. } => "no-mechanism",
            Self::BadName => "bad-name",
            Self::Garbled { .. } => "garbled",
            Self::OverLimit { .. } => "over-limit",
            Self::Lost { .. } => "connection-lost",
            Self::Spool(_) => "disk",
            Self::Timeout { .. } => "timeout",
            Self::Greeting { refusal, .. } => return refusal.code.clone().unwrap_or_else(|| "greeting".into()),
            Self::SignInRefused { refusal, status, .. } => {
                let code = refusal.code.clone().or_else(|| status.clone());
                return code.unwrap_or_else(|| "sign-in-refused".into());
            }
            Self::Refused { refusal, .. } => return refusal.code.clone().unwrap_or_else(|| "err".into()),
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
            Self::Greeting { refusal, .. } => refusal
                .advice()
                .unwrap_or("Check host, port and tls in the configuration; it is tried again by itself")
                .into(),
            Self::Unprotected { .. } => "Use tls = \"implicit\" with port 995; no credential was sent".into(),
            Self::NoMechanism { .. } => {
                "Check sasl in the configuration, and whether this server takes passwords or tokens at all".into()
            }
            Self::BadName => "Correct login and password; a secret file may end with one line end, which is left out".into(),
            Self::SignInRefused { refusal, by_token, .. } => sign_in_advice(refusal, *by_token),
            Self::Refused { step: Step::Settle, refusal } => refusal
                .advice()
                .unwrap_or("Check after in the configuration, and the rights of this mailbox; the mail itself is taken all the same")
                .into(),
            Self::Refused { refusal, .. } => refusal
                .advice()
                .unwrap_or("It is tried again by itself; if it lasts, ask the server's administrator")
                .into(),
            Self::Garbled { .. } | Self::OverLimit { .. } => {
                "Check host and port; if this is the right server, its administrator should look at it. Other mailboxes go on".into()
            }
            Self::Spool(_) => "Make room on the disk of state_dir; it is tried again by itself".into(),
            Self::Lost { .. } | Self::Timeout { .. } => "Nothing is to be done: it is tried again by itself".into(),
        }
    }
}

/// Known texts of large providers, and what they mean.
const SIGN_IN_ADVICE: [(&str, &str); 6] = [
    (
        "Logon failure",
        "Exchange Online takes no passwords any more: set up an [[integration]] with provider = \"microsoft\"",
    ),
    (
        "unknown user name or bad password",
        "Check that POP is enabled for this mailbox and that who signs in has FullAccess: an application needs the permission POP.AccessAsApp and New-ServicePrincipal, a person the scope POP.AccessAsUser.All",
    ),
    (
        "Application-specific password required",
        "Make an app password in the Google account, or set up an [[integration]] with provider = \"google\"",
    ),
    ("not enabled for POP", "Switch POP on in the settings of the mailbox"),
    (
        "web browser",
        "The provider holds the sign-in back: open the mailbox once in a browser and confirm that it was you",
    ),
    (
        "locked",
        "Another client holds the mailbox: POP3 lets in one at a time. It is tried again by itself",
    ),
];

fn sign_in_advice(refusal: &Refusal, by_token: bool) -> String {
    if let Some(advice) = refusal.advice() {
        return advice.to_owned();
    }
    let known = SIGN_IN_ADVICE.iter().find(|(text, _)| refusal.text.contains(text));
    match (known, by_token) {
        (Some((_, advice)), _) => (*advice).to_owned(),
        (None, true) => "Check that the login may open this mailbox and that POP is enabled for it, then sign in again with `mailintake authorize NAME`".into(),
        (None, false) => {
            "Put the right password into the secret file and `systemctl reload mailintake`; after five wrong tries servers lock accounts, so we try seldom".into()
        }
    }
}
