//! The header block of a message: its fields, and a copy that the MIME parser reads right where the original
//! would mislead it. It never drops a field that could be read, except beyond the limits.

use std::borrow::Cow;

use super::{charset, word};

/// Largest header block that is read: Postfix refuses more than 100 KiB (`header_size_limit`).
const BLOCK_MAX_BYTES: usize = 256 * 1024;
/// Most header fields that are read.
const FIELDS_MAX: usize = 1000;
/// Fields that stand once (RFC 5322 §3.6). The first counts: a later one was added by whom nobody asked. To and Cc are
/// missing: where they stand twice, all of them were addressed.
const SINGLE: [&str; 12] = [
    "From",
    "Sender",
    "Reply-To",
    "Message-ID",
    "In-Reply-To",
    "References",
    "Subject",
    "Date",
    "Content-Type",
    "Content-Transfer-Encoding",
    "Content-Disposition",
    "MIME-Version",
];

/// One header field.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'x> {
    /// The name as written.
    pub(crate) name: &'x str,
    /// The value with its folds.
    pub(crate) value: &'x [u8],
    /// The whole field with its line ends.
    whole: &'x [u8],
}

/// A message, taken apart into its header fields and the rest.
#[derive(Debug)]
pub(crate) struct Block<'x> {
    /// The fields in their order.
    pub(crate) fields: Vec<Field<'x>>,
    /// What follows the empty line.
    pub(crate) body: &'x [u8],
    /// Whether fields beyond the limits were left out.
    pub(crate) is_cut: bool,
    /// Whether something stood there that is no field.
    has_junk: bool,
}

impl Block<'_> {
    /// Whether a value has bytes that are no UTF-8.
    pub(crate) fn has_8_bit(&self) -> bool {
        self.fields
            .iter()
            .any(|field| std::str::from_utf8(field.value).is_err())
    }
}

/// Takes the header block off a message.
pub(crate) fn split(raw: &[u8]) -> Block<'_> {
    let start = skip_preamble(raw);
    let mut block = Block {
        fields: Vec::new(),
        body: &[],
        is_cut: false,
        has_junk: start.len() != raw.len(),
    };
    let mut rest = start;
    while let Some((whole, after)) = take_field(rest) {
        if is_blank(whole) {
            block.has_junk |= whole != b"\n" && whole != b"\r\n";
            block.body = after;
            break;
        }
        match field(whole) {
            Some(_)
                if start.len().saturating_sub(after.len()) > BLOCK_MAX_BYTES || block.fields.len() >= FIELDS_MAX =>
            {
                block.is_cut = true;
            }
            Some(field) => block.fields.push(field),
            None if has_field_ahead(after) => block.has_junk = true,
            None => {
                // Text where a field should be and none to come: the empty line was lost, the body begins here.
                block.has_junk = true;
                block.body = rest;
                break;
            }
        }
        rest = after;
    }
    block
}

/// Skips empty lines and the separator line of an mbox file before the first field.
fn skip_preamble(raw: &[u8]) -> &[u8] {
    let bare = raw.strip_prefix(b"\xef\xbb\xbf").unwrap_or(raw);
    let mut rest = bare;
    loop {
        let (line, after) = take_line(rest);
        let is_separator = line.starts_with(b"From ") || line.starts_with(b">From ");
        if line.is_empty() || !(is_separator || is_blank(line)) {
            break;
        }
        rest = after;
    }
    // A message that begins with an empty line and then text has no header at all.
    let (line, _) = take_line(rest);
    if field(line).is_some() || raw.first() != Some(&b'\n') && raw.first() != Some(&b'\r') {
        rest
    } else {
        bare
    }
}

/// The first line with its line end, and the rest.
fn take_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(bytes.len(), |at| at.saturating_add(1));
    bytes.split_at_checked(end).unwrap_or((bytes, &[]))
}

/// The first line with the lines that continue it, and the rest.
fn take_field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (first, mut rest) = take_line(bytes);
    if first.is_empty() {
        return None;
    }
    let is_blank_first = is_blank(first);
    while !is_blank_first && matches!(rest.first(), Some(b' ' | b'\t')) {
        let (line, after) = take_line(rest);
        // A line of spaces alone ends the block for most readers, unless a field goes on behind it.
        if is_blank(line) && !matches!(after.first(), Some(b' ' | b'\t')) && !has_field_ahead(after) {
            break;
        }
        rest = after;
    }
    bytes.split_at_checked(bytes.len().saturating_sub(rest.len()))
}

/// Whether a line holds nothing but white space.
fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

/// Reads a line with its continuations as a field.
fn field(whole: &[u8]) -> Option<Field<'_>> {
    let colon = whole.iter().position(|byte| *byte == b':')?;
    let (name, value) = whole.split_at_checked(colon)?;
    let name = std::str::from_utf8(name.trim_ascii_end()).ok()?;
    let is_name = !name.is_empty() && name.len() <= 128 && name.bytes().all(|byte| byte.is_ascii_graphic());
    is_name.then_some(Field {
        name,
        value: value.get(1..).unwrap_or_default(),
        whole,
    })
}

/// Whether a field stands in one of the next lines before an empty one.
fn has_field_ahead(mut rest: &[u8]) -> bool {
    const LINES_AHEAD: usize = 8;
    for _ in 0..LINES_AHEAD {
        let (line, after) = take_line(rest);
        if is_blank(line) {
            return false;
        }
        let is_known = field(line).is_some_and(|field| is_usual(field.name));
        if is_known {
            return true;
        }
        rest = after;
    }
    false
}

