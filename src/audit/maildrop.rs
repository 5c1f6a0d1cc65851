//! The messages at a POP3 server against the ledger. What is read there counts as unread again.

use sha2::{Digest, Sha256};

use super::{AuditError, Audited, Missing, Step};
use crate::mailbox::{Mailbox, MailboxId};
use crate::pop3::{Content, Entry, Retrieved, Session, header, id_of_bytes};
use crate::store::Store;
use crate::store::message::maildrop::{self, Row};

/// Messages that are read at once.
const READ_AT_ONCE: usize = 20;

/// Compares: a message has its row where its UIDL has one of its size. Else it is read, and its bytes decide.
pub(super) async fn audit(
    mailbox: &Mailbox,
    mut session: Session,
    (store, id): (&Store, Option<MailboxId>),
    told: &mut dyn FnMut(Step),
) -> Result<Audited, AuditError> {
    let entries = session.list().await?;
    let on_server = entries.len();
    told(Step::Listed(on_server));
    let ids: Vec<&str> = entries.iter().filter_map(|entry| entry.uidl.as_deref()).collect();
    let rows = rows(store, id, &ids).await?;
    let in_doubt: Vec<Entry> = entries
        .iter()
        .filter(|entry| !is_known(entry, &rows))
        .cloned()
        .collect();
    told(Step::Compared(on_server - in_doubt.len()));
    let mut missing = Vec::new();
    for chunk in in_doubt.chunks(READ_AT_ONCE) {
        let haul = session.retrieve(chunk, mailbox.max_message_size).await;
        if let Some(broken) = haul.broken {
            return Err(broken.error.into());
        }
        for retrieved in haul.come {
            missing.extend(compare(retrieved, store, id).await?);
        }
        told(Step::Compared(chunk.len()));
    }
    session.leave().await;
    Ok(Audited { on_server, missing })
}

fn is_known(entry: &Entry, rows: &[Row]) -> bool {
    rows.iter()
        .any(|row| Some(&row.remote_id) == entry.uidl.as_ref() && row.size == entry.size)
}

async fn compare(retrieved: Retrieved, store: &Store, id: Option<MailboxId>) -> Result<Option<Missing>, AuditError> {
    let Retrieved { entry, content } = retrieved;
    let is_whole = matches!(content, Content::Whole(_) | Content::Large(_));
    let (sha256, beginning) = match content {
        Content::Whole(bytes) | Content::Header(bytes, _) => (Sha256::digest(&bytes).into(), bytes),
        Content::Large(large) => (large.sha256, large.skeleton.bytes.clone()),
        Content::Refused(_) => (Sha256::digest(b"").into(), Vec::new()),
    };
    let header = header::block(&beginning);
    let of_header: [u8; 32] = Sha256::digest(header).into();
    let is_nameless = entry.uidl.is_none();
    let remote_id = entry.uidl.unwrap_or_else(|| id_of_bytes(&sha256));
    let rows = rows(store, id, &[&remote_id, &id_of_bytes(&of_header)]).await?;
    let is_row = |row: &Row| row.remote_id == remote_id && row.sha256.as_ref() == Some(&sha256);
    let is_stub = |row: &Row| is_whole && is_nameless && row.is_stub_of(&of_header, header.len());
    if rows.iter().any(|row| is_row(row) || is_stub(row)) {
        return Ok(None);
    }
    Ok(Some(Missing {
        folder: "INBOX".to_owned(),
        uid: None,
        uidl: Some(remote_id),
        message_id: header::message_id(header),
        received_at: header::received_at(header),
    }))
}

async fn rows(store: &Store, id: Option<MailboxId>, ids: &[&str]) -> Result<Vec<Row>, AuditError> {
    match id {
        Some(id) => Ok(maildrop::rows(store.readers(), id, ids).await?),
        None => Ok(Vec::new()),
    }
}
