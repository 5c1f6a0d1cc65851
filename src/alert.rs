//! What an alert is about, and when it is told again. Pure facts: `notice` raises and resolves.

use std::time::Duration;

use crate::grant::Problem;
use crate::time::Timestamp;

/// What must be known or done. The words are stable: scripts and journal filters rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AlertKind {
    /// A person must sign in again.
    ReauthorizationRequired,
    /// An administrator must act at the provider.
    AdminActionRequired,
    /// A password is refused.
    CredentialsRefused,
    /// Our configuration is refused by the provider or server.
    ConfigurationRefused,
    /// A client secret or password ends soon.
    SecretExpiring,
    /// A client certificate ends soon.
    CertificateExpiring,
    /// A refresh token ends soon.
    GrantExpiring,
    /// The token endpoint does not answer properly.
    TokenRefreshFailing,
    /// The mail server cannot be reached.
    MailboxUnreachable,
    /// A worker did not come back within its own bound.
    MailboxStalled,
    /// Somebody else ingests the same mailbox.
    MailboxShared,
    /// The server renumbered a folder.
    UidvalidityChanged,
    /// A message could not be read; its bytes are kept.
    MessageQuarantined,
    /// Mail, webhook or command does not get out.
    OutgoingFailing,
    /// The disk is full, or nearly so.
    DiskLow,
    /// We stopped answering somebody, to end a mail loop.
    LoopSuppressed,
}

impl AlertKind {
    /// All kinds.
    pub const ALL: [Self; 16] = [
        Self::ReauthorizationRequired,
        Self::AdminActionRequired,
        Self::CredentialsRefused,
        Self::ConfigurationRefused,
        Self::SecretExpiring,
        Self::CertificateExpiring,
        Self::GrantExpiring,
        Self::TokenRefreshFailing,
        Self::MailboxUnreachable,
        Self::MailboxStalled,
        Self::MailboxShared,
        Self::UidvalidityChanged,
        Self::MessageQuarantined,
        Self::OutgoingFailing,
        Self::DiskLow,
        Self::LoopSuppressed,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReauthorizationRequired => "reauthorization-required",
            Self::AdminActionRequired => "admin-action-required",
            Self::CredentialsRefused => "credentials-refused",
            Self::ConfigurationRefused => "configuration-refused",
            Self::SecretExpiring => "secret-expiring",
            Self::CertificateExpiring => "certificate-expiring",
            Self::GrantExpiring => "grant-expiring",
            Self::TokenRefreshFailing => "token-refresh-failing",
            Self::MailboxUnreachable => "mailbox-unreachable",
            Self::MailboxStalled => "mailbox-stalled",
            Self::MailboxShared => "mailbox-shared",
            Self::UidvalidityChanged => "uidvalidity-changed",
            Self::MessageQuarantined => "message-quarantined",
            Self::OutgoingFailing => "outgoing-failing",
            Self::DiskLow => "disk-low",
            Self::LoopSuppressed => "loop-suppressed",
        }
    }

    /// The kind of a word from the database.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// How bad it is: critical where mail has stopped.
    pub fn severity(self) -> Severity {
        match self {
            Self::ReauthorizationRequired
            | Self::AdminActionRequired
            | Self::CredentialsRefused
            | Self::ConfigurationRefused
            | Self::MailboxUnreachable
            | Self::MailboxStalled
            | Self::OutgoingFailing
            | Self::DiskLow => Severity::Critical,
            Self::SecretExpiring
            | Self::CertificateExpiring
            | Self::GrantExpiring
            | Self::TokenRefreshFailing
            | Self::MailboxShared
            | Self::UidvalidityChanged
            | Self::MessageQuarantined
            | Self::LoopSuppressed => Severity::Warning,
        }
    }

    /// Whether it is told again as its end comes near, not as time goes by.
    pub fn is_told_by_date(self) -> bool {
        matches!(self, Self::SecretExpiring | Self::CertificateExpiring)
    }

    /// The `MESSAGE_ID` of the journal entry and of its text in the shipped catalog, 32 hex digits.
    pub fn catalog_id(self) -> &'static str {
        match self {
            Self::ReauthorizationRequired => "5d1f0c2a7b9e4c61a3f8d2e4b6c70101",
            Self::AdminActionRequired => "5d1f0c2a7b9e4c61a3f8d2e4b6c70102",
            Self::CredentialsRefused => "5d1f0c2a7b9e4c61a3f8d2e4b6c70103",
            Self::ConfigurationRefused => "5d1f0c2a7b9e4c61a3f8d2e4b6c70104",
            Self::SecretExpiring => "5d1f0c2a7b9e4c61a3f8d2e4b6c70105",
            Self::CertificateExpiring => "5d1f0c2a7b9e4c61a3f8d2e4b6c70106",
            Self::GrantExpiring => "5d1f0c2a7b9e4c61a3f8d2e4b6c70107",
            Self::TokenRefreshFailing => "5d1f0c2a7b9e4c61a3f8d2e4b6c70108",
            Self::MailboxUnreachable => "5d1f0c2a7b9e4c61a3f8d2e4b6c70109",
            Self::MailboxStalled => "5d1f0c2a7b9e4c61a3f8d2e4b6c7010a",
            Self::MailboxShared => "5d1f0c2a7b9e4c61a3f8d2e4b6c7010b",
            Self::UidvalidityChanged => "5d1f0c2a7b9e4c61a3f8d2e4b6c7010c",
            Self::MessageQuarantined => "5d1f0c2a7b9e4c61a3f8d2e4b6c7010d",
            Self::OutgoingFailing => "5d1f0c2a7b9e4c61a3f8d2e4b6c7010e",
            Self::DiskLow => "5d1f0c2a7b9e4c61a3f8d2e4b6c7010f",
            Self::LoopSuppressed => "5d1f0c2a7b9e4c61a3f8d2e4b6c70110",
        }
    }
}

