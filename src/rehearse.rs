//! What would become of a message, decided as the intake decides. It never writes, neither here nor on a server.

mod maildrop;

use std::sync::Arc;

use serde_json::{Value, json};
use sqlx::SqliteConnection;

use crate::audit::{AuditError, Connectors, credential};
use crate::broker::Broker;
use crate::compose::sign::hex;
use crate::intake::act::shown;
use crate::intake::judge::{Context, Fate, consider, find_known};
use crate::intake::origin::recognize;
use crate::intake::prepare::{Prepared, Readable, prepare};
use crate::issue::{Action, Reason};
use crate::mail::Person;
use crate::mailbox::{Credential, Mailbox, MailboxId, Protocol, RawMessage, SignIn, Uid};
use crate::project::Rules;
use crate::store::StoreError;
use crate::store::attachment::NewAttachment;
use crate::thread::Thread;
use crate::time::Timestamp;

/// Messages of a folder that are fetched at once.
const FETCHED_AT_ONCE: usize = 20;

/// Decides without writing.
pub struct Rehearsal<'r> {
    /// The database, or an empty one.
    pub connection: &'r mut SqliteConnection,
    /// The rules to be tried.
    pub rules: &'r Rules,
    /// The present.
    pub now: Timestamp,
}

/// A message to be tried.
#[derive(Debug, Clone)]
pub struct Tried {
    /// Where it was read: a file, or its place on the server.
    pub file: String,
    /// The number in an mbox.
    pub index: usize,
    /// The settings of the mailbox that it would come by.
    pub mailbox: Arc<Mailbox>,
    /// The row of that mailbox, where it has one.
    pub mailbox_id: Option<MailboxId>,
    /// Whether it may be in the ledger already and is to be judged as if it were not.
    pub is_taken_for_new: bool,
    /// The message.
    pub raw: RawMessage,
}

