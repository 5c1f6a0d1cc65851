//! HTML of mails into tags and text, in one pass and linear time whatever is nested in what.
//! It builds no tree, runs nothing, fetches nothing, and takes broken markup for text.

use mail_parser::decoders::html::add_html_token;

/// Longest stretch of a tag that is searched for attributes: images inlined as `data:` are far longer.
const ATTRIBUTES_MAX_BYTES: usize = 8 * 1024;
/// Elements whose content is no text.
const RAW: [&str; 6] = ["script", "style", "title", "noscript", "template", "svg"];

/// A piece of HTML.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Token<'h> {
    /// Text, entities still encoded.
    Text(&'h str),
    /// `<name attributes>`, the name in lower case.
    Open { name: String, attributes: &'h str },
    /// `</name>`, the name in lower case.
    Close { name: String },
}

/// Cuts HTML into tokens. Comments, declarations and the content of scripts and styles are skipped.
pub(crate) struct Scanner<'h> {
    rest: &'h str,
}

impl<'h> Scanner<'h> {
    /// Begins at the start of `html`.
    pub(crate) fn new(html: &'h str) -> Self {
        Self { rest: html }
    }

    /// Moves behind `end`, or to the end of everything.
    fn skip_behind(&mut self, end: &str) {
        self.rest = self.rest.split_once(end).map_or("", |(_, after)| after);
    }

    /// Takes a tag; the rest begins with `<`.
    fn tag(&mut self) -> Option<Token<'h>> {
        let inner = self.rest.get(1..)?;
        let is_close = inner.starts_with('/');
        let bare = inner.strip_prefix('/').unwrap_or(inner);
        let length = bare
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_')))
            .unwrap_or(bare.len());
        let (name, after) = bare.split_at_checked(length)?;
        let name = name.to_ascii_lowercase();
        let end = tag_end(after);
        let attributes = after.get(..end)?;
        self.rest = after.get(end.saturating_add(1)..).unwrap_or_default();
        if is_close {
            return Some(Token::Close { name });
        }
        if RAW.contains(&name.as_str()) && !attributes.ends_with('/') {
            self.skip_raw(&name);
            return None;
        }
        Some(Token::Open { name, attributes })
    }

    /// Skips to behind the closing tag of a raw element; to the end of the text if it is never closed, as browsers do.
    fn skip_raw(&mut self, name: &str) {
        let mut rest = self.rest;
        while let Some((_, after)) = rest.split_once("</") {
            let is_own = after
                .get(..name.len())
                .is_some_and(|found| found.eq_ignore_ascii_case(name));
            rest = after;
            if is_own {
                rest = after.split_once('>').map_or("", |(_, behind)| behind);
                self.rest = rest;
                return;
            }
        }
        self.rest = "";
    }
}

impl<'h> Iterator for Scanner<'h> {
    type Item = Token<'h>;

    fn next(&mut self) -> Option<Token<'h>> {
        while !self.rest.is_empty() {
            let next = self.rest.get(1..).and_then(|after| after.chars().next());
            if !self.rest.starts_with('<')
                || !next.is_some_and(|c| c.is_ascii_alphabetic() || matches!(c, '/' | '!' | '?'))
            {
                let from = self.rest.chars().next().map_or(1, char::len_utf8);
                let end = self
                    .rest
                    .get(from..)
                    .and_then(|after| after.find('<'))
                    .map_or(self.rest.len(), |at| at.saturating_add(from));
                let (text, after) = self.rest.split_at_checked(end)?;
                self.rest = after;
                return Some(Token::Text(text));
            }
            if self.rest.starts_with("<!--") {
                self.skip_behind("-->");
            } else if matches!(next, Some('!' | '?')) {
                self.skip_behind(">");
            } else if let Some(token) = self.tag() {
                return Some(token);
            }
        }
        None
    }
}

/// Where a tag ends: at the first `>` outside quotes; at the first `>` at all if a quote stays open.
fn tag_end(after: &str) -> usize {
    let mut quote = None;
    let mut first = None;
    for (at, byte) in after.bytes().enumerate() {
        match (byte, quote) {
            (b'>', None) => return at,
            (b'>', Some(_)) => first = first.or(Some(at)),
            (b'"' | b'\'', None) => quote = Some(byte),
            (other, Some(open)) if other == open => quote = None,
            (_, _) => {}
        }
        // A tag that long was never closed.
        if first.is_some() && at > 2 * 1024 * 1024 {
            break;
        }
    }
    first.unwrap_or(after.len())
}

