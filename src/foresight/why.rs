//! Why a sign-in is expected to end: code, cause and remedy in words. Pure.

use std::time::Duration;

use super::ending::span;
use super::remedy::portal;
use crate::grant::Integration;

/// Code of a redirect URI that is registered for a single-page application.
pub(super) const SINGLE_PAGE_CODE: &str = "AADSTS700084";

/// Why an end is foreseen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Why {
    /// The provider said so when it gave the token.
    Stated,
    /// The configuration says that the Google application is in testing.
    Testing,
    /// It says nothing, but the sign-ins end like those of one in testing.
    LikeTesting,
    /// The redirect URI is registered for a single-page application.
    SinglePage,
    /// The sign-in frequency, with its code.
    Frequency(String),
    /// Two have ended at this age, with the last one's code.
    Alike(Duration, String),
    /// It is not used, and the provider forgets it after this time.
    Disuse(Duration),
}

impl Why {
    pub(super) fn code(&self) -> &str {
        match self {
            Self::Stated => "refresh-token-ends",
            Self::Testing | Self::LikeTesting => "google-testing",
            Self::SinglePage => SINGLE_PAGE_CODE,
            Self::Frequency(code) | Self::Alike(_, code) => code,
            Self::Disuse(_) => "unused",
        }
    }

    pub(super) fn cause(&self) -> String {
        match self {
            Self::Stated => "the provider said so when it gave the token".to_owned(),
            Self::Testing => "Google ends those of an application in testing after 7 days".to_owned(),
            Self::LikeTesting => "those before ended after 7 days, as those of an application in testing do".to_owned(),
            Self::SinglePage => {
                "its redirect URI is registered for a single-page application, whose sign-ins end after a day"
                    .to_owned()
            }
            Self::Frequency(_) => "Conditional Access demands a new one so often".to_owned(),
            Self::Alike(life, _) => format!("the last two ended {} after they began", span(*life)),
            Self::Disuse(life) => format!("the provider ends one that is not renewed for {}", span(*life)),
        }
    }

    /// What to do; `command` signs in again.
    pub(super) fn remedy(&self, integration: &Integration, command: &str) -> String {
        match self {
            Self::Stated => format!("Sign in again before that: `{command}`"),
            Self::Testing | Self::LikeTesting => format!(
                "Publish the app (Google Cloud console > Google Auth Platform > Audience > Publish app) or make it \
                 Internal, set publishing_status of the integration, then sign in again: `{command}`"
            ),
            Self::SinglePage => format!(
                "Open {} > App registrations > {} > Authentication: move the redirect URI from Single-page application to \
                 Web, then sign in again: `{command}`",
                portal(integration.provider).unwrap_or("the page of the provider"),
                integration.client_id
            ),
            Self::Frequency(_) => format!(
                "Sign in again before that: `{command}`. For good: exclude the application or the account from the \
                 sign-in frequency in Conditional Access, or use the flow client-credentials"
            ),
            Self::Alike(..) => format!(
                "Sign in again before that: `{command}`. For good: ask the administrator of the provider which policy \
                 ends sign-ins at that age"
            ),
            Self::Disuse(_) => format!(
                "Mend what keeps it from being renewed (`mailintake status` names it), then `mailintake test {}`",
                integration.name
            ),
        }
    }
}
