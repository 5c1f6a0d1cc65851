//! Why there is no access token, and what mends that.
//! It never holds a token or an answer.

use std::time::Duration;

use crate::fault::{self, Remedy};
use crate::grant::{GrantState, Problem};
use crate::seal::SealError;
use crate::store::StoreError;
use crate::time::Timestamp;

/// Why there is no access token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The grant is not well.
    #[error("no token: {} ({})", .problem.summary, .problem.code)]
    Refused {
        /// How the grant is.
        state: GrantState,
        /// Why, and what mends it.
        problem: Problem,
        /// When it is tried again.
        retry_at: Option<Timestamp>,
        /// How long that is from now.
        retry_after: Option<Duration>,
    },
    /// The database failed.
    #[error("cannot keep the tokens")]
    Store(#[from] StoreError),
    /// The token key does not fit.
    #[error("cannot open the tokens")]
    Seal(#[from] SealError),
    /// The token key was rotated meanwhile.
    #[error("the token key has just been rotated")]
    Rotated,
    /// The program stops.
    #[error("the renewal was given up because the program stops")]
    Stopped,
}

impl TokenError {
    /// What it asks for.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Refused { state, retry_after, .. } => match state {
                GrantState::Ok | GrantState::Degraded => Remedy::Retry { after: *retry_after },
                GrantState::Pending | GrantState::NeedsAuthorization => Remedy::Reauthorize,
                GrantState::NeedsAdmin => Remedy::AskAdministrator,
                GrantState::Misconfigured => Remedy::FixConfiguration,
            },
            Self::Store(error) => error.remedy(),
            Self::Seal(error) => error.remedy(),
            Self::Rotated | Self::Stopped => Remedy::RETRY,
        }
    }

    /// What is wrong and what to do, in words for the administrator.
    pub fn problem(&self) -> Problem {
        let (code, remedy) = match self {
            Self::Refused { problem, .. } => return problem.clone(),
            Self::Store(_) => (
                "database",
                "see the journal; free space on the disk of state_dir if it is full",
            ),
            Self::Seal(_) => (
                "token-key",
                "put the old token key back, or revoke the grants and sign in again",
            ),
            Self::Rotated => ("token-key-rotated", "try again"),
            Self::Stopped => ("stopped", "nothing"),
        };
        Problem {
            code: code.to_owned(),
            summary: fault::chain(self),
            remedy: remedy.to_owned(),
        }
    }
}
