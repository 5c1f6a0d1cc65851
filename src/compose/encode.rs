//! Text into what a mail may carry: RFC 2047 words, folded lines, quoted-printable.
//! It never lets a control character through.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Longest line of a header, without CRLF (RFC 5322 §2.1.1, RFC 2047 §2).
const HEADER_LINE: usize = 76;
/// Bytes in one encoded word, so that with the name of the field it fits a line.
const WORD_BYTES: usize = 39;
/// Longest line of a body (RFC 2045 §6.7).
const BODY_LINE: usize = 76;
/// Longest id that is repeated: one line of RFC 5322 holds 998 characters.
const ID_LIMIT: usize = 250;

/// One line of at most `limit` characters: control characters and line ends become spaces, runs of those one, and
/// what is not to be seen or changes the direction of writing goes.
pub fn clean(text: &str, limit: usize) -> String {
    let visible: String = text
        .chars()
        .filter(|c| !is_invisible(*c))
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let line = visible.split_whitespace().collect::<Vec<_>>().join(" ");
    crate::fault::printable(&line, limit)
}

/// Marks of direction (Unicode bidirectional formatting), joiners and fillers without width, tags.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
}

/// Whether an id may stand in In-Reply-To and References as it is.
pub(super) fn is_plain_id(id: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'<' | b'>');
    // What looks like an encoded word would be decoded.
    !id.is_empty() && id.len() <= ID_LIMIT && id.bytes().all(is_plain) && !id.contains("=?")
}

/// A field of a text that is clean: as it is where that is ASCII, else in encoded words (RFC 2047).
pub(super) fn unstructured(name: &str, text: &str) -> String {
    let is_plain = text.bytes().all(|b| (b' '..=b'~').contains(&b)) && !text.contains("=?");
    // Folds are made of single spaces, and a word of that length is better cut.
    if is_plain && text.split(' ').all(|word| name.len() + word.len() + 2 < HEADER_LINE) {
        return fold(&format!("{name}: {text}"));
    }
    format!("{name}: {}", words(text))
}

/// A display name, `None` where there is none: quoted (RFC 5322 §3.2.4), else in encoded words.
pub(super) fn name_of(name: &str) -> Option<String> {
    if name.is_empty() {
        return None;
    }
    if name.bytes().all(|b| (b' '..=b'~').contains(&b)) && !name.contains("=?") {
        let escaped = name.replace('\\', "\\\\").replace('"', "\\\"");
        return Some(format!("\"{escaped}\""));
    }
    Some(words(name))
}

/// Encoded words, each whole in its characters, one a line.
fn words(text: &str) -> String {
    let mut chunks = vec![String::new()];
    for c in text.chars() {
        match chunks.last_mut() {
            Some(chunk) if chunk.len() + c.len_utf8() <= WORD_BYTES => chunk.push(c),
            Some(_) | None => chunks.push(c.to_string()),
        }
    }
    let encoded: Vec<String> = chunks
        .iter()
        .map(|chunk| format!("=?UTF-8?B?{}?=", STANDARD.encode(chunk)))
        .collect();
    encoded.join("\r\n ")
}

fn fold(line: &str) -> String {
    let mut folded = String::new();
    let mut length = 0;
    for (n, word) in line.split(' ').enumerate() {
        if n > 1 && length + 1 + word.len() > HEADER_LINE {
            folded.push_str("\r\n");
            length = 0;
        }
        if n > 0 {
            folded.push(' ');
            length += 1;
        }
        folded.push_str(word);
        length += word.len();
    }
    folded
}

/// A text as the body of a mail: its encoding, and its lines, ended by CRLF.
pub(super) fn text_part(text: &str) -> (&'static str, String) {
    let lines: Vec<String> = text.lines().map(printable_line).collect();
    let is_plain = |line: &String| {
        line.len() <= BODY_LINE && line.bytes().all(|b| (b' '..=b'~').contains(&b)) && !line.ends_with(' ')
    };
    if lines.iter().all(is_plain) {
        return ("7bit", ended(&lines));
    }
    let encoded: Vec<String> = lines.iter().map(|line| quoted_printable(line)).collect();
    ("quoted-printable", ended(&encoded))
}

fn ended(lines: &[String]) -> String {
    lines.iter().fold(String::new(), |text, line| text + line + "\r\n")
}

fn printable_line(line: &str) -> String {
    line.chars().filter(|c| !c.is_control() || *c == '\t').collect()
}

/// One line in quoted-printable (RFC 2045 §6.7), with soft line breaks.
fn quoted_printable(line: &str) -> String {
    let mut encoded = String::new();
    let mut length = 0;
    let bytes = line.as_bytes();
    for (n, &byte) in bytes.iter().enumerate() {
        let is_last = n + 1 == bytes.len();
        let is_literal = matches!(byte, b'!'..=b'<' | b'>'..=b'~') || (matches!(byte, b' ' | b'\t') && !is_last);
        let width = if is_literal { 1 } else { 3 };
        if length + width >= BODY_LINE {
            encoded.push_str("=\r\n");
            length = 0;
        }
        length += width;
        if is_literal {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            write!(encoded, "={byte:02X}").unwrap_or_default();
        }
    }
    encoded
}
