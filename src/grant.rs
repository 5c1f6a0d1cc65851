//! An integration (one OAuth 2.0 client registration), the grants it obtains, and their states:
//! facts that the configuration, the token endpoint adapter, the store and the broker share.
//! It never holds a token.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::secret::Secret;
use crate::time::Timestamp;

/// One `[[integration]]`, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Integration {
    /// What it is called.
    pub name: String,
    /// What the administrator noted.
    pub description: Option<String>,
    /// Whose preset it uses.
    pub provider: Provider,
    /// The Microsoft tenant.
    pub tenant: Option<String>,
    /// How it obtains tokens.
    pub flow: Flow,
    /// The client identifier (RFC 6749 §2.2); of a service account the one in its key.
    pub client_id: String,
    /// How the client proves itself at the token endpoint.
    pub client_authentication: ClientAuthentication,
    /// The client secret.
    pub client_secret: Option<Secret>,
    /// The second slot, tried when the first is refused.
    pub next_client_secret: Option<Secret>,
    /// When the client secret ends; `None` for "never" and for "not stated".
    pub client_secret_expires: Option<Timestamp>,
    /// The certificate and key instead of a secret.
    pub certificate: Option<ClientCertificate>,
    /// The second slot for certificate and key.
    pub next_certificate: Option<ClientCertificate>,
    /// Google's service account key (JSON).
    pub service_account: Option<Secret>,
    /// Whether Google ends its refresh tokens after seven days.
    pub publishing_status: Option<PublishingStatus>,
    /// Where its endpoints are.
    pub endpoints: EndpointSource,
    /// The scopes that are asked for.
    pub scopes: Vec<String>,
    /// Further parameters of the authorization request.
    pub authorization_parameters: BTreeMap<String, String>,
    /// Signature algorithm of client assertions.
    pub assertion_algorithm: AssertionAlgorithm,
    /// Private roots that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
}

impl Integration {
    /// What is in a slot; `None` where the second is empty.
    pub fn proof(&self, slot: Slot) -> Option<Proof<'_>> {
        let (certificate, secret) = match slot {
            Slot::First => (&self.certificate, &self.client_secret),
            Slot::Next => (&self.next_certificate, &self.next_client_secret),
        };
        match (certificate, secret, slot) {
            (Some(certificate), _, _) => Some(Proof::Certificate(certificate)),
            (None, Some(secret), _) => Some(Proof::Secret(secret)),
            (None, None, Slot::First) => Some(Proof::Public),
            (None, None, Slot::Next) => None,
        }
    }
}

/// A provider preset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the providers' own")]
pub enum Provider {
    Google,
    Microsoft,
    MicrosoftGcc,
    MicrosoftGccHigh,
    MicrosoftDod,
    MicrosoftChina,
    Yahoo,
    Fastmail,
    Custom,
}

impl Provider {
    /// The word for it in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Google => "google",
            Self::Microsoft => "microsoft",
            Self::MicrosoftGcc => "microsoft-gcc",
            Self::MicrosoftGccHigh => "microsoft-gcc-high",
            Self::MicrosoftDod => "microsoft-dod",
            Self::MicrosoftChina => "microsoft-china",
            Self::Yahoo => "yahoo",
            Self::Fastmail => "fastmail",
            Self::Custom => "custom",
        }
    }

    /// Whether it is one of Microsoft's clouds.
    pub fn is_microsoft(self) -> bool {
        match self {
            Self::Microsoft
            | Self::MicrosoftGcc
            | Self::MicrosoftGccHigh
            | Self::MicrosoftDod
            | Self::MicrosoftChina => true,
            Self::Google | Self::Yahoo | Self::Fastmail | Self::Custom => false,
        }
    }
}

/// How an integration obtains tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// A person signs in in a browser (RFC 6749 §4.1, RFC 7636).
    AuthorizationCode,
    /// A person enters a code in a browser elsewhere (RFC 8628).
    DeviceCode,
    /// The client itself (RFC 6749 §4.4).
    ClientCredentials,
    /// Google's service account with domain-wide delegation (RFC 7523 §2.1).
    ServiceAccount,
}

impl Flow {
    /// The word for it in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AuthorizationCode => "authorization-code",
            Self::DeviceCode => "device-code",
            Self::ClientCredentials => "client-credentials",
            Self::ServiceAccount => "service-account",
        }
    }

    /// Whether a person must sign in before there is a grant.
    pub fn needs_person(self) -> bool {
        match self {
            Self::AuthorizationCode | Self::DeviceCode => true,
            Self::ClientCredentials | Self::ServiceAccount => false,
        }
    }
}

/// How the client proves itself at the token endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuthentication {
    /// `client_id` and `client_secret` in the body; without a secret a public client.
    Post,
    /// HTTP Basic (RFC 6749 §2.3.1).
    Basic,
    /// A signed assertion (RFC 7523 §2.2).
    PrivateKeyJwt,
}

