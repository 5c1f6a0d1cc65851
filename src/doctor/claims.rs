//! What an access token says of itself, where it is a JWT (RFC 7519), and what that hints at. Pure.
//! It verifies nothing and decides nothing: providers call their tokens opaque, so each finding is a hint.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::fault::printable;
use crate::grant::{Flow, Integration};
use crate::mailbox::Protocol;
use crate::time::Timestamp;

/// Longest claim that is shown, in characters.
const SHOWN: usize = 120;
/// Who a token of Microsoft Graph is for, by name and by number.
const GRAPH: [&str; 2] = ["https://graph.microsoft.com", "00000003-0000-0000-c000-000000000000"];
/// Who a token of Exchange Online is for.
const EXCHANGE: [&str; 6] = [
    "https://outlook.office.com",
    "https://outlook.office365.com",
    "https://outlook.office365.us",
    "https://outlook-dod.office365.us",
    "https://partner.outlook.cn",
    "00000002-0000-0ff1-ce00-000000000000",
];

/// What a token is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the protocols' own")]
pub enum Service {
    Imap,
    Pop3,
    Smtp,
}

impl Service {
    /// That of a mailbox.
    pub fn of(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Imap => Self::Imap,
            Protocol::Pop3 => Self::Pop3,
        }
    }

    /// The application permission (a role in the token) that Exchange Online asks for.
    pub fn role(self) -> &'static str {
        match self {
            Self::Imap => "IMAP.AccessAsApp",
            Self::Pop3 => "POP.AccessAsApp",
            Self::Smtp => "SMTP.SendAsApp",
        }
    }

    /// The delegated permission (a scope in the token).
    pub(super) fn scope(self) -> &'static str {
        match self {
            Self::Imap => "IMAP.AccessAsUser.All",
            Self::Pop3 => "POP.AccessAsUser.All",
            Self::Smtp => "SMTP.Send",
        }
    }
}

/// The claims that are looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Claims {
    aud: Words,
    iss: Option<String>,
    scp: Words,
    scope: Words,
    roles: Words,
    appid: Option<String>,
    azp: Option<String>,
    tid: Option<String>,
    oid: Option<String>,
    exp: Option<i64>,
    upn: Option<String>,
    preferred_username: Option<String>,
}

/// One text or several.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "serde_json::Value")]
struct Words(Vec<String>);

impl From<serde_json::Value> for Words {
    fn from(value: serde_json::Value) -> Self {
        let all = match value {
            serde_json::Value::String(text) => text.split_whitespace().map(str::to_owned).collect(),
            serde_json::Value::Array(items) => items
                .iter()
                .filter_map(|item| item.as_str().map(str::to_owned))
                .collect(),
            _ => Vec::new(),
        };
        Self(all)
    }
}

impl Words {
    fn has(&self, word: &str) -> bool {
        self.0.iter().any(|known| known.eq_ignore_ascii_case(word))
    }

    fn is_any_of(&self, known: &[&str]) -> bool {
        self.0.iter().any(|word| {
            known
                .iter()
                .any(|known| word.trim_end_matches('/').eq_ignore_ascii_case(known))
        })
    }
}

impl Claims {
    /// Reads the payload of a token; `None` if it is opaque.
    pub fn of(token: &str) -> Option<Self> {
        let mut parts = token.split('.');
        let (_, payload, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
            return None;
        };
        let bytes = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
        let value: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
        value
            .is_object()
            .then(|| serde_json::from_value(value).unwrap_or_default())
    }

    /// The object ID of who the token stands for: with application access that of the service principal, which
    /// is the one that Entra shows under Enterprise applications. `None` unless it looks like one.
    pub fn object_id(&self) -> Option<&str> {
        self.oid.as_deref().filter(|oid| is_guid(oid))
    }

    /// The claims in one line.
    pub(super) fn line(&self) -> String {
        let one = |text: &Option<String>| text.clone().unwrap_or_default();
        let scopes = if self.scp.0.is_empty() { &self.scope } else { &self.scp };
        let until = self.exp.map(|exp| Timestamp(exp).rfc3339()).unwrap_or_default();
        let application = if self.appid.is_some() { &self.appid } else { &self.azp };
        let all = [
            ("aud", self.aud.0.join(" ")),
            ("scp", scopes.0.join(" ")),
            ("roles", self.roles.0.join(" ")),
            ("appid", one(application)),
            ("tid", one(&self.tid)),
            ("oid", one(&self.oid)),
            ("exp", until),
        ];
        let shown = all
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{name} {}", printable(value, SHOWN)));
        shown.collect::<Vec<_>>().join("; ")
    }

