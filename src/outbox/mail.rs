//! Mail, by an smtp server, with one connection for a round.
//! It never looks into a mail.

use super::fate::Delivery;
use super::{Outbox, Targets};
use crate::alert::AlertKind;
use crate::broker::TokenError;
use crate::fault::Remedy;
use crate::grant::{GrantRef, Problem};
use crate::outgoing::{MailPayload, Smtp, SmtpSignIn};
use crate::smtp::{Credential, Envelope, Session, SmtpError, Step};
use crate::store::outgoing::Outgoing;

/// The connection of a round.
pub(super) struct Line<'l> {
    outbox: &'l Outbox,
    targets: &'l Targets,
    session: Option<Session>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum Unconnected {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Smtp(#[from] SmtpError),
}

impl<'l> Line<'l> {
    pub(super) fn new(outbox: &'l Outbox, targets: &'l Targets) -> Self {
        Self {
            outbox,
            targets,
            session: None,
        }
    }

    pub(super) async fn deliver(&mut self, row: &Outgoing) -> Delivery {
        let Ok(mail) = serde_json::from_str::<MailPayload>(&row.payload) else {
            return Delivery::Refused(erased());
        };
        let Some(server) = self.targets.smtp.iter().find(|smtp| smtp.name == row.target) else {
            return Delivery::Parked {
                problem: unconfigured(&row.target),
                kind: AlertKind::OutgoingFailing,
                is_target: true,
            };
        };
        let mut session = match self.session.take() {
            Some(session) => session,
            None => match connect(self.outbox, server).await {
                Ok(session) => session,
                Err(Unconnected::Token(error)) => return without_token(&error),
                Err(Unconnected::Smtp(error)) => return failed(&error, server),
            },
        };
        let envelope = Envelope {
            sender: mail.sender,
            recipients: mail.recipients,
        };
        match session.send(&envelope, mail.message.as_bytes()).await {
            Ok(receipt) => {
                self.session = Some(session);
                Delivery::Sent(receipt.response)
            }
            Err(error) => {
                if is_of_use(&error) {
                    self.session = Some(session);
                }
                failed(&error, server)
            }
        }
    }

    pub(super) async fn close(self) {
        if let Some(session) = self.session {
            session.quit().await;
        }
    }
}

/// Connects and signs in; a token that is refused is renewed once.
async fn connect(outbox: &Outbox, server: &Smtp) -> Result<Session, Unconnected> {
    let (credential, token) = sign_in(outbox, server).await?;
    let refused = match outbox.connector.connect(server, &credential).await {
        Err(error) if error.is_credential_refused() => error,
        other => return Ok(other?),
    };
    let Some((grant, generation)) = token else {
        return Err(refused.into());
    };
    if !outbox.broker.reject(grant, generation).await? {
        // It was renewed for that reason just now: the token is not to blame.
        return Err(refused.into());
    }
    let (credential, _) = sign_in(outbox, server).await?;
    Ok(outbox.connector.connect(server, &credential).await?)
}

async fn sign_in<'s>(
    outbox: &Outbox,
    server: &'s Smtp,
) -> Result<(Credential, Option<(&'s GrantRef, i64)>), TokenError> {
    Ok(match &server.sign_in {
        SmtpSignIn::Anonymous => (Credential::None, None),
        SmtpSignIn::Password { username, password, .. } => {
            let credential = Credential::Password {
                username: username.clone(),
                password: password.value.clone(),
            };
            (credential, None)
        }
        SmtpSignIn::Token { grant, sasl_user } => {
            let token = outbox.broker.access_token(grant).await?;
            let credential = Credential::Token {
                user: sasl_user.clone(),
                token: token.secret,
            };
            (credential, Some((grant, token.generation)))
        }
    })
}

/// Whether the connection can be used after an error: it refused this mail, and is still there.
fn is_of_use(error: &SmtpError) -> bool {
    match error {
        SmtpError::Refused { refusal, .. } => refusal.code != 421,
        SmtpError::Recipients { refused } => refused.iter().all(|(_, refusal)| refusal.code != 421),
        SmtpError::TooLarge { .. } | SmtpError::Unable { .. } | SmtpError::BadSender => true,
        SmtpError::Resolve { .. }
        | SmtpError::Connect { .. }
        | SmtpError::Tls { .. }
        | SmtpError::NoStartTls { .. }
        | SmtpError::Injected { .. }
        | SmtpError::NoMechanism { .. }
        | SmtpError::SignInRefused { .. }
        | SmtpError::Garbled { .. }
        | SmtpError::Lost { .. }
        | SmtpError::Timeout { .. } => false,
    }
}

/// Whether other mails fare the same: not where it is about this sender, recipient or text.
fn is_of_server(error: &SmtpError) -> bool {
    let is_of_mail = |step: &Step| {
        matches!(
            step,
            Step::Sender | Step::Recipient | Step::Data | Step::Content | Step::Answer
        )
    };
    match error {
        SmtpError::Refused { step, .. } => !is_of_mail(step) || !is_of_use(error),
        _ => !is_of_use(error),
    }
}

fn failed(error: &SmtpError, server: &Smtp) -> Delivery {
    let (problem, is_target) = (error.problem(), is_of_server(error));
    if error.is_unknown() {
        return Delivery::Lost(problem);
    }
    let has_token = matches!(server.sign_in, SmtpSignIn::Token { .. });
    match kind(error.remedy(), has_token) {
        Ok(kind) => Delivery::Parked {
            problem,
            kind,
            is_target,
        },
        Err(Remedy::Quarantine) => Delivery::Refused(problem),
        Err(Remedy::Retry { after }) => Delivery::Retry {
            problem,
            after,
            is_target,
        },
        Err(_) => Delivery::Retry {
            problem,
            after: None,
            is_target,
        },
    }
}

fn without_token(error: &TokenError) -> Delivery {
    match kind(error.remedy(), true) {
        Ok(kind) => Delivery::Parked {
            problem: error.problem(),
            kind,
            is_target: true,
        },
        Err(remedy) => Delivery::Retry {
            problem: error.problem(),
            after: match remedy {
                Remedy::Retry { after } => after,
                _ => None,
            },
            is_target: true,
        },
    }
}

/// The alert where a person must act, else the remedy.
fn kind(remedy: Remedy, has_token: bool) -> Result<AlertKind, Remedy> {
    match remedy {
        Remedy::Reauthorize if has_token => Ok(AlertKind::ReauthorizationRequired),
        Remedy::Reauthorize => Ok(AlertKind::CredentialsRefused),
        Remedy::AskAdministrator => Ok(AlertKind::AdminActionRequired),
        Remedy::FixConfiguration => Ok(AlertKind::ConfigurationRefused),
        Remedy::Retry { .. } | Remedy::Quarantine | Remedy::Abort => Err(remedy),
    }
}

fn unconfigured(target: &str) -> Problem {
    Problem {
        code: "not-configured".into(),
        summary: format!("mail waits for the smtp server {target}, which is not configured any more"),
        remedy: format!("Add an [[smtp]] section with name = \"{target}\" and `systemctl reload mailintake`"),
    }
}

fn erased() -> Problem {
    Problem {
        code: "erased".into(),
        summary: "its text was erased before it was sent".into(),
        remedy: "Nothing is to be done".into(),
    }
}
