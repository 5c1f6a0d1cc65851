//! What to enter at a provider, page by page, in the words that its portal uses. Pure.
//! It repeats no redirect URI: those stand beside it.

use crate::config::Config;
use crate::doctor::Service;
use crate::grant::{EndpointSource, Flow, GrantRef, Integration, Provider};
use crate::mailbox::SignIn;
use crate::outgoing::SmtpSignIn;

/// A client as it is to be registered.
pub struct Registration<'a> {
    /// Where.
    pub provider: Provider,
    /// How it obtains tokens.
    pub flow: Flow,
    /// The Microsoft tenant.
    pub tenant: Option<&'a str>,
    /// Whether it has a secret or certificate.
    pub is_confidential: bool,
    /// Whether the browser comes back to a public host.
    pub is_public_host: bool,
    /// What its tokens are for.
    pub services: Vec<Service>,
    /// What it asks for.
    pub scopes: &'a [String],
    /// Where tokens come from, for a provider without a page that we know.
    pub token_endpoint: &'a str,
}

/// The registration of a configured integration.
pub fn registration<'a>(config: &Config, integration: &'a Integration) -> Registration<'a> {
    let mut services: Vec<Service> = Vec::new();
    let mut note = |service, grant: &GrantRef| {
        if grant.integration.name == integration.name && !services.contains(&service) {
            services.push(service);
        }
    };
    for mailbox in &config.mailboxes {
        if let SignIn::Token(grant) = &mailbox.sign_in {
            note(Service::of(mailbox.server.protocol), grant);
        }
    }
    for smtp in &config.smtp {
        if let SmtpSignIn::Token { grant, .. } = &smtp.sign_in {
            note(Service::Smtp, grant);
        }
    }
    if services.is_empty() {
        services.push(Service::Imap);
    }
    Registration {
        provider: integration.provider,
        flow: integration.flow,
        tenant: integration.tenant.as_deref(),
        is_confidential: integration.client_secret.is_some() || integration.certificate.is_some(),
        is_public_host: config.daemon.public_url.is_some(),
        services,
        scopes: &integration.scopes,
        token_endpoint: match &integration.endpoints {
            EndpointSource::Issuer(issuer) => issuer,
            EndpointSource::Fixed(endpoints) => &endpoints.token,
        },
    }
}

/// The steps at the provider, in their order.
pub fn steps(registration: &Registration<'_>) -> Vec<String> {
    match registration.provider {
        Provider::Microsoft
        | Provider::MicrosoftGcc
        | Provider::MicrosoftGccHigh
        | Provider::MicrosoftDod
        | Provider::MicrosoftChina => microsoft(registration),
        Provider::Google => google(registration),
        Provider::Yahoo => vec![
            "https://developer.yahoo.com/apps > Create an App; Yahoo gives the mail scope (mail-w) to its partners only: without that use an app password".into(),
        ],
        Provider::Fastmail => vec![
            "https://www.fastmail.com/dev/ tells how Fastmail registers a client for these scopes; it has no secret. Without one use an app password".into(),
        ],
        Provider::Custom => custom(registration),
    }
}

/// The portal of a Microsoft cloud.
fn entra(provider: Provider) -> &'static str {
    match provider {
        Provider::MicrosoftGccHigh | Provider::MicrosoftDod => "https://entra.microsoft.us",
        Provider::MicrosoftChina => "https://entra.microsoftonline.cn",
        Provider::Microsoft
        | Provider::MicrosoftGcc
        | Provider::Google
        | Provider::Yahoo
        | Provider::Fastmail
        | Provider::Custom => "https://entra.microsoft.com",
    }
}

