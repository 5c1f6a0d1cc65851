//! The attachments of a message, packed for the database, and what of its bytes need not be kept beside them. Those of
//! a large message stay on disk until they are written. It never decides whether they are kept.

use std::io;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::mail::skeleton::Skeleton;
use crate::mail::{Attachment, Encoded, Mail, parse};
use crate::skimmed::{Contents, Measured, Regular, Skimmed, Stretch};
use crate::store::attachment::NewAttachment;
use crate::store::original::{Hole, NewOriginal};

/// Where the contents of attachments are that a skeleton shows cut, in their order.
pub(super) type CutOut = Vec<Option<Encoded>>;

/// The attachments that a skeleton shows cut. `None`: something else was cut, too.
pub(super) fn cut_out(skeleton: &Skeleton, mail: &Mail) -> Option<CutOut> {
    let is_cut = |encoded: &Encoded| skeleton.is_cut(encoded.start, encoded.end);
    let cut: CutOut = mail
        .attachments
        .iter()
        .map(|attachment| attachment.encoded.filter(is_cut))
        .collect();
    let is_explained = skeleton.cuts.iter().all(|gap| {
        let mut parts = cut.iter().flatten();
        parts.any(|encoded| gap.is_within(encoded.start, encoded.end))
    });
    is_explained.then_some(cut)
}

/// An attachment whose bytes stand in the message as base64 that can be made again from them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Again {
    sha256: [u8; 32],
    regular: Regular,
}

/// What was taken out of a mail.
#[derive(Debug, Default)]
pub(super) struct Attached {
    pub(super) attachments: Vec<NewAttachment>,
    /// Those that the original bytes need not hold, too.
    pub(super) again: Vec<Again>,
}

/// Takes the attachments out of a mail.
///
/// # Errors
/// What the disk says; or memory is short.
pub(super) fn take(mail: &mut Mail, message: &Arc<Skimmed>, cut: CutOut) -> io::Result<Attached> {
    let mut attachments = Vec::with_capacity(mail.attachments.len());
    let mut again = Vec::new();
    let mut cut = cut.into_iter();
    for attachment in &mut mail.attachments {
        let bytes = std::mem::take(&mut attachment.bytes);
        let measured = match cut.next().flatten() {
            Some(encoded) => Stretch::part(Arc::clone(message), &encoded).measure()?,
            None => in_memory(&bytes)?,
        };
        again.extend(measured.regular.map(|regular| Again {
            sha256: measured.sha256,
            regular,
        }));
        attachments.push(new(attachment, measured));
    }
    Ok(Attached { attachments, again })
}

fn in_memory(bytes: &[u8]) -> io::Result<Measured> {
    Ok(Measured {
        sha256: Sha256::digest(bytes).into(),
        size: bytes.len() as u64,
        contents: Contents::packed(bytes)?,
        regular: None,
    })
}

fn new(attachment: &Attachment, measured: Measured) -> NewAttachment {
    NewAttachment {
        sha256: measured.sha256,
        size: measured.size,
        contents: measured.contents,
        filename: attachment.filename.clone(),
        media_type: attachment.media_type.clone(),
        is_inline: attachment.is_inline,
        content_id: attachment.content_id.clone(),
    }
}

/// The fingerprint of a message, the same whether its attachments are in memory or on disk.
pub(super) fn fingerprint(mail: &Mail, attachments: &[NewAttachment]) -> [u8; 32] {
    let mut hash = parse::fingerprint_of_text(mail);
    for attachment in attachments {
        hash.update(attachment.sha256);
    }
    hash.finalize().into()
}

/// The bytes of a message, without what its attachments hold anyway.
///
/// # Errors
/// Only where memory is short.
pub(super) fn original(message: Arc<Skimmed>, mut again: Vec<Again>) -> io::Result<NewOriginal> {
    again.sort_by_key(|again| again.regular.span);
    let (mut holes, mut spans) = (Vec::new(), Vec::new());
    let (mut end, mut removed) = (0, 0_u64);
    for Again { sha256, regular } in again {
        let (from, to) = regular.span;
        // Parts stand one after the other; if ever they do not, the bytes are kept twice rather than wrongly.
        if from < end {
            continue;
        }
        holes.push(Hole {
            at: from.saturating_sub(removed),
            sha256,
            lines: regular.lines,
        });
        spans.push((from, to));
        end = to;
        removed = removed.saturating_add(to.saturating_sub(from));
    }
    Ok(NewOriginal {
        contents: Stretch::without(message, spans.into_iter()).contents()?,
        holes,
    })
}
