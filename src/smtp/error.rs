//! How a server for outgoing mail fails us, by what a caller can tell apart, with the advice for the administrator.
//! Control flow follows steps, variants and codes; a server's words only choose the advice.

use std::sync::Arc;
use std::time::Duration;

use super::account::{Account, With};
use super::advice;
use super::auth::Challenge;
use super::catalogue::{self, Class};
use super::reply::Refusal;
use crate::fault::Remedy;
use crate::grant::Problem;

/// What was being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Opening the connection.
    Connect,
    /// Waiting for the server's first words.
    Greeting,
    /// EHLO, before and after TLS.
    Hello,
    /// STARTTLS, and TLS itself.
    Tls,
    /// AUTH.
    SignIn,
    /// MAIL, and RSET before it.
    Sender,
    /// RCPT.
    Recipient,
    /// DATA.
    Data,
    /// The message up to its end.
    Content,
    /// The answer to a complete message.
    Answer,
    /// QUIT.
    Quit,
}

impl Step {
    /// The words for it in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connecting",
            Self::Greeting => "waiting for the greeting",
            Self::Hello => "EHLO",
            Self::Tls => "beginning TLS",
            Self::SignIn => "signing in",
            Self::Sender => "naming the sender",
            Self::Recipient => "naming a recipient",
            Self::Data => "announcing the message",
            Self::Content => "sending the message",
            Self::Answer => "waiting for the answer to the whole message",
            Self::Quit => "saying goodbye",
        }
    }
}

