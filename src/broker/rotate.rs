//! A new token key: every token sealed anew in one transaction.
//! It never leaves a token that only the old key opens.

use super::TokenError;
use super::keyring::{self, Current};
use super::renewal::{Column, reseal};
use crate::seal::Key;
use crate::store::{Write, grant, token_key};

/// Seals all tokens with `new`. `bridge`: the configured key, where that stays the old one until a restart.
/// Returns the number of grants that have tokens.
///
/// # Errors
/// [`TokenError::Rotated`] if the key was rotated since `old` was looked up; [`TokenError`] otherwise.
pub async fn rotate(write: &mut Write, old: &Current, new: &Key, bridge: Option<&Key>) -> Result<usize, TokenError> {
    if token_key::generation(write.connection()?).await? != old.generation {
        return Err(TokenError::Rotated);
    }
    let mut count = 0;
    for row in grant::list(write.connection()?).await? {
        let anew = |column, sealed: &Option<Vec<u8>>| reseal((&old.key, new), row.id, column, sealed.as_deref());
        let sealed = grant::seal::Sealed {
            access_token: anew(Column::AccessToken, &row.access_token)?,
            refresh_token: anew(Column::RefreshToken, &row.refresh_token)?,
            previous_refresh_token: anew(Column::RefreshToken, &row.previous_refresh_token)?,
        };
        if sealed.access_token.is_some() || sealed.refresh_token.is_some() {
            count += 1;
        }
        grant::seal::reseal(write.connection()?, row.id, &sealed).await?;
    }
    keyring::succeed(write, new, bridge).await?;
    Ok(count)
}
