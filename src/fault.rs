//! What a failure asks for, and how its causes are printed.
//! It never decides when to try again: `time` and the loops do.

use std::error::Error;
use std::time::Duration;

/// The one question that every error type of an adapter answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing is wrong with us: try again, not before `after` where the peer stated it.
    Retry {
        /// The wait that the peer asked for, for example by `Retry-After`.
        after: Option<Duration>,
    },
    /// A person must sign in again.
    Reauthorize,
    /// An administrator must act at the provider.
    AskAdministrator,
    /// Our own configuration must be changed.
    FixConfiguration,
    /// This one message cannot be taken; the others can.
    Quarantine,
    /// The process cannot go on, for example on a damaged database.
    Abort,
}

impl Remedy {
    /// Try again by the usual backoff.
    pub const RETRY: Self = Self::Retry { after: None };
}

/// Longest text that an error chain may put into a log line, in characters: servers can answer with megabytes.
const CHAIN_LIMIT: usize = 400;

/// The message of an error with all of its causes, separated by `: `, without control characters and
/// cut at 400 characters.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(current) = next {
        let message = current.to_string();
        // Many libraries repeat their cause in their own message.
        if !text.ends_with(&message) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&message);
        }
        next = current.source();
    }
    printable(&text, CHAIN_LIMIT)
}

/// The first `limit` characters of a text, each control character replaced by a space.
pub fn printable(text: &str, limit: usize) -> String {
    let mut cut: String = text
        .chars()
        .take(limit)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(limit).is_some() {
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot select folder")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_chain_names_each_cause_once() {
        let error = Outer(std::io::Error::other("connection\nreset"));
        assert_eq!(chain(&error), "cannot select folder: connection reset");
    }

    #[test]
    fn a_long_text_is_cut() {
        assert_eq!(printable("äöüß", 3), "äöü…");
        assert_eq!(printable("äöü", 3), "äöü");
    }
}