/// Whether a name looks like that of a header field rather than a word before a colon.
fn is_usual(name: &str) -> bool {
    name.contains('-')
        || SINGLE.iter().any(|single| single.eq_ignore_ascii_case(name))
        || ["Received", "To", "Cc", "Bcc"]
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name))
}

/// The message as the MIME parser is to read it: the original, or where that has double fields, 8-bit values that
/// are no UTF-8, junk or too much, a copy without them. A `boundary` replaces the one that the parser could not read.
pub(crate) fn prepare<'x>(
    raw: &'x [u8],
    block: &Block<'x>,
    charset: Option<&str>,
    boundary: Option<&str>,
) -> Cow<'x, [u8]> {
    let is_clean = !block.has_junk
        && !block.is_cut
        && boundary.is_none()
        && !block.fields.is_empty()
        && !block.has_8_bit()
        && doubles(&block.fields).iter().all(|is_double| !is_double);
    if is_clean {
        return Cow::Borrowed(raw);
    }
    let mut copy = Vec::with_capacity(raw.len().saturating_add(64));
    for (field, is_double) in block.fields.iter().zip(doubles(&block.fields)) {
        if is_double || boundary.is_some() && field.name.eq_ignore_ascii_case("Content-Type") {
            continue;
        }
        match std::str::from_utf8(field.whole) {
            Ok(_) => copy.extend_from_slice(field.whole),
            Err(_) => copy.extend_from_slice(charset::decode(field.whole, charset).as_bytes()),
        }
        if !copy.ends_with(b"\n") {
            copy.push(b'\n');
        }
    }
    if let Some(boundary) = boundary {
        copy.extend_from_slice(format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\n").as_bytes());
    }
    if copy.is_empty() {
        copy.extend_from_slice(b"Content-Transfer-Encoding: 8bit\n");
    }
    copy.push(b'\n');
    copy.extend_from_slice(block.body);
    Cow::Owned(copy)
}

/// For each field whether it stands once by the standard and has stood before.
fn doubles(fields: &[Field<'_>]) -> Vec<bool> {
    let mut seen = [false; SINGLE.len()];
    fields
        .iter()
        .map(|field| {
            let slot = SINGLE
                .iter()
                .zip(seen.iter_mut())
                .find(|(name, _)| name.eq_ignore_ascii_case(field.name));
            slot.is_some_and(|(_, seen)| std::mem::replace(seen, true))
        })
        .collect()
}

/// A field's value without folds, encoded words decoded; `charset` is that of the body, for raw 8-bit bytes.
pub(crate) fn decode(value: &[u8], charset: Option<&str>) -> String {
    let text = match std::str::from_utf8(value) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(charset::decode(value, charset)),
    };
    let unfolded = unfold(&text);
    if unfolded.contains("=?") {
        clean(&word::decode(&unfolded))
    } else {
        unfolded
    }
}

/// Takes the folds out (RFC 5322 §2.2.3).
pub(crate) fn unfold(text: &str) -> String {
    let trimmed = text.trim();
    if !trimmed.contains(['\r', '\n']) {
        return clean(trimmed);
    }
    clean(&trimmed.replace("\r\n", "\n").replace("\n ", " ").replace("\n\t", " "))
}

/// Replaces control characters by spaces: a decoded value may hold line ends that nobody folded.
fn clean(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.trim().to_owned();
    }
    let spaced: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    spaced.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(raw: &[u8]) -> (Vec<&str>, &[u8]) {
        let block = split(raw);
        (block.fields.iter().map(|field| field.name).collect(), block.body)
    }

    #[test]
    fn a_block_is_taken_off_whatever_surrounds_it() {
        for (raw, fields, body) in [
            (&b"A: 1\r\nB: 2\r\n\r\nbody"[..], &["A", "B"][..], &b"body"[..]),
            (b"From x@y Mon\nSubject: s\n\nbody", &["Subject"], b"body"),
            (b"\n\nSubject: s\n\nbody", &["Subject"], b"body"),
            (b"\njust text\n", &[], b"just text\n"),
            (b"just text\nand more\n", &[], b"just text\nand more\n"),
            (b"Subject: s\nno empty line\n", &["Subject"], b"no empty line\n"),
            (b"Subject: s\njunk\nX-A: 1\n\nbody", &["Subject", "X-A"], b"body"),
            (b"Subject: s\n folded\n\nbody", &["Subject"], b"body"),
            (b"", &[], b""),
        ] {
            assert_eq!(names(raw), (fields.to_vec(), body), "{}", raw.escape_ascii());
        }
    }

    #[test]
    fn the_first_of_two_single_fields_counts() {
        let raw = b"Subject: one\nX: 1\nX: 2\nSubject: two\n\nbody";
        assert_eq!(
            &*prepare(raw, &split(raw), None, None),
            b"Subject: one\nX: 1\nX: 2\n\nbody"
        );
    }

    #[test]
    fn raw_8_bit_values_are_read_by_the_charset_of_the_body() {
        assert_eq!(decode(b" caf\xe9s", None), "cafés");
        assert_eq!(decode(b" \xd0\xd2\xc9", Some("koi8-r")), "при");
        assert_eq!(decode(b" a\r\n\tb =?utf-8?Q?=0D=0Ac?=", None), "a b   c");
    }
}
