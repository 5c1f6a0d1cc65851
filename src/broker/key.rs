//! Whether the configured token key is the one that the tokens are sealed with.
//! It never changes a token.

use super::TokenError;
use crate::seal::Key;
use crate::store::{self, Store};

/// What the sample of the token key holds.
const SAMPLE: &[u8] = b"mailintake";
/// The context that it is sealed in.
const SAMPLE_CONTEXT: &str = "token_key|1|sample";

/// Refuses a key that the tokens in the database are not sealed with. The first key is remembered, and
/// a new one is taken where no token is left that needs the old.
///
/// # Errors
/// [`TokenError::Seal`] for the wrong key, [`TokenError::Store`].
pub async fn check_key(store: &Store, key: &Key) -> Result<(), TokenError> {
    if let Some(sample) = store::token_key::sample(store.readers()).await? {
        match key.open(&sample, SAMPLE_CONTEXT) {
            Ok(_) => return Ok(()),
            Err(error) if store::token_key::is_needed(store.readers()).await? => return Err(error.into()),
            Err(_) => {}
        }
    }
    let mut write = store.write().await?;
    store::token_key::save(write.connection()?, &key.seal(SAMPLE, SAMPLE_CONTEXT)).await?;
    write.commit().await?;
    Ok(())
}
