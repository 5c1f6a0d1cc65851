//! `[[integration]]`: one OAuth 2.0 client registration, with what its provider's preset fills in.
//! It asks nobody; discovery is left to the first use.

use std::collections::BTreeMap;

use super::pair;
use super::preset::{self, Uses};
use super::walk::Section;
use crate::grant::{
    AssertionAlgorithm, ClientAuthentication, EndpointSource, Endpoints, Flow, Integration, Provider, PublishingStatus,
};
use crate::oauth::service_account::ServiceAccountKey;
use crate::secret::Secret;

pub(super) const KEYS: [&str; 25] = [
    "name",
    "description",
    "provider",
    "tenant",
    "flow",
    "client_id",
    "client_secret",
    "next_client_secret",
    "client_secret_expires",
    "certificate",
    "private_key",
    "next_certificate",
    "next_private_key",
    "service_account",
    "publishing_status",
    "issuer",
    "authorization_endpoint",
    "token_endpoint",
    "device_authorization_endpoint",
    "revocation_endpoint",
    "scopes",
    "client_authentication",
    "authorization_parameters",
    "ca_file",
    "assertion_algorithm",
];

const PROVIDERS: [(&str, Provider); 9] = [
    ("google", Provider::Google),
    ("microsoft", Provider::Microsoft),
    ("microsoft-gcc", Provider::MicrosoftGcc),
    ("microsoft-gcc-high", Provider::MicrosoftGccHigh),
    ("microsoft-dod", Provider::MicrosoftDod),
    ("microsoft-china", Provider::MicrosoftChina),
    ("yahoo", Provider::Yahoo),
    ("fastmail", Provider::Fastmail),
    ("custom", Provider::Custom),
];

const FLOWS: [(&str, Flow); 4] = [
    ("authorization-code", Flow::AuthorizationCode),
    ("device-code", Flow::DeviceCode),
    ("client-credentials", Flow::ClientCredentials),
    ("service-account", Flow::ServiceAccount),
];

const PUBLISHING: [(&str, PublishingStatus); 3] = [
    ("testing", PublishingStatus::Testing),
    ("production", PublishingStatus::Production),
    ("internal", PublishingStatus::Internal),
];

const AUTHENTICATIONS: [(&str, ClientAuthentication); 3] = [
    ("post", ClientAuthentication::Post),
    ("basic", ClientAuthentication::Basic),
    ("private-key-jwt", ClientAuthentication::PrivateKeyJwt),
];

const ALGORITHMS: [(&str, AssertionAlgorithm); 2] = [
    ("PS256", AssertionAlgorithm::Ps256),
    ("RS256", AssertionAlgorithm::Rs256),
];

/// An integration; `None` where something is wrong with it, all of which is then reported.
pub(super) fn build(section: &Section<'_>, uses: Uses, public_url: Option<&str>) -> Option<Integration> {
    let name = name(section);
    let provider = section.required_word("provider", &PROVIDERS);
    let flow = section.required_word("flow", &FLOWS);
    let tenant = tenant(section);
    let scopes = scopes(section);
    pair::check(
        section,
        &pair::Facts {
            provider,
            flow,
            tenant: tenant.as_deref(),
            scopes: scopes.as_deref(),
            public_url,
        },
    );
    let endpoints = provider.and_then(|provider| endpoints(section, provider, flow, tenant.as_deref()));
    let (account, key) = service_account(section, endpoints.as_ref().and_then(token_endpoint));
    let client_id = client_id(section, flow, key.as_ref());
    let parameters = authorization_parameters(section, provider);
    let certificate = section.certificate("certificate", "private_key");
    let is_assertion = section.has("certificate");
    let (provider, flow) = (provider?, flow?);
    let integration = Integration {
        name: name?,
        description: section.text("description"),
        provider,
        tenant,
        flow,
        client_id: client_id?,
        client_authentication: section
            .word("client_authentication", &AUTHENTICATIONS)
            .unwrap_or(default_authentication(is_assertion)),
        client_secret: section.secret("client_secret"),
        next_client_secret: section.secret("next_client_secret"),
        client_secret_expires: section.expiry("client_secret_expires"),
        certificate,
        next_certificate: section.certificate("next_certificate", "next_private_key"),
        service_account: account,
        publishing_status: section.word("publishing_status", &PUBLISHING),
        endpoints: endpoints?,
        scopes: scopes.unwrap_or_else(|| preset::scopes(provider, flow, uses)),
        authorization_parameters: parameters,
        assertion_algorithm: section
            .word("assertion_algorithm", &ALGORITHMS)
            .unwrap_or(AssertionAlgorithm::Ps256),
        ca_file: section.ca_file("ca_file"),
    };
    Some(integration)
}

/// The token endpoint, as far as the configuration says.
fn token_endpoint(source: &EndpointSource) -> Option<&str> {
    match source {
        EndpointSource::Fixed(endpoints) => Some(endpoints.token.as_str()).filter(|url| !url.is_empty()),
        EndpointSource::Issuer(_) => None,
    }
}

fn default_authentication(has_certificate: bool) -> ClientAuthentication {
    if has_certificate {
        ClientAuthentication::PrivateKeyJwt
    } else {
        ClientAuthentication::Post
    }
}

/// The name, which becomes part of the redirect URI.
fn name(section: &Section<'_>) -> Option<String> {
    let name = section.required("name", "write a short name of your own choice")?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.chars().all(is_plain) && name != "." && name != ".." {
        return Some(name);
    }
    section.wrong(
        "name",
        "becomes part of the redirect URI; use letters, digits, dot, hyphen and underscore",
    );
    None
}

