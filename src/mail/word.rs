//! Encoded words (RFC 2047) into text, as lenient as senders are careless.
//! It never drops a character that it can't decode: a broken word stays as it stands.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::charset;

/// Base64 as mail has it: padding may be missing, left-over bits are ignored.
pub(crate) const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Longest encoded word that is looked for: RFC 2047 §2 allows 75 characters, senders write whole subjects.
const WORD_MAX_BYTES: usize = 8 * 1024;

/// One encoded word: its charset and its bytes.
struct Word<'x> {
    charset: &'x str,
    bytes: Vec<u8>,
    /// Set instead of bytes where raw 8-bit characters stand between the escapes: they have been decoded already.
    text: Option<String>,
}

/// Decodes all encoded words of a header value. Neighbours of one charset are joined before they are decoded,
/// since many senders cut in the middle of a character; white space between encoded words goes (RFC 2047 §6.2).
pub(crate) fn decode(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let mut pending: Option<Word<'_>> = None;
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("=?") {
        let Some((word, remaining)) = word(after) else {
            flush(&mut pending, &mut text);
            text.push_str(before);
            text.push_str("=?");
            rest = after;
            continue;
        };
        if pending.is_none() || !before.trim().is_empty() {
            flush(&mut pending, &mut text);
            text.push_str(before);
        }
        match &mut pending {
            Some(open)
                if open.charset.eq_ignore_ascii_case(word.charset) && open.text.is_none() && word.text.is_none() =>
            {
                open.bytes.extend(word.bytes);
            }
            Some(_) | None => {
                flush(&mut pending, &mut text);
                pending = Some(word);
            }
        }
        rest = remaining;
    }
    flush(&mut pending, &mut text);
    text.push_str(rest);
    text
}

/// Appends what is pending to `text`.
fn flush(pending: &mut Option<Word<'_>>, text: &mut String) {
    if let Some(word) = pending.take() {
        text.push_str(
            &word
                .text
                .unwrap_or_else(|| charset::decode(&word.bytes, Some(word.charset))),
        );
    }
}

/// The encoded word that follows `=?`, and what follows it.
fn word(after: &str) -> Option<(Word<'_>, &str)> {
    let (charset, after) = after.split_once('?').filter(|(charset, _)| charset.len() <= 60)?;
    let (coding, after) = after.split_once('?').filter(|(coding, _)| coding.len() == 1)?;
    let reach = after.len().min(WORD_MAX_BYTES);
    let window = after.get(..after.floor_char_boundary(reach))?;
    let (payload, _) = window.split_once("?=")?;
    let remaining = after.get(payload.len().saturating_add(2)..)?;
    let bytes = match coding {
        "B" | "b" => base64(payload)?,
        "Q" | "q" => quoted(payload),
        _ => return None,
    };
    // RFC 2231 §5 lets a language follow: `utf-8*en`.
    let charset = charset.split('*').next().unwrap_or(charset);
    let is_mixed = !payload.is_ascii() && coding.eq_ignore_ascii_case("q");
    let text = is_mixed.then(|| mixed(payload, charset));
    Some((Word { charset, bytes, text }, remaining))
}

/// Decodes the escapes by `charset` and keeps the characters that should have been escaped.
fn mixed(payload: &str, charset: &str) -> String {
    let mut text = String::with_capacity(payload.len());
    for piece in payload.split_inclusive(|c: char| !c.is_ascii()) {
        let ascii = piece.trim_end_matches(|c: char| !c.is_ascii());
        text.push_str(&charset::decode(&quoted(ascii), Some(charset)));
        text.push_str(piece.get(ascii.len()..).unwrap_or_default());
    }
    text
}

/// Decodes base64, whatever stands between its characters.
fn base64(payload: &str) -> Option<Vec<u8>> {
    let kept: Vec<u8> = payload
        .bytes()
        .filter(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
        .collect();
    // A lone last character holds no byte.
    let whole = if kept.len() % 4 == 1 {
        kept.len().saturating_sub(1)
    } else {
        kept.len()
    };
    LENIENT.decode(kept.get(..whole)?).ok()
}

/// Decodes the Q encoding (RFC 2047 §4.2).
fn quoted(payload: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(payload.len());
    let mut rest = payload.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, after) {
            (b'_', _) => bytes.push(b' '),
            (b'=', [high, low, remaining @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high << 4 | low);
                    rest = remaining;
                }
                (Some(_) | None, _) => bytes.push(b'='),
            },
            (other, _) => bytes.push(*other),
        }
    }
    bytes
}

/// The value of a hexadecimal digit.
pub(crate) fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_words_are_decoded_and_broken_ones_are_kept() {
        for (value, text) in [
            ("plain", "plain"),
            ("=?utf-8?Q?caf=C3=A9_noir?=", "café noir"),
            ("=?utf-8?B?Y2Fmw6k=?= =?utf-8?B?IG5vaXI?=", "café noir"),
            ("=?utf-8?Q?caf=C3?=\r\n =?utf-8?Q?=A9?=", "café"),
            ("a =?iso-8859-1*en?q?=E9?= b", "a é b"),
            ("=?utf-8?Q?=41?=", "A"),
            ("=?utf-8?X?abc?=", "=?utf-8?X?abc?="),
            ("=?utf-8?Q?open", "=?utf-8?Q?open"),
            ("1 =? 2", "1 =? 2"),
            ("=?utf-8?Q?with space?=", "with space"),
            ("=?iso-8859-1?Q?Frösche_=E9?=", "Frösche é"),
        ] {
            assert_eq!(decode(value), text, "{value}");
        }
    }
}
