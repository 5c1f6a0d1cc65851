//! Pairs of settings of an integration that cannot work at its provider, each with the reason.
//! It looks at settings only; what a provider answers is for `test` to find out.

use std::collections::BTreeSet;

use url::Url;

use super::daemon;
use super::value;
use super::walk::Section;
use crate::grant::{Flow, Integration, Provider};

/// The host of Microsoft Graph's scopes.
const GRAPH: &str = "graph.microsoft.com";

/// What the rules look at; `None` where it is missing or wrong.
pub(super) struct Facts<'f> {
    pub(super) provider: Option<Provider>,
    pub(super) flow: Option<Flow>,
    pub(super) tenant: Option<&'f str>,
    pub(super) scopes: Option<&'f [String]>,
    pub(super) public_url: Option<&'f str>,
}

/// Reports what cannot work together.
pub(super) fn check(section: &Section<'_>, facts: &Facts<'_>) {
    flow_at_provider(section, facts);
    tenant(section, facts);
    scopes(section, facts);
    redirect(section, facts);
    client(section, facts);
    certificate_at_provider(section, facts);
    second_slots(section);
    expiry(section, facts);
}

/// Flows that a provider does not have for mail.
fn flow_at_provider(section: &Section<'_>, facts: &Facts<'_>) {
    let (Some(provider), Some(flow)) = (facts.provider, facts.flow) else {
        return;
    };
    let why = match (provider, flow) {
        (Provider::Google, Flow::DeviceCode) => {
            "does not work at google: its device flow refuses the mail scope; use authorization-code"
        }
        (Provider::Google, Flow::ClientCredentials) => {
            "does not exist at google; use service-account with domain-wide delegation"
        }
        (Provider::Yahoo | Provider::Fastmail, Flow::DeviceCode | Flow::ClientCredentials) => {
            "does not exist at this provider; use authorization-code"
        }
        (
            Provider::Microsoft
            | Provider::MicrosoftGcc
            | Provider::MicrosoftGccHigh
            | Provider::MicrosoftDod
            | Provider::MicrosoftChina
            | Provider::Yahoo
            | Provider::Fastmail
            | Provider::Custom,
            Flow::ServiceAccount,
        ) => "exists at google only; use client-credentials or authorization-code",
        (_, Flow::AuthorizationCode | Flow::DeviceCode | Flow::ClientCredentials | Flow::ServiceAccount) => return,
    };
    section.wrong("flow", why);
}

fn tenant(section: &Section<'_>, facts: &Facts<'_>) {
    let Some(provider) = facts.provider else { return };
    if !provider.is_microsoft() {
        if section.has("tenant") {
            section.wrong("tenant", "is for the microsoft providers; take it out");
        }
        return;
    }
    if !section.has("tenant") {
        let remedy = "write the domain or ID of the directory, or consumers for personal accounts";
        section.missing("tenant", remedy);
    }
    let is_shared = facts.tenant.is_some_and(|tenant| {
        let shared = ["common", "organizations", "consumers"];
        shared.iter().any(|word| tenant.eq_ignore_ascii_case(word))
    });
    if is_shared && facts.flow == Some(Flow::ClientCredentials) {
        section.wrong(
            "tenant",
            "names no single directory, which client-credentials needs; write its domain or ID",
        );
    }
}

fn scopes(section: &Section<'_>, facts: &Facts<'_>) {
    let (Some(provider), Some(flow), Some(scopes)) = (facts.provider, facts.flow, facts.scopes) else {
        return;
    };
    let has_offline_access = scopes.iter().any(|scope| scope == "offline_access");
    if provider.is_microsoft() && flow.needs_person() && !has_offline_access {
        section.wrong(
            "scopes",
            "lacks offline_access, without which Microsoft gives no refresh token; add it",
        );
    }
    if provider == Provider::Google {
        google_scopes(section, flow, scopes);
    }
    if provider.is_microsoft() {
        microsoft_resource(section, scopes);
    }
    let is_default = matches!(scopes, [scope] if scope.ends_with("/.default"));
    if provider.is_microsoft() && flow == Flow::ClientCredentials && !is_default {
        section.wrong(
            "scopes",
            "must be one scope that ends in /.default, as client-credentials at Microsoft needs",
        );
    }
}