/// How bad an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Something should be done soon.
    Warning,
    /// Mail has stopped.
    Critical,
}

impl Severity {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// What is wrong with whom: what raises an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What must be known or done.
    pub kind: AlertKind,
    /// The integration, mailbox, smtp server or path.
    pub subject: String,
    /// Whose grant, where the subject is an integration; its client identifier, where it is about the client.
    pub login: Option<String>,
    /// Code, summary and remedy.
    pub problem: Problem,
}

/// Codes of what ends so soon, or has ended, that mail is about to stop.
pub const URGENT_CODES: [&str; 3] = ["expires-within-7-days", "expires-within-1-day", "expired"];
/// Stands as login of an alert about several logins of one integration.
pub const SEVERAL: &str = "*";

impl Finding {
    /// How bad it is: that of its kind, but for an end that has come near.
    pub fn severity(&self) -> Severity {
        match self.kind {
            AlertKind::SecretExpiring | AlertKind::CertificateExpiring
                if URGENT_CODES.contains(&self.problem.code.as_str()) =>
            {
                Severity::Critical
            }
            kind => kind.severity(),
        }
    }
}

/// Whether an open alert is due to be told again: `since` it was raised, `reminders` told so far.
/// After the last delay it is told each time that this has passed again.
pub fn is_reminder_due(since: Timestamp, reminders: u32, remind_after: &[Duration], now: Timestamp) -> bool {
    let Some(last) = remind_after.last() else {
        return false;
    };
    let index = usize::try_from(reminders).unwrap_or(usize::MAX);
    let due = if let Some(delay) = remind_after.get(index) {
        since.plus(*delay)
    } else {
        let further = u32::try_from(index - remind_after.len() + 2).unwrap_or(u32::MAX);
        since.plus(last.saturating_mul(further))
    };
    now >= due
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reminders_come_after_the_stated_delays_and_then_each_last_one() {
        let hour = Duration::from_hours(1);
        let delays = [hour, hour * 6, hour * 24];
        let at = |hours: i64, told| is_reminder_due(Timestamp(0), told, &delays, Timestamp(hours * 3600));
        assert!(!at(0, 0));
        assert!(at(1, 0) && !at(5, 1) && at(6, 1) && at(24, 2));
        assert!(!at(47, 3) && at(48, 3) && !at(71, 4) && at(72, 4));
        assert!(!is_reminder_due(Timestamp(0), 0, &[], Timestamp(i64::MAX)));
    }

    #[test]
    fn words_and_catalog_ids_are_unique() {
        let words: std::collections::HashSet<_> = AlertKind::ALL.iter().map(|k| k.as_str()).collect();
        let ids: std::collections::HashSet<_> = AlertKind::ALL.iter().map(|k| k.catalog_id()).collect();
        assert_eq!((words.len(), ids.len()), (16, 16));
        assert!(ids.iter().all(|id| id.len() == 32));
    }
}