/// Why a message could not be tried.
#[derive(Debug, thiserror::Error)]
pub enum RehearsalError {
    /// The database.
    #[error("cannot read the database")]
    Store(#[from] StoreError),
    /// Memory is short.
    #[error("cannot read a message")]
    Memory(#[source] std::io::Error),
}

impl Rehearsal<'_> {
    /// What would become of a message, as the contract's object.
    ///
    /// # Errors
    /// [`RehearsalError`].
    pub async fn rehearse(&mut self, tried: Tried) -> Result<Value, RehearsalError> {
        let mut prepared = prepare(tried.raw, &tried.mailbox, self.rules).map_err(RehearsalError::Memory)?;
        recognize(self.connection, std::slice::from_mut(&mut prepared), self.rules).await?;
        let readable = match &prepared.content {
            Ok(readable) => readable,
            Err(reason) => return Ok(unread((&tried.file, tried.index), &tried.mailbox, *reason)),
        };
        let context = Context {
            mailbox: &tried.mailbox,
            // No row has this one.
            id: tried.mailbox_id.unwrap_or(MailboxId(-1)),
            rules: self.rules,
            now: self.now,
            again: None,
        };
        let outcome = self
            .decide(&context, (&prepared, readable), tried.is_taken_for_new)
            .await?;
        let mut value = said(readable, &prepared.attachments);
        if let Value::Object(fields) = &mut value {
            fields.insert("file".to_owned(), json!(tried.file));
            fields.insert("index".to_owned(), json!(tried.index));
            fields.extend(outcome);
        }
        Ok(value)
    }

    async fn decide(
        &mut self,
        context: &Context<'_>,
        (prepared, readable): (&Prepared, &Readable),
        is_taken_for_new: bool,
    ) -> Result<serde_json::Map<String, Value>, StoreError> {
        let connection = &mut *self.connection;
        let mut judged = consider(connection, context, prepared, readable).await?;
        if is_taken_for_new {
            judged.take_for_new(context, (prepared, readable));
        } else if let Some(known) = find_known(connection, context, prepared).await? {
            judged.fate = Fate::Known(known);
        }
        let explain = judged.trace(readable);
        let issue = match &judged.fate {
            Fate::Known(known) => match known.issue {
                Some(issue) => crate::store::view::issue::key_of(connection, issue).await?,
                None => None,
            },
            Fate::Decided(decision) => joined(decision.action, judged.thread.as_ref()),
        };
        let mut fields = serde_json::Map::new();
        for name in ["verdict", "reason"] {
            let value = explain.pointer(&format!("/decision/{name}")).cloned();
            fields.insert(name.to_owned(), value.unwrap_or_default());
        }
        fields.insert("project".to_owned(), json!(judged.project.key));
        fields.insert("issue".to_owned(), json!(issue));
        fields.insert("explain".to_owned(), explain);
        Ok(fields)
    }
}

/// The issue that a message joins; a new one has no key yet.
fn joined(action: Action, thread: Option<&Thread>) -> Option<String> {
    match action {
        Action::Comment { .. } | Action::Event { .. } => thread.map(|thread| thread.key.clone()),
        Action::Open { .. } | Action::Hold | Action::Ignore => None,
    }
}

/// What a message says, without what becomes of it.
fn said(readable: &Readable, attachments: &[NewAttachment]) -> Value {
    let mail = &readable.mail;
    let (body, elided, signature) = shown(readable);
    json!({
        "message_id": mail.message_id,
        "in_reply_to": mail.in_reply_to,
        "references": mail.references,
        "date": mail.date.map(|date| Timestamp(date).rfc3339()),
        "from": mail.from.as_ref().map(person),
        "to": mail.to.iter().map(person).collect::<Vec<_>>(),
        "cc": mail.cc.iter().map(person).collect::<Vec<_>>(),
        "subject": mail.subject,
        "class": readable.classification.class.as_str(),
        "body": body,
        "elided": elided,
        "signature": signature,
        "attachments": attachments.iter().map(attachment).collect::<Vec<_>>(),
    })
}

fn person(person: &Person) -> Value {
    json!({ "name": person.name, "address": person.address })
}

fn attachment(attachment: &NewAttachment) -> Value {
    json!({
        "id": null, "filename": attachment.filename, "media_type": attachment.media_type,
        "size": attachment.size, "sha256": hex(&attachment.sha256), "inline": attachment.is_inline,
    })
}

/// Of a message that cannot be read.
fn unread((file, index): (&str, usize), mailbox: &Mailbox, reason: Reason) -> Value {
    let decision = json!({ "verdict": "quarantined", "reason": reason.as_str() });
    json!({
        "file": file, "index": index, "message_id": null, "in_reply_to": [], "references": [], "date": null,
        "from": null, "to": [], "cc": [], "subject": null, "class": null, "verdict": "quarantined",
        "reason": reason.as_str(), "project": mailbox.project, "issue": null, "body": null, "elided": null,
        "signature": null, "attachments": [],
        "explain": { "class": null, "thread": [], "trim": null, "decision": decision },
    })
}

/// The newest messages on the server, the oldest of them first. Nothing there is changed: IMAP folders are examined,
/// and bodies peeked at; what POP3 read counts as unread again.
///
/// # Errors
/// [`AuditError`].
pub async fn newest(
    mailbox: &Mailbox,
    connectors: &Connectors,
    broker: Option<&Broker>,
    limit: usize,
) -> Result<Vec<RawMessage>, AuditError> {
    let credential = match (&mailbox.sign_in, broker) {
        (SignIn::Password(secret), _) => Credential::Password(secret.value.clone()),
        (SignIn::Token(_), Some(broker)) => credential(mailbox, broker).await?,
        (SignIn::Token(_), None) => return Err(AuditError::NoTokens),
    };
    if mailbox.server.protocol == Protocol::Pop3 {
        let session = connectors.pop3.connect(mailbox, &credential).await?;
        return Ok(maildrop::newest(mailbox, session, limit).await?);
    }
    let mut session = connectors.imap.connect(mailbox, &credential).await?;
    let mut found = Vec::new();
    for folder in &mailbox.folders {
        let selected = session.examine(folder).await?;
        let mut listed = session.list(Uid::MIN).await?;
        listed.retain(|listed| !listed.is_deleted);
        let skipped = listed.len().saturating_sub(limit);
        for batch in listed.split_off(skipped).chunks(FETCHED_AT_ONCE) {
            let place = (folder.as_str(), selected.uidvalidity);
            let fetched = session.fetch(place, batch, mailbox.max_message_size).await?;
            found.extend(fetched.messages);
        }
    }
    session.logout().await;
    found.sort_by_key(|raw| (raw.received_at, raw.place.uid()));
    let skipped = found.len().saturating_sub(limit);
    Ok(found.split_off(skipped))
}
