//! The present token key: the configured one, or the one that has taken its place since.
//! It never seals or opens a token.

use std::sync::{Arc, Mutex, PoisonError};

use tracing::info;

use super::TokenError;
use crate::seal::{Key, SealError};
use crate::store::token_key::{self, TokenKey};
use crate::store::{Store, StoreError, Write};

/// What the sample of the token key holds.
const SAMPLE: &[u8] = b"mailintake";
/// The context that it is sealed in.
const SAMPLE_CONTEXT: &str = "token_key|1|sample";
/// The context that the next key is sealed in.
const NEXT_CONTEXT: &str = "token_key|1|next";

/// Gives the keys that are configured at the time: a key file is read anew, and holds two while it is rotated.
pub type Configured = Arc<dyn Fn() -> Vec<Key> + Send + Sync>;

/// The key of the present.
#[derive(Debug, Clone)]
pub struct Current {
    /// The key.
    pub key: Key,
    /// The configured key that led to it: the same, or the old one until a restart.
    pub configured: Key,
    /// How often it was rotated.
    pub generation: i64,
}

/// Finds the key of the present, again after each rotation.
pub struct Keyring {
    store: Store,
    configured: Configured,
    known: Mutex<Current>,
}

impl Keyring {
    /// Finds the key that the tokens in the database are sealed with. The first key is remembered, and a new
    /// one is taken where no token is left that needs the old.
    ///
    /// # Errors
    /// [`TokenError::Seal`] if none of the configured keys leads to it, [`TokenError::Store`].
    pub async fn open(store: &Store, configured: Configured) -> Result<Self, TokenError> {
        let keys = configured();
        let known = token_key::find(store.readers()).await?;
        let current = match known.as_ref().map(|known| find(known, &keys)) {
            Some(Ok(found)) => found,
            Some(Err(wrong)) if token_key::is_needed(store.readers()).await? => return Err(wrong.into()),
            Some(Err(_)) | None => remember(store, &keys).await?,
        };
        Ok(Self {
            store: store.clone(),
            configured,
            known: Mutex::new(current),
        })
    }

    /// The first configured key, whether it fits or not.
    ///
    /// # Errors
    /// [`TokenError::Seal`] where no key is configured.
    pub fn unchecked(store: &Store, configured: Configured) -> Result<Self, TokenError> {
        let key = configured().into_iter().next().ok_or_else(SealError::none)?;
        Ok(Self {
            store: store.clone(),
            configured,
            // No generation that a database has: it is looked up at the first use.
            known: Mutex::new(Current {
                configured: key.clone(),
                key,
                generation: -1,
            }),
        })
    }

    /// The key as it was known last.
    pub(super) fn cached(&self) -> Current {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The key of the present, looked up anew if it was rotated meanwhile.
    ///
    /// # Errors
    /// [`TokenError::Seal`] if none of the configured keys leads to it, [`TokenError::Store`].
    pub async fn current(&self) -> Result<Current, TokenError> {
        let cached = self.cached();
        let Some(known) = token_key::find(self.store.readers()).await? else {
            return Ok(cached);
        };
        if known.generation == cached.generation {
            return Ok(cached);
        }
        let found = find(&known, &(self.configured)())?;
        info!("the token key was rotated; the new one is in use");
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = found.clone();
        Ok(found)
    }

    /// Forgets the copy of the key that the database keeps from a rotation until the restart, once the configured
    /// key is the new one.
    ///
    /// # Errors
    /// [`TokenError::Store`].
    pub async fn settle(&self) -> Result<(), TokenError> {
        let Some(known) = token_key::find(self.store.readers()).await? else {
            return Ok(());
        };
        if known.next.is_none() || !(self.configured)().iter().any(|key| fits(key, &known)) {
            return Ok(());
        }
        let mut write = self.store.write().await?;
        token_key::forget_next(write.connection()?).await?;
        write.commit().await?;
        Ok(())
    }
}

/// Puts `new` in the place of the present key, within the caller's transaction. Where the configured keys will be
/// the old ones until a restart, `bridge` is the one of them that the new key is sealed with meanwhile.
///
/// # Errors
/// What the database says.
pub(super) async fn succeed(write: &mut Write, new: &Key, bridge: Option<&Key>) -> Result<(), StoreError> {
    let next = bridge.map(|old| old.seal(new.bytes(), NEXT_CONTEXT));
    token_key::save(write.connection()?, &new.seal(SAMPLE, SAMPLE_CONTEXT), next.as_deref()).await
}

fn fits(key: &Key, known: &TokenKey) -> bool {
    key.open(&known.sample, SAMPLE_CONTEXT).is_ok()
}

/// The key that the sample is sealed with: one of these, or the one that one of these leads to.
fn find(known: &TokenKey, keys: &[Key]) -> Result<Current, SealError> {
    let next = |key: &Key| {
        let plain = key.open(known.next.as_deref()?, NEXT_CONTEXT).ok()?;
        Some((Key::from_bytes(&plain, key.origin())?, key.clone()))
    };
    let found = keys
        .iter()
        .map(|key| (key.clone(), key.clone()))
        .chain(keys.iter().filter_map(next))
        .find(|(key, _)| fits(key, known));
    match (found, keys.first()) {
        (Some((key, configured)), _) => Ok(Current {
            key,
            configured,
            generation: known.generation,
        }),
        (None, Some(first)) => Err(first.wrong()),
        (None, None) => Err(SealError::none()),
    }
}

async fn remember(store: &Store, keys: &[Key]) -> Result<Current, TokenError> {
    let key = keys.first().cloned().ok_or_else(SealError::none)?;
    let mut write = store.write().await?;
    succeed(&mut write, &key, None).await?;
    let generation = token_key::generation(write.connection()?).await?;
    write.commit().await?;
    Ok(Current {
        configured: key.clone(),
        key,
        generation,
    })
}
