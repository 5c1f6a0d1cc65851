//! What the providers' error codes mean and what mends them: tables, data only. Microsoft's is in `microsoft`.
//! It never decides alone: `failure` looks rows up, most specific first.
//!
//! Sources: Google's OAuth 2.0 pages (<https://developers.google.com/identity/protocols/oauth2>),
//! RFC 6749 §4.1.2.1 and §5.2, RFC 8628 §3.5.

use super::failure::Class::{self, Admin, Bug, Configuration, Reauthorize, Transient};
use super::microsoft::MICROSOFT;

/// What a row is looked up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matcher {
    /// One of these AADSTS codes of Microsoft.
    Aadsts(&'static [u32]),
    /// Google's `error` with this `error_subtype`.
    Subtype(&'static str, &'static str),
    /// This `error` whose description holds this text, in lower case: Google gives no codes.
    Text(&'static str, &'static str),
    /// This `error`.
    Error(&'static str),
}

/// One meaning.
#[derive(Debug)]
pub struct Entry {
    /// What it is looked up by.
    pub matcher: Matcher,
    /// What kind of failure it is.
    pub class: Class,
    /// What is wrong.
    pub summary: &'static str,
    /// What mends it; `{authorize}` stands for the command that signs in.
    pub remedy: &'static str,
}

/// A row of a table.
pub(super) const fn row(matcher: Matcher, class: Class, summary: &'static str, remedy: &'static str) -> Entry {
    Entry {
        matcher,
        class,
        summary,
        remedy,
    }
}

/// Remedy of a grant that has ended.
pub(super) const SIGN_IN: &str = "sign in again: {authorize}";
/// Remedy of a fault that passes.
pub(super) const WAIT: &str = "nothing; it is tried again by itself";
/// Remedy of our own faults.
pub(super) const REPORT: &str =
    "this is a fault of mailintake or of two programs that share one grant; report it with this code";

/// All meanings that are known, most specific first.
pub fn entries() -> impl Iterator<Item = &'static Entry> {
    MICROSOFT.iter().chain(OTHERS)
}

