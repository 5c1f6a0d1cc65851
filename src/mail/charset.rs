//! Bytes of a stated, misstated or unstated charset into text.
//! It never fails: what no charset explains becomes U+FFFD.

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};
use mail_parser::decoders::charsets::map::charset_decoder;

/// Decodes `bytes` by the charset that `label` names. Without a label, with an unknown one, or with `us-ascii`
/// over 8-bit bytes: UTF-8 if it is valid, ISO-2022-JP if its escapes are there, else windows-1252, which gives
/// every byte a meaning (WHATWG Encoding, §legacy single-byte encodings).
pub(crate) fn decode(bytes: &[u8], label: Option<&str>) -> String {
    let label = label.map(|label| label.trim_matches(|c: char| c == '"' || c == '\'' || c.is_whitespace()));
    match label {
        Some(label) if !is_unstated(label) && !is_misstated(bytes, label) => {
            by_label(bytes, label).unwrap_or_else(|| guess(bytes))
        }
        Some(_) | None => guess(bytes),
    }
}

/// Whether `label` names a charset of single bytes over what is plainly UTF-8: text of a language in such a charset
/// is not valid UTF-8 by accident in three places and more.
pub(crate) fn is_misstated(bytes: &[u8], label: &str) -> bool {
    const SEQUENCES: usize = 3;
    let is_single_byte = Encoding::for_label(label.as_bytes()).is_some_and(Encoding::is_single_byte);
    is_single_byte
        && !bytes.is_ascii()
        && std::str::from_utf8(bytes)
            .is_ok_and(|text| text.chars().filter(|c| !c.is_ascii()).take(SEQUENCES).count() == SEQUENCES)
}

/// Whether `label` says nothing about 8-bit bytes.
fn is_unstated(label: &str) -> bool {
    [
        "",
        "us-ascii",
        "ascii",
        "ansi_x3.4-1968",
        "unknown",
        "unknown-8bit",
        "x-unknown",
        "default",
        "none",
        "utf-8",
        "utf8",
    ]
    .iter()
    .any(|known| known.eq_ignore_ascii_case(label))
}

/// Decodes by a known label, `None` if nobody knows it.
fn by_label(bytes: &[u8], label: &str) -> Option<String> {
    if let Some(encoding) = Encoding::for_label(label.as_bytes()).filter(|found| *found != encoding_rs::REPLACEMENT) {
        let (text, _, _) = encoding.decode(bytes);
        return Some(text.into_owned());
    }
    // UTF-7, cp850 and the names with underscores, which the web does without.
    charset_decoder(label.as_bytes()).map(|decoder| decoder(bytes))
}

/// Decodes bytes whose charset nobody stated.
fn guess(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.contains("\u{1b}$B") || text.contains("\u{1b}$@") => {
            encoding_rs::ISO_2022_JP.decode(bytes).0.into_owned()
        }
        Ok(text) => text.trim_start_matches('\u{feff}').to_owned(),
        // Cut in the middle of a character, or damaged in one place.
        Err(error) if error.error_len().is_none() || is_mostly_utf8(bytes) => UTF_8.decode(bytes).0.into_owned(),
        Err(_) => WINDOWS_1252.decode(bytes).0.into_owned(),
    }
}

/// Whether most 8-bit bytes stand in valid UTF-8 sequences: text that was cut or damaged in one place.
fn is_mostly_utf8(bytes: &[u8]) -> bool {
    let (mut good, mut bad) = (0_usize, 0_usize);
    for chunk in bytes.utf8_chunks() {
        good += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
        bad += chunk.invalid().len();
    }
    good > bad.saturating_mul(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_text_by_label_or_by_guess() {
        for (bytes, label, text) in [
            (&b"caf\xe9"[..], Some("iso-8859-1"), "café"),
            (b"caf\xe9!", None, "café!"),
            (b"caf\xe9!", Some("us-ascii"), "café!"),
            (b"caf\xe9!", Some("utf-8"), "café!"),
            (b"\xc3\xa9, \xc3\xa9 \xc3\xa9", Some("windows-1251"), "é, é é"),
            (b"\xc3\xa9, \xc3", Some("utf-8"), "é, \u{fffd}"),
            (b"caf\xc3\xa9", None, "café"),
            (b"caf\xc3\xa9", Some("x-nobody-knows"), "café"),
            (b"\xc3\xa9\xc3\xa9\xc3\xa9 \xff", None, "ééé \u{fffd}"),
            (b"\xd0\xd2\xc9", Some("KOI8-R"), "при"),
            (b"\x1b$B$\"\x1b(B", None, "あ"),
            (b"Hi Mom +Jjo-!", Some("utf-7"), "Hi Mom ☺!"),
        ] {
            assert_eq!(decode(bytes, label), text, "{bytes:?} as {label:?}");
        }
    }
}
