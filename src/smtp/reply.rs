//! A server's reply: its code, its enhanced code (RFC 3463) and its words. Pure.

use crate::fault::printable;

/// Longest text of a reply that is kept, in characters.
const TEXT_LIMIT: usize = 200;

/// A whole reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    /// The code, 200 to 599.
    pub(super) code: u16,
    /// The text of each line.
    pub(super) lines: Vec<String>,
}

/// A line of a reply: code, whether more lines follow, text (RFC 5321 §4.2). `None` for what is no such line.
pub(super) fn parse_line(line: &str) -> Option<(u16, bool, &str)> {
    let digits = line.get(..3).filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
    let code = digits.parse().ok().filter(|code| (200..600).contains(code))?;
    let rest = line.get(3..)?;
    match rest.chars().next() {
        // A code alone is against the grammar, but common.
        None => Some((code, false, "")),
        Some(' ') => Some((code, false, rest.get(1..)?)),
        Some('-') => Some((code, true, rest.get(1..)?)),
        Some(_) => None,
    }
}

impl Reply {
    /// Whether the command was done.
    pub(super) fn is_done(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// Whether the server waits for more.
    pub(super) fn is_waiting(&self) -> bool {
        (300..400).contains(&self.code)
    }

    /// The words of all lines, printable.
    pub(super) fn text(&self) -> String {
        printable(self.lines.join(" ").trim(), TEXT_LIMIT)
    }

    /// The reply as a refusal.
    pub(super) fn refusal(&self) -> Refusal {
        let (enhanced, _) = self.lines.first().map(|line| split(line)).unwrap_or_default();
        let words: Vec<&str> = self.lines.iter().map(|line| split(line).1).collect();
        let words = words.join(" ");
        Refusal {
            code: self.code,
            enhanced: enhanced.map(str::to_owned),
            text: printable(words.trim(), TEXT_LIMIT),
        }
    }
}

/// The enhanced code at the beginning of a line, and the words after it.
fn split(line: &str) -> (Option<&str>, &str) {
    let line = line.trim();
    let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
    if is_enhanced(first) {
        (Some(first), rest.trim())
    } else {
        (None, line)
    }
}

fn is_enhanced(word: &str) -> bool {
    let parts: Vec<&str> = word.split('.').collect();
    let [class, subject, detail] = parts.as_slice() else {
        return false;
    };
    let is_number = |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    matches!(*class, "2" | "4" | "5") && is_number(subject) && is_number(detail)
}

/// What a server refused with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The code: 400 to 599; 0 for what we refuse ourselves.
    pub code: u16,
    /// The enhanced code (RFC 3463).
    pub enhanced: Option<String>,
    /// The server's words, printable, at most 200 characters.
    pub text: String,
}

impl Refusal {
    /// What we refuse ourselves, in words of ours.
    pub(super) fn of_ours(text: &str) -> Self {
        Self {
            code: 0,
            enhanced: None,
            text: text.to_owned(),
        }
    }

    /// Whether the same may go well later (RFC 5321 §4.2.1).
    pub fn is_transient(&self) -> bool {
        (400..500).contains(&self.code)
    }

    /// Both codes, such as `535 5.7.139`.
    pub fn codes(&self) -> String {
        match (&self.enhanced, self.code) {
            (Some(enhanced), code) => format!("{code} {enhanced}"),
            (None, 0) => "address".to_owned(),
            (None, code) => code.to_string(),
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.code == 0 {
            return formatter.write_str(&self.text);
        }
        write!(formatter, "{} {}", self.codes(), self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_servers_write_them() {
        for (line, expected) in [
            ("250 fine", Some((250, false, "fine"))),
            ("250-fine", Some((250, true, "fine"))),
            ("250", Some((250, false, ""))),
            ("250 ", Some((250, false, ""))),
            ("25", None),
            ("099 x", None),
            ("600 x", None),
            ("250_x", None),
            ("HTTP/1.1 400 Bad Request", None),
            ("2é0 x", None),
            ("", None),
        ] {
            assert_eq!(parse_line(line), expected, "{line:?}");
        }
    }

    #[test]
    fn a_refusal_has_its_enhanced_code_once() {
        let reply = Reply {
            code: 535,
            lines: vec![
                "5.7.8 Username and Password not accepted.".into(),
                "5.7.8  https://support.google.com/mail/?p=BadCredentials x - gsmtp".into(),
            ],
        };
        assert_eq!(
            reply.refusal().to_string(),
            "535 5.7.8 Username and Password not accepted. https://support.google.com/mail/?p=BadCredentials x - gsmtp"
        );
        let reply = Reply {
            code: 550,
            lines: vec!["192.0.2.1 is not welcome\u{7}".into()],
        };
        assert_eq!(reply.refusal().to_string(), "550 192.0.2.1 is not welcome ");
        assert_eq!(reply.refusal().codes(), "550");
    }
}
