//! Where a credential is renewed: the provider's page, the keys to change, and whether a reload or a restart is
//! needed. Pure.

use crate::grant::{ClientCertificate, Integration, Provider};
use crate::outgoing::Smtp;
use crate::secret::SecretSource;

/// Azure Communication Services, whose passwords are client secrets of an Entra application
/// (<https://learn.microsoft.com/azure/communication-services/quickstarts/email/send-email-smtp/smtp-authentication>).
const AZURE_MAIL: &str = "azurecomm.net";

pub(super) fn client_secret(integration: &Integration, source: &SecretSource) -> String {
    let client = &integration.client_id;
    let page = match portal(integration.provider) {
        Some(portal) => format!(
            "Open {portal} > App registrations > {client} > Certificates & secrets > New client secret: copy its Value"
        ),
        None if integration.provider == Provider::Google => {
            format!("Open Google Cloud console > Google Auth Platform > Clients > {client}: add a secret and copy it")
        }
        None => format!("Make a new secret for the client {client} at the provider"),
    };
    let again = take_up(source);
    format!(
        "{page}. Put it where next_client_secret of the integration points to (both are tried), or into {}; \
         write its end to client_secret_expires; then {again}",
        source.describe()
    )
}

pub(super) fn certificate(integration: &Integration, certificate: &ClientCertificate) -> String {
    let client = &integration.client_id;
    let page = match portal(integration.provider) {
        Some(portal) => {
            format!(
                "Open {portal} > App registrations > {client} > Certificates & secrets > Certificates: upload a new one"
            )
        }
        None => format!("Register a new certificate for the client {client} at the provider"),
    };
    let again = take_up(&certificate.private_key.source);
    format!(
        "{page}. Name it as next_certificate and next_private_key of the integration (both are tried), or replace {} \
         and its key; then {again}",
        certificate.path.display()
    )
}

pub(super) fn password(smtp: &Smtp, username: &str, source: &SecretSource) -> String {
    let again = take_up(source);
    let place = source.describe();
    if smtp.host.to_lowercase().ends_with(AZURE_MAIL) {
        // The user name is resource.application.tenant.
        let client = username.split('.').nth(1).unwrap_or(username);
        return format!(
            "Open https://entra.microsoft.com > App registrations > {client} > Certificates & secrets > New client secret: \
             copy its Value into {place}, write its end to password_expires; then {again}"
        );
    }
    format!(
        "Change the password of {username} at {}, put the new one into {place}, write its end to password_expires; \
         then {again}",
        smtp.host
    )
}

/// The page of Microsoft's cloud where applications are registered.
pub(super) fn portal(provider: Provider) -> Option<&'static str> {
    match provider {
        Provider::Microsoft | Provider::MicrosoftGcc => Some("https://entra.microsoft.com"),
        Provider::MicrosoftGccHigh | Provider::MicrosoftDod => Some("https://entra.microsoft.us"),
        Provider::MicrosoftChina => Some("https://portal.azure.cn > Microsoft Entra ID"),
        Provider::Google | Provider::Yahoo | Provider::Fastmail | Provider::Custom => None,
    }
}

/// The command after which a changed secret is in use.
fn take_up(source: &SecretSource) -> &'static str {
    match source {
        SecretSource::File(_) => "`systemctl reload mailintake`",
        SecretSource::Credential(_) | SecretSource::Env(_) => "`systemctl restart mailintake`",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_of_azure_is_a_client_secret_of_the_application_in_the_user_name() {
        let smtp = |host: &str| Smtp {
            name: "relay".into(),
            host: host.into(),
            port: 587,
            tls: crate::mailbox::Tls::StartTls,
            ca_file: None,
            from: None,
            sign_in: crate::outgoing::SmtpSignIn::Anonymous,
            sasl: crate::mailbox::Sasl::Auto,
        };
        let source = SecretSource::Credential("relay-password".into());
        let azure = password(&smtp("smtp.azurecomm.net"), "mail-1.3f2a.tenant-id", &source);
        for word in [
            "App registrations > 3f2a >",
            "credential relay-password",
            "password_expires",
            "restart",
        ] {
            assert!(azure.contains(word), "{word}: {azure}");
        }
        let other = password(&smtp("smtp.example.org"), "ann", &source);
        assert!(other.contains("of ann at smtp.example.org"), "{other}");
    }

    #[test]
    fn a_file_is_read_at_a_reload_and_a_credential_at_a_restart() {
        assert!(take_up(&SecretSource::File("x".into())).contains("reload"));
        assert!(take_up(&SecretSource::Credential("x".into())).contains("restart"));
        assert!(take_up(&SecretSource::Env("X".into())).contains("restart"));
    }
}
