//! Why a sign-in failed, in words for the person who signed in.
//! It never holds a code or token.

use crate::broker::TokenError;
use crate::fault::Remedy;
use crate::store::StoreError;

/// Why a sign-in failed. Each message says what is wrong, a semicolon, and what to do next, since it is shown to
/// the person.
#[derive(Debug, thiserror::Error)]
pub enum AuthorizeError {
    /// The state parameter is not that of an open sign-in.
    #[error("this sign-in is not one that was begun here; begin again with `mailintake authorize NAME`")]
    Unknown,
    /// The answer came a second time.
    #[error(
        "this sign-in was used already; if the terminal says that it went well, nothing is to be done, else begin again with `mailintake authorize NAME`"
    )]
    Used,
    /// The answer came too late.
    #[error("this sign-in is older than 15 minutes; begin again with `mailintake authorize NAME`")]
    TooOld,
    /// What came back is no answer of a provider.
    #[error("that is no answer of the provider; it has `state=` and `code=` or `error=`")]
    NoAnswer,
    /// The provider refused.
    #[error("{summary} ({code}); {remedy}")]
    Refused {
        /// The provider's code.
        code: String,
        /// What is wrong.
        summary: String,
        /// What to do.
        remedy: String,
        /// The same for programs.
        asks: Remedy,
    },
    /// Somebody else signed in.
    #[error(
        "signed in as {found}, but the grant is for {expected}; sign out at the provider or use a private window, then: {command}. If both are one account, set login to {found}"
    )]
    WrongAccount {
        /// Whose grant it is.
        expected: String,
        /// Who signed in.
        found: String,
        /// What to type.
        command: String,
    },
    /// The answer does not belong to this sign-in.
    #[error("the provider's answer was not accepted: {0}; begin again")]
    Forged(&'static str),
    /// Not all was granted.
    #[error("not granted: {scopes}; sign in again and leave everything ticked: {command}")]
    MissingScopes {
        /// What is missing.
        scopes: String,
        /// What to type.
        command: String,
    },
    /// There was no refresh token.
    #[error(
        "the provider gave no refresh token, so the sign-in would end within the hour; add the scope offline_access, or what the provider wants instead, to the integration"
    )]
    NoRefreshToken,
    /// The integration signs in by itself.
    #[error("{integration} signs in by itself; `mailintake test {integration}` tries it")]
    NoPersonNeeded {
        /// The integration.
        integration: String,
    },
    /// The integration has another flow than what was asked for.
    #[error("{integration} has the flow {flow}; sign in with {instead}")]
    OtherFlow {
        /// The integration.
        integration: String,
        /// Its flow.
        flow: &'static str,
        /// The option that fits.
        instead: &'static str,
    },
    /// Nobody has entered the code in time.
    #[error("nobody has entered the code in time; begin again")]
    TooLate,
    /// The tokens could not be kept, or the provider's endpoints are not known.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AuthorizeError {
    /// What is wrong, in a few words.
    pub fn title(&self) -> &'static str {
        match self {
            Self::Unknown | Self::NoAnswer => "Unknown sign-in",
            Self::Used => "Used already",
            Self::TooOld | Self::TooLate => "Too late",
            Self::Refused { code, .. } if code == "access_denied" => "Declined",
            Self::Refused { .. } => "The provider refused",
            Self::WrongAccount { .. } => "Wrong account",
            Self::Forged(_) => "Not accepted",
            Self::MissingScopes { .. } => "Not all was granted",
            Self::NoRefreshToken
            | Self::NoPersonNeeded { .. }
            | Self::OtherFlow { .. }
            | Self::Token(_)
            | Self::Store(_) => "Not signed in",
        }
    }

    /// What is wrong, and what to do next.
    pub fn parts(&self) -> (String, String) {
        if let Self::Refused {
            code, summary, remedy, ..
        } = self
        {
            return (format!("{summary} ({code})"), remedy.clone());
        }
        let text = self.to_string();
        match text.split_once("; ") {
            Some((what, next)) => (what.to_owned(), next.to_owned()),
            None => (text, "begin again with `mailintake authorize NAME`".to_owned()),
        }
    }

    /// What it asks for.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Unknown
            | Self::Used
            | Self::TooOld
            | Self::TooLate
            | Self::NoAnswer
            | Self::WrongAccount { .. }
            | Self::Forged(_)
            | Self::MissingScopes { .. } => Remedy::Reauthorize,
            Self::Refused { asks, .. } => *asks,
            Self::NoRefreshToken | Self::NoPersonNeeded { .. } | Self::OtherFlow { .. } => Remedy::FixConfiguration,
            Self::Token(error) => error.remedy(),
            Self::Store(error) => error.remedy(),
        }
    }
}
