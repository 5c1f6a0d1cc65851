//! "Test connection": one mailbox or integration, step by step, with the meaning and remedy of what fails.
//! It changes nothing on any server.

mod maildrop;

use crate::broker::Broker;
use crate::fault::chain;
use crate::grant::{Integration, Problem};
use crate::imap::{Connector, ImapError, Session};
use crate::mailbox::{Credential, Listed, Mailbox, Protocol, SignIn, Uid};
use crate::store::{Store, StoreError, mailbox};

/// A step, and how it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// One word or two: `dns`, `tcp`, `tls`, `sign-in`, …
    pub step: &'static str,
    /// What was found.
    pub found: Result<String, Problem>,
}

impl Checked {
    fn ok(step: &'static str, text: impl Into<String>) -> Self {
        Self {
            step,
            found: Ok(text.into()),
        }
    }

    fn failed(step: &'static str, problem: Problem) -> Self {
        Self {
            step,
            found: Err(problem),
        }
    }
}

/// What the tests are made with.
pub struct Doctor {
    /// How IMAP servers are reached.
    pub connector: Connector,
    /// How POP3 servers are reached.
    pub pop3: crate::pop3::Connector,
    /// The broker and the database; `None` where nothing is there yet and none is needed.
    pub tokens: Option<(Broker, Store)>,
}

/// The steps of a connection in their order, each with what it says where it went well.
const CONNECTION: [&str; 5] = ["dns", "tcp", "tls", "greeting", "sign-in"];

impl Doctor {
    /// Tests a mailbox.
    pub async fn mailbox(&self, mailbox: &Mailbox) -> Vec<Checked> {
        let mut steps = Vec::new();
        let Some(credential) = self.credential(mailbox, &mut steps).await else {
            return steps;
        };
        if mailbox.server.protocol == Protocol::Pop3 {
            self.maildrop(mailbox, &credential, &mut steps).await;
            return steps;
        }
        match self.connector.connect(mailbox, &credential).await {
            Err(error) => steps.extend(up_to(&error, mailbox)),
            Ok(mut session) => {
                steps.extend(CONNECTION.iter().map(|step| Checked::ok(step, well(step, mailbox))));
                self.folders(&mut session, mailbox, &mut steps).await;
                session.logout().await;
            }
        }
        steps
    }

    async fn credential(&self, mailbox: &Mailbox, steps: &mut Vec<Checked>) -> Option<Credential> {
        let grant = match &mailbox.sign_in {
            SignIn::Password(secret) => return Some(Credential::Password(secret.value.clone())),
            SignIn::Token(grant) => grant,
        };
        let (broker, _) = self.tokens.as_ref()?;
        steps.push(endpoints(broker, &grant.integration).await);
        match broker.access_token(grant).await {
            Ok(token) => {
                let until = token.expires_at.rfc3339();
                steps.push(Checked::ok(
                    "token",
                    format!("an access token for {} until {until}", grant.login),
                ));
                Some(Credential::Token(token.secret))
            }
            Err(error) => {
                steps.push(Checked::failed("token", error.problem()));
                None
            }
        }
    }

    async fn folders(&self, session: &mut Session, mailbox: &Mailbox, steps: &mut Vec<Checked>) {
        for folder in &mailbox.folders {
            let selected = match session.examine(folder).await {
                Ok(selected) => selected,
                Err(error) => {
                    steps.push(Checked::failed("folder", error.problem()));
                    continue;
                }
            };
            steps.push(Checked::ok(
                "folder",
                format!("{folder:?} has {} messages", selected.exists),
            ));
            match session.list(Uid::MIN).await {
                Ok(listed) => steps.push(self.start(mailbox, folder, &listed).await),
                Err(error) => steps.push(Checked::failed("start", error.problem())),
            }
        }
    }

    /// What `start` takes and leaves of a folder.
    async fn start(&self, mailbox: &Mailbox, folder: &str, listed: &[Listed]) -> Checked {
        match self.is_listed(mailbox, folder).await {
            Err(error) => Checked::failed("start", database(&error)),
            Ok(true) => Checked::ok(
                "start",
                "this folder was listed before: only what is not in the ledger is taken",
            ),
            Ok(false) => {
                let taken = listed.iter().filter(|listed| mailbox.start.takes(listed)).count();
                let left = listed.len() - taken;
                let text = format!(
                    "start = {} takes {taken} and leaves {left} of what is there now",
                    mailbox.start
                );
                Checked::ok("start", text)
            }
        }
    }

    async fn is_listed(&self, mailbox: &Mailbox, folder: &str) -> Result<bool, StoreError> {
        let Some((_, store)) = &self.tokens else {
            return Ok(false);
        };
        let Some(id) = mailbox::find(store.readers(), &mailbox.address).await? else {
            return Ok(false);
        };
        Ok(mailbox::folder(store.readers(), id, folder).await?.is_some())
    }

    /// Tests an integration: its endpoints.
    pub async fn integration(&self, integration: &Integration) -> Vec<Checked> {
        match &self.tokens {
            Some((broker, _)) => vec![endpoints(broker, integration).await],
            None => Vec::new(),
        }
    }
}

async fn endpoints(broker: &Broker, integration: &Integration) -> Checked {
    match broker.directory().endpoints(integration).await {
        Ok(endpoints) => Checked::ok("endpoints", format!("tokens come from {}", endpoints.token)),
        Err(error) => Checked::failed(
            "endpoints",
            Problem {
                code: "discovery".into(),
                summary: chain(&error),
                remedy: format!("Check issuer and network for the integration {}", integration.name),
            },
        ),
    }
}

/// The steps before the one that failed went well.
fn up_to(error: &ImapError, mailbox: &Mailbox) -> Vec<Checked> {
    let failed = match error {
        ImapError::Resolve { .. } => "dns",
        ImapError::Connect { .. } => "tcp",
        ImapError::Tls { .. } | ImapError::Unprotected { .. } => "tls",
        ImapError::Greeting { .. } => "greeting",
        ImapError::Lost { step, .. } | ImapError::Timeout { step } if *step != crate::imap::Step::SignIn => "greeting",
        _ => "sign-in",
    };
    let before = CONNECTION.iter().take_while(|step| **step != failed);
    let mut steps: Vec<Checked> = before.map(|step| Checked::ok(step, well(step, mailbox))).collect();
    steps.push(Checked::failed(failed, error.problem()));
    steps
}

fn well(step: &str, mailbox: &Mailbox) -> String {
    let server = &mailbox.server;
    match step {
        "dns" => format!("{} has an address", server.host),
        "tcp" => format!("port {} answers", server.port),
        "tls" => format!("the certificate is good for {}", server.host),
        "greeting" => match server.protocol {
            Protocol::Imap => "an IMAP server".to_owned(),
            Protocol::Pop3 => "a POP3 server".to_owned(),
        },
        _ => format!("signed in as {}", mailbox.login),
    }
}

fn database(error: &StoreError) -> Problem {
    Problem {
        code: "database".into(),
        summary: chain(error),
        remedy: "Look at the state directory and its disk".into(),
    }
}
