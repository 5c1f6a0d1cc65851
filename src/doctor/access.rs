//! What a refused sign-in means, by who signs in and how it went before, and what opens the mailbox. Pure.
//! The server's words choose advice here, never what the daemon does.

use super::claims::Service;
use super::google;
use super::microsoft::{self, Closed};
use super::provider::Token;
use crate::grant::{Flow, GrantRef};

/// What Exchange says where the token is good, but the mailbox cannot be opened.
pub(super) const UNCONNECTED: &str = "authenticated but not connected";

/// A sign-in by token that the mail server refused.
pub(super) struct Refused<'a> {
    pub(super) grant: &'a GrantRef,
    pub(super) token: &'a Token,
    /// Whose mailbox it is, as the server is told.
    pub(super) mailbox: &'a str,
    pub(super) service: Service,
    /// What the server said.
    pub(super) words: &'a str,
    /// Whether this mailbox was ever read.
    pub(super) has_worked: bool,
}

/// Another remedy than the usual, and lines to read beside it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Advice {
    pub(super) remedy: Option<String>,
    pub(super) notes: Vec<String>,
}

/// What to do about a refused sign-in.
pub(super) fn advice(refused: &Refused<'_>) -> Advice {
    let integration = &refused.grant.integration;
    let claims = refused.token.claims.as_ref();
    let is_microsoft = integration.provider.is_microsoft() || claims.is_some_and(super::Claims::is_of_microsoft);
    let is_unconnected = refused.words.to_lowercase().contains(UNCONNECTED);
    let mut notes: Vec<String> = refused
        .token
        .findings
        .iter()
        .map(|finding| format!("most likely: {finding}"))
        .collect();
    let (remedy, commands) = match (integration.flow, is_microsoft) {
        (Flow::ClientCredentials, true) => (
            "Give the application access to this mailbox in Exchange Online, as below",
            microsoft::application_access(&Closed {
                integration,
                mailbox: refused.mailbox,
                service: refused.service,
                claims,
            }),
        ),
        (Flow::AuthorizationCode | Flow::DeviceCode, true) if is_unconnected => (
            "The token is good, but the mailbox does not open for its owner: see below",
            microsoft::delegated_access(&refused.grant.login, refused.mailbox, refused.service),
        ),
        (Flow::ServiceAccount, _) => (
            "Check the domain-wide delegation below, and that the address is the primary one of a mailbox",
            google::delegation(integration),
        ),
        (Flow::AuthorizationCode | Flow::DeviceCode | Flow::ClientCredentials, _) => ("", Vec::new()),
    };
    let passing = "This mailbox has worked before, so it is most likely Exchange itself (throttling, or a move of the mailbox): it is tried again by itself. Only if it lasts for more than 30 minutes, see below";
    let remedy = if is_unconnected && refused.has_worked {
        passing
    } else {
        remedy
    };
    notes.extend(commands);
    Advice {
        remedy: Some(remedy.to_owned()).filter(|remedy| !remedy.is_empty()),
        notes,
    }
}