fn tenant(section: &Section<'_>) -> Option<String> {
    let tenant = section.text("tenant")?;
    if tenant
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'))
    {
        return Some(tenant);
    }
    section.wrong(
        "tenant",
        "is no tenant; write its domain or its ID, such as \"contoso.example\"",
    );
    None
}

fn scopes(section: &Section<'_>) -> Option<Vec<String>> {
    let scopes = section.texts("scopes")?;
    // RFC 6749 §3.3: printable ASCII without space, quotation mark and backslash.
    let is_scope = |scope: &String| {
        let mut bytes = scope.bytes();
        bytes.all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
    };
    if scopes.iter().all(is_scope) {
        return Some(scopes);
    }
    section.wrong("scopes", "must hold one scope in each text, without spaces");
    None
}

/// The endpoints: of the preset, each replaced where the configuration names one; else of the issuer.
fn endpoints(
    section: &Section<'_>,
    provider: Provider,
    flow: Option<Flow>,
    tenant: Option<&str>,
) -> Option<EndpointSource> {
    let given = Endpoints {
        issuer: section.url("issuer"),
        authorization: section.url("authorization_endpoint"),
        token: section.url("token_endpoint").unwrap_or_default(),
        device_authorization: section.url("device_authorization_endpoint"),
        revocation: section.url("revocation_endpoint"),
        names_itself: false,
    };
    if let Some(preset) = preset::endpoints(provider, tenant.unwrap_or_default()) {
        return Some(EndpointSource::Fixed(over(preset, given)));
    }
    let has_endpoint = KEYS.iter().any(|key| key.ends_with("_endpoint") && section.has(key));
    if section.has("issuer") && !has_endpoint {
        return given.issuer.map(EndpointSource::Issuer);
    }
    let mut needed = vec!["token_endpoint"];
    match flow {
        Some(Flow::AuthorizationCode) => needed.push("authorization_endpoint"),
        Some(Flow::DeviceCode) => needed.push("device_authorization_endpoint"),
        Some(Flow::ClientCredentials | Flow::ServiceAccount) | None => {}
    }
    for key in needed.into_iter().filter(|key| !section.has(key)) {
        section.missing(
            key,
            "a custom provider needs it, or issuer = \"https://…\" for discovery",
        );
    }
    Some(EndpointSource::Fixed(given))
}

fn over(preset: Endpoints, given: Endpoints) -> Endpoints {
    let is_replaced = !given.token.is_empty() || given.authorization.is_some();
    Endpoints {
        // Another server has another issuer.
        issuer: given.issuer.or(preset.issuer.filter(|_| !is_replaced)),
        authorization: given.authorization.or(preset.authorization),
        token: Some(given.token).filter(|url| !url.is_empty()).unwrap_or(preset.token),
        device_authorization: given.device_authorization.or(preset.device_authorization),
        revocation: given.revocation.or(preset.revocation.filter(|_| !is_replaced)),
        names_itself: preset.names_itself && !is_replaced,
    }
}

/// Parameters that are ours to set; another value would break the protocol or its protection.
const RESERVED: [&str; 9] = [
    "response_type",
    "response_mode",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
];

fn authorization_parameters(section: &Section<'_>, provider: Option<Provider>) -> BTreeMap<String, String> {
    let preset = provider.map_or(&[][..], preset::authorization_parameters);
    let mut parameters: BTreeMap<String, String> = preset
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let Some(given) = section.child_of_texts("authorization_parameters") else {
        return parameters;
    };
    for (name, value) in given {
        if RESERVED.contains(&name.as_str()) {
            let why = format!("authorization_parameters must not set {name}: it is part of the protocol; take it out");
            section.fault("authorization_parameters", &why);
        }
        parameters.insert(name, value);
    }
    parameters
}

/// Google's key file, which must hold what an assertion needs.
fn service_account(section: &Section<'_>, token_endpoint: Option<&str>) -> (Option<Secret>, Option<ServiceAccountKey>) {
    let Some(secret) = section.secret("service_account") else {
        return (None, None);
    };
    let origin = secret.source.describe();
    let key = match ServiceAccountKey::parse(&secret) {
        Ok(key) => Some(key),
        Err(fault) => {
            section.fault("service_account", &format!("service_account: {origin} {fault}"));
            None
        }
    };
    let stray = key
        .as_ref()
        .zip(token_endpoint)
        .filter(|(key, endpoint)| !key.is_for(endpoint));
    if let Some((key, endpoint)) = stray {
        section.fault(
            "service_account",
            &format!(
                "service_account: the key in {origin} is for the token endpoint {}, but the integration uses {endpoint}; use a key of that provider, or set token_endpoint",
                key.token_uri
            ),
        );
    }
    (Some(secret), key)
}

/// The client identifier: that of the registration, or that of the service account, by number or address.
fn client_id(section: &Section<'_>, flow: Option<Flow>, account: Option<&ServiceAccountKey>) -> Option<String> {
    match flow {
        Some(Flow::ServiceAccount) => {}
        Some(Flow::AuthorizationCode | Flow::DeviceCode | Flow::ClientCredentials) | None => {
            return section.required("client_id", "write the client ID of the registration at the provider");
        }
    }
    let given = section.text("client_id");
    let account = account?;
    let number = account.client_id.as_deref();
    let is_other = |given: String| Some(given.as_str()) != number && given != account.client_email;
    if given.is_some_and(is_other) {
        let own = number.unwrap_or(&account.client_email);
        section.wrong(
            "client_id",
            &format!("is not that of the service account, which is {own}; take it out"),
        );
    }
    Some(number.unwrap_or(&account.client_email).to_owned())
}
