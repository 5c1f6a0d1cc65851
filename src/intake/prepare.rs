//! One message from bytes to everything that can be known of it without the database. Runs on blocking
//! threads; a panic in a parser ends here.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sha2::{Digest, Sha256};

use super::attachment::{self, Parts};
use crate::issue::Reason;
use crate::large::{Contents, Stretch};
use crate::mail::parse::{self, ParseError};
use crate::mail::sender::{self, Trust};
use crate::mail::{Classification, Extract, Mail, classify, reply};
use crate::mailbox::{Mailbox, RawMessage};
use crate::project::{RouteTarget, Rules, Trim};
use crate::store::attachment::NewAttachment;
use crate::thread::{Carrier, carriers};

/// A message, ready for the database.
pub struct Prepared {
    /// As fetched, its bytes taken out.
    pub raw: RawMessage,
    /// Of the bytes as fetched.
    pub sha256: [u8; 32],
    /// Count of the bytes as fetched; for a stub the size that the server states.
    pub size: u64,
    /// The bytes as fetched.
    pub original: Contents,
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
    /// The attachments, compressed.
    pub attachments: Vec<NewAttachment>,
}

/// Reads a message.
///
/// # Errors
/// Only where memory is short.
pub fn prepare(raw: RawMessage, mailbox: &Mailbox, rules: &Rules) -> std::io::Result<Prepared> {
    let content = match catch_unwind(AssertUnwindSafe(|| read(&raw, mailbox, rules))) {
        Ok(Ok(readable)) => Ok(Box::new(readable)),
        Ok(Err(Unread::Unreadable)) => Err(Reason::Unreadable),
        Ok(Err(Unread::Failed(error))) => return Err(error),
        Err(_) => Err(Reason::ParserPanicked),
    };
    pack(raw, content)
}

/// Keeps the bytes of a message that must not be read.
///
/// # Errors
/// Only where memory is short.
pub fn set_aside(raw: RawMessage, reason: Reason) -> std::io::Result<Prepared> {
    pack(raw, Err(reason))
}

fn pack(mut raw: RawMessage, content: Result<Box<Readable>, Reason>) -> std::io::Result<Prepared> {
    let size = if raw.is_stub { raw.stated_size } else { raw.size() };
    let bytes = std::mem::take(&mut raw.bytes);
    let (sha256, original) = match raw.large.take() {
        Some(large) => (large.sha256, Contents::OnDisk(Stretch::whole(large))),
        None => (Sha256::digest(&bytes).into(), Contents::packed(&bytes)?),
    };
    Ok(Prepared {
        raw,
        sha256,
        size,
        original,
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

fn read(raw: &RawMessage, mailbox: &Mailbox, rules: &Rules) -> Result<Readable, Unread> {
    let (mut mail, parts) = parsed(raw)?;
    let message_key = mail.message_id.as_deref().map(parse::carrier_key);
    let fingerprint = if message_key.is_some() && !raw.is_stub {
        Some(attachment::fingerprint(&mail, &parts)?)
    } else {
        None
    };
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
    let attachments = attachment::take(&mut mail, parts)?;
    Ok(Readable {
        trust: sender::trust(&mail, &mailbox.authserv_id),
        carriers,
        attachments,
        classification,
        extract,
        fingerprint,
        message_key,
        route,
        mail,
    })
}

/// The mail, and what of its attachments is on disk. A large message is parsed by its skeleton; where that lacks
/// something that is no attachment, by all of its bytes.
fn parsed(raw: &RawMessage) -> Result<(Mail, Parts), Unread> {
    let mail = parse::parse(raw.parsed())?;
    let Some(large) = &raw.large else {
        return Ok((mail, Parts::default()));
    };
    if let Some(parts) = Parts::on_disk(large, &mail)? {
        return Ok((mail, parts));
    }
    Ok((parse::parse(&large.read()?)?, Parts::default()))
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
