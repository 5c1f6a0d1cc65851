//! Bytes as they stand in a column: Zstandard frames. The callers of the store pack, the store unpacks.

use super::StoreError;

/// The bytes of a frame.
///
/// # Errors
/// [`StoreError::Inconsistent`] if it is none.
pub(super) fn unpack(compressed: &[u8], table: &'static str, column: &'static str) -> Result<Vec<u8>, StoreError> {
    zstd::stream::decode_all(compressed).map_err(|_| StoreError::Inconsistent { table, column })
}
