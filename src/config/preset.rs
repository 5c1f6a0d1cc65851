//! What is known about each provider: endpoints, scopes, hosts. One table, nothing asked from the network.
//! It never decides what is allowed; `pair` does.
//!
//! Sources: Microsoft, "Authenticate an IMAP, POP or SMTP connection using OAuth" and "National clouds";
//! Google, "Using OAuth 2.0 for Web Server Applications" and "OAuth 2.0 Mechanism" of Gmail; Yahoo and Fastmail,
//! their developer pages.

use crate::grant::{Endpoints, Flow, Provider};

/// What a host is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    Imap,
    Pop3,
    Smtp,
}

/// Which services the mailboxes and smtp servers of an integration use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Uses {
    pub(super) imap: bool,
    pub(super) pop3: bool,
    pub(super) smtp: bool,
}

impl Uses {
    pub(super) fn add(&mut self, service: Service) {
        match service {
            Service::Imap => self.imap = true,
            Service::Pop3 => self.pop3 = true,
            Service::Smtp => self.smtp = true,
        }
    }

    /// The services in use; IMAP where nothing uses the integration yet.
    fn services(self) -> impl Iterator<Item = Service> {
        let is_unused = self == Self::default();
        let all = [
            (self.imap || is_unused, Service::Imap),
            (self.pop3, Service::Pop3),
            (self.smtp, Service::Smtp),
        ];
        all.into_iter()
            .filter(|(is_used, _)| *is_used)
            .map(|(_, service)| service)
    }
}

/// The endpoints of a provider; `None` for a custom one. At Microsoft they depend on the tenant.
pub(super) fn endpoints(provider: Provider, tenant: &str) -> Option<Endpoints> {
    let fixed = |authorization: &str, token: &str| Endpoints {
        issuer: None,
        authorization: Some(authorization.to_owned()),
        token: token.to_owned(),
        device_authorization: None,
        revocation: None,
        names_itself: false,
    };
    let endpoints = match provider {
        Provider::Google => Endpoints {
            issuer: Some("https://accounts.google.com".to_owned()),
            revocation: Some("https://oauth2.googleapis.com/revoke".to_owned()),
            ..fixed(
                "https://accounts.google.com/o/oauth2/v2/auth",
                "https://oauth2.googleapis.com/token",
            )
        },
        Provider::Microsoft | Provider::MicrosoftGcc => microsoft("login.microsoftonline.com", tenant),
        Provider::MicrosoftGccHigh | Provider::MicrosoftDod => microsoft("login.microsoftonline.us", tenant),
        Provider::MicrosoftChina => microsoft("login.partner.microsoftonline.cn", tenant),
        Provider::Yahoo => fixed(
            "https://api.login.yahoo.com/oauth2/request_auth",
            "https://api.login.yahoo.com/oauth2/get_token",
        ),
        Provider::Fastmail => fixed(
            "https://api.fastmail.com/oauth/authorize",
            "https://api.fastmail.com/oauth/refresh",
        ),
        Provider::Custom => return None,
    };
    Some(endpoints)
}

/// The issuer is left out: tokens name it by the tenant's GUID, whatever was asked by.
fn microsoft(login: &str, tenant: &str) -> Endpoints {
    let base = format!("https://{login}/{tenant}/oauth2/v2.0");
    Endpoints {
        issuer: None,
        authorization: Some(format!("{base}/authorize")),
        token: format!("{base}/token"),
        device_authorization: Some(format!("{base}/devicecode")),
        revocation: None,
        names_itself: false,
    }
}

/// The scopes that are asked for: for each service, and for knowing who signed in.
pub(super) fn scopes(provider: Provider, flow: Flow, uses: Uses) -> Vec<String> {
    let is_delegated = flow.needs_person();
    let mut scopes: Vec<String> = Vec::new();
    for service in uses.services() {
        let scope = service_scope(provider, is_delegated, service);
        if let Some(scope) = scope.filter(|scope| !scopes.contains(scope)) {
            scopes.push(scope);
        }
    }
    if is_delegated {
        scopes.extend(identity_scopes(provider).iter().map(|&scope| scope.to_owned()));
    }
    scopes
}

