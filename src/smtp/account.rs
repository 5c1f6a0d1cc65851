//! Who signs in where: what refusals are about, and what advice names. Pure.

use super::Credential;
use crate::outgoing::Smtp;

/// What is signed in with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum With {
    /// Nothing; of a row of the catalogue, whatever it is.
    Any,
    /// A token.
    Token,
    /// A password.
    Password,
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
    /// Who signs in where.
    pub(super) fn of(server: &Smtp, credential: &Credential) -> Self {
        let (user, with) = match credential {
            Credential::None => (None, With::Any),
            Credential::Password { username, .. } => (Some(username.clone()), With::Password),
            Credential::Token { user, .. } => (Some(user.clone()), With::Token),
        };
        Self {
            name: server.name.clone(),
            host: server.host.clone(),
            user,
            with,
        }
    }

    /// Whether it is Azure Communication Services: by its host, or by a user name of resource, application and tenant
    /// where a gateway stands before it.
    pub(super) fn is_azure(&self) -> bool {
        let is_guid = |text: &&str| text.len() == 36 && text.split('-').map(str::len).eq([8, 4, 4, 4, 12]);
        let parts: Vec<&str> = self.user.iter().flat_map(|user| user.split(['.', '|'])).collect();
        self.host.to_lowercase().ends_with(".azurecomm.net")
            || matches!(parts.as_slice(), [_, application, tenant] if is_guid(application) && is_guid(tenant))
    }

    pub(super) fn fill(&self, advice: &str) -> String {
        advice
            .replace("{user}", self.user.as_deref().unwrap_or("the user"))
            .replace("{authorize}", &format!("`mailintake authorize smtp/{}`", self.name))
    }
}
