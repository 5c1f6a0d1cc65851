//! What to do about a failure, for the administrator: words only, nothing is decided by them.

use super::account::{Account, With};
use super::catalogue::{self, AZURE_SENDER, AZURE_SIGN_IN, Class};
use super::error::{SmtpError, Step, class};
use super::reply::Refusal;

/// The advice.
pub(super) fn of(error: &SmtpError) -> String {
    match error {
            SmtpError::Resolve { host, .. } => format!("Check the name {host} in the configuration and the DNS of this machine"),
            SmtpError::Connect { host, port, .. } => {
                format!("Check host and port in the configuration, and whether a firewall lets us reach {host}:{port}")
            }
            SmtpError::Tls { host, .. } => format!(
                "Have the certificate of {host} renewed or corrected; if a private CA signed it, name it as ca_file. No credential was sent"
            ),
            SmtpError::NoStartTls { .. } => {
                "Use tls = \"implicit\" with port 465 if the server has it, or have STARTTLS switched on there; no credential was sent".into()
            }
            SmtpError::Injected { .. } => {
                "Use tls = \"implicit\" with port 465, and find out what stands between us and the server; no credential was sent".into()
            }
            SmtpError::NoMechanism { account, .. } => no_mechanism(account),
            SmtpError::SignInRefused { account, refusal, .. } => sign_in_advice(account, refusal),
            SmtpError::Refused { step, account, refusal } => refused_advice(*step, account, refusal),
            SmtpError::Recipients { .. } => "Check the address; the server itself works".into(),
            SmtpError::TooLarge { .. } => "Have the server's limit raised, or send less; this message is not sent".into(),
            SmtpError::Unable { extension, .. } => {
                format!("Use a server that offers {extension}; this message is not sent")
            }
            SmtpError::BadSender => "Correct from in the configuration".into(),
            SmtpError::Garbled { step: Step::Greeting, .. } => {
                "Check host, port and tls in the configuration: 465 is implicit, 587 starttls".into()
            }
            SmtpError::Timeout { step: Step::Greeting } | SmtpError::Lost { step: Step::Greeting, .. } => {
                "Check tls in the configuration (port 465 is implicit, 587 starttls); it is tried again by itself".into()
            }
            SmtpError::Garbled { .. } | SmtpError::Lost { .. } | SmtpError::Timeout { .. } => {
                "Nothing is to be done: it is tried again by itself".into()
            }
        }
}

fn no_mechanism(account: &Account) -> String {
    let way = match account.with {
        With::Token => {
            "this server takes no tokens: use username and password instead of integration, or the host of the provider"
        }
        With::Password => {
            "this server takes no passwords over this connection: set up an [[integration]], or have PLAIN or LOGIN switched on"
        }
        With::Any => "set username and password, or integration",
    };
    format!("Set sasl = \"auto\" unless it is; {way}")
}

fn sign_in_advice(account: &Account, refusal: &Refusal) -> String {
    if refusal.code == 535 && account.is_azure() {
        return AZURE_SIGN_IN.to_owned();
    }
    if let Some(entry) = catalogue::find(refusal, account.with) {
        return account.fill(entry.advice);
    }
    if refusal.is_transient() {
        return "Nothing is to be done: it is tried again by itself".into();
    }
    account.fill(match account.with {
        With::Token => "Check that {user} may send by this server, then sign in again: {authorize}",
        With::Password | With::Any => {
            "Put the right user name and password into the configuration and `systemctl reload mailintake`; after some wrong tries servers lock accounts, so we try seldom"
        }
    })
}

fn refused_advice(step: Step, account: &Account, refusal: &Refusal) -> String {
    if let Some(entry) = catalogue::find(refusal, account.with) {
        return account.fill(entry.advice);
    }
    match class(step, refusal, account.with) {
        Class::Configuration | Class::Message if account.is_azure() => AZURE_SENDER.to_owned(),
        Class::Configuration => account.fill("Set from to an address that {user} may send as at this server"),
        Class::Message => "Look at the server's words: it does not want this message; others are sent".into(),
        Class::Transient(_) | Class::Credential | Class::Administrator => {
            "It is tried again by itself; if it lasts, ask the server's administrator".into()
        }
    }
}