/// How a server for outgoing mail fails us.
#[derive(Debug, thiserror::Error)]
pub enum SmtpError {
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
    /// It does not offer STARTTLS, or refuses it.
    #[error("{host} does not offer STARTTLS, so nothing is sent")]
    NoStartTls {
        /// The name.
        host: String,
    },
    /// It sent more than its answer to STARTTLS: somebody may be between us.
    #[error("{host} sent text behind its answer to STARTTLS, which is not trusted")]
    Injected {
        /// The name.
        host: String,
    },
    /// None of the ways to sign in that we can use is offered.
    #[error("{} offers {offered} to sign in; we can use {able}", account.host)]
    NoMechanism {
        /// Who wanted to sign in.
        account: Arc<Account>,
        /// What the server offers, and which of it is refused all the same.
        offered: String,
        /// What we can use.
        able: String,
    },
    /// It refused to sign us in.
    #[error("{} refused to sign in: {refusal}", account.host)]
    SignInRefused {
        /// Who wanted to sign in.
        account: Arc<Account>,
        /// Codes and words.
        refusal: Refusal,
        /// What it answered to the token.
        challenge: Option<Challenge>,
    },
    /// It refused a step.
    #[error("{} refused ({}): {refusal}", account.host, step.as_str())]
    Refused {
        /// Which step.
        step: Step,
        /// Who wanted it.
        account: Arc<Account>,
        /// Codes and words.
        refusal: Refusal,
    },
    /// It refused each of the recipients.
    #[error("the server refused {}", told(refused))]
    Recipients {
        /// Each with its refusal.
        refused: Vec<(String, Refusal)>,
    },
    /// The message is larger than the server says that it takes.
    #[error("the message has {size} bytes, and the server takes {limit}")]
    TooLarge {
        /// Its size on the wire, in bytes.
        size: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The message or an address needs what the server lacks.
    #[error("{host} lacks {extension}, which this message needs")]
    Unable {
        /// The name.
        host: String,
        /// SMTPUTF8 or 8BITMIME.
        extension: &'static str,
    },
    /// The sender is no address.
    #[error("the sender is no mail address")]
    BadSender,
    /// What came is no reply of SMTP.
    #[error("no SMTP reply ({}): {text}", step.as_str())]
    Garbled {
        /// What was being done.
        step: Step,
        /// What came.
        text: String,
    },
    /// The connection broke.
    #[error("the connection broke ({}): {reason}", step.as_str())]
    Lost {
        /// What was being done.
        step: Step,
        /// Why.
        reason: String,
    },
    /// It did not answer in time.
    #[error("no answer in time ({})", step.as_str())]
    Timeout {
        /// What was being done.
        step: Step,
    },
}

fn told(refused: &[(String, Refusal)]) -> String {
    match refused {
        [] => "all recipients".to_owned(),
        [(_, refusal)] => format!("the recipient: {refusal}"),
        [(_, first), ..] => format!("all {} recipients, the first: {first}", refused.len()),
    }
}

impl SmtpError {
    /// What it asks for.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Resolve { .. }
            | Self::Connect { .. }
            | Self::Tls { .. }
            | Self::Injected { .. }
            | Self::Garbled { .. }
            | Self::Lost { .. }
            | Self::Timeout { .. } => Remedy::RETRY,
            Self::NoStartTls { .. } | Self::NoMechanism { .. } | Self::BadSender => Remedy::FixConfiguration,
            Self::Recipients { refused } if refused.iter().any(|(_, refusal)| refusal.is_transient()) => Remedy::RETRY,
            Self::TooLarge { .. } | Self::Unable { .. } | Self::Recipients { .. } => Remedy::Quarantine,
            Self::SignInRefused { account, refusal, .. } => remedy_of(class(Step::SignIn, refusal, account.with)),
            Self::Refused { step, account, refusal } => remedy_of(class(*step, refusal, account.with)),
        }
    }

    /// Whether the password or token itself was refused, so that a newer token may help.
    pub fn is_credential_refused(&self) -> bool {
        let Self::SignInRefused { refusal, .. } = self else {
            return false;
        };
        // 5.5.127: the token is good, but not for long enough.
        self.remedy() == Remedy::Reauthorize || refusal.enhanced.as_deref() == Some("5.5.127")
    }

    /// Whether the message may have been delivered all the same: its end was sent, and no answer came.
    pub fn is_unknown(&self) -> bool {
        matches!(
            self,
            Self::Lost { step: Step::Answer, .. }
                | Self::Timeout { step: Step::Answer }
                | Self::Garbled { step: Step::Answer, .. }
        )
    }

    /// The recipients that were refused, where all were.
    pub fn refused(&self) -> &[(String, Refusal)] {
        match self {
            Self::Recipients { refused } => refused,
            _ => &[],
        }
    }

    /// The server's own code, or a stable one of ours.
    pub fn code(&self) -> String {
        let own = match self {
            Self::Resolve { .. } => "dns",
            Self::Connect { .. } => "connect",
            Self::Tls { .. } => "tls",
            Self::NoStartTls { .. } => "no-starttls",
            Self::Injected { .. } => "unprotected",
            Self::NoMechanism { .. } => "no-mechanism",
            Self::TooLarge { .. } => "too-large",
            Self::Unable { .. } => "unable",
            Self::BadSender => "bad-sender",
            Self::Garbled { .. } => "garbled",
            Self::Lost { .. } => "connection-lost",
            Self::Timeout { .. } => "timeout",
            Self::SignInRefused { refusal, .. } | Self::Refused { refusal, .. } => return refusal.codes(),
            Self::Recipients { refused } => {
                let first = refused.first().map(|(_, refusal)| refusal.codes());
                return first.unwrap_or_else(|| "no-recipient".to_owned());
            }
        };
        own.to_owned()
    }

    /// What is wrong and what to do, for the administrator.
    pub fn problem(&self) -> Problem {
        Problem {
            code: self.code(),
            summary: crate::fault::chain(self),
            remedy: advice::of(self),
        }
    }
}

/// Whose turn it is: by the catalogue, else by the step and the first digit (RFC 5321 §4.2.1).
pub(super) fn class(step: Step, refusal: &Refusal, with: With) -> Class {
    if let Some(entry) = catalogue::find(refusal, with) {
        return entry.class;
    }
    match (step, refusal.code) {
        (_, 400..=499) | (Step::Greeting | Step::Hello | Step::Tls | Step::Connect | Step::Quit, _) => {
            Class::Transient(0)
        }
        (_, 500..=504 | 530 | 538) if step == Step::SignIn => Class::Configuration,
        (Step::SignIn, _) => Class::Credential,
        (Step::Sender, _) | (_, 530) => Class::Configuration,
        (Step::Recipient | Step::Data | Step::Content | Step::Answer, _) => Class::Message,
    }
}

fn remedy_of(class: Class) -> Remedy {
    match class {
        Class::Transient(0) => Remedy::RETRY,
        Class::Transient(minutes) => Remedy::Retry {
            after: Some(Duration::from_mins(minutes)),
        },
        Class::Credential => Remedy::Reauthorize,
        Class::Administrator => Remedy::AskAdministrator,
        Class::Configuration => Remedy::FixConfiguration,
        Class::Message => Remedy::Quarantine,
    }
}
