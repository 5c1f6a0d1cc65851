//! Ends a token at the provider (RFC 7009).
//! It never decides to: only the command `revoke --upstream` asks for it.

use secrecy::{ExposeSecret, SecretString};

use super::failure::{self, TokenFailure};
use super::form;
use super::http::Exchange;
use crate::grant::{Endpoints, Integration};

/// Revokes a token, and with a refresh token what was issued for it.
///
/// # Errors
/// Any [`TokenFailure`].
pub async fn revoke(
    exchange: &Exchange,
    integration: &Integration,
    endpoints: &Endpoints,
    token: &SecretString,
) -> Result<(), TokenFailure> {
    let endpoint = endpoints.revocation.as_deref().ok_or_else(no_endpoint)?;
    let fields = [("token", token.expose_secret())];
    let answer = exchange.send(form::post(integration, endpoint, &fields)?).await?;
    if answer.status == 200 {
        Ok(())
    } else {
        Err(failure::classify(answer.status, &answer.body))
    }
}

fn no_endpoint() -> TokenFailure {
    TokenFailure::configuration(
        "no-revocation-endpoint",
        "the provider offers no revocation",
        "revoke without --upstream, then remove the access on the account's page at the provider",
    )
}
