//! One message from bytes to everything that can be known of it without the database. Runs on blocking
//! threads; a panic in a parser ends here.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sha2::{Digest, Sha256};

use crate::issue::Reason;
use crate::mail::sender::Trust;
use crate::mail::{Classification, Extract, Mail, classify, parse, reply, sender};
use crate::mailbox::{Mailbox, RawMessage};
use crate::project::{RouteTarget, Rules, Trim};
use crate::store::attachment::NewAttachment;
use crate::thread::{Carrier, carriers};

/// Zstandard level: the fastest; mail that is worth more is mostly compressed already.
const COMPRESSION_LEVEL: i32 = 1;

/// A message, ready for the database.
pub struct Prepared {
    /// As fetched, its bytes taken out.
    pub raw: RawMessage,
    /// Of the bytes as fetched.
    pub sha256: [u8; 32],
    /// Count of the bytes as fetched; for a stub the size that the server states.
    pub size: u64,
    /// The bytes as fetched, as a Zstandard frame.
    pub compressed: Vec<u8>,
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
    let read = catch_unwind(AssertUnwindSafe(|| read(&raw, mailbox, rules)));
    let content = match read {
        Ok(Ok(content)) => Ok(Box::new(content?)),
        Ok(Err(reason)) => Err(reason),
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
    let bytes = std::mem::take(&mut raw.bytes);
    Ok(Prepared {
        sha256: Sha256::digest(&bytes).into(),
        size: if raw.is_stub {
            raw.stated_size
        } else {
            bytes.len() as u64
        },
        compressed: compress(&bytes)?,
        raw,
        content,
    })
}

/// A Zstandard frame of some bytes.
///
/// # Errors
/// Only where memory is short.
pub fn compress(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    zstd::bulk::compress(bytes, COMPRESSION_LEVEL)
}

type Read = Result<std::io::Result<Readable>, Reason>;

fn read(raw: &RawMessage, mailbox: &Mailbox, rules: &Rules) -> Read {
    let mut mail = parse::parse(&raw.bytes).map_err(|_| Reason::Unreadable)?;
    let message_key = mail.message_id.as_deref().map(parse::carrier_key);
    let fingerprint = (message_key.is_some() && !raw.is_stub).then(|| parse::fingerprint(&mail));
    let facts = classify::Facts {
        own: &rules.own,
        // Not known without the database: see `origin`.
        answers_ours: false,
        is_ours: false,
    };
    let classification = classify::classify(&mail, &facts);
    let route = rules.route(&mail, mailbox).map(|route| route.target.clone());
    let extract = extract(&mail, mailbox, rules, route.as_ref());
    let attachments = take_attachments(&mut mail);
    Ok(attachments.map(|attachments| Readable {
        trust: sender::trust(&mail, &mailbox.authserv_id),
        carriers: carriers(&mail),
        attachments,
        classification,
        extract,
        fingerprint,
        message_key,
        route,
        mail,
    }))
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

fn take_attachments(mail: &mut Mail) -> std::io::Result<Vec<NewAttachment>> {
    mail.attachments
        .iter_mut()
        .map(|attachment| {
            let bytes = std::mem::take(&mut attachment.bytes);
            Ok(NewAttachment {
                sha256: Sha256::digest(&bytes).into(),
                size: bytes.len() as u64,
                compressed: compress(&bytes)?,
                filename: attachment.filename.clone(),
                media_type: attachment.media_type.clone(),
                is_inline: attachment.is_inline,
                content_id: attachment.content_id.clone(),
            })
        })
        .collect()
}
