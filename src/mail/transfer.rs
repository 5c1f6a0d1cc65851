//! Content-Transfer-Encoding (RFC 2045 §6) undone where the MIME parser gave up or gave text instead of bytes.
//! It never fails: what does not decode is kept as it stands.

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
    let mut kept: Vec<u8> = bytes
        .iter()
        .copied()
        .take_while(|byte| *byte != b'=')
        .filter(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
        .collect();
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

#[cfg(test)]
mod tests {
    use super::*;

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
