//! The newest messages of a POP3 mailbox. What is read there counts as unread again.

use crate::mailbox::{Mailbox, OtherSource, Place, RawMessage};
use crate::pop3::{Content, Pop3Error, Retrieved, Session, header};

/// Messages that are read at once.
const READ_AT_ONCE: usize = 20;

/// The messages with the highest numbers: servers list in the order of arrival.
pub(super) async fn newest(
    mailbox: &Mailbox,
    mut session: Session,
    limit: usize,
) -> Result<Vec<RawMessage>, Pop3Error> {
    let mut entries = session.list().await?;
    let skipped = entries.len().saturating_sub(limit);
    let mut found = Vec::new();
    for chunk in entries.split_off(skipped).chunks(READ_AT_ONCE) {
        let haul = session.retrieve(chunk, mailbox.max_message_size).await;
        if let Some(broken) = haul.broken {
            return Err(broken.error);
        }
        let mut come = haul.come;
        come.sort_unstable_by_key(|retrieved| retrieved.entry.number);
        found.extend(come.into_iter().filter_map(raw));
    }
    session.leave().await;
    Ok(found)
}

fn raw(Retrieved { entry, content }: Retrieved) -> Option<RawMessage> {
    let (bytes, large, stated_size, is_stub) = match content {
        Content::Whole(bytes) => (bytes, None, entry.size, false),
        Content::Large(large) => (Vec::new(), Some(large), entry.size, false),
        Content::Header(bytes, size) => (bytes, None, size, true),
        Content::Refused(_) => return None,
    };
    let mut raw = RawMessage {
        place: Place::Other {
            source: OtherSource::Pop3,
            remote_id: entry.uidl.unwrap_or_else(|| format!("message {}", entry.number)),
        },
        received_at: None,
        bytes,
        large,
        stated_size,
        server_id: None,
        is_stub,
    };
    raw.received_at = header::received_at(header::block(raw.parsed()));
    Some(raw)
}
