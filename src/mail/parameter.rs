//! Parameters of Content-Type and Content-Disposition (RFC 2045 §5.1, RFC 2231), and the forms that senders write
//! instead: encoded words, unquoted spaces, raw 8-bit names. It never fails; what can't be read is absent.

use super::{charset, word};

/// A value and its parameters, names in lower case.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Value {
    /// What stands before the first semicolon, in lower case.
    pub(crate) main: String,
    parameters: Vec<(String, String)>,
}

impl Value {
    /// The parameter `name`, continuations joined and charsets decoded (RFC 2231 §3 and §4).
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        let plain = || self.raw(name).map(word::decode);
        self.extended(name)
            .or_else(plain)
            .filter(|value| !value.trim().is_empty())
    }

    fn raw(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The value in its RFC 2231 form: `name*`, or `name*0`, `name*1*`, …
    fn extended(&self, name: &str) -> Option<String> {
        const SECTIONS_MAX: usize = 200;
        if let Some(value) = self.raw(&format!("{name}*")) {
            let (charset, rest) = charset_prefix(value);
            return Some(charset::decode(&percent(rest), charset));
        }
        let mut bytes = Vec::new();
        let mut stated = None;
        for section in 0..SECTIONS_MAX {
            if let Some(value) = self.raw(&format!("{name}*{section}*")) {
                let (charset, rest) = if section == 0 {
                    charset_prefix(value)
                } else {
                    (None, value)
                };
                stated = stated.or(charset);
                bytes.extend(percent(rest));
            } else if let Some(value) = self.raw(&format!("{name}*{section}")) {
                bytes.extend_from_slice(value.as_bytes());
            } else {
                break;
            }
        }
        (!bytes.is_empty()).then(|| word::decode(&charset::decode(&bytes, stated)))
    }
}

/// Takes `charset'language'` off the front.
fn charset_prefix(value: &str) -> (Option<&str>, &str) {
    let mut pieces = value.splitn(3, '\'');
    match (pieces.next(), pieces.next(), pieces.next()) {
        (Some(charset), Some(_), Some(rest)) => (Some(charset), rest),
        (_, _, _) => (None, value),
    }
}

/// Decodes `%41`.
fn percent(value: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, after) {
            (b'%', [high, low, remaining @ ..]) => match (word::hex(*high), word::hex(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high << 4 | low);
                    rest = remaining;
                }
                (Some(_) | None, _) => bytes.push(b'%'),
            },
            (other, _) => bytes.push(*other),
        }
    }
    bytes
}

/// Reads an unfolded header value.
pub(crate) fn read(value: &str) -> Value {
    let mut pieces = pieces(value).into_iter();
    let main = pieces.next().unwrap_or_default().trim().to_ascii_lowercase();
    let parameters = pieces.filter_map(|piece| parameter(&piece)).collect();
    Value { main, parameters }
}

/// Cuts at semicolons outside quotes. A quote that is never closed ends at the next semicolon.
fn pieces(value: &str) -> Vec<String> {
    const PIECES_MAX: usize = 300;
    let mut pieces = Vec::new();
    let mut piece = String::new();
    let mut is_quoted = false;
    let mut quotes_left = value.matches('"').count();
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' if is_quoted => {
                piece.push('\\');
                piece.extend(characters.next());
            }
            '"' => {
                quotes_left = quotes_left.saturating_sub(1);
                is_quoted = !is_quoted && quotes_left > 0;
                piece.push('"');
            }
            ';' if !is_quoted && pieces.len() < PIECES_MAX => pieces.push(std::mem::take(&mut piece)),
            other => piece.push(other),
        }
    }
    pieces.push(piece);
    pieces
}

/// Reads `name = value`.
fn parameter(piece: &str) -> Option<(String, String)> {
    let (name, value) = piece.split_once('=')?;
    let name = name.trim().to_ascii_lowercase();
    (!name.is_empty()).then(|| (name, unquote(value.trim())))
}

/// Takes the quotes off and the escapes out. A backslash before anything but a quote or a backslash is part of a
/// Windows path, not an escape.
fn unquote(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"') else {
        return value.to_owned();
    };
    let inner = inner.strip_suffix('"').unwrap_or(inner);
    let mut text = String::with_capacity(inner.len());
    let mut characters = inner.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, characters.peek()) {
            ('\\', Some('"' | '\\')) => text.extend(characters.next()),
            (other, _) => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_every_form_that_senders_use() {
        for (value, name) in [
            ("attachment; filename=a.pdf", "a.pdf"),
            ("attachment; filename=\"a;b.pdf\"; size=1", "a;b.pdf"),
            ("attachment; filename=two words.pdf", "two words.pdf"),
            ("attachment; filename==?utf-8?Q?caf=C3=A9.pdf?=", "café.pdf"),
            ("attachment; filename=\"=?utf-8?B?Y2Fmw6k=?=.pdf\"", "café.pdf"),
            ("attachment; filename*=utf-8''caf%C3%A9.pdf; filename=x", "café.pdf"),
            ("attachment; filename*0=long; filename*1=name.pdf", "longname.pdf"),
            (
                "attachment; filename*0*=iso-8859-1'en'caf%E9; filename*1=.pdf",
                "café.pdf",
            ),
            ("attachment; filename=\"unclosed.pdf; size=1", "unclosed.pdf"),
            (r#"attachment; filename="a\"b.pdf""#, "a\"b.pdf"),
            (r#"attachment; filename="C:\docs\a.pdf""#, r"C:\docs\a.pdf"),
            ("attachment; FileName = a.pdf ", "a.pdf"),
        ] {
            assert_eq!(read(value).parameter("filename").as_deref(), Some(name), "{value}");
        }
        assert_eq!(read("text/plain").parameter("charset"), None);
        assert_eq!(read("Text/Plain; charset=x").main, "text/plain");
    }
}
