//! Content-Transfer-Encoding (RFC 2045 §6) undone where the MIME parser gave up or gave text instead of bytes.
//! It never fails: what does not decode is kept as it stands.

pub mod lines;

use std::io::{self, Read};

use base64::Engine as _;

use super::word::{self, LENIENT};

/// Undoes the encoding that `name` states.
pub(crate) fn decode(bytes: &[u8], name: &str) -> Vec<u8> {
    if name.eq_ignore_ascii_case("base64") {
        base64(bytes).unwrap_or_else(|| bytes.to_vec())
    } else if name.eq_ignore_ascii_case("quoted-printable") {
        quoted_printable(bytes)
    } else if is_uuencode(name) {
        uuencode(bytes).unwrap_or_else(|| bytes.to_vec())
    } else {
        bytes.to_vec()
    }
}

/// Whether a name stands for uuencode, which no standard registers and old clients write.
pub(crate) fn is_uuencode(name: &str) -> bool {
    ["x-uuencode", "uuencode", "x-uue", "uue"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(name))
}

/// Decodes the first `begin` … `end` block (POSIX `uuencode`); `None` if there is none.
pub(crate) fn uuencode(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    lines.by_ref().find(|line| line.starts_with(b"begin "))?;
    let mut decoded = Vec::with_capacity(bytes.len());
    for line in lines {
        let Some((length, data)) = line.split_first() else {
            continue;
        };
        let wanted = usize::from(sextet(*length));
        if wanted == 0 || line == b"end" {
            break;
        }
        let before = decoded.len();
        for group in data.chunks(4) {
            let bits = (0..4).fold(0_u32, |bits, at| {
                bits << 6 | group.get(at).map_or(0, |byte| u32::from(sextet(*byte)))
            });
            let [_, first, second, third] = bits.to_be_bytes();
            decoded.extend([first, second, third]);
        }
        decoded.truncate(before.saturating_add(wanted));
    }
    Some(decoded)
}

/// The six bits of a character of uuencode.
fn sextet(byte: u8) -> u8 {
    byte.wrapping_sub(b' ') & 0x3f
}

/// Decodes base64 up to its padding, whatever stands between its characters.
fn base64(bytes: &[u8]) -> Option<Vec<u8>> {
    let before_padding = bytes.iter().copied().take_while(|byte| *byte != b'=');
    sextets(before_padding.filter(|byte| is_sextet(*byte)).collect())
}

/// Whether a byte is one of the 64 characters of base64 (RFC 2045 §6.8).
pub(crate) fn is_sextet(byte: u8) -> bool {
    matches!(byte, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/')
}

/// Decodes characters of base64; a last one that stands alone says nothing.
fn sextets(mut kept: Vec<u8>) -> Option<Vec<u8>> {
    if kept.len() % 4 == 1 {
        kept.pop();
    }
    LENIENT.decode(kept).ok()
}

/// Decodes quoted-printable; a broken escape stays as it is.
fn quoted_printable(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, after) {
            (b'=', [b'\r', b'\n', remaining @ ..] | [b'\n', remaining @ ..]) => rest = remaining,
            (b'=', [high, low, remaining @ ..]) => match (word::hex(*high), word::hex(*low)) {
                (Some(high), Some(low)) => {
                    decoded.push(high << 4 | low);
                    rest = remaining;
                }
                (Some(_) | None, _) => decoded.push(b'='),
            },
            (other, _) => decoded.push(*other),
        }
    }
    decoded
}

/// An encoding that is undone piece by piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// None: 7bit, 8bit, binary.
    Identity,
    /// Base64.
    Base64,
    /// Quoted-printable.
    QuotedPrintable,
}

impl Encoding {
    /// The encoding of a name; `None` for one that is undone only as a whole.
    pub(crate) fn of(name: &str) -> Option<Self> {
        match name.trim().to_ascii_lowercase().as_str() {
            "base64" => Some(Self::Base64),
            "quoted-printable" => Some(Self::QuotedPrintable),
            name if is_uuencode(name) => None,
            _ => Some(Self::Identity),
        }
    }
}