/// One of the two places for a client's credentials, so that one can be replaced while the other works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// `client_secret`, or `certificate` and `private_key`.
    First,
    /// `next_client_secret`, or `next_certificate` and `next_private_key`.
    Next,
}

impl Slot {
    /// The other place.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::First => Self::Next,
            Self::Next => Self::First,
        }
    }
}

/// What a client proves itself with at the token endpoint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Proof<'i> {
    /// Nothing: a public client.
    Public,
    /// A shared secret.
    Secret(&'i Secret),
    /// The key of a certificate.
    Certificate(&'i ClientCertificate),
}

impl Proof<'_> {
    /// The key of the configuration that holds it, in a slot.
    pub fn setting(self, slot: Slot) -> &'static str {
        match (self, slot) {
            (Self::Public, _) => "client_id",
            (Self::Secret(_), Slot::First) => "client_secret",
            (Self::Secret(_), Slot::Next) => "next_client_secret",
            (Self::Certificate(_), Slot::First) => "certificate",
            (Self::Certificate(_), Slot::Next) => "next_certificate",
        }
    }
}

/// A client certificate with its key.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientCertificate {
    /// The PEM file of the certificate.
    pub path: PathBuf,
    /// Its text: the certificate of the key first, then its chain if there is one.
    pub pem: String,
    /// The private key (PEM).
    pub private_key: Secret,
}

/// How far a Google application has been published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishingStatus {
    /// Refresh tokens end after seven days.
    Testing,
    /// They do not.
    Production,
    /// Nor here; for the organization alone.
    Internal,
}

/// Signature algorithm of a client assertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AssertionAlgorithm {
    /// RSASSA-PSS with SHA-256, Microsoft's recommendation.
    Ps256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
}

/// Where the endpoints of an integration come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointSource {
    /// From the issuer's discovery document (OpenID Connect Discovery 1.0, RFC 8414).
    Issuer(String),
    /// From the configuration or the preset.
    Fixed(Endpoints),
}

/// The endpoints of a provider.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Endpoints {
    /// The issuer, where it is known (RFC 9207).
    pub issuer: Option<String>,
    /// Where a person signs in.
    pub authorization: Option<String>,
    /// Where tokens are obtained.
    pub token: String,
    /// Where a device flow begins.
    pub device_authorization: Option<String>,
    /// Where a token is revoked (RFC 7009).
    pub revocation: Option<String>,
    /// Whether the issuer announces that it names itself in each answer that the browser brings (RFC 9207 §3).
    #[serde(default)]
    pub names_itself: bool,
}

/// Whose grant of which integration a mailbox or smtp server signs in with.
#[derive(Debug, Clone, PartialEq)]
pub struct GrantRef {
    /// The integration.
    pub integration: Arc<Integration>,
    /// The login.
    pub login: String,
}

/// The identity of a grant: when one of these changes, the grant is another one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GrantKey {
    /// The client identifier.
    pub client_id: String,
    /// The token endpoint; for an integration with discovery the one that was discovered.
    pub token_endpoint: String,
    /// The login, in lower case.
    pub login: String,
}

impl GrantKey {
    /// The key of a login at an integration whose token endpoint is known.
    pub fn new(client_id: &str, token_endpoint: &str, login: &str) -> Self {
        Self {
            client_id: client_id.to_owned(),
            token_endpoint: token_endpoint.to_owned(),
            login: login.to_lowercase(),
        }
    }
}

/// The state of a grant as `status` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantState {
    /// It works.
    Ok,
    /// Nobody has signed in yet, or a sign-in is under way.
    Pending,
    /// The provider does not answer properly; we keep trying.
    Degraded,
    /// A person must sign in.
    NeedsAuthorization,
    /// An administrator must act at the provider.
    NeedsAdmin,
    /// Our configuration is refused.
    Misconfigured,
}

impl GrantState {
    /// All states.
    pub const ALL: [Self; 6] = [
        Self::Ok,
        Self::Pending,
        Self::Degraded,
        Self::NeedsAuthorization,
        Self::NeedsAdmin,
        Self::Misconfigured,
    ];

    /// The word for it in JSON and SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Pending => "pending",
            Self::Degraded => "degraded",
            Self::NeedsAuthorization => "needs-authorization",
            Self::NeedsAdmin => "needs-admin",
            Self::Misconfigured => "misconfigured",
        }
    }

    /// The state of a word from the database.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

/// Why the provider or the mail server refused, in words for the administrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The provider's own code, such as `AADSTS7000222`, else a code of ours.
    pub code: String,
    /// What is wrong, one sentence.
    pub summary: String,
    /// What to do, one sentence, with the command or page that mends it.
    pub remedy: String,
}
