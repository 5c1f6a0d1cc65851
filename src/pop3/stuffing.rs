//! The end of a message and its stuffed dots (RFC 1939 §3), followed through pieces of any size. Pure.
//!
//! Only CRLF ends a line here: where a bare LF did, a message could contain what we take for its end, and what
//! follows for the server's next answer.

/// Where in a line the stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Start,
    Dot,
    DotCr,
    Inside,
    Cr,
}

/// Follows one message.
#[derive(Debug)]
pub(super) struct Unstuffer {
    at: At,
}

impl Unstuffer {
    pub(super) fn new() -> Self {
        Self { at: At::Start }
    }

    /// Hands what belongs to the message to `keep`, in pieces; returns how many bytes were used up, and whether the
    /// message has ended.
    pub(super) fn feed(&mut self, chunk: &[u8], mut keep: impl FnMut(&[u8])) -> (usize, bool) {
        let mut rest = chunk;
        while let Some((first, others)) = rest.split_first() {
            (self.at, rest) = match (self.at, *first) {
                (At::Start, b'.') => (At::Dot, others),
                (At::Dot, b'\r') => (At::DotCr, others),
                (At::DotCr, b'\n') => return (chunk.len() - others.len(), true),
                (At::DotCr, _) => {
                    keep(b"\r");
                    (At::Cr, rest)
                }
                (At::Cr, b'\n') => {
                    keep(b"\n");
                    (At::Start, others)
                }
                (At::Start | At::Dot | At::Inside | At::Cr, _) => {
                    let end = rest.iter().position(|byte| *byte == b'\r');
                    let (line, others) = rest.split_at(end.map_or(rest.len(), |at| at + 1));
                    keep(line);
                    (if end.is_some() { At::Cr } else { At::Inside }, others)
                }
            };
        }
        (chunk.len(), false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], piece: usize) -> Option<(Vec<u8>, usize)> {
        let mut unstuffer = Unstuffer::new();
        let (mut message, mut used) = (Vec::new(), 0);
        for chunk in bytes.chunks(piece) {
            let (count, is_end) = unstuffer.feed(chunk, |piece| message.extend_from_slice(piece));
            used += count;
            if is_end {
                return Some((message, used));
            }
        }
        None
    }

    #[test]
    fn a_message_ends_where_it_ends_however_it_is_cut() {
        for (sent, message) in [
            (".\r\n", ""),
            ("a\r\n.\r\n", "a\r\n"),
            ("a\r\n..\r\n.\r\n", "a\r\n.\r\n"),
            ("..\r\n.\r\n", ".\r\n"),
            ("...a\r\n.\r\n", "..a\r\n"),
            (".a\r\n.\r\n", "a\r\n"),
            ("a\n.\n.\r\nb\r\n.\r\n", "a\n.\n.\r\nb\r\n"),
            ("a\r\r\n.\r\n", "a\r\r\n"),
            ("a\r.\r\n.\r\n", "a\r.\r\n"),
            (".\r\r\n.\r\n", "\r\r\n"),
            (".\rx\r\n.\r\n", "\rx\r\n"),
            ("\r\n\r\n.\r\n", "\r\n\r\n"),
        ] {
            for piece in 1..=sent.len() {
                let all = format!("{sent}+OK next");
                let expected = Some((message.as_bytes().to_vec(), sent.len()));
                assert_eq!(read(all.as_bytes(), piece), expected, "{sent:?} by {piece}");
            }
        }
        assert_eq!(read(b"a\r\n.\n", 1), None);
    }
}