/// Bytes that are read at once.
const PIECE: usize = 48 << 10;

/// Undoes an encoding while it is read.
pub struct Decoder<R> {
    inner: R,
    encoding: Encoding,
    /// Read and not decoded: an incomplete group or line.
    carry: Vec<u8>,
    /// Decoded and not given.
    ready: Vec<u8>,
    given: usize,
    is_over: bool,
}

impl<R: Read> Decoder<R> {
    /// Decodes what `inner` reads.
    pub fn new(inner: R, encoding: Encoding) -> Self {
        Self {
            inner,
            encoding,
            carry: Vec::new(),
            ready: Vec::new(),
            given: 0,
            is_over: false,
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut piece = std::mem::take(&mut self.carry);
        let before = piece.len();
        self.inner.by_ref().take(PIECE as u64).read_to_end(&mut piece)?;
        self.is_over = piece.len() == before;
        self.given = 0;
        self.ready = match self.encoding {
            Encoding::Identity => piece,
            Encoding::Base64 => self.groups(piece),
            Encoding::QuotedPrintable => self.lines(piece),
        };
        Ok(())
    }

    /// Whole groups of four; the rest, and nothing after the padding, at the end.
    fn groups(&mut self, mut piece: Vec<u8>) -> Vec<u8> {
        let padding = piece.iter().position(|byte| *byte == b'=');
        if let Some(at) = padding {
            piece.truncate(at);
            self.is_over = true;
        }
        piece.retain(|byte| is_sextet(*byte));
        if !self.is_over {
            let whole = piece.len().saturating_sub(piece.len() % 4);
            self.carry = piece.split_off(whole);
        }
        sextets(piece).unwrap_or_default()
    }

    /// Whole lines, for an escape may span two pieces.
    fn lines(&mut self, mut piece: Vec<u8>) -> Vec<u8> {
        let end = piece.iter().rposition(|byte| *byte == b'\n');
        if let (false, Some(end)) = (self.is_over, end) {
            self.carry = piece.split_off(end.saturating_add(1));
        }
        quoted_printable(&piece)
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.given == self.ready.len() && !self.is_over {
            self.fill()?;
        }
        let mut left = self.ready.get(self.given..).unwrap_or_default();
        let count = left.read(buffer)?;
        self.given = self.given.saturating_add(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_decoded_piece_by_piece_is_what_is_decoded_at_once() {
        let base64 = "QUJDREVGR0g9\r\n".repeat(20_000) + "QUI=\r\n";
        let printable = "caf=C3=A9 au =\r\nlait\r\n".repeat(20_000) + "=C3";
        for (text, encoding, name) in [
            (base64.as_str(), Encoding::Base64, "base64"),
            ("QUJD QUI", Encoding::Base64, "base64"),
            (printable.as_str(), Encoding::QuotedPrintable, "quoted-printable"),
            (printable.as_str(), Encoding::Identity, "8bit"),
            ("", Encoding::Base64, "base64"),
        ] {
            let mut decoded = Vec::new();
            Decoder::new(text.as_bytes(), encoding)
                .read_to_end(&mut decoded)
                .unwrap();
            assert_eq!(decoded, decode(text.as_bytes(), name), "{name}");
        }
    }

    #[test]
    fn encodings_are_undone_as_far_as_they_go() {
        for (bytes, name, decoded) in [
            (&b"Y2Fm\r\nw6k=\r\n"[..], "Base64", "café"),
            (b"Y2Fmw6k", "base64", "café"),
            (b"a=20b=\r\nc=3", "quoted-printable", "a bc=3"),
            (b"as it is", "8bit", "as it is"),
            (b"begin 644 cat.txt\n#0V%T\n`\nend\n", "x-uuencode", "Cat"),
        ] {
            assert_eq!(decode(bytes, name), decoded.as_bytes(), "{name}");
        }
    }
}
