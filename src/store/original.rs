//! The original bytes of messages. Attachments that stand in them as regular base64 are left out and made again from
//! their contents, which are kept once however many mails repeat them. What is read is what was fetched, byte by byte:
//! the SHA-256 in the ledger is compared each time.

use sha2::{Digest, Sha256};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqlitePool};

use super::{StoreError, frame};
use crate::compose::sign::hex;
use crate::mail::transfer::lines::Lines;
use crate::skimmed::Contents;

/// The bytes of a message, to be kept.
#[derive(Debug, Clone)]
pub struct NewOriginal {
    /// Without what the holes stand for.
    pub contents: Contents,
    /// Attachments that are left out, in their order.
    pub holes: Vec<Hole>,
}

/// An attachment that is left out of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// Where it belongs in the bytes without it.
    pub at: u64,
    /// Of its decoded bytes.
    pub sha256: [u8; 32],
    /// How its base64 is laid out.
    pub lines: Lines,
}

/// The holes as JSON: place, hash, width, whether lines end with CR LF. Their contents are there before.
pub(super) fn parts(original: &NewOriginal) -> String {
    let part = |hole: &Hole| {
        serde_json::json!([
            hole.at,
            hex(&hole.sha256),
            hole.lines.width,
            i64::from(hole.lines.has_cr)
        ])
    };
    let parts: serde_json::Value = original.holes.iter().map(part).collect();
    parts.to_string()
}

/// The original bytes of a message whose first frame was read already.
///
/// # Errors
/// What the database says; [`StoreError::Inconsistent`] if they are not those that were fetched.
pub(super) async fn read(readers: &SqlitePool, message: i64, first: Vec<u8>) -> Result<Vec<u8>, StoreError> {
    let rest = frame::original(readers, message, first).await?;
    let parts = sqlx::query(
        "SELECT p.place, p.sha256, p.width, p.has_cr, c.bytes
         FROM original_part p JOIN content c ON c.sha256 = p.sha256 WHERE p.message = ?1 ORDER BY p.number",
    )
    .bind(message)
    .fetch_all(readers)
    .await?;
    let mut bytes = Vec::with_capacity(rest.len());
    let mut at = 0;
    for row in &parts {
        let place = usize::try_from(row.try_get::<i64, _>("place")?).map_err(|_| inconsistent())?;
        bytes.extend_from_slice(rest.get(at..place).ok_or_else(inconsistent)?);
        let contents = frame::content(readers, row.try_get("sha256")?, row.try_get("bytes")?).await?;
        lines_of(row)?.encode(&contents, &mut bytes);
        at = place;
    }
    bytes.extend_from_slice(rest.get(at..).ok_or_else(inconsistent)?);
    check(readers, message, &bytes).await?;
    Ok(bytes)
}

fn lines_of(row: &SqliteRow) -> Result<Lines, StoreError> {
    Ok(Lines {
        width: usize::try_from(row.try_get::<i64, _>("width")?).map_err(|_| inconsistent())?,
        has_cr: row.try_get("has_cr")?,
    })
}

async fn check(readers: &SqlitePool, message: i64, bytes: &[u8]) -> Result<(), StoreError> {
    let row = sqlx::query("SELECT sha256 FROM message WHERE id = ?1")
        .bind(message)
        .fetch_one(readers)
        .await?;
    let sha256: Option<&[u8]> = row.try_get(0)?;
    match sha256 {
        Some(sha256) if *sha256 != *Sha256::digest(bytes) => Err(inconsistent()),
        Some(_) | None => Ok(()),
    }
}

fn inconsistent() -> StoreError {
    StoreError::Inconsistent {
        table: "original",
        column: "bytes",
    }
}
