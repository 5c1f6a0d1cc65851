//! One message from bytes to everything that can be known of it without the database. Runs on blocking
//! threads; a panic in a parser ends here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::attachment::{self, Attached, CutOut};
use crate::issue::Reason;

use crate::mail::parse::{self, ParseError};
use crate::mail::sender::{self, Trust};
use crate::mail::{Classification, Extract, Mail, classify, reply};
use crate::mailbox::{Mailbox, RawMessage};
use crate::project::{RouteTarget, Rules, Trim};
use crate::skimmed::Skimmed;
use crate::store::attachment::NewAttachment;
use crate::store::original::NewOriginal;
use crate::thread::{Carrier, carriers};

/// A message, ready for the database.
pub struct Prepared {
    /// As fetched, its bytes taken out.
    pub raw: RawMessage,
    /// Of the bytes as fetched.
    pub sha256: [u8; 32],
    /// Count of the bytes as fetched; for a stub the size that the server states.
    pub size: u64,
    /// The bytes as fetched, with those of attachments left to them.
    pub original: NewOriginal,
    /// The attachments, packed; none where it could not be read.
    pub attachments: Vec<NewAttachment>,
    /// Whether it is new for certain, so that nobody need look for it.
    pub is_new: bool,
    /// What it says, or why that could not be read.
    pub content: Result<Box<Readable>, Reason>,
}

/// What a message says.
pub struct Readable {
    /// Decoded; the bytes of attachments are taken out.
    pub mail: Mail,
    /// What kind of sender wrote it.
    pub classification: Classification,
    /// The new words of a reply.
    pub extract: Extract,
    /// How far the sender is proven.
    pub trust: Trust,
    /// Of the decoded contents; only of a message that has a Message-ID and was fetched whole.
    pub fingerprint: Option<[u8; 32]>,
    /// Message-ID, normalized.
    pub message_key: Option<String>,
    /// What may name an issue; marks of ours are verified by `origin`.
    pub carriers: Vec<Carrier>,
    /// Where the routes lead; `None`: to the mailbox's project.
    pub route: Option<RouteTarget>,
}

/// Reads a message.
///
/// # Errors
/// Only where memory is short, or the disk fails.
pub fn prepare(mut raw: RawMessage, mailbox: &Mailbox, rules: &Rules) -> std::io::Result<Prepared> {
    let message = skimmed(&mut raw);
    match catch_unwind(AssertUnwindSafe(|| read(&raw, &message, mailbox, rules))) {
        Ok(Ok((readable, attached))) => pack(raw, message, Ok(Box::new(readable)), attached),
        Ok(Err(Unread::Unreadable)) => pack(raw, message, Err(Reason::Unreadable), Attached::default()),
        Ok(Err(Unread::Failed(error))) => Err(error),
        Err(_) => pack(raw, message, Err(Reason::ParserPanicked), Attached::default()),
    }
}

/// Keeps the bytes of a message that must not be read.
///
/// # Errors
/// Only where memory is short.
pub fn set_aside(mut raw: RawMessage, reason: Reason) -> std::io::Result<Prepared> {
    let message = skimmed(&mut raw);
    pack(raw, message, Err(reason), Attached::default())
}

fn skimmed(raw: &mut RawMessage) -> Arc<Skimmed> {
    let bytes = std::mem::take(&mut raw.bytes);
    raw.large.take().unwrap_or_else(|| Arc::new(Skimmed::held(bytes)))
}

fn pack(
    raw: RawMessage,
    message: Arc<Skimmed>,
    content: Result<Box<Readable>, Reason>,
    attached: Attached,
) -> std::io::Result<Prepared> {
    Ok(Prepared {
        size: if raw.is_stub { raw.stated_size } else { message.size },
        raw,
        sha256: message.sha256,
        original: attachment::original(message, attached.again)?,
        attachments: attached.attachments,
        is_new: false,
        content,
    })
}

/// Why a message is not read.
enum Unread {
    /// There is no message in its bytes.
    Unreadable,
    /// Memory or the disk failed.
    Failed(std::io::Error),
}

impl From<ParseError> for Unread {
    fn from(_: ParseError) -> Self {
        Self::Unreadable
    }
}

impl From<std::io::Error> for Unread {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error)
    }
}

fn read(
    raw: &RawMessage,
    message: &Arc<Skimmed>,
    mailbox: &Mailbox,
    rules: &Rules,
) -> Result<(Readable, Attached), Unread> {
    let (mut mail, cut) = parsed(message)?;
    let facts = classify::Facts {
        own: &rules.own,
        // Not known without the database: see `origin`.
        answers_ours: false,
        is_ours: false,
    };
    let classification = classify::classify(&mail, &facts);
    let route = rules.route(&mail, mailbox).map(|route| route.target.clone());
    let extract = extract(&mail, mailbox, rules, route.as_ref());
    // Before the bytes of attachments are taken out: a mail that came back is one.
    let carriers = carriers(&mail);
    let attached = attachment::take(&mut mail, message, cut)?;
    let message_key = mail.message_id.as_deref().map(parse::carrier_key);
    let has_fingerprint = message_key.is_some() && !raw.is_stub;
    let readable = Readable {
        trust: sender::trust(&mail, &mailbox.authserv_id),
        fingerprint: has_fingerprint.then(|| attachment::fingerprint(&mail, &attached.attachments)),
        carriers,
        classification,
        extract,
        message_key,
        route,
        mail,
    };
    Ok((readable, attached))
}

/// The mail, and what of its attachments was cut. It is parsed by its skeleton; where that lacks something that is no
/// attachment, by all of its bytes.
fn parsed(message: &Skimmed) -> Result<(Mail, CutOut), Unread> {
    let mail = parse::parse(message.parsed())?;
    if let Some(cut) = attachment::cut_out(&message.skeleton, &mail) {
        return Ok((mail, cut));
    }
    Ok((parse::parse(&message.read()?)?, CutOut::new()))
}

fn extract(mail: &Mail, mailbox: &Mailbox, rules: &Rules, route: Option<&RouteTarget>) -> Extract {
    let key = match route {
        Some(RouteTarget::Project(key)) => key,
        Some(RouteTarget::Ignore | RouteTarget::Hold) | None => &mailbox.project,
    };
    let project = rules.project(key);
    let trims = project.is_none_or(|project| project.trim == Trim::Reply);
    let separators = project.map_or(&[][..], |project| project.separators.as_slice());
    reply::extract(&mail.text, trims && reply::is_reply(mail), separators)
}
