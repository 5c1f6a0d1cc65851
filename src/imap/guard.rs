//! Follows the framing of what a server sends, and refuses lines, literals and nesting over their bound before
//! the parser meets them: it would set 512 MiB aside at once, and overflows the stack at some 600 parentheses.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Longest line outside of literals, in bytes.
const LINE_LIMIT: usize = 64 * 1024;
/// Largest literal, in bytes: twice the largest piece that is ever asked for.
const LITERAL_LIMIT: u64 = 2 << 20;
/// Deepest nesting of parentheses in a response; nothing that is asked for nests deeper than five.
const DEPTH_LIMIT: usize = 60;
/// Longest announcement of a literal that is looked for at the end of a line: `{18446744073709551615}`.
const TAIL: usize = 24;

/// Bytes received so far, shared with whoever waits for more.
#[derive(Debug, Clone, Default)]
pub(super) struct Received(Arc<AtomicU64>);

impl Received {
    /// The count.
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Where in the framing of RFC 9051 §4.3 the stream stands.
#[derive(Debug)]
enum Framing {
    /// In a line: its length so far, its last bytes, and how deep its response nests.
    Line { length: usize, tail: Vec<u8>, depth: usize },
    /// In a literal with so many bytes to come, in a response that nests so deep.
    Literal { left: u64, depth: usize },
}

impl Framing {
    const START: Self = Self::line(0);

    const fn line(depth: usize) -> Self {
        Self::Line {
            length: 0,
            tail: Vec::new(),
            depth,
        }
    }

    /// Follows some bytes.
    fn follow(&mut self, mut bytes: &mut [u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            bytes = match self {
                Self::Literal { left, depth } => {
                    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= count as u64;
                    if *left == 0 {
                        *self = Self::line(*depth);
                    }
                    bytes.get_mut(count..).unwrap_or_default()
                }
                Self::Line { .. } => self.follow_line(bytes)?,
            };
        }
        Ok(())
    }

    /// Follows bytes up to the end of the line; returns the rest.
    fn follow_line<'b>(&mut self, bytes: &'b mut [u8]) -> io::Result<&'b mut [u8]> {
        let Self::Line { length, tail, depth } = self else {
            return Ok(bytes);
        };
        let end = bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        let cut = end.unwrap_or(bytes.len());
        let (line, rest) = bytes.split_at_mut(cut);
        mend(line, depth)?;
        *length += line.len();
        if *length > LINE_LIMIT {
            return Err(refused("a line"));
        }
        tail.extend(line.iter().skip(line.len().saturating_sub(TAIL)));
        let surplus = tail.len().saturating_sub(TAIL);
        tail.drain(..surplus);
        if end.is_some() {
            *self = match announced(tail) {
                Some(size) if size > LITERAL_LIMIT => return Err(refused("a literal")),
                Some(size) if size > 0 => Self::Literal {
                    left: size,
                    depth: *depth,
                },
                Some(_) | None => Self::START,
            };
        }
        Ok(rest)
    }
}

/// Counts the nesting of a piece of a line, and replaces bytes that are no ASCII: outside of literals they stand in
/// texts only, and the parser panics at one that follows a response code.
fn mend(line: &mut [u8], depth: &mut usize) -> io::Result<()> {
    for byte in line {
        match *byte {
            b'(' => *depth += 1,
            b')' => *depth = depth.saturating_sub(1),
            0x80.. => *byte = b'?',
            _ => {}
        }
        if *depth > DEPTH_LIMIT {
            return Err(refused("nesting"));
        }
    }
    Ok(())
}

/// The size of the literal that the end of a line announces: `{123}` or `~{123}` before the line end.
fn announced(tail: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(tail.trim_ascii_end().rsplit(|byte| *byte == b'{').next()?).ok()?;
    let digits = text.strip_suffix('}')?;
    // A number that fits nowhere is as bad as one that is too large.
    digits
        .chars()
        .all(|c| c.is_ascii_digit())
        .then(|| digits.parse().unwrap_or(u64::MAX))
        .filter(|_| !digits.is_empty())
}

fn refused(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the server sent {what} over the limit"),
    )
}

/// A stream whose reads are followed.
#[derive(Debug)]
pub(super) struct Guard<S> {
    inner: S,
    framing: Framing,
    received: Received,
}

impl<S> Guard<S> {
    pub(super) fn new(inner: S) -> Self {
        Self {
            inner,
            framing: Framing::START,
            received: Received::default(),
        }
    }

    /// The stream itself.
    pub(super) fn into_inner(self) -> S {
        self.inner
    }

    /// The count of bytes received.
    pub(super) fn received(&self) -> Received {
        self.received.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        std::task::ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let new = buf.filled_mut().get_mut(before..).unwrap_or_default();
        self.received.0.fetch_add(new.len() as u64, Ordering::Relaxed);
        Poll::Ready(self.framing.follow(new))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(bytes: &[u8], piece: usize) -> io::Result<Vec<u8>> {
        let mut framing = Framing::START;
        let mut bytes = bytes.to_vec();
        bytes
            .chunks_mut(piece)
            .try_for_each(|chunk| framing.follow(chunk))
            .map(|()| bytes)
    }

    #[test]
    fn what_the_parser_cannot_bear_is_kept_from_it() {
        assert!(follow("(".repeat(1000).as_bytes(), 7).is_err());
        assert!(follow(b"* 1 FETCH (A (B (C \"x\")))\r\n", 3).is_ok());
        assert!(follow("(((\r\n".repeat(100).as_bytes(), 5).is_ok());
        let mended = follow(
            "* OK [ALERT]\u{e9}\r\n* 1 FETCH (BODY[] {2}\r\n\u{e9})\r\n".as_bytes(),
            4,
        )
        .unwrap();
        assert_eq!(
            mended,
            "* OK [ALERT]??\r\n* 1 FETCH (BODY[] {2}\r\n\u{e9})\r\n".as_bytes()
        );
    }

    #[test]
    fn literals_are_followed_however_they_are_cut() {
        let mut answer = b"* 1 FETCH (UID 1 BODY[] {40}\r\n".to_vec();
        answer.extend(b"looks like {99999999}\r\nand {1234567890}\r\n");
        answer.extend(b" FLAGS ())\r\na1 OK done {\r\n");
        for piece in 1..answer.len() {
            follow(&answer, piece).unwrap();
        }
    }

    #[test]
    fn what_is_over_a_bound_is_refused() {
        for bad in ["* 1 FETCH (BODY[] {99999999}\r\n", "* X {99999999999999999999999}\r\n"] {
            for piece in [1, 7, 100] {
                assert!(follow(bad.as_bytes(), piece).is_err(), "{bad}");
            }
        }
        assert!(follow(&vec![b'x'; LINE_LIMIT + 1], 4096).is_err());
        assert!(follow(b"* OK {2097152}\r\n", 5).is_ok());
    }

    #[test]
    fn a_literal_of_nothing_is_no_literal() {
        assert_eq!(announced(b"x {0}\r\n"), Some(0));
        assert_eq!(announced(b"x {}\r\n"), None);
        assert_eq!(announced(b"x {12a}\r\n"), None);
        assert_eq!(announced(b"x ~{12}\r\n"), Some(12));
        follow(b"* 1 FETCH (BODY[] {0}\r\n)\r\n", 3).unwrap();
    }
}