fn microsoft(registration: &Registration<'_>) -> Vec<String> {
    let accounts = match registration.tenant.unwrap_or_default() {
        "consumers" => "Personal Microsoft accounts only",
        "common" => "Accounts in any organizational directory and personal Microsoft accounts",
        "organizations" => "Accounts in any organizational directory",
        _ => "Accounts in this organizational directory only",
    };
    let mut steps = vec![format!(
        "{} > App registrations > New registration: {accounts}. client_id is its Application (client) ID",
        entra(registration.provider)
    )];
    match registration.flow {
        Flow::AuthorizationCode => {
            let platform = if registration.is_confidential {
                "Web"
            } else {
                "Mobile and desktop applications"
            };
            steps.push(format!(
                "Authentication > Add a platform > {platform}: the redirect URIs named here (never under Single-page application: its sign-ins end after 24 hours)"
            ));
        }
        Flow::DeviceCode if !registration.is_confidential => {
            steps.push("Authentication > Settings > Allow public client flows: Yes".into());
        }
        Flow::DeviceCode | Flow::ClientCredentials | Flow::ServiceAccount => {}
    }
    steps.extend(microsoft_permissions(registration));
    if registration.is_confidential {
        steps.push("Certificates & secrets: upload the certificate, or New client secret and copy its Value (not the Secret ID)".into());
    }
    steps
}

fn microsoft_permissions(registration: &Registration<'_>) -> Vec<String> {
    let services = &registration.services;
    if registration.flow.needs_person() {
        // The portal shows them below Microsoft Graph, although tokens for Exchange are asked for.
        let names: Vec<&str> = registration
            .scopes
            .iter()
            .map(|scope| scope.rsplit('/').next().unwrap_or(scope))
            .collect();
        return vec![format!(
            "API permissions > Add a permission > Microsoft Graph > Delegated permissions: {}; where users may not consent: Grant admin consent",
            names.join(", ")
        )];
    }
    let roles: Vec<&str> = services.iter().map(|service| service.role()).collect();
    vec![
        format!(
            "API permissions > Add a permission > APIs my organization uses > Office 365 Exchange Online > Application permissions: {}; then Grant admin consent",
            roles.join(", ")
        ),
        "Exchange Online PowerShell: New-ServicePrincipal and Add-MailboxPermission for each mailbox; `mailintake test` prints them with the right IDs".into(),
    ]
}

fn google(registration: &Registration<'_>) -> Vec<String> {
    let api = "https://console.cloud.google.com/apis/library/gmail.googleapis.com: enable the Gmail API".to_owned();
    if registration.flow == Flow::ServiceAccount {
        return vec![
            api,
            "https://console.cloud.google.com/iam-admin/serviceaccounts > Create service account > Keys > Add key > JSON: that file is service_account".into(),
            format!(
                "https://admin.google.com > Security > Access and data control > API controls > Domain-wide delegation > Add new: the numeric Client ID of the service account, OAuth scopes {}",
                registration.scopes.join(",")
            ),
        ];
    }
    let client = if registration.is_public_host {
        "Web application, with the redirect URIs named here"
    } else {
        "Desktop app, which needs no redirect URI"
    };
    vec![
        api,
        "https://console.cloud.google.com/auth/audience: Internal for an organization, else External and Publish app (while it is Testing each sign-in ends after 7 days); write which into publishing_status".into(),
        format!(
            "https://console.cloud.google.com/auth/scopes: {}",
            registration.scopes.join(", ")
        ),
        format!("https://console.cloud.google.com/auth/clients > Create client: {client}"),
    ]
}

fn custom(registration: &Registration<'_>) -> Vec<String> {
    let kind = if registration.is_confidential {
        "confidential"
    } else {
        "public"
    };
    let grant_types = match registration.flow {
        Flow::AuthorizationCode => "authorization_code and refresh_token, PKCE with S256, the redirect URIs named here",
        Flow::DeviceCode => "the device flow (RFC 8628) and refresh_token",
        Flow::ClientCredentials => "client_credentials",
        Flow::ServiceAccount => "JWT bearer (RFC 7523)",
    };
    let scopes = match registration.scopes {
        [] => "no scope".to_owned(),
        scopes => format!("the scopes {}", scopes.join(" ")),
    };
    vec![format!(
        "at the administration of {}: a {kind} client with {grant_types}, and {scopes}",
        registration.token_endpoint
    )]
}