/// Google's, then everybody's.
const OTHERS: &[Entry] = &[
    // Google.
    row(
        Matcher::Subtype("invalid_grant", "invalid_rapt"),
        Admin,
        "Google Cloud session control has ended the sign-in",
        "Google Admin console > Security > Google Cloud session control: exempt the application, then sign in again: {authorize}",
    ),
    row(
        Matcher::Text("invalid_grant", "expired or revoked"),
        Reauthorize,
        "the sign-in has expired or was revoked: by the user, a changed password, six months without use, or after seven days because the application is in testing",
        "sign in again: {authorize}; if it ends after seven days, publish the application in the Google Cloud console or make it internal",
    ),
    row(
        Matcher::Text("invalid_grant", "account has been deleted"),
        Admin,
        "the account was deleted",
        "restore the account, or take its mailbox out of the configuration",
    ),
    row(
        Matcher::Text("invalid_grant", "invalid jwt signature"),
        Admin,
        "the service account key was deleted or belongs to another account",
        "Google Cloud console > IAM & Admin > Service Accounts > Keys: create a key, put its JSON file into service_account of the integration, then reload mailintake",
    ),
    row(
        Matcher::Text("invalid_grant", "invalid jwt"),
        Configuration,
        "the assertion of the service account was not accepted",
        "check the clock of this server and the service account key",
    ),
    row(
        Matcher::Text("invalid_grant", "account not found"),
        Configuration,
        "the login is no mailbox of the domain",
        "set login to the primary address of the mailbox",
    ),
    row(
        Matcher::Text("invalid_grant", "invalid principal"),
        Configuration,
        "the login is no mailbox of the domain",
        "set login to the primary address of the mailbox",
    ),
    row(
        Matcher::Text("invalid_grant", "bad request"),
        Reauthorize,
        "the refresh token is malformed or belongs to another client",
        SIGN_IN,
    ),
    row(
        Matcher::Text("invalid_client", "was not found"),
        Admin,
        "there is no such OAuth client: it was deleted, or client_id is wrong",
        "check client_id and client_secret of the integration with Google Cloud console > Clients",
    ),
    row(
        Matcher::Error("deleted_client"),
        Admin,
        "the OAuth client was deleted; Google deletes those that were not used for six months",
        "restore it in the Google Cloud console within 30 days, or create one and sign in again: {authorize}",
    ),
    row(
        Matcher::Text("unauthorized_client", "unauthorized to retrieve access tokens"),
        Admin,
        "the service account may not act for users of the domain, or not with these scopes",
        "Google Admin console > Security > API controls > Domain-wide delegation: add the numeric client ID with exactly these scopes; it can take a day",
    ),
    row(
        Matcher::Error("admin_policy_enforced"),
        Admin,
        "an administrator of the Google Workspace has restricted this scope",
        "Google Admin console > Security > API controls: trust the application",
    ),
    row(
        Matcher::Error("redirect_uri_mismatch"),
        Configuration,
        "the redirect URI is not registered exactly like this",
        "copy the redirect URI that `mailintake check` prints to the OAuth client at the provider",
    ),
    row(
        Matcher::Error("org_internal"),
        Configuration,
        "the application is internal to another organization",
        "sign in with an account of the organization that owns the application, or make it external",
    ),
    row(
        Matcher::Error("disallowed_useragent"),
        Configuration,
        "the browser is not allowed to sign in",
        "open the address in an ordinary browser",
    ),
    row(
        Matcher::Text("invalid_scope", "device flow"),
        Configuration,
        "this scope is not possible with the device flow",
        "use the flow authorization-code",
    ),
    row(
        Matcher::Error("internal_failure"),
        Transient,
        "the provider has a fault",
        WAIT,
    ),
    // Everybody (RFC 6749 §4.1.2.1 and §5.2, OpenID Connect Core §3.1.2.6, RFC 8628 §3.5).
    row(
        Matcher::Error("temporarily_unavailable"),
        Transient,
        "the provider is unavailable for a while",
        WAIT,
    ),
    row(
        Matcher::Error("server_error"),
        Transient,
        "the provider has a fault",
        WAIT,
    ),
    row(
        Matcher::Error("authorization_pending"),
        Transient,
        "nobody has entered the code yet",
        WAIT,
    ),
    row(
        Matcher::Error("slow_down"),
        Transient,
        "the provider asks for fewer requests",
        WAIT,
    ),
    row(
        Matcher::Error("invalid_grant"),
        Reauthorize,
        "the sign-in has expired or was revoked",
        SIGN_IN,
    ),
    row(
        Matcher::Error("interaction_required"),
        Reauthorize,
        "the provider wants to ask the user something",
        SIGN_IN,
    ),
    row(
        Matcher::Error("consent_required"),
        Reauthorize,
        "the user has not consented to these scopes",
        "sign in again and consent: {authorize}",
    ),
    row(
        Matcher::Error("login_required"),
        Reauthorize,
        "the user must sign in",
        SIGN_IN,
    ),
    row(
        Matcher::Error("access_denied"),
        Reauthorize,
        "the sign-in was cancelled or refused",
        "sign in again and consent: {authorize}; at Google an application in testing must list the account as test user",
    ),
    row(
        Matcher::Error("authorization_declined"),
        Reauthorize,
        "the sign-in was declined",
        "sign in again and consent: {authorize}",
    ),
    row(
        Matcher::Error("expired_token"),
        Reauthorize,
        "the device code has expired",
        "sign in again without a pause: {authorize}",
    ),
    row(
        Matcher::Error("bad_verification_code"),
        Bug,
        "the device code was not accepted",
        REPORT,
    ),
    row(
        Matcher::Error("invalid_client"),
        Configuration,
        "the provider does not accept the client: client_id, client_secret or the way they are sent",
        "check client_id, client_secret and client_authentication of the integration, then reload mailintake",
    ),
    row(
        Matcher::Error("unauthorized_client"),
        Configuration,
        "the client may not use this flow",
        "allow the flow for the client at the provider, or change flow of the integration",
    ),
    row(
        Matcher::Error("invalid_scope"),
        Configuration,
        "a scope is unknown to the provider or not allowed for the client",
        "check scopes of the integration",
    ),
    row(
        Matcher::Error("unsupported_grant_type"),
        Configuration,
        "the provider does not offer this flow",
        "change flow of the integration, or check its token endpoint",
    ),
    row(
        Matcher::Error("invalid_resource"),
        Configuration,
        "the provider does not know the resource",
        "check scopes of the integration",
    ),
    row(
        Matcher::Error("invalid_request"),
        Configuration,
        "the provider does not accept the request",
        "check endpoints, scopes and client_authentication of the integration",
    ),
];
