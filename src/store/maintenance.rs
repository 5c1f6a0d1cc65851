//! What keeps the database fit: statistics for the planner, and the write-ahead log folded back.

use super::{Store, StoreError};

/// Runs `PRAGMA optimize` and a truncating checkpoint. Each may be run at any time and does nothing twice.
///
/// # Errors
/// What the database says.
pub async fn run(store: &Store) -> Result<(), StoreError> {
    store.outside_transaction("PRAGMA optimize").await?;
    store.outside_transaction("PRAGMA wal_checkpoint(TRUNCATE)").await
}
