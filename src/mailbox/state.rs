//! The states of a mailbox, by the words that `status` has for them.
//! It never decides which one holds: the worker does.

/// The state of a mailbox as `status` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailboxState {
    /// Signing in.
    Connecting,
    /// Caught up, and waiting for mail.
    Watching,
    /// Taking mail.
    Fetching,
    /// Waiting before the next try.
    BackingOff,
    /// A person must sign in.
    NeedsAuthorization,
    /// An administrator must act at the provider.
    NeedsAdmin,
    /// Our configuration is refused, for example the password.
    Misconfigured,
    /// Nobody watches it.
    Stopped,
}

impl MailboxState {
    /// All states.
    pub const ALL: [Self; 8] = [
        Self::Connecting,
        Self::Watching,
        Self::Fetching,
        Self::BackingOff,
        Self::NeedsAuthorization,
        Self::NeedsAdmin,
        Self::Misconfigured,
        Self::Stopped,
    ];

    /// The word for it in JSON and SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Watching => "watching",
            Self::Fetching => "fetching",
            Self::BackingOff => "backing-off",
            Self::NeedsAuthorization => "needs-authorization",
            Self::NeedsAdmin => "needs-admin",
            Self::Misconfigured => "misconfigured",
            Self::Stopped => "stopped",
        }
    }
}
