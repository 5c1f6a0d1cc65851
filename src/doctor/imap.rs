//! The steps at an IMAP server: connection, certificate, sign-in, folders, and what `start` takes.
//! It opens folders for reading only (EXAMINE).

use super::access::{self, Advice, Refused};
use super::certificate::{self, Opening};
use super::claims::Service;
use super::provider::Token;
use super::{Checked, Doctor, database};
use crate::imap::{ImapError, Session, Step};
use crate::mailbox::{Credential, Listed, Mailbox, Protocol, SignIn, Tls, Uid};
use crate::store::{StoreError, mailbox};

/// The steps of a connection in their order, each with what it says where it went well.
pub(super) const CONNECTION: [&str; 5] = ["dns", "tcp", "tls", "greeting", "sign-in"];

impl Doctor {
    pub(super) async fn imap(&self, mailbox: &Mailbox) -> Vec<Checked> {
        let mut steps = Vec::new();
        let mut token = match &mailbox.sign_in {
            SignIn::Password(_) => None,
            SignIn::Token(grant) => match self.token_for(grant, Service::Imap, &mut steps).await {
                Some(token) => Some(token),
                None => return steps,
            },
        };
        match self.signed_in(mailbox, &mut token, &mut steps).await {
            Err(error) => steps.extend(self.up_to(&error, mailbox, token.as_ref()).await),
            Ok(mut session) => {
                steps.extend(CONNECTION.iter().map(|step| Checked::ok(step, well(step, mailbox))));
                self.folders(&mut session, (mailbox, token.as_ref()), &mut steps).await;
                session.logout().await;
            }
        }
        steps
    }

    /// Signs in; where a saved token is refused, once more with a new one, as the daemon does.
    async fn signed_in(
        &self,
        mailbox: &Mailbox,
        token: &mut Option<Token>,
        steps: &mut Vec<Checked>,
    ) -> Result<Session, ImapError> {
        let first = self
            .connector
            .connect(mailbox, &credential(mailbox, token.as_ref()))
            .await;
        if let (Err(error), SignIn::Token(grant)) = (&first, &mailbox.sign_in)
            && error.is_credential_refused()
            && self.renewed(grant, token, steps).await
        {
            return self
                .connector
                .connect(mailbox, &credential(mailbox, token.as_ref()))
                .await;
        }
        first
    }

    /// The steps before the one that failed went well.
    async fn up_to(&self, error: &ImapError, mailbox: &Mailbox, token: Option<&Token>) -> Vec<Checked> {
        let failed = failed_step(error);
        let before = CONNECTION.iter().take_while(|step| **step != failed);
        let mut steps: Vec<Checked> = before.map(|step| Checked::ok(step, well(step, mailbox))).collect();
        let server = &mailbox.server;
        let advice = match error {
            ImapError::Tls { .. } => Advice {
                remedy: None,
                notes: certificate::look(&server.host, server.port, opening(server.tls), self.clock.now()).await,
            },
            _ => self.advice(error, mailbox, token).await,
        };
        steps.push(told(failed, error, advice));
        steps
    }

    async fn advice(&self, error: &ImapError, mailbox: &Mailbox, token: Option<&Token>) -> Advice {
        let (SignIn::Token(grant), Some(token)) = (&mailbox.sign_in, token) else {
            return Advice::default();
        };
        let Some(words) = words(error) else {
            return Advice::default();
        };
        access::advice(&Refused {
            grant,
            token,
            mailbox: &mailbox.sasl_user,
            service: Service::Imap,
            words,
            has_worked: self.has_worked(mailbox).await,
        })
    }

    /// Whether any folder of this mailbox was ever listed.
    async fn has_worked(&self, mailbox: &Mailbox) -> bool {
        for folder in &mailbox.folders {
            if self.is_listed(mailbox, folder).await.unwrap_or(false) {
                return true;
            }
        }
        false
    }

