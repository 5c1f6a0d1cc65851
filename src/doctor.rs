//! "Test connection": an integration, mailbox or smtp server, step by step, with the meaning and remedy of what fails.
//! It changes nothing on any server.

mod access;
pub mod certificate;
mod claims;
mod clock;
pub mod google;
mod imap;
mod maildrop;
mod microsoft;
mod provider;
mod reach;
mod smtp;
mod step;

use std::collections::HashMap;
use std::sync::Arc;

pub use self::claims::{Claims, Service};
pub use self::step::Checked;
use crate::broker::Broker;
use crate::fault::chain;
use crate::grant::{GrantRef, Integration, Problem};
use crate::imap::Connector;
use crate::mailbox::{Mailbox, Protocol};
use crate::oauth::http::Http;
use crate::pop3;
use crate::smtp as outward;
use crate::store::{Store, StoreError};
use crate::time::Clock;
use crate::tls::Trust;

/// What the tests are made with.
pub struct Doctor {
    connector: Connector,
    pop3: pop3::Connector,
    /// How servers for outgoing mail are reached.
    outward: outward::Connector,
    http: Http,
    clock: Clock,
    tokens: Option<(Arc<Broker>, Store)>,
    /// What was found at the provider of each integration: it is asked once in a run.
    asked: tokio::sync::Mutex<HashMap<String, Vec<Checked>>>,
}

impl Doctor {
    /// A doctor that trusts these roots. `tokens` are the broker and the database; `None` where nothing is there
    /// yet and none is needed.
    pub fn new(trust: Trust, clock: Clock, tokens: Option<(Arc<Broker>, Store)>) -> Self {
        Self {
            connector: Connector::new(trust.clone()),
            pop3: pop3::Connector::new(trust.clone()),
            outward: outward::Connector::new(trust.clone()),
            http: Http::new(trust, clock.clone()),
            clock,
            tokens,
            asked: tokio::sync::Mutex::default(),
        }
    }

    /// Tests a mailbox.
    pub async fn mailbox(&self, mailbox: &Mailbox) -> Vec<Checked> {
        match mailbox.server.protocol {
            Protocol::Imap => self.imap(mailbox).await,
            Protocol::Pop3 => self.maildrop(mailbox).await,
        }
    }

    /// Tests an integration: its provider, and a token of each of these grants for what it is wanted.
    pub async fn integration(&self, integration: &Integration, grants: &[(GrantRef, Service)]) -> Vec<Checked> {
        let mut steps = self.provider_once(integration).await;
        if steps.iter().any(|step| step.found.is_err()) {
            return steps;
        }
        for (grant, service) in grants {
            self.token(grant, *service, &mut steps).await;
        }
        if grants.is_empty() {
            steps.push(Checked::ok(
                "token",
                "no mailbox or smtp server uses this integration, so none is asked for",
            ));
        }
        steps
    }
}

fn database(error: &StoreError) -> Problem {
    step::problem("database", chain(error), "Look at the state directory and its disk")
}
