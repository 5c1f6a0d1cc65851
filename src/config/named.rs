//! NAME on the command line: a mailbox, an integration or an smtp server.
//! It guesses nothing: two of one name must be told apart by their kind.

use std::sync::Arc;

use super::{Config, value};
use crate::grant::Integration;
use crate::mailbox::Mailbox;
use crate::outgoing::Smtp;

/// What a NAME stands for.
#[derive(Debug, Clone, Copy)]
pub enum Named<'c> {
    /// A mailbox.
    Mailbox(&'c Arc<Mailbox>),
    /// An integration.
    Integration(&'c Arc<Integration>),
    /// An smtp server.
    Smtp(&'c Smtp),
}

/// Why a NAME stands for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing has this name.
    #[error("no mailbox, integration or smtp server is called {name}; {advice}")]
    Unknown {
        /// The name.
        name: String,
        /// What it may have meant, or what there is.
        advice: String,
    },
    /// Several kinds have it.
    #[error("{name} names several things; write {choices}")]
    Ambiguous {
        /// The name.
        name: String,
        /// How each is written.
        choices: String,
    },
}

impl Config {
    /// What a NAME stands for: `support`, or `mailbox/support` where two kinds share one. A mailbox is also found
    /// by its address. Case does not matter.
    ///
    /// # Errors
    /// Any [`NameError`].
    pub fn named(&self, name: &str) -> Result<Named<'_>, NameError> {
        let (kind, bare) = match name.split_once('/') {
            Some((kind @ ("mailbox" | "integration" | "smtp"), bare)) => (Some(kind), bare),
            Some(_) | None => (None, name),
        };
        let mut found = self.all_named(bare);
        found.retain(|(own, _)| kind.is_none_or(|kind| kind == *own));
        if found.is_empty() {
            // A label may have a slash of its own.
            found = self.all_named(name);
        }
        match found.as_slice() {
            [(_, named)] => Ok(*named),
            [] => Err(self.unknown(name)),
            several => {
                let choices: Vec<String> = several.iter().map(|(kind, _)| format!("{kind}/{bare}")).collect();
                Err(NameError::Ambiguous {
                    name: name.to_owned(),
                    choices: choices.join(" or "),
                })
            }
        }
    }

    /// The mailbox of a name or address, written with or without `mailbox/`.
    pub fn mailbox_named(&self, name: &str) -> Option<&Arc<Mailbox>> {
        let name = name.strip_prefix("mailbox/").unwrap_or(name);
        let by_name = self
            .mailboxes
            .iter()
            .find(|mailbox| mailbox.name.eq_ignore_ascii_case(name));
        by_name.or_else(|| {
            self.mailboxes
                .iter()
                .find(|mailbox| mailbox.address.eq_ignore_ascii_case(name))
        })
    }

    fn all_named(&self, name: &str) -> Vec<(&'static str, Named<'_>)> {
        let mailbox = self.mailbox_named(name).map(|found| ("mailbox", Named::Mailbox(found)));
        let integration = self.integrations.iter().find(|one| one.name.eq_ignore_ascii_case(name));
        let integration = integration.map(|found| ("integration", Named::Integration(found)));
        let smtp = self.smtp.iter().find(|one| one.name.eq_ignore_ascii_case(name));
        let smtp = smtp.map(|found| ("smtp", Named::Smtp(found)));
        mailbox.into_iter().chain(integration).chain(smtp).collect()
    }

    fn unknown(&self, name: &str) -> NameError {
        let mailboxes = self.mailboxes.iter().map(|one| one.name.as_str());
        let integrations = self.integrations.iter().map(|one| one.name.as_str());
        let smtp = self.smtp.iter().map(|one| one.name.as_str());
        let known: Vec<&str> = mailboxes.chain(integrations).chain(smtp).collect();
        let advice = match value::nearest(name, known.iter().copied()) {
            Some(meant) => format!("did you mean {meant}?"),
            None if known.is_empty() => "there are none".to_owned(),
            None => format!("there is {}", known.join(", ")),
        };
        NameError::Unknown {
            name: name.to_owned(),
            advice,
        }
    }
}
