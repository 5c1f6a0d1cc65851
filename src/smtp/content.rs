//! A message as it goes over the wire: CRLF line ends, dots doubled (RFC 5321 §4.5.2). Pure.

/// The end of a message; it goes out alone, so that a loss before it is certain to have delivered nothing.
pub(super) const END: &[u8] = b".\r\n";

/// The message with CRLF where it has bare CR or LF (which let a second message be smuggled into the first,
/// CVE-2023-51764), its leading dots doubled, and a line end at its end.
pub(super) fn encode(message: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(message.len() + message.len() / 32 + 2);
    let mut bytes = message.iter().copied().peekable();
    let mut is_line_start = true;
    while let Some(byte) = bytes.next() {
        match byte {
            b'\r' | b'\n' => {
                if byte == b'\r' {
                    bytes.next_if_eq(&b'\n');
                }
                encoded.extend(b"\r\n");
                is_line_start = true;
                continue;
            }
            b'.' if is_line_start => encoded.extend(b".."),
            other => encoded.push(other),
        }
        is_line_start = false;
    }
    if !is_line_start {
        encoded.extend(b"\r\n");
    }
    encoded
}

/// Whether the header of a message has characters beyond ASCII, which needs SMTPUTF8 (RFC 6532).
pub(super) fn has_wide_header(message: &[u8]) -> bool {
    let end = ["\r\n\r\n", "\n\n"]
        .iter()
        .filter_map(|gap| message.windows(gap.len()).position(|window| window == gap.as_bytes()))
        .min();
    let header = end.and_then(|end| message.get(..end)).unwrap_or(message);
    !header.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_ends_its_lines_with_crlf_and_hides_no_end() {
        for (raw, expected) in [
            ("a", "a\r\n"),
            ("a\r\n", "a\r\n"),
            ("a\nb\rc\r\nd", "a\r\nb\r\nc\r\nd\r\n"),
            (".", "..\r\n"),
            ("a\n.\n..b\n.c.\r\n", "a\r\n..\r\n...b\r\n..c.\r\n"),
            ("x\r\n.\rMAIL", "x\r\n..\r\nMAIL\r\n"),
            ("a\r\r\nb", "a\r\n\r\nb\r\n"),
            ("a\r\n\r\n", "a\r\n\r\n"),
            ("", ""),
        ] {
            let encoded = encode(raw.as_bytes());
            assert_eq!(String::from_utf8_lossy(&encoded), expected, "{raw:?}");
        }
    }

    #[test]
    fn only_the_header_counts_as_header() {
        assert!(!has_wide_header("Subject: a\r\n\r\nä".as_bytes()));
        assert!(has_wide_header("Subject: ä\n\na".as_bytes()));
        assert!(!has_wide_header("Subject: a\n\nb\r\n\r\nä".as_bytes()));
    }
}
