//! How a server for outgoing mail fails us, by what a caller can tell apart, with the advice for the administrator.
//! Control flow follows steps, variants and codes; a server's words only choose the advice.

use std::time::Duration;

use super::auth::Challenge;
use super::catalogue::{self, AZURE_SENDER, AZURE_SIGN_IN, Class, With};
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

/// Who wanted something of whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The name of the smtp server in the configuration.
    pub name: String,
    /// Its host.
    pub host: String,
    /// The user name, where there is one.
    pub user: Option<String>,
    /// What it signs in with.
    pub(super) with: With,
}

impl Account {
    /// Whether it is Azure Communication Services: by its host, or by a user name of resource, application and tenant
    /// where a gateway stands before it.
    fn is_azure(&self) -> bool {
        let is_guid = |text: &&str| text.len() == 36 && text.split('-').map(str::len).eq([8, 4, 4, 4, 12]);
        let parts: Vec<&str> = self.user.iter().flat_map(|user| user.split(['.', '|'])).collect();
        self.host.to_lowercase().ends_with(".azurecomm.net")
            || matches!(parts.as_slice(), [_, application, tenant] if is_guid(application) && is_guid(tenant))
    }

    fn fill(&self, advice: &str) -> String {
        advice
            .replace("{user}", self.user.as_deref().unwrap_or("the user"))
            .replace("{authorize}", &format!("`mailintake authorize smtp/{}`", self.name))
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
        account: Account,
        /// What the server offers, and which of it is refused all the same.
        offered: String,
        /// What we can use.
        able: String,
    },
    /// It refused to sign us in.
    #[error("{} refused to sign in: {refusal}", account.host)]
    SignInRefused {
        /// Who wanted to sign in.
        account: Account,
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
        account: Account,
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
            Self::TooLarge { .. } | Self::Unable { .. } => Remedy::Quarantine,
            Self::Recipients { refused } if refused.iter().any(|(_, refusal)| refusal.is_transient()) => Remedy::RETRY,
            Self::Recipients { .. } => Remedy::Quarantine,
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
            remedy: self.advice(),
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Resolve { host, .. } => format!("Check the name {host} in the configuration and the DNS of this machine"),
            Self::Connect { host, port, .. } => {
                format!("Check host and port in the configuration, and whether a firewall lets us reach {host}:{port}")
            }
            Self::Tls { host, .. } => format!(
                "Have the certificate of {host} renewed or corrected; if a private CA signed it, name it as ca_file. No credential was sent"
            ),
            Self::NoStartTls { .. } => {
                "Use tls = \"implicit\" with port 465 if the server has it, or have STARTTLS switched on there; no credential was sent".into()
            }
            Self::Injected { .. } => {
                "Use tls = \"implicit\" with port 465, and find out what stands between us and the server; no credential was sent".into()
            }
            Self::NoMechanism { account, .. } => no_mechanism(account),
            Self::SignInRefused { account, refusal, .. } => sign_in_advice(account, refusal),
            Self::Refused { step, account, refusal } => refused_advice(*step, account, refusal),
            Self::Recipients { .. } => "Check the address; the server itself works".into(),
            Self::TooLarge { .. } => "Have the server's limit raised, or send less; this message is not sent".into(),
            Self::Unable { extension, .. } => {
                format!("Use a server that offers {extension}; this message is not sent")
            }
            Self::BadSender => "Correct from in the configuration".into(),
            Self::Garbled { step: Step::Greeting, .. } => {
                "Check host, port and tls in the configuration: 465 is implicit, 587 starttls".into()
            }
            Self::Timeout { step: Step::Greeting } | Self::Lost { step: Step::Greeting, .. } => {
                "Check tls in the configuration (port 465 is implicit, 587 starttls); it is tried again by itself".into()
            }
            Self::Garbled { .. } | Self::Lost { .. } | Self::Timeout { .. } => {
                "Nothing is to be done: it is tried again by itself".into()
            }
        }
    }
}

fn no_mechanism(account: &Account) -> String {
    let way = match account.with {
        With::Token => {
            "this server takes no tokens: use username and password instead of integration, or the host of the provider"
        }
        With::Password => {
            "this server takes no passwords over this connection: set up an [[integration]], or have PLAIN or LOGIN switched on"
        }
        With::Any => "set username and password, or integration",
    };
    format!("Set sasl = \"auto\" unless it is; {way}")
}

fn sign_in_advice(account: &Account, refusal: &Refusal) -> String {
    if refusal.code == 535 && account.is_azure() {
        return AZURE_SIGN_IN.to_owned();
    }
    if let Some(entry) = catalogue::find(refusal, account.with) {
        return account.fill(entry.advice);
    }
    if refusal.is_transient() {
        return "Nothing is to be done: it is tried again by itself".into();
    }
    account.fill(match account.with {
        With::Token => "Check that {user} may send by this server, then sign in again: {authorize}",
        With::Password | With::Any => {
            "Put the right user name and password into the configuration and `systemctl reload mailintake`; after some wrong tries servers lock accounts, so we try seldom"
        }
    })
}

fn refused_advice(step: Step, account: &Account, refusal: &Refusal) -> String {
    if let Some(entry) = catalogue::find(refusal, account.with) {
        return account.fill(entry.advice);
    }
    match class(step, refusal, account.with) {
        Class::Configuration if account.is_azure() => AZURE_SENDER.to_owned(),
        Class::Configuration => account.fill("Set from to an address that {user} may send as at this server"),
        Class::Message if account.is_azure() => AZURE_SENDER.to_owned(),
        Class::Message => "Look at the server's words: it does not want this message; others are sent".into(),
        Class::Transient(_) | Class::Credential | Class::Administrator => {
            "It is tried again by itself; if it lasts, ask the server's administrator".into()
        }
    }
}

/// Whose turn it is: by the catalogue, else by the step and the first digit (RFC 5321 §4.2.1).
fn class(step: Step, refusal: &Refusal, with: With) -> Class {
    if let Some(entry) = catalogue::find(refusal, with) {
        return entry.class;
    }
    match (step, refusal.code) {
        (_, 421 | 400..=499) | (Step::Greeting | Step::Hello | Step::Tls | Step::Connect | Step::Quit, _) => {
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
