//! Keeps the MIME parser from going down into embedded messages: it parses and drops them by recursion, so that twenty
//! thousand of them, one in the other, would end the process. They are attachments for us; their bytes are enough.
//! It never moves a byte, so that offsets into the copy hold in the original too.

use std::borrow::Cow;

/// Digests that are gone into: their messages have no Content-Type of their own (RFC 2046 §5.1.5).
const DIGESTS_MAX: usize = 20;
/// What takes the place of the last letter of a type that is to be unknown.
const UNKNOWN: u8 = 0x1a;

/// The message with the types `message/rfc822` and `message/global` made unknown wherever they stand, and
/// `multipart/digest` after the first few. The text that the parser makes of it may hold U+001A.
pub(crate) fn flatten(raw: &[u8]) -> Cow<'_, [u8]> {
    let mut places = Vec::new();
    let mut digests = 0_usize;
    for (at, _) in raw.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
        let before = raw.get(..at).unwrap_or_default().trim_ascii_end();
        let after = raw.get(at.saturating_add(1)..).unwrap_or_default();
        let subtype = after.trim_ascii_start();
        let start = at
            .saturating_add(1)
            .saturating_add(after.len().saturating_sub(subtype.len()));
        let is_message =
            ends_with(before, b"message") && (starts_with(subtype, b"rfc822") || starts_with(subtype, b"global"));
        let is_digest = ends_with(before, b"multipart") && starts_with(subtype, b"digest");
        digests = digests.saturating_add(usize::from(is_digest));
        if is_message || is_digest && digests > DIGESTS_MAX {
            // All three subtypes have six letters.
            places.push(start.saturating_add(5));
        }
    }
    if places.is_empty() {
        return Cow::Borrowed(raw);
    }
    let mut copy = raw.to_vec();
    for place in places {
        if let Some(byte) = copy.get_mut(place) {
            *byte = UNKNOWN;
        }
    }
    Cow::Owned(copy)
}

/// Whether `bytes` ends with `word`, without regard to case.
fn ends_with(bytes: &[u8], word: &[u8]) -> bool {
    bytes
        .len()
        .checked_sub(word.len())
        .and_then(|at| bytes.get(at..))
        .is_some_and(|end| end.eq_ignore_ascii_case(word))
}

/// Whether `bytes` starts with `word`, without regard to case.
fn starts_with(bytes: &[u8], word: &[u8]) -> bool {
    bytes
        .get(..word.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedded_messages_become_unknown_and_nothing_moves() {
        for (raw, flat) in [
            ("a: message/rfc822;", "a: message/rfc82\u{1a};"),
            ("a: Message /\r\n RFC822", "a: Message /\r\n RFC82\u{1a}"),
            ("message/global-headers", "message/globa\u{1a}-headers"),
            ("multipart/digest", "multipart/digest"),
            ("text/rfc822-headers", "text/rfc822-headers"),
            ("/", "/"),
        ] {
            assert_eq!(&*flatten(raw.as_bytes()), flat.as_bytes(), "{raw}");
        }
        let many = "multipart/digest ".repeat(30);
        assert_eq!(flatten(many.as_bytes()).split(|byte| *byte == UNKNOWN).count(), 11);
    }
}