/// The value of an attribute, without regard to case of its name.
pub(crate) fn attribute(attributes: &str, name: &str) -> Option<String> {
    let window = attributes.get(..attributes.floor_char_boundary(attributes.len().min(ATTRIBUTES_MAX_BYTES)))?;
    let mut rest = window.trim_start();
    while !rest.is_empty() {
        let length = rest
            .find(|c: char| c.is_whitespace() || c == '=' || c == '/')
            .unwrap_or(rest.len());
        let (found, after) = rest.split_at_checked(length)?;
        let after = after.trim_start();
        let (value, remaining) = match after.strip_prefix('=') {
            Some(assigned) => value(assigned.trim_start()),
            None => ("", after.strip_prefix('/').unwrap_or(after)),
        };
        if found.eq_ignore_ascii_case(name) {
            // Fixtures and templates escape their quotes: class=\"x\".
            return Some(decode(value).trim_matches(['\\', '"', '\'']).to_owned());
        }
        rest = remaining.trim_start();
        if found.is_empty() && value.is_empty() {
            rest = rest
                .get(rest.chars().next().map_or(0, char::len_utf8)..)
                .unwrap_or_default();
        }
    }
    None
}

/// Takes a value, quoted or bare.
fn value(assigned: &str) -> (&str, &str) {
    if let Some(quote @ ('"' | '\'')) = assigned.chars().next() {
        let inner = assigned.get(1..).unwrap_or_default();
        return inner.split_once(quote).unwrap_or((inner, ""));
    }
    let end = assigned.find(char::is_whitespace).unwrap_or(assigned.len());
    assigned.split_at_checked(end).unwrap_or((assigned, ""))
}

/// Decodes character references; what is none stays.
pub(crate) fn decode(text: &str) -> String {
    const REFERENCE_MAX_BYTES: usize = 33;
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        decoded.push_str(before);
        let window = after
            .get(..after.floor_char_boundary(after.len().min(REFERENCE_MAX_BYTES)))
            .unwrap_or_default();
        let reference = window
            .split_once(';')
            .map(|(name, _)| name)
            .filter(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '#'));
        if let Some(name) = reference {
            add_html_token(&mut decoded, format!("&{name};").as_bytes(), false);
            rest = after.get(name.len().saturating_add(1)..).unwrap_or_default();
        } else {
            decoded.push('&');
            rest = after;
        }
    }
    decoded.push_str(rest);
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_cut_into_tags_and_text() {
        let html = "a<b class='x>y'>c</B><!-- no > --><style>p{}</style><br/>1 < 2 &amp; 3<!doctype html>d<p";
        let seen: Vec<String> = Scanner::new(html)
            .map(|token| match token {
                Token::Text(text) => format!("t:{text}"),
                Token::Open { name, attributes } => format!("o:{name}:{}", attributes.trim()),
                Token::Close { name } => format!("c:{name}"),
            })
            .collect();
        assert_eq!(
            seen,
            [
                "t:a",
                "o:b:class='x>y'",
                "t:c",
                "c:b",
                "o:br:/",
                "t:1 ",
                "t:< 2 &amp; 3",
                "t:d",
                "o:p:"
            ]
        );
    }

    #[test]
    fn attributes_and_references_are_decoded() {
        let attributes = r#" href="a?b&amp;c" class=one ID = 'two' hidden data-x=\"y\" /"#;
        for (name, wanted) in [
            ("href", Some("a?b&c")),
            ("class", Some("one")),
            ("id", Some("two")),
            ("hidden", Some("")),
            ("data-x", Some("y")),
            ("x", None),
        ] {
            assert_eq!(attribute(attributes, name).as_deref(), wanted, "{name}");
        }
        assert_eq!(
            decode("&lt;a&gt; &eacute;&#233;&#xE9; &nothing; & b; &"),
            "<a> ééé &nothing; & b; &"
        );
    }
}
