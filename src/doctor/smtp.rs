//! The steps of an smtp server: name, port, TLS, EHLO, sign-in. It sends no mail.

use super::Checked;
use crate::mailbox::Tls;
use crate::outgoing::Smtp;
use crate::smtp::{Connector, Credential, SmtpError, Step};

/// The steps under TLS from the first byte, and under STARTTLS.
const ORDER: [[&str; 5]; 2] = [
    ["dns", "tcp", "tls", "ehlo", "sign-in"],
    ["dns", "tcp", "ehlo", "tls", "sign-in"],
];

/// Tests a server with what we sign in with.
pub(super) async fn steps(connector: &Connector, server: &Smtp, credential: &Credential) -> Vec<Checked> {
    let [implicit, starttls] = ORDER;
    let order = if server.tls == Tls::Implicit {
        implicit
    } else {
        starttls
    };
    match connector.connect(server, credential).await {
        Ok(session) => {
            let offered = session.offered();
            session.quit().await;
            let well = |step: &&'static str| Checked::ok(step, well(step, server, credential, &offered));
            order.iter().map(well).collect()
        }
        Err(error) => {
            let failed = failed(&error);
            let before = order.iter().take_while(|step| **step != failed);
            let mut steps: Vec<Checked> = before
                .map(|step| Checked::ok(step, well(step, server, credential, "")))
                .collect();
            steps.push(Checked::failed(failed, error.problem()));
            steps
        }
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