fn service_scope(provider: Provider, is_delegated: bool, service: Service) -> Option<String> {
    let scope = match provider {
        Provider::Google => "https://mail.google.com/".to_owned(),
        Provider::Yahoo => "mail-w".to_owned(),
        Provider::Fastmail => match service {
            Service::Imap => "https://www.fastmail.com/dev/protocol-imap".to_owned(),
            Service::Pop3 => "https://www.fastmail.com/dev/protocol-pop".to_owned(),
            Service::Smtp => "https://www.fastmail.com/dev/protocol-smtp".to_owned(),
        },
        Provider::Custom => return None,
        Provider::Microsoft
        | Provider::MicrosoftGcc
        | Provider::MicrosoftGccHigh
        | Provider::MicrosoftDod
        | Provider::MicrosoftChina => {
            let (delegated, application) = microsoft_resources(provider);
            if is_delegated {
                let permission = match service {
                    Service::Imap => "IMAP.AccessAsUser.All",
                    Service::Pop3 => "POP.AccessAsUser.All",
                    Service::Smtp => "SMTP.Send",
                };
                format!("{delegated}{permission}")
            } else {
                format!("{application}.default")
            }
        }
    };
    Some(scope)
}

/// The resource of delegated scopes and of application permissions. Both of the worldwide cloud are Exchange
/// Online, but only these spellings are accepted; those of the national clouds are from other mail clients.
fn microsoft_resources(provider: Provider) -> (&'static str, &'static str) {
    match provider {
        Provider::MicrosoftGcc => ("https://outlook.office365.com/", "https://outlook.office365.com/"),
        Provider::MicrosoftGccHigh | Provider::MicrosoftDod => {
            ("https://outlook.office365.us/", "https://outlook.office365.us/")
        }
        Provider::MicrosoftChina => ("https://partner.outlook.cn/", "https://partner.outlook.cn/"),
        Provider::Microsoft | Provider::Google | Provider::Yahoo | Provider::Fastmail | Provider::Custom => {
            ("https://outlook.office.com/", "https://outlook.office365.com/")
        }
    }
}

/// Scopes for a refresh token and for the identity check. Google gives a refresh token by a parameter and refuses
/// `offline_access`; Yahoo and Fastmail give one always.
fn identity_scopes(provider: Provider) -> &'static [&'static str] {
    match provider {
        Provider::Google => &["openid", "email"],
        // `preferred_username`, the sign-in name, is in the ID token only with `profile`.
        Provider::Microsoft
        | Provider::MicrosoftGcc
        | Provider::MicrosoftGccHigh
        | Provider::MicrosoftDod
        | Provider::MicrosoftChina => &["offline_access", "openid", "email", "profile"],
        Provider::Custom => &["offline_access", "openid", "email"],
        Provider::Yahoo | Provider::Fastmail => &[],
    }
}

/// Parameters of the authorization request. Without them Google gives no refresh token, or at the first consent only.
pub(super) fn authorization_parameters(provider: Provider) -> &'static [(&'static str, &'static str)] {
    match provider {
        Provider::Google => &[("access_type", "offline"), ("prompt", "consent")],
        Provider::Microsoft
        | Provider::MicrosoftGcc
        | Provider::MicrosoftGccHigh
        | Provider::MicrosoftDod
        | Provider::MicrosoftChina
        | Provider::Yahoo
        | Provider::Fastmail
        | Provider::Custom => &[],
    }
}

/// The host of a service; `None` for a custom provider.
pub(super) fn host(provider: Provider, tenant: &str, service: Service) -> Option<&'static str> {
    let (imap, pop3, smtp) = match provider {
        Provider::Google => ("imap.gmail.com", "pop.gmail.com", "smtp.gmail.com"),
        Provider::Microsoft if tenant.eq_ignore_ascii_case("consumers") => (
            "outlook.office365.com",
            "outlook.office365.com",
            "smtp-mail.outlook.com",
        ),
        Provider::Microsoft | Provider::MicrosoftGcc => {
            ("outlook.office365.com", "outlook.office365.com", "smtp.office365.com")
        }
        Provider::MicrosoftGccHigh => ("outlook.office365.us", "outlook.office365.us", "smtp.office365.us"),
        Provider::MicrosoftDod => {
            let host = "outlook-dod.office365.us";
            (host, host, host)
        }
        Provider::MicrosoftChina => {
            let host = "partner.outlook.cn";
            (host, host, host)
        }
        Provider::Yahoo => ("imap.mail.yahoo.com", "pop.mail.yahoo.com", "smtp.mail.yahoo.com"),
        Provider::Fastmail => ("imap.fastmail.com", "pop.fastmail.com", "smtp.fastmail.com"),
        Provider::Custom => return None,
    };
    Some(match service {
        Service::Imap => imap,
        Service::Pop3 => pop3,
        Service::Smtp => smtp,
    })
}

