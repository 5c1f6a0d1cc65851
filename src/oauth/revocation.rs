//! Ends a token at the provider (RFC 7009).
//! It never decides to: only the command `revoke --upstream` asks for it.

use secrecy::{ExposeSecret, SecretString};

use super::client::Client;
use super::failure::TokenFailure;
use super::form;
use super::http::Exchange;

/// Revokes a token, and with a refresh token what was issued for it.
///
/// # Errors
/// Any [`TokenFailure`].
pub async fn revoke(exchange: &Exchange, client: Client<'_>, token: &SecretString) -> Result<(), TokenFailure> {
    let endpoint = client.endpoints.revocation.as_deref().ok_or_else(no_endpoint)?;
    let fields = [("token", token.expose_secret())];
    let request = form::post(client, endpoint, &fields, exchange.now())?;
    let answer = exchange.send(request).await?;
    if answer.status == 200 {
        Ok(())
    } else {
        Err(client.explain(answer.failure(), exchange.now()))
    }
}

fn no_endpoint() -> TokenFailure {
    TokenFailure::configuration(
        "no-revocation-endpoint",
        "the provider offers no revocation",
        "revoke without --upstream, then remove the access on the account's page at the provider",
    )
}
