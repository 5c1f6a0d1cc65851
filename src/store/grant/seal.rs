//! The tokens of a grant under another key.
//! It never opens one.

use sqlx::SqliteConnection;

use super::GrantId;
use crate::store::StoreError;

/// The tokens of a grant, sealed.
#[derive(Debug)]
pub struct Sealed {
    /// The access token.
    pub access_token: Option<Vec<u8>>,
    /// The refresh token.
    pub refresh_token: Option<Vec<u8>>,
    /// The one before.
    pub previous_refresh_token: Option<Vec<u8>>,
}

/// Puts the same tokens in their places, sealed with another key: whoever renews at present saves over them.
///
/// # Errors
/// What the database says.
pub async fn reseal(connection: &mut SqliteConnection, id: GrantId, sealed: &Sealed) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE \"grant\" SET access_token = ?, refresh_token = ?, previous_refresh_token = ?
         WHERE id = ?",
    )
    .bind(&sealed.access_token)
    .bind(&sealed.refresh_token)
    .bind(&sealed.previous_refresh_token)
    .bind(id.0)
    .execute(connection)
    .await?;
    Ok(())
}