    /// Whether Microsoft made it.
    pub(super) fn is_of_microsoft(&self) -> bool {
        let issuer = self.iss.as_deref().unwrap_or_default();
        [
            "https://sts.windows.net/",
            "https://login.microsoftonline.",
            "https://sts.chinacloudapi.cn/",
        ]
        .iter()
        .any(|known| issuer.starts_with(known))
    }

    fn is_application(&self) -> bool {
        self.scp.0.is_empty()
    }

    /// What is odd about it, each with what mends it.
    pub fn findings(&self, integration: &Integration, login: &str, service: Service, now: Timestamp) -> Vec<String> {
        let mut found = Vec::new();
        if self.exp.is_some_and(|exp| exp <= now.0) {
            found.push("the token has ended by its own word: check the clock of this server".to_owned());
        }
        if !integration.provider.is_microsoft() && !self.is_of_microsoft() {
            return found;
        }
        found.extend(self.audience());
        found.extend(self.permission(integration, service));
        found.extend(self.application(integration));
        found.extend(self.person(integration, login));
        found
    }

    fn audience(&self) -> Option<String> {
        if self.aud.0.is_empty() || self.aud.is_any_of(&EXCHANGE) {
            return None;
        }
        let remedy = "take scopes out of the integration, so that those of Exchange Online are asked for";
        if self.aud.is_any_of(&GRAPH) {
            return Some(format!(
                "the token is for Microsoft Graph, which IMAP, POP3 and SMTP refuse: wrong scope; {remedy}"
            ));
        }
        let aud = printable(&self.aud.0.join(" "), SHOWN);
        Some(format!(
            "the token is for {aud}, not for Exchange Online: wrong scope; {remedy}"
        ))
    }

    /// What the token may do, against what it is wanted for.
    fn permission(&self, integration: &Integration, service: Service) -> Option<String> {
        let is_application_wanted = !integration.flow.needs_person();
        let (role, scope) = (service.role(), service.scope());
        match (is_application_wanted, self.is_application()) {
            (true, false) => Some(format!(
                "the token stands for a person (scp {}), but flow = \"{}\" needs one of the application: check the flow, or sign in with `authorize`",
                printable(&self.scp.0.join(" "), SHOWN),
                integration.flow.as_str(),
            )),
            (true, true) if !self.roles.has(role) => Some(format!(
                "the token lacks the role {role}: Entra > App registrations > the application > API permissions > Add > APIs my organization uses > Office 365 Exchange Online > Application permissions > {role}, then Grant admin consent"
            )),
            (false, true) => Some(format!(
                "the token stands for the application, not for a person: check flow = \"{}\"",
                integration.flow.as_str()
            )),
            (false, false) if !self.scp.has(scope) => Some(format!(
                "the token lacks the scope {scope}: add this delegated permission at Entra > App registrations > the application > API permissions, then sign in again"
            )),
            (true, true) | (false, false) => None,
        }
    }

    /// Of which application and tenant it is.
    fn application(&self, integration: &Integration) -> Vec<String> {
        let mut found = Vec::new();
        let appid = self.appid.as_deref().or(self.azp.as_deref());
        if let Some(appid) = appid.filter(|appid| !appid.eq_ignore_ascii_case(&integration.client_id)) {
            let appid = printable(appid, SHOWN);
            found.push(format!("the token is of the application {appid}, not of our client_id"));
        }
        // A domain cannot be compared with the ID that the token names.
        let tenant = integration.tenant.as_deref().filter(|tenant| is_guid(tenant));
        if let (Some(tenant), Some(tid)) = (tenant, self.tid.as_deref())
            && !tenant.eq_ignore_ascii_case(tid)
        {
            let tid = printable(tid, SHOWN);
            found.push(format!(
                "the token is of the tenant {tid}, not of {tenant}: check tenant"
            ));
        }
        found
    }

    fn person(&self, integration: &Integration, login: &str) -> Option<String> {
        let name = self.upn.as_deref().or(self.preferred_username.as_deref())?;
        match integration.flow {
            Flow::AuthorizationCode | Flow::DeviceCode if !name.eq_ignore_ascii_case(login) => Some(format!(
                "the token is of {}, the login is {login}: right only if both are one account",
                printable(name, SHOWN)
            )),
            Flow::AuthorizationCode | Flow::DeviceCode | Flow::ClientCredentials | Flow::ServiceAccount => None,
        }
    }
}

/// Whether a text is a GUID, so that it may be put into a command.
pub(super) fn is_guid(text: &str) -> bool {
    let groups: Vec<usize> = text.split('-').map(str::len).collect();
    groups == [8, 4, 4, 4, 12] && text.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
}
