//! Messages, whole or by their header, in pieces that bound what a lying server can make us hold.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_imap::imap_proto::{AttributeValue, Response};

use super::error::{ImapError, Step};
use super::list::{body, received_at, uid};
use super::{Session, name};
use crate::mailbox::{Listed, Place, RawMessage, Uid, UidValidity};
use crate::skimmed::{Skimmed, Writer};
use crate::time::Timestamp;

/// Largest piece of a message that is asked for at once, in bytes: as fast as in one, with a fifth of the memory.
const SLICE: usize = 1 << 20;
/// Largest header that is read of a message over the limit, in bytes.
const HEADER_LIMIT: usize = 256 * 1024;

/// What a fetch brought.
#[derive(Debug, Default)]
pub struct Fetched {
    /// The messages, in the order in which they were asked for.
    pub messages: Vec<RawMessage>,
    /// Those that another client has removed meanwhile.
    pub vanished: Vec<Uid>,
    /// What broke the connection after these had come: on a bad line each session brings a few on.
    pub broken: Option<ImapError>,
}

/// What became of a message of several pieces.
enum Spooled {
    /// Another client removed it meanwhile.
    Gone,
    /// It is over the limit.
    Over,
    /// It is on disk.
    Whole(Skimmed),
}

/// A piece of a message, with what was told beside it.
#[derive(Debug, Clone, Default)]
struct Piece {
    bytes: Vec<u8>,
    /// The whole message on disk, where it came in several pieces.
    large: Option<Arc<Skimmed>>,
    received_at: Option<Timestamp>,
    server_id: Option<String>,
}

impl Session {
    /// Fetches messages of the open folder. Sizes are taken for hints: what is over `max_message_size`
    /// becomes a stub, whatever the server stated.
    ///
    /// # Errors
    /// As any command.
    pub async fn fetch(
        &mut self,
        (folder, uidvalidity): (&str, UidValidity),
        wanted: &[Listed],
        max_message_size: u64,
    ) -> Result<Fetched, ImapError> {
        let slice = SLICE as u64;
        let small: Vec<Uid> = wanted.iter().filter(|l| l.size <= slice).map(|l| l.uid).collect();
        let (mut pieces, broken) = self.pieces(&small, &format!("BODY.PEEK[]<0.{SLICE}>")).await;
        let mut fetched = Fetched {
            broken,
            ..Fetched::default()
        };
        for listed in wanted {
            let piece = pieces.remove(&listed.uid).filter(|piece| !piece.bytes.is_empty());
            let whole = match piece {
                Some(piece) if piece.bytes.len() < SLICE && piece.bytes.len() as u64 <= max_message_size => {
                    Ok(Some((piece, false)))
                }
                _ if fetched.broken.is_some() => continue,
                piece => self.complete(listed, piece, max_message_size).await,
            };
            match whole {
                Ok(Some((piece, is_stub))) => fetched.messages.push(RawMessage {
                    place: Place::Imap {
                        folder: folder.to_owned(),
                        uidvalidity,
                        uid: listed.uid,
                    },
                    stated_size: listed.size,
                    received_at: piece.received_at.or(listed.received_at),
                    server_id: piece.server_id,
                    bytes: piece.bytes,
                    large: piece.large,
                    is_stub,
                }),
                Ok(None) => fetched.vanished.push(listed.uid),
                Err(error) => fetched.broken = Some(error),
            }
        }
        match fetched.broken.take() {
            Some(error) if fetched.messages.is_empty() => Err(error),
            broken => Ok(Fetched { broken, ..fetched }),
        }
    }

    /// The whole of a message, or its header; `None` if it is gone.
    async fn complete(
        &mut self,
        listed: &Listed,
        first: Option<Piece>,
        limit: u64,
    ) -> Result<Option<(Piece, bool)>, ImapError> {
        // Exchange states sizes that are a little off; what is far over the limit is not even begun.
        if listed.size > limit.saturating_mul(2) {
            return self.stub(listed.uid).await;
        }
        let first = match first {
            Some(first) => first,
            None => match self.slice(listed.uid, 0).await? {
                Some(piece) => piece,
                None => return Ok(None),
            },
        };
        if first.bytes.len() < SLICE {
            let is_over = first.bytes.len() as u64 > limit;
            return if is_over {
                self.stub(listed.uid).await
            } else {
                Ok(Some((first, false)))
            };
        }
        match self.spool(listed.uid, &first.bytes, limit).await? {
            Spooled::Gone => Ok(None),
            Spooled::Over => self.stub(listed.uid).await,
            Spooled::Whole(large) => {
                let whole = Piece {
                    bytes: Vec::new(),
                    large: Some(Arc::new(large)),
                    ..first
                };
                Ok(Some((whole, false)))
            }
        }
    }

