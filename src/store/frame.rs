//! Bytes as they stand in columns: Zstandard frames, the first beside what it belongs to and the rest in a table of
//! its own. The callers of the store pack, the store unpacks.

use sqlx::{Row, SqliteConnection, SqlitePool};

use super::StoreError;
use crate::skimmed::Frames;

/// The bytes of frames that stand one after the other.
pub(super) fn unpack(frames: &[u8], table: &'static str, column: &'static str) -> Result<Vec<u8>, StoreError> {
    zstd::stream::decode_all(frames).map_err(|_| StoreError::Inconsistent { table, column })
}

/// The original bytes of a message whose first frame was read already.
pub(super) async fn original(readers: &SqlitePool, message: i64, first: Vec<u8>) -> Result<Vec<u8>, StoreError> {
    let more = sqlx::query("SELECT bytes FROM original_more WHERE message = ?1 ORDER BY number")
        .bind(message)
        .fetch_all(readers)
        .await?;
    unpack(&joined(first, &more)?, "original", "bytes")
}

/// The contents of an attachment whose first frame was read already.
pub(super) async fn content(readers: &SqlitePool, sha256: &[u8], first: Vec<u8>) -> Result<Vec<u8>, StoreError> {
    let more = sqlx::query("SELECT bytes FROM content_more WHERE sha256 = ?1 ORDER BY number")
        .bind(sha256)
        .fetch_all(readers)
        .await?;
    unpack(&joined(first, &more)?, "content", "bytes")
}

fn joined(mut frames: Vec<u8>, more: &[sqlx::sqlite::SqliteRow]) -> Result<Vec<u8>, StoreError> {
    for row in more {
        frames.extend(row.try_get::<&[u8], _>(0)?);
    }
    Ok(frames)
}

/// Writes the frames after the first.
pub(super) async fn insert_original_more(
    connection: &mut SqliteConnection,
    message: i64,
    frames: &mut Frames<'_>,
) -> Result<(), StoreError> {
    let mut number = 0_i64;
    while let Some(frame) = next(frames)? {
        number += 1;
        sqlx::query("INSERT INTO original_more (message, number, bytes) VALUES (?1, ?2, ?3)")
            .bind(message)
            .bind(number)
            .bind(&*frame)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// The same for an attachment.
pub(super) async fn insert_content_more(
    connection: &mut SqliteConnection,
    sha256: &[u8],
    frames: &mut Frames<'_>,
) -> Result<(), StoreError> {
    let mut number = 0_i64;
    while let Some(frame) = next(frames)? {
        number += 1;
        sqlx::query("INSERT INTO content_more (sha256, number, bytes) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")
            .bind(sha256)
            .bind(number)
            .bind(&*frame)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// The next frame of large mail, which is read from the disk.
pub(super) fn next<'f>(frames: &'f mut Frames<'_>) -> Result<Option<std::borrow::Cow<'f, [u8]>>, StoreError> {
    frames.next_frame().map_err(|source| StoreError::File {
        path: "a large message in the state directory".into(),
        source,
    })
}