/// Whether outgoing mail goes by TLS from the first byte (port 465) where nothing is configured.
pub(super) fn has_implicit_smtp(provider: Provider) -> bool {
    match provider {
        Provider::Yahoo | Provider::Fastmail => true,
        Provider::Google
        | Provider::Microsoft
        | Provider::MicrosoftGcc
        | Provider::MicrosoftGccHigh
        | Provider::MicrosoftDod
        | Provider::MicrosoftChina
        | Provider::Custom => false,
    }
}

/// Whose Authentication-Results are believed. Exchange Online writes them without a name of the server.
pub(super) fn authserv_id(provider: Provider) -> Option<&'static str> {
    match provider {
        Provider::Google => Some("mx.google.com"),
        Provider::Microsoft
        | Provider::MicrosoftGcc
        | Provider::MicrosoftGccHigh
        | Provider::MicrosoftDod
        | Provider::MicrosoftChina => Some(""),
        Provider::Yahoo | Provider::Fastmail | Provider::Custom => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Uses = Uses {
        imap: true,
        pop3: true,
        smtp: true,
    };

    #[test]
    fn each_provider_has_its_endpoints() {
        for (provider, authorization, token) in [
            (
                Provider::Google,
                "https://accounts.google.com/o/oauth2/v2/auth",
                "https://oauth2.googleapis.com/token",
            ),
            (
                Provider::Microsoft,
                "https://login.microsoftonline.com/t.example/oauth2/v2.0/authorize",
                "https://login.microsoftonline.com/t.example/oauth2/v2.0/token",
            ),
            (
                Provider::MicrosoftGcc,
                "https://login.microsoftonline.com/t.example/oauth2/v2.0/authorize",
                "https://login.microsoftonline.com/t.example/oauth2/v2.0/token",
            ),
            (
                Provider::MicrosoftGccHigh,
                "https://login.microsoftonline.us/t.example/oauth2/v2.0/authorize",
                "https://login.microsoftonline.us/t.example/oauth2/v2.0/token",
            ),
            (
                Provider::MicrosoftDod,
                "https://login.microsoftonline.us/t.example/oauth2/v2.0/authorize",
                "https://login.microsoftonline.us/t.example/oauth2/v2.0/token",
            ),
            (
                Provider::MicrosoftChina,
                "https://login.partner.microsoftonline.cn/t.example/oauth2/v2.0/authorize",
                "https://login.partner.microsoftonline.cn/t.example/oauth2/v2.0/token",
            ),
            (
                Provider::Yahoo,
                "https://api.login.yahoo.com/oauth2/request_auth",
                "https://api.login.yahoo.com/oauth2/get_token",
            ),
            (
                Provider::Fastmail,
                "https://api.fastmail.com/oauth/authorize",
                "https://api.fastmail.com/oauth/refresh",
            ),
        ] {
            let endpoints = endpoints(provider, "t.example").unwrap();
            assert_eq!(endpoints.authorization.as_deref(), Some(authorization), "{provider:?}");
            assert_eq!(endpoints.token, token, "{provider:?}");
        }
        assert_eq!(endpoints(Provider::Custom, ""), None);
    }

    #[test]
    fn a_person_grants_the_scopes_of_each_service_in_use() {
        for (provider, wanted) in [
            (Provider::Google, "https://mail.google.com/ openid email"),
            (
                Provider::Microsoft,
                "https://outlook.office.com/IMAP.AccessAsUser.All https://outlook.office.com/POP.AccessAsUser.All https://outlook.office.com/SMTP.Send offline_access openid email profile",
            ),
            (
                Provider::MicrosoftGcc,
                "https://outlook.office365.com/IMAP.AccessAsUser.All https://outlook.office365.com/POP.AccessAsUser.All https://outlook.office365.com/SMTP.Send offline_access openid email profile",
            ),
            (
                Provider::MicrosoftDod,
                "https://outlook.office365.us/IMAP.AccessAsUser.All https://outlook.office365.us/POP.AccessAsUser.All https://outlook.office365.us/SMTP.Send offline_access openid email profile",
            ),
            (
                Provider::MicrosoftChina,
                "https://partner.outlook.cn/IMAP.AccessAsUser.All https://partner.outlook.cn/POP.AccessAsUser.All https://partner.outlook.cn/SMTP.Send offline_access openid email profile",
            ),
            (Provider::Yahoo, "mail-w"),
            (
                Provider::Fastmail,
                "https://www.fastmail.com/dev/protocol-imap https://www.fastmail.com/dev/protocol-pop https://www.fastmail.com/dev/protocol-smtp",
            ),
            (Provider::Custom, "offline_access openid email"),
        ] {
            let scopes = scopes(provider, Flow::AuthorizationCode, ALL).join(" ");
            assert_eq!(scopes, wanted, "{provider:?}");
        }
        let unused = scopes(Provider::Microsoft, Flow::DeviceCode, Uses::default());
        assert_eq!(
            unused.first().map(String::as_str),
            Some("https://outlook.office.com/IMAP.AccessAsUser.All")
        );
        assert_eq!(unused.len(), 5);
    }

    #[test]
    fn an_application_asks_for_all_that_it_was_granted() {
        for (provider, flow, wanted) in [
            (
                Provider::Microsoft,
                Flow::ClientCredentials,
                "https://outlook.office365.com/.default",
            ),
            (
                Provider::MicrosoftGcc,
                Flow::ClientCredentials,
                "https://outlook.office365.com/.default",
            ),
            (
                Provider::MicrosoftGccHigh,
                Flow::ClientCredentials,
                "https://outlook.office365.us/.default",
            ),
            (
                Provider::MicrosoftChina,
                Flow::ClientCredentials,
                "https://partner.outlook.cn/.default",
            ),
            (Provider::Google, Flow::ServiceAccount, "https://mail.google.com/"),
            (Provider::Custom, Flow::ClientCredentials, ""),
        ] {
            assert_eq!(scopes(provider, flow, ALL).join(" "), wanted, "{provider:?}");
        }
    }

    #[test]
    fn each_provider_has_its_hosts() {
        for (provider, tenant, hosts) in [
            (
                Provider::Google,
                "",
                ["imap.gmail.com", "pop.gmail.com", "smtp.gmail.com"],
            ),
            (
                Provider::Microsoft,
                "t.example",
                ["outlook.office365.com", "outlook.office365.com", "smtp.office365.com"],
            ),
            (
                Provider::Microsoft,
                "Consumers",
                [
                    "outlook.office365.com",
                    "outlook.office365.com",
                    "smtp-mail.outlook.com",
                ],
            ),
            (
                Provider::MicrosoftGccHigh,
                "t.example",
                ["outlook.office365.us", "outlook.office365.us", "smtp.office365.us"],
            ),
            (Provider::MicrosoftDod, "t.example", ["outlook-dod.office365.us"; 3]),
            (Provider::MicrosoftChina, "t.example", ["partner.outlook.cn"; 3]),
            (
                Provider::Yahoo,
                "",
                ["imap.mail.yahoo.com", "pop.mail.yahoo.com", "smtp.mail.yahoo.com"],
            ),
            (
                Provider::Fastmail,
                "",
                ["imap.fastmail.com", "pop.fastmail.com", "smtp.fastmail.com"],
            ),
        ] {
            let found = [Service::Imap, Service::Pop3, Service::Smtp].map(|service| host(provider, tenant, service));
            assert_eq!(found, hosts.map(Some), "{provider:?}");
        }
        assert_eq!(host(Provider::Custom, "", Service::Imap), None);
    }

    #[test]
    fn exchange_is_believed_without_a_name() {
        for (provider, id) in [
            (Provider::Google, Some("mx.google.com")),
            (Provider::Microsoft, Some("")),
            (Provider::MicrosoftChina, Some("")),
            (Provider::Fastmail, None),
            (Provider::Custom, None),
        ] {
            assert_eq!(authserv_id(provider), id, "{provider:?}");
        }
    }
}