fn google_scopes(section: &Section<'_>, flow: Flow, scopes: &[String]) {
    if scopes.iter().any(|scope| scope == "offline_access") {
        section.wrong("scopes", "has offline_access, which Google refuses; take it out");
    }
    let is_mail = |scope: &String| {
        let is_delegation = flow == Flow::ServiceAccount && scope == "https://www.googleapis.com/auth/gmail.imap_admin";
        scope == "https://mail.google.com/" || is_delegation
    };
    if !scopes.iter().any(is_mail) {
        section.wrong(
            "scopes",
            "lacks https://mail.google.com/, the one scope that Google's mail servers take; add it",
        );
    }
}

/// Microsoft gives a token for one resource, and the mail servers take only theirs. A bare permission means Graph.
fn microsoft_resource(section: &Section<'_>, scopes: &[String]) {
    let is_bare = |scope: &str| {
        ["IMAP.", "POP.", "SMTP."]
            .iter()
            .any(|service| scope.starts_with(service))
    };
    let resource = |scope: &String| match Url::parse(scope) {
        Ok(url) => url.host_str().map(str::to_owned),
        Err(_) => is_bare(scope).then(|| GRAPH.to_owned()),
    };
    let resources: BTreeSet<String> = scopes.iter().filter_map(resource).collect();
    if resources.contains(GRAPH) {
        section.wrong(
            "scopes",
            "asks for a token of Microsoft Graph, which IMAP, POP3 and SMTP refuse; begin each permission with https://outlook.office.com/, or leave scopes out",
        );
    } else if resources.len() > 1 {
        section.wrong(
            "scopes",
            "names several resources, and Microsoft gives a token for one only; keep those of one host",
        );
    }
}

/// What cannot work of a mailbox and the integration that it names.
pub(super) fn mailbox(section: &Section<'_>, integration: &Integration, login: &str) {
    let domain = login.rsplit('@').next().unwrap_or_default();
    let is_personal = ["gmail.com", "googlemail.com"]
        .iter()
        .any(|known| domain.eq_ignore_ascii_case(known));
    if integration.flow == Flow::ServiceAccount && is_personal {
        section.wrong(
            "integration",
            "has the flow service-account, which opens mailboxes of a Google Workspace only, never gmail.com; use authorization-code",
        );
    }
}

/// Where the browser can be sent back to. Google redirects to hosts under a public suffix or on loopback, to no others.
fn redirect(section: &Section<'_>, facts: &Facts<'_>) {
    long_redirect(section, facts);
    if facts.provider != Some(Provider::Google) || facts.flow != Some(Flow::AuthorizationCode) {
        return;
    }
    let Some(public_url) = facts.public_url else { return };
    let host = daemon::host_of(public_url).unwrap_or_default();
    if !daemon::is_on_loopback(public_url) && value::is_private_host(&host) {
        let why = format!(
            "provider google redirects to public host names only, and public_url is at {host}; use a public name there, or leave public_url out and sign in with `authorize NAME --paste`"
        );
        section.fault("provider", &why);
    }
}

/// Microsoft takes redirect URIs of 256 characters at most.
fn long_redirect(section: &Section<'_>, facts: &Facts<'_>) {
    let (Some(public_url), Some(provider), Some(name)) = (facts.public_url, facts.provider, section.quiet("name"))
    else {
        return;
    };
    let length = public_url.len() + "/oauth/callback/".len() + name.len();
    if provider.is_microsoft() && facts.flow == Some(Flow::AuthorizationCode) && length > 256 {
        section.fault(
            "name",
            &format!("the redirect URI has {length} characters, and Microsoft takes 256; shorten name or public_url"),
        );
    }
}

