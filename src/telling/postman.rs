//! By which server an alert is mailed. It never chooses the one that the alert is about, where there is another.

use super::Turn;
use crate::alert::{AlertKind, Finding};
use crate::outgoing::{Smtp, SmtpSignIn};
use crate::store::alert::AlertRow;

/// What keeps mail from going out.
const STOPS_MAIL: [AlertKind; 6] = [
    AlertKind::OutgoingFailing,
    AlertKind::CredentialsRefused,
    AlertKind::ConfigurationRefused,
    AlertKind::AdminActionRequired,
    AlertKind::ReauthorizationRequired,
    AlertKind::TokenRefreshFailing,
];

/// The server by which an alert is mailed: the first that can say who writes. An alert about a server goes by another
/// one; where there is none, it waits in that server's own queue, once and with its end, but is not repeated there.
pub(super) fn choose<'s>(smtp: &'s [Smtp], turn: Turn, alert: &AlertRow) -> Option<&'s Smtp> {
    let able = || smtp.iter().filter(|server| server.alert_sender().is_some());
    able()
        .find(|server| !is_about(&alert.finding, server))
        .or_else(|| able().next().filter(|_| turn != Turn::Reminded))
}

/// Whether an alert says that a server, or the grant that it needs, does not work.
fn is_about(finding: &Finding, server: &Smtp) -> bool {
    if !STOPS_MAIL.contains(&finding.kind) {
        return false;
    }
    match (&server.sign_in, &finding.login) {
        (_, None) => finding.subject == server.name,
        (SmtpSignIn::Token { grant, .. }, Some(login)) => {
            finding.subject == grant.integration.name && *login == grant.login.to_lowercase()
        }
        (SmtpSignIn::Anonymous | SmtpSignIn::Password { .. }, Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::{
        AssertionAlgorithm, ClientAuthentication, EndpointSource, Flow, GrantRef, Integration, Problem, Provider,
    };
    use crate::time::Timestamp;

    fn server(name: &str) -> Smtp {
        Smtp {
            name: name.to_owned(),
            host: "mail.example.org".to_owned(),
            port: 587,
            tls: crate::mailbox::Tls::StartTls,
            ca_file: None,
            from: Some("mailintake@example.org".to_owned()),
            sign_in: SmtpSignIn::Anonymous,
            sasl: crate::mailbox::Sasl::Auto,
        }
    }

    fn alert(kind: AlertKind, subject: &str) -> AlertRow {
        AlertRow {
            id: 7,
            finding: Finding {
                kind,
                subject: subject.to_owned(),
                login: None,
                problem: Problem {
                    code: "x".into(),
                    summary: "y".into(),
                    remedy: "z".into(),
                },
            },
            since: Timestamp(0),
            last_seen: Timestamp(0),
            count: 1,
            reminders: 0,
            is_acknowledged: false,
        }
    }

    #[test]
    fn an_alert_about_a_server_is_mailed_by_another_one() {
        let (one, two) = ([server("relay")], [server("relay"), server("spare")]);
        let failing = alert(AlertKind::OutgoingFailing, "relay");
        let by = |servers: &[Smtp], turn, alert: &AlertRow| choose(servers, turn, alert).map(|s| s.name.clone());
        assert_eq!(by(&two, Turn::Raised, &failing).as_deref(), Some("spare"));
        assert_eq!(by(&one, Turn::Raised, &failing).as_deref(), Some("relay"));
        assert_eq!(by(&one, Turn::Reminded, &failing), None);
        assert_eq!(by(&one, Turn::Resolved, &failing).as_deref(), Some("relay"));
        let other = alert(AlertKind::MailboxUnreachable, "relay");
        assert_eq!(by(&two, Turn::Reminded, &other).as_deref(), Some("relay"));
        assert_eq!(by(&[], Turn::Raised, &other), None);
    }

    #[test]
    fn an_alert_about_the_grant_of_a_server_is_mailed_by_another_one() {
        let mut signed_in = server("relay");
        signed_in.sign_in = SmtpSignIn::Token {
            grant: GrantRef {
                integration: std::sync::Arc::new(integration("contoso")),
                login: "Ops@example.org".to_owned(),
            },
            sasl_user: "ops@example.org".to_owned(),
        };
        let servers = [signed_in, server("spare")];
        for (login, by) in [("ops@example.org", "spare"), ("ann@example.org", "relay")] {
            let mut lost = alert(AlertKind::ReauthorizationRequired, "contoso");
            lost.finding.login = Some(login.to_owned());
            let chosen = choose(&servers, Turn::Raised, &lost).map(|server| server.name.as_str());
            assert_eq!(chosen, Some(by), "{login}");
        }
    }

    fn integration(name: &str) -> Integration {
        Integration {
            name: name.to_owned(),
            description: None,
            provider: Provider::Custom,
            tenant: None,
            flow: Flow::DeviceCode,
            client_id: "client".to_owned(),
            client_authentication: ClientAuthentication::Post,
            client_secret: None,
            next_client_secret: None,
            client_secret_expires: None,
            certificate: None,
            next_certificate: None,
            service_account: None,
            publishing_status: None,
            endpoints: EndpointSource::Issuer("https://idp.example.org".to_owned()),
            scopes: Vec::new(),
            authorization_parameters: std::collections::BTreeMap::new(),
            assertion_algorithm: AssertionAlgorithm::Ps256,
            ca_file: None,
        }
    }
}
