//! The steps of an smtp server: name, port, TLS, EHLO, sign-in. It sends no mail.

use super::access::{self, Advice, Refused};
use super::certificate::{self, Opening};
use super::claims::Service;
use super::provider::Token;
use super::{Checked, Doctor};
use crate::mailbox::Tls;
use crate::outgoing::{Smtp, SmtpSignIn};
use crate::smtp::{Credential, Session, SmtpError, Step};

/// The steps under TLS from the first byte, and under STARTTLS.
const ORDER: [[&str; 5]; 2] = [
    ["dns", "tcp", "tls", "ehlo", "sign-in"],
    ["dns", "tcp", "ehlo", "tls", "sign-in"],
];

impl Doctor {
    /// Tests an smtp server; nothing is sent.
    pub async fn smtp(&self, server: &Smtp) -> Vec<Checked> {
        let mut steps = Vec::new();
        let mut token = match &server.sign_in {
            SmtpSignIn::Anonymous | SmtpSignIn::Password { .. } => None,
            SmtpSignIn::Token { grant, .. } => match self.token_for(grant, Service::Smtp, &mut steps).await {
                Some(token) => Some(token),
                None => return steps,
            },
        };
        let connected = self.sign_in_to_send(server, &mut token, &mut steps).await;
        let credential = credential(server, token.as_ref());
        let order = order(server.tls);
        match connected {
            Ok(session) => {
                let offered = session.offered();
                session.quit().await;
                let well = |step: &&'static str| Checked::ok(step, well(step, server, &credential, &offered));
                steps.extend(order.iter().map(well));
            }
            Err(error) => {
                let failed = failed(&error);
                let before = order.iter().take_while(|step| **step != failed);
                steps.extend(before.map(|step| Checked::ok(step, well(step, server, &credential, ""))));
                steps.push(self.told(&error, failed, (server, token.as_ref())).await);
            }
        }
        steps
    }

    /// Signs in; where a saved token is refused, once more with a new one, as the daemon does.
    async fn sign_in_to_send(
        &self,
        server: &Smtp,
        token: &mut Option<Token>,
        steps: &mut Vec<Checked>,
    ) -> Result<Session, SmtpError> {
        let first = self.outward.connect(server, &credential(server, token.as_ref())).await;
        if let (Err(error), SmtpSignIn::Token { grant, .. }) = (&first, &server.sign_in)
            && error.is_credential_refused()
            && self.renewed(grant, token, steps).await
        {
            return self.outward.connect(server, &credential(server, token.as_ref())).await;
        }
        first
    }

    /// The step that failed, with what is to be read beside it.
    async fn told(&self, error: &SmtpError, step: &'static str, (server, token): (&Smtp, Option<&Token>)) -> Checked {
        let mut problem = error.problem();
        let advice = match (error, &server.sign_in, token) {
            (SmtpError::Tls { .. }, _, _) => Advice {
                remedy: None,
                notes: certificate::look(&server.host, server.port, opening(server.tls), self.clock.now()).await,
            },
            (SmtpError::SignInRefused { refusal, .. }, SmtpSignIn::Token { grant, sasl_user }, Some(token)) => {
                access::advice(&Refused {
                    grant,
                    token,
                    mailbox: sasl_user,
                    service: Service::Smtp,
                    words: &refusal.text,
                    has_worked: false,
                })
            }
            _ => Advice::default(),
        };
        if let Some(remedy) = advice.remedy {
            problem.remedy = remedy;
        }
        Checked::failed(step, problem).with(advice.notes)
    }
}

fn credential(server: &Smtp, token: Option<&Token>) -> Credential {
    match &server.sign_in {
        SmtpSignIn::Anonymous => Credential::None,
        SmtpSignIn::Password { username, password, .. } => Credential::Password {
            username: username.clone(),
            password: password.value.clone(),
        },
        SmtpSignIn::Token { sasl_user, .. } => Credential::Token {
            user: sasl_user.clone(),
            token: token.map(|token| token.secret.clone()).unwrap_or_default(),
        },
    }
}

fn order(tls: Tls) -> [&'static str; 5] {
    let [implicit, starttls] = ORDER;
    if tls == Tls::Implicit { implicit } else { starttls }
}

fn opening(tls: Tls) -> Opening {
    match tls {
        Tls::Implicit | Tls::None => Opening::Implicit,
        Tls::StartTls => Opening::Smtp,
    }
}

/// The step that an error is about.
fn failed(error: &SmtpError) -> &'static str {
    match error {
        SmtpError::Resolve { .. } => "dns",
        SmtpError::Connect { .. } => "tcp",
        SmtpError::Tls { .. } | SmtpError::NoStartTls { .. } | SmtpError::Injected { .. } => "tls",
        SmtpError::Refused { step, .. }
        | SmtpError::Garbled { step, .. }
        | SmtpError::Lost { step, .. }
        | SmtpError::Timeout { step } => match step {
            Step::Connect => "tcp",
            Step::Greeting | Step::Hello => "ehlo",
            Step::Tls => "tls",
            Step::SignIn | Step::Sender | Step::Recipient | Step::Data | Step::Content | Step::Answer | Step::Quit => {
                "sign-in"
            }
        },
        SmtpError::NoMechanism { .. }
        | SmtpError::SignInRefused { .. }
        | SmtpError::Recipients { .. }
        | SmtpError::TooLarge { .. }
        | SmtpError::Unable { .. }
        | SmtpError::BadSender => "sign-in",
    }
}

fn well(step: &str, server: &Smtp, credential: &Credential, offered: &str) -> String {
    match (step, credential) {
        ("dns", _) => format!("{} has an address", server.host),
        ("tcp", _) => format!("port {} answers", server.port),
        ("tls", _) => format!("the certificate is good for {}", server.host),
        ("ehlo", _) if offered.is_empty() => "an SMTP server".to_owned(),
        ("ehlo", _) => format!("an SMTP server; to sign in it offers {offered}"),
        (_, Credential::None) => "none is configured; whether it takes mail from us shows when mail is sent".to_owned(),
        (_, Credential::Password { username, .. }) => format!("signed in as {username}"),
        (_, Credential::Token { user, .. }) => format!("signed in as {user}"),
    }
}
