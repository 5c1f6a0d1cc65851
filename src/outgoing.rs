//! Where mail, webhooks and commands go out: settings that the configuration builds and the outbox uses.
//! It never sends anything.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::grant::GrantRef;
use crate::mailbox::{Sasl, Tls};
use crate::project::Glob;
use crate::secret::Secret;
use crate::time::Timestamp;

/// The names of everything that happens, in the journal (`EVENT`) and to webhooks. They are stable.
pub const EVENTS: [&str; 14] = [
    "daemon.started",
    "mailbox.connected",
    "mailbox.disconnected",
    "message.ingested",
    "token.refreshed",
    "token.refresh_failed",
    "alert.raised",
    "alert.reminded",
    "alert.resolved",
    "config.reloaded",
    "config.refused",
    "issue.created",
    "comment.added",
    "server_action.done",
];

/// One `[[smtp]]`, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Smtp {
    /// What it is called; the host where the configuration gives no name.
    pub name: String,
    /// Host name or address; the certificate must be for it.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How the connection is protected; never [`Tls::None`].
    pub tls: Tls,
    /// Private roots that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// From of alert mail.
    pub from: Option<String>,
    /// How it signs in.
    pub sign_in: SmtpSignIn,
    /// Which mechanism may be used.
    pub sasl: Sasl,
}

impl Smtp {
    /// From of alert mail: as configured, else the user name where that is an address.
    pub fn alert_sender(&self) -> Option<&str> {
        let user = match &self.sign_in {
            SmtpSignIn::Anonymous => None,
            SmtpSignIn::Password { username, .. } => Some(username.as_str()),
            SmtpSignIn::Token { sasl_user, .. } => Some(sasl_user.as_str()),
        };
        self.from.as_deref().or(user.filter(|user| user.contains('@')))
    }
}

/// How we sign in at an smtp server.
#[derive(Debug, Clone, PartialEq)]
pub enum SmtpSignIn {
    /// Not at all: a relay that knows us by our network address.
    Anonymous,
    /// By user name and password.
    Password {
        /// The user name.
        username: String,
        /// The password.
        password: Secret,
        /// When the password ends; `None` for "never" and for "not stated".
        expires: Option<Timestamp>,
    },
    /// By an OAuth 2.0 access token.
    Token {
        /// Whose grant of which integration.
        grant: GrantRef,
        /// The SASL user name; the login unless `username` says otherwise.
        sasl_user: String,
    },
}

/// One `[[webhook]]`, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Webhook {
    /// Where it is posted: https, or http on loopback.
    pub url: String,
    /// Signs the body as Standard Webhooks do; without it nothing is signed.
    pub secret: Option<Secret>,
    /// Which of [`EVENTS`] it gets; empty for all.
    pub events: Vec<Glob>,
}

impl Webhook {
    /// Whether it gets an event.
    pub fn wants(&self, event: &str) -> bool {
        self.events.is_empty() || self.events.iter().any(|pattern| pattern.matches(event))
    }
}

/// `[alerts]`: who is told, beside journal and `status`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Alerts {
    /// Addresses that get a mail.
    pub email: Vec<String>,
    /// A program with its arguments; empty for none.
    pub command: Vec<String>,
    /// When an open alert is told again, each since it was raised, ascending.
    pub remind_after: Vec<Duration>,
}

/// All that is told of what happens.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Receivers {
    /// The servers that alert mail may go by, in the order of the configuration.
    pub smtp: Vec<Smtp>,
    /// What is called.
    pub webhooks: Vec<Webhook>,
    /// Who gets a mail, and which command is run.
    pub alerts: Alerts,
}

impl Receivers {
    /// Whether any webhook wants an event.
    pub fn want(&self, event: &str) -> bool {
        self.webhooks.iter().any(|webhook| webhook.wants(event))
    }
}

/// `[retention]`: how long things are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Original bytes, since they were ingested; those of held and quarantined mail are kept longer.
    pub raw_messages: Duration,
}

/// By what a delivery goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Channel {
    /// Mail, by an smtp server.
    Mail,
    /// An HTTP POST.
    Webhook,
    /// The alert command.
    Command,
}

impl Channel {
    const ALL: [Self; 3] = [Self::Mail, Self::Webhook, Self::Command];

    /// The word for it in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mail => "mail",
            Self::Webhook => "webhook",
            Self::Command => "command",
        }
    }

    /// The channel of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|channel| channel.as_str() == word)
    }
}

/// Why something goes out; decides what a lost answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutgoingKind {
    /// The automatic reply to a new issue: at most once.
    Acknowledgement,
    /// A comment that is mailed: at least once, with the same Message-ID.
    Reply,
    /// An alert, its reminder or its end: at least once.
    Alert,
    /// An event for a webhook: at least once, with the same id.
    Event,
}

impl OutgoingKind {
    const ALL: [Self; 4] = [Self::Acknowledgement, Self::Reply, Self::Alert, Self::Event];

    /// The word for it in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Acknowledgement => "acknowledgement",
            Self::Reply => "reply",
            Self::Alert => "alert",
            Self::Event => "event",
        }
    }

    /// The kind of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// What a row of the channel mail holds, as JSON: an envelope and a mail that is composed for good, so that every try
/// sends the same bytes with the same Message-ID.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailPayload {
    /// MAIL FROM; `None` is the null return path, which no mail system answers (RFC 3834 §3.3).
    pub sender: Option<String>,
    /// RCPT TO, at least one.
    pub recipients: Vec<String>,
    /// The mail as RFC 5322 wants it: CRLF lines, nothing but ASCII.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_gets_the_events_that_fit() {
        let webhook = |patterns: &[&str]| Webhook {
            url: "https://hooks.example.org/".to_owned(),
            secret: None,
            events: patterns.iter().map(|pattern| Glob::new(pattern)).collect(),
        };
        assert!(webhook(&[]).wants("issue.created"));
        assert!(webhook(&["alert.*", "issue.created"]).wants("alert.raised"));
        assert!(!webhook(&["alert.*"]).wants("issue.created"));
    }
}