    async fn folders(
        &self,
        session: &mut Session,
        (mailbox, token): (&Mailbox, Option<&Token>),
        steps: &mut Vec<Checked>,
    ) {
        for folder in &mailbox.folders {
            let selected = match session.examine(folder).await {
                Ok(selected) => selected,
                Err(error) => {
                    let words = words(&error).unwrap_or_default().to_lowercase();
                    let advice = if words.contains(access::UNCONNECTED) {
                        self.advice(&error, mailbox, token).await
                    } else {
                        Advice::default()
                    };
                    steps.push(told("folder", &error, advice));
                    continue;
                }
            };
            let text = format!("{folder:?} has {} messages", selected.exists);
            steps.push(Checked::ok("folder", text));
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

    pub(super) async fn is_listed(&self, mailbox: &Mailbox, folder: &str) -> Result<bool, StoreError> {
        let Some((_, store)) = &self.tokens else {
            return Ok(false);
        };
        let Some(id) = mailbox::find(store.readers(), &mailbox.address).await? else {
            return Ok(false);
        };
        Ok(mailbox::folder(store.readers(), id, folder).await?.is_some())
    }
}

pub(super) fn credential(mailbox: &Mailbox, token: Option<&Token>) -> Credential {
    match (&mailbox.sign_in, token) {
        (SignIn::Password(secret), _) => Credential::Password(secret.value.clone()),
        (SignIn::Token(_), token) => Credential::Token(token.map(|token| token.secret.clone()).unwrap_or_default()),
    }
}

fn told(step: &'static str, error: &ImapError, advice: Advice) -> Checked {
    let mut problem = error.problem();
    if let Some(remedy) = advice.remedy {
        problem.remedy = remedy;
    }
    Checked::failed(step, problem).with(advice.notes)
}

fn failed_step(error: &ImapError) -> &'static str {
    match error {
        ImapError::Resolve { .. } => "dns",
        ImapError::Connect { .. } => "tcp",
        ImapError::Tls { .. } | ImapError::Unprotected { .. } => "tls",
        ImapError::Greeting { .. } => "greeting",
        ImapError::Lost { step, .. } | ImapError::Timeout { step } if *step != Step::SignIn => "greeting",
        ImapError::Lost { .. }
        | ImapError::Timeout { .. }
        | ImapError::NoMechanism { .. }
        | ImapError::SignInRefused { .. }
        | ImapError::FolderMissing { .. }
        | ImapError::BadName(_)
        | ImapError::No { .. }
        | ImapError::Bad { .. }
        | ImapError::Bye { .. }
        | ImapError::Spool(_)
        | ImapError::IdleUnsupported => "sign-in",
    }
}

/// What the server said as it refused us.
fn words(error: &ImapError) -> Option<&str> {
    match error {
        ImapError::SignInRefused { refusal, .. }
        | ImapError::FolderMissing { refusal, .. }
        | ImapError::No { refusal, .. }
        | ImapError::Bad { refusal, .. }
        | ImapError::Bye { refusal, .. } => Some(&refusal.text),
        ImapError::Resolve { .. }
        | ImapError::Connect { .. }
        | ImapError::Tls { .. }
        | ImapError::Greeting { .. }
        | ImapError::Unprotected { .. }
        | ImapError::NoMechanism { .. }
        | ImapError::BadName(_)
        | ImapError::Lost { .. }
        | ImapError::Timeout { .. }
        | ImapError::Spool(_)
        | ImapError::IdleUnsupported => None,
    }
}

fn opening(tls: Tls) -> Opening {
    match tls {
        Tls::Implicit | Tls::None => Opening::Implicit,
        Tls::StartTls => Opening::Imap,
    }
}

pub(super) fn well(step: &str, mailbox: &Mailbox) -> String {
    let server = &mailbox.server;
    match step {
        "dns" => format!("{} has an address", server.host),
        "tcp" => format!("port {} answers", server.port),
        "tls" if server.tls == Tls::None => "not used: tls = \"none\"".to_owned(),
        "tls" => format!("the certificate is good for {}", server.host),
        "greeting" => match server.protocol {
            Protocol::Imap => "an IMAP server".to_owned(),
            Protocol::Pop3 => "a POP3 server".to_owned(),
        },
        _ => match mailbox.sign_in {
            SignIn::Password(_) => format!("signed in as {}", mailbox.login),
            SignIn::Token(_) => format!("signed in as {}", mailbox.sasl_user),
        },
    }
}
