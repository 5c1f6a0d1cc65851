//! Base64 in lines of one width, as encoders write it (RFC 2045 §6.8): taken strictly, so that the very same text can
//! be made again from what it says. It takes nothing that it could not make again.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

/// Longest line that is looked for; RFC 2045 allows 76 characters, some encoders write all in one line.
const WIDTH_MAX: usize = 64 << 10;

/// How base64 is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lines {
    /// Characters of a line, a multiple of four.
    pub width: usize,
    /// Whether lines end with CR LF, else with LF.
    pub has_cr: bool,
}

/// How far a text was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// All of it; more lines may follow.
    Whole,
    /// Up to here, where the base64 ends; the line end after the last line is not counted.
    Ended(usize),
}

impl Lines {
    /// The layout of a text, from its first line.
    pub fn of(text: &[u8]) -> Option<Self> {
        let end = memchr::memchr(b'\n', text.get(..text.len().min(WIDTH_MAX))?)?;
        let line = text.get(..end)?;
        let (line, has_cr) = match line.strip_suffix(b"\r") {
            Some(line) => (line, true),
            None => (line, false),
        };
        let width = line.len();
        (width > 0 && width.is_multiple_of(4)).then_some(Self { width, has_cr })
    }

    fn line_end(self) -> &'static [u8] {
        if self.has_cr { b"\r\n" } else { b"\n" }
    }

    /// Length of a line with its end.
    pub fn length(self) -> usize {
        self.width.saturating_add(self.line_end().len())
    }

    /// Decodes lines into `decoded`. `None`: they are not of this layout; then `decoded` is of no use.
    pub fn decode(self, text: &[u8], decoded: &mut Vec<u8>) -> Option<Taken> {
        let mut joined = Vec::with_capacity(text.len());
        let mut taken = 0_usize;
        let mut last: &[u8] = &[];
        for line in text.chunks(self.length()) {
            match line.strip_suffix(self.line_end()) {
                Some(full) if full.len() == self.width && !full.ends_with(b"=") => joined.extend_from_slice(full),
                Some(_) | None => {
                    last = line.get(
                        ..line
                            .iter()
                            .position(|byte| matches!(byte, b'\r' | b'\n'))
                            .unwrap_or(line.len()),
                    )?;
                    break;
                }
            }
            taken = taken.saturating_add(self.length());
        }
        STANDARD_NO_PAD.decode_vec(&joined, decoded).ok()?;
        if taken >= text.len() {
            return Some(Taken::Whole);
        }
        if last.len() > self.width {
            return None;
        }
        STANDARD.decode_vec(last, decoded).ok()?;
        Some(Taken::Ended(match last.len() {
            // It ended with the line before.
            0 => taken.saturating_sub(self.line_end().len()),
            length => taken.saturating_add(length),
        }))
    }

    /// Writes bytes in this layout, without a line end after the last line.
    pub fn encode(self, bytes: &[u8], text: &mut Vec<u8>) {
        let mut line = String::with_capacity(self.width);
        let mut is_first = true;
        for bytes in bytes.chunks((self.width / 4).saturating_mul(3).max(3)) {
            if !std::mem::take(&mut is_first) {
                text.extend_from_slice(self.line_end());
            }
            line.clear();
            STANDARD.encode_string(bytes, &mut line);
            text.extend_from_slice(line.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: usize, width: usize, line_end: &str) -> (Vec<u8>, String) {
        let bytes: Vec<u8> = (0..=250).cycle().step_by(7).take(bytes).collect();
        let text = STANDARD.encode(&bytes);
        let lines: Vec<&str> = text
            .as_bytes()
            .chunks(width)
            .map(|line| std::str::from_utf8(line).unwrap())
            .collect();
        (bytes, lines.join(line_end))
    }

    #[test]
    fn what_is_taken_can_be_made_again() {
        for size in [57, 58, 100, 113, 114, 115, 5_000] {
            for (width, line_end) in [(76, "\r\n"), (60, "\n"), (64, "\r\n")] {
                let (bytes, text) = text(size, width, line_end);
                for after in ["", line_end, "\r\n\r\n"] {
                    let whole = format!("{text}{after}");
                    let Some(lines) = Lines::of(whole.as_bytes()) else {
                        assert!(!text.contains('\n') && after.is_empty());
                        continue;
                    };
                    let mut decoded = Vec::new();
                    let taken = lines.decode(whole.as_bytes(), &mut decoded).unwrap();
                    assert_eq!(decoded, bytes, "{size} {width}");
                    let mut again = Vec::new();
                    lines.encode(&decoded, &mut again);
                    assert_eq!(again, text.as_bytes(), "{size} {width}");
                    match taken {
                        Taken::Ended(end) => assert_eq!(end, text.len(), "{size} {width} {after:?}"),
                        Taken::Whole => assert_eq!(whole, format!("{text}{line_end}")),
                    }
                }
            }
        }
    }

    #[test]
    fn what_could_not_be_made_again_is_not_taken() {
        let (_, good) = text(400, 76, "\r\n");
        let layout = Lines {
            width: 76,
            has_cr: true,
        };
        for bad in [
            good.replacen("\r\n", " \r\n", 1),
            good.replacen("\r\n", "\n", 2),
            good.replacen('A', "-", 1),
            good.replace('=', ""),
            // Left-over bits that an encoder would not set.
            format!("{}QUJ=", good.split_at(78).0),
            format!("{good}\r\nQUJD"),
            format!("{good}QUJD"),
        ] {
            let mut decoded = Vec::new();
            let taken = layout.decode(bad.as_bytes(), &mut decoded);
            assert!(
                !matches!(taken, Some(Taken::Whole)) && taken.is_none_or(|taken| taken != Taken::Ended(bad.len())),
                "{bad}"
            );
        }
        for no_layout in ["", "QUJD", "\r\nQUJD", "QUJDQ\r\n"] {
            assert_eq!(Lines::of(no_layout.as_bytes()), None, "{no_layout}");
        }
    }
}
