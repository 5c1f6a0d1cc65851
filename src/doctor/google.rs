//! What an administrator enters at Google so that a service account may open mailboxes. Pure.
//! It shows the numeric client ID of the key file, never the key.
//!
//! Source: Google, "Using OAuth 2.0 for Server to Server Applications", section "Delegating domain-wide authority".

use secrecy::ExposeSecret;
use serde::Deserialize;

use crate::grant::{Flow, Integration};

/// What a key file tells beside the key.
#[derive(Deserialize)]
struct KeyFile {
    #[serde(default)]
    client_id: String,
}

/// The numeric client ID of a service account; `None` where its key file names none.
pub fn numeric_client_id(integration: &Integration) -> Option<String> {
    let secret = integration.service_account.as_ref()?;
    let file: KeyFile = serde_json::from_str(secret.value.expose_secret()).ok()?;
    let is_number = !file.client_id.is_empty() && file.client_id.chars().all(|c| c.is_ascii_digit());
    is_number.then_some(file.client_id)
}

/// The entry for domain-wide delegation.
pub fn delegation(integration: &Integration) -> Vec<String> {
    if integration.flow != Flow::ServiceAccount {
        return Vec::new();
    }
    let client_id = numeric_client_id(integration).unwrap_or_else(|| {
        "the Unique ID of the service account (21 digits), from Google Cloud > IAM & Admin > Service Accounts".into()
    });
    vec![
        "A super administrator enters at https://admin.google.com > Security > Access and data control > API controls > Domain-wide delegation > Add new:".into(),
        format!("  Client ID: {client_id}"),
        format!("  OAuth scopes: {}", integration.scopes.join(",")),
        "It takes up to 24 hours to be in force, is for mailboxes of this Google Workspace only (never gmail.com), and each must be named by its primary address.".into(),
    ]
}