    /// A message of several pieces, on disk.
    async fn spool(&mut self, uid: Uid, first: &[u8], limit: u64) -> Result<Spooled, ImapError> {
        let mut writer = Writer::begin(&self.spool).map_err(ImapError::Spool)?;
        writer.write(first).map_err(ImapError::Spool)?;
        loop {
            if writer.size() > limit {
                return Ok(Spooled::Over);
            }
            let offset = usize::try_from(writer.size()).unwrap_or(usize::MAX);
            let Some(next) = self.slice(uid, offset).await? else {
                return Ok(Spooled::Gone);
            };
            writer.write(&next.bytes).map_err(ImapError::Spool)?;
            if next.bytes.len() < SLICE && writer.size() <= limit {
                return Ok(Spooled::Whole(writer.finish()));
            }
        }
    }

    async fn stub(&mut self, uid: Uid) -> Result<Option<(Piece, bool)>, ImapError> {
        let item = format!("BODY.PEEK[HEADER]<0.{HEADER_LIMIT}>");
        Ok(self.piece(uid, &item).await?.map(|piece| (piece, true)))
    }

    async fn slice(&mut self, uid: Uid, offset: usize) -> Result<Option<Piece>, ImapError> {
        let item = format!("BODY.PEEK[]<{offset}.{SLICE}>");
        self.piece(uid, &item).await
    }

    async fn piece(&mut self, uid: Uid, item: &str) -> Result<Option<Piece>, ImapError> {
        match self.pieces(&[uid], item).await {
            (mut pieces, None) => Ok(pieces.remove(&uid)),
            (_, Some(error)) => Err(error),
        }
    }

    /// One piece of each of these messages, and what broke the connection meanwhile; those that are gone are left out.
    async fn pieces(&mut self, uids: &[Uid], item: &str) -> (HashMap<Uid, Piece>, Option<ImapError>) {
        let id = if self.has("X-GM-EXT-1") {
            " X-GM-MSGID"
        } else if self.has("OBJECTID") {
            " EMAILID"
        } else {
            ""
        };
        let asked: HashSet<&Uid> = uids.iter().collect();
        let mut pieces: HashMap<Uid, Piece> = HashMap::new();
        for set in name::sets(uids) {
            let command = format!("UID FETCH {set} (UID INTERNALDATE{id} {item})");
            let done = self.command(Step::Fetch, &command, |response| {
                // An answer without the UID or the body is an unasked report, and a UID may be nobody's wish.
                if let Response::Fetch(_, attributes) = response
                    && let Some(uid) = uid(attributes).filter(|uid| asked.contains(uid))
                    && has_body(attributes)
                {
                    pieces.entry(uid).or_insert_with(|| piece(attributes));
                }
            });
            if let Err(error) = done.await {
                return (pieces, Some(error));
            }
        }
        (pieces, None)
    }
}

fn has_body(attributes: &[AttributeValue<'_>]) -> bool {
    attributes.iter().any(|attribute| {
        matches!(
            attribute,
            AttributeValue::BodySection { .. } | AttributeValue::Rfc822(_) | AttributeValue::Rfc822Header(_)
        )
    })
}

fn piece(attributes: &[AttributeValue<'_>]) -> Piece {
    let server_id = attributes.iter().find_map(|attribute| match attribute {
        AttributeValue::GmailMsgId(id) => Some(id.to_string()),
        AttributeValue::EmailId(id) => Some(id.to_string()),
        _ => None,
    });
    Piece {
        bytes: body(attributes).unwrap_or_default().to_vec(),
        large: None,
        received_at: received_at(attributes),
        server_id,
    }
}