/// How the client proves itself.
fn client(section: &Section<'_>, facts: &Facts<'_>) {
    let has_secret = section.has("client_secret");
    let has_certificate = section.has("certificate");
    let is_bare = !has_secret && !has_certificate && !section.has("private_key");
    if has_secret && has_certificate {
        section.fault(
            "certificate",
            "client_secret and certificate exclude each other; take one out",
        );
    }
    match facts.flow {
        Some(Flow::ClientCredentials) if is_bare => section.missing(
            "client_secret",
            "client-credentials needs client_secret = { file = \"…\" }, or certificate and private_key",
        ),
        Some(Flow::ServiceAccount) => service_account(section),
        Some(Flow::AuthorizationCode | Flow::DeviceCode | Flow::ClientCredentials)
            if section.has("service_account") =>
        {
            section.fault(
                "service_account",
                "service_account is for flow = \"service-account\"; take it out or change the flow",
            );
        }
        Some(Flow::AuthorizationCode | Flow::DeviceCode | Flow::ClientCredentials) | None => {}
    }
    match section.quiet("client_authentication") {
        Some("private-key-jwt") if !has_certificate => {
            section.wrong("client_authentication", "needs certificate and private_key");
        }
        Some("basic" | "post") if has_certificate => {
            section.wrong(
                "client_authentication",
                "is for a client_secret; leave it out with a certificate",
            );
        }
        Some("basic") if !has_secret => section.wrong("client_authentication", "needs a client_secret"),
        Some(_) | None => {}
    }
}

/// Providers whose token endpoint takes secrets only.
fn certificate_at_provider(section: &Section<'_>, facts: &Facts<'_>) {
    let takes_secrets_only = matches!(
        facts.provider,
        Some(Provider::Google | Provider::Yahoo | Provider::Fastmail)
    );
    // Of a service account more is said.
    if !takes_secrets_only || facts.flow == Some(Flow::ServiceAccount) {
        return;
    }
    for key in ["certificate", "next_certificate"] {
        if section.has(key) {
            section.fault(
                key,
                &format!(
                    "{key} is for microsoft and custom providers, this one takes a client_secret only; take it out"
                ),
            );
        }
    }
}

/// A service account proves itself with its own key.
fn service_account(section: &Section<'_>) {
    if !section.has("service_account") {
        section.missing(
            "service_account",
            "the flow needs service_account = { file = \"key.json\" }",
        );
    }
    for key in ["client_secret", "certificate", "client_authentication"] {
        if section.has(key) {
            section.fault(
                key,
                &format!("{key} is of no use with flow = \"service-account\"; take it out"),
            );
        }
    }
}

/// Each kind may follow the other, so that a secret can be replaced by a certificate.
fn second_slots(section: &Section<'_>) {
    if section.has("next_client_secret") && section.has("next_certificate") {
        section.fault(
            "next_certificate",
            "next_client_secret and next_certificate exclude each other; take one out",
        );
    }
    let (secret, certificate) = ("client_secret", "certificate");
    for (key, needs, or) in [
        ("next_client_secret", secret, certificate),
        ("client_secret_expires", secret, secret),
        ("next_certificate", certificate, secret),
        ("assertion_algorithm", certificate, "next_certificate"),
    ] {
        if section.has(key) && !section.has(needs) && !section.has(or) {
            section.fault(
                key,
                &format!("{key} is of no use without {needs}; add that or take it out"),
            );
        }
    }
}

/// What ends without a warning unless somebody tells us when.
fn expiry(section: &Section<'_>, facts: &Facts<'_>) {
    if section.has("publishing_status") && facts.provider.is_some_and(|provider| provider != Provider::Google) {
        section.wrong("publishing_status", "is for provider google; take it out");
    }
    if section.has("client_secret") && !section.has("client_secret_expires") {
        section.warn(
            "client_secret_expires is not set, so nobody is warned before the secret ends; write its date, or \"never\"",
        );
    }
    let is_google_sign_in = facts.provider == Some(Provider::Google) && facts.flow == Some(Flow::AuthorizationCode);
    if is_google_sign_in && !section.has("client_secret") {
        section.warn("client_secret is not set; Google gives clients of the types Web and Desktop one, and wants it");
    }
    if is_google_sign_in && !section.has("publishing_status") {
        section.warn(
            "publishing_status is not set; in testing Google ends each grant after 7 days. Write testing, production or internal",
        );
    }
}
