//! The attachments of a message, packed for the database; those of a large one stay on disk until they are written.
//! It never decides whether they are kept.

use std::io;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::large::{Contents, Large, Stretch};
use crate::mail::{Encoded, Mail, parse};
use crate::store::attachment::NewAttachment;

/// What of the attachments is on disk, in their order; empty where all are in memory.
#[derive(Debug, Default)]
pub(super) struct Parts(Vec<Option<Part>>);

/// An attachment that is on disk.
#[derive(Debug)]
struct Part {
    stretch: Stretch,
    sha256: [u8; 32],
    size: u64,
}

impl Parts {
    /// The attachments that the skeleton of a large message shows cut. `None`: something else was cut, too.
    ///
    /// # Errors
    /// What the disk says.
    pub(super) fn on_disk(large: &Arc<Large>, mail: &Mail) -> io::Result<Option<Self>> {
        let is_cut = |encoded: &Encoded| large.skeleton.is_cut(encoded.start, encoded.end);
        let cut: Vec<Option<Encoded>> = mail
            .attachments
            .iter()
            .map(|attachment| attachment.encoded.filter(is_cut))
            .collect();
        let is_explained = large.skeleton.cuts.iter().all(|gap| {
            let covers = |encoded: &Encoded| encoded.start < gap.at && gap.at < encoded.end;
            cut.iter().flatten().any(covers)
        });
        if !is_explained {
            return Ok(None);
        }
        let part = |encoded: Encoded| {
            let stretch = Stretch::part(Arc::clone(large), &encoded);
            let (sha256, size) = stretch.digest()?;
            Ok(Part { stretch, sha256, size })
        };
        let parts: io::Result<_> = cut.into_iter().map(|encoded| encoded.map(part).transpose()).collect();
        parts.map(|parts| Some(Self(parts)))
    }

    fn get(&self, index: usize) -> Option<&Part> {
        self.0.get(index).and_then(Option::as_ref)
    }
}

/// The fingerprint of a message, the same whether its attachments are in memory or on disk.
///
/// # Errors
/// What the disk says.
pub(super) fn fingerprint(mail: &Mail, parts: &Parts) -> io::Result<[u8; 32]> {
    let mut hash = parse::fingerprint_of_text(mail);
    for (index, attachment) in mail.attachments.iter().enumerate() {
        match parts.get(index) {
            None => parse::add(&mut hash, &attachment.bytes),
            Some(part) => {
                hash.update(part.size.to_le_bytes());
                io::copy(&mut part.stretch.reader(), &mut hash)?;
            }
        }
    }
    Ok(hash.finalize().into())
}

/// Takes the attachments out of a mail.
///
/// # Errors
/// Only where memory is short.
pub(super) fn take(mail: &mut Mail, parts: Parts) -> io::Result<Vec<NewAttachment>> {
    let mut parts = parts.0.into_iter();
    mail.attachments
        .iter_mut()
        .map(|attachment| {
            let bytes = std::mem::take(&mut attachment.bytes);
            let (sha256, size, contents) = match parts.next().flatten() {
                Some(part) => (part.sha256, part.size, Contents::OnDisk(part.stretch)),
                None => (
                    Sha256::digest(&bytes).into(),
                    bytes.len() as u64,
                    Contents::packed(&bytes)?,
                ),
            };
            Ok(NewAttachment {
                sha256,
                size,
                contents,
                filename: attachment.filename.clone(),
                media_type: attachment.media_type.clone(),
                is_inline: attachment.is_inline,
                content_id: attachment.content_id.clone(),
            })
        })
        .collect()
}
