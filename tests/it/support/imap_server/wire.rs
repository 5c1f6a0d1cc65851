//! Bytes to and from a client, in clear or by TLS, and commands taken apart into tokens.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use openssl::ssl::{SslAcceptor, SslStream};

/// Longest line or literal that is taken, in bytes.
const LIMIT: usize = 1 << 20;

/// A part of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Token {
    /// An atom; `BODY[…]<…>` is one with all that it has in its brackets.
    Atom(String),
    /// A quoted string or a literal.
    Text(Vec<u8>),
    /// An opening parenthesis.
    Open,
    /// A closing parenthesis.
    Close,
}

impl Token {
    /// The text of a string in any of its forms.
    pub(in super::super) fn text(&self) -> String {
        match self {
            Self::Atom(atom) => atom.clone(),
            Self::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Open => "(".to_owned(),
            Self::Close => ")".to_owned(),
        }
    }
}

enum Carrier {
    Clear(TcpStream),
    Tls(Box<SslStream<TcpStream>>),
    /// Between the two.
    Gone,
}

/// A client's connection.
pub(in super::super) struct Peer {
    carrier: Carrier,
    pending: Vec<u8>,
}

/// What came while waiting.
pub(in super::super) enum Heard {
    /// A line, without its end.
    Line(Vec<u8>),
    /// Nothing yet.
    Nothing,
}

impl Peer {
    pub(in super::super) fn new(stream: TcpStream) -> Self {
        Self {
            carrier: Carrier::Clear(stream),
            pending: Vec::new(),
        }
    }

    pub(in super::super) fn is_protected(&self) -> bool {
        matches!(self.carrier, Carrier::Tls(_))
    }

    /// Turns to TLS; what the client sent ahead in clear is forgotten.
    pub(in super::super) fn protect(&mut self, acceptor: &SslAcceptor) -> io::Result<()> {
        let Carrier::Clear(stream) = std::mem::replace(&mut self.carrier, Carrier::Gone) else {
            return Err(ErrorKind::InvalidInput.into());
        };
        self.pending.clear();
        let stream = acceptor
            .accept(stream)
            .map_err(|error| io::Error::other(error.to_string()))?;
        self.carrier = Carrier::Tls(Box::new(stream));
        Ok(())
    }

    pub(in super::super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.carrier {
            Carrier::Clear(stream) => stream.write_all(bytes),
            Carrier::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
            Carrier::Gone => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// Reads a line, however long it takes.
    pub(in super::super) fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(line) = self.take_line() {
                return Ok(line);
            }
            self.fill()?;
        }
    }

    /// Reads a line if it comes within this time.
    pub(in super::super) fn line_within(&mut self, time: Duration) -> io::Result<Heard> {
        if let Some(line) = self.take_line() {
            return Ok(Heard::Line(line));
        }
        self.set_patience(Some(time))?;
        let filled = self.fill();
        self.set_patience(None)?;
        match filled {
            Ok(()) => Ok(self.take_line().map_or(Heard::Nothing, Heard::Line)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(Heard::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Reads a command with its literals.
    pub(in super::super) fn command(&mut self) -> io::Result<Vec<Token>> {
        let mut tokens = Vec::new();
        loop {
            let line = self.line()?;
            let (line, literal) = split_literal(&line);
            tokenize(line, &mut tokens);
            let Some((length, waits)) = literal else {
                return Ok(tokens);
            };
            if length > LIMIT {
                return Err(ErrorKind::InvalidData.into());
            }
            if waits {
                self.send(b"+ go on\r\n")?;
            }
            while self.pending.len() < length {
                self.fill()?;
            }
            tokens.push(Token::Text(self.pending.drain(..length).collect()));
        }
    }

    /// Reads and forgets until the client is gone.
    pub(in super::super) fn sink(&mut self) {
        while self.fill().is_ok() {
            self.pending.clear();
        }
    }

    fn set_patience(&self, patience: Option<Duration>) -> io::Result<()> {
        match &self.carrier {
            Carrier::Clear(stream) => stream.set_read_timeout(patience),
            Carrier::Tls(stream) => stream.get_ref().set_read_timeout(patience),
            Carrier::Gone => Ok(()),
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut chunk = [0; 16 * 1024];
        let count = match &mut self.carrier {
            Carrier::Clear(stream) => stream.read(&mut chunk)?,
            Carrier::Tls(stream) => stream.read(&mut chunk)?,
            Carrier::Gone => 0,
        };
        if count == 0 || self.pending.len() > 2 * LIMIT {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.pending.extend(chunk.iter().take(count));
        Ok(())
    }

    fn take_line(&mut self) -> Option<Vec<u8>> {
        let end = self.pending.iter().position(|byte| *byte == b'\n')?;
        let mut line: Vec<u8> = self.pending.drain(..=end).collect();
        line.pop();
        line.pop_if(|byte| *byte == b'\r');
        Some(line)
    }
}

/// A line with CRLF at each line end.
pub(in super::super) fn with_crlf(raw: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(raw.len());
    let mut before = 0;
    for byte in raw {
        if *byte == b'\n' && before != b'\r' {
            lines.push(b'\r');
        }
        lines.push(*byte);
        before = *byte;
    }
    lines
}

/// The line without the announcement of a literal at its end: its length, and whether the client waits for `+`.
fn split_literal(line: &[u8]) -> (&[u8], Option<(usize, bool)>) {
    let found = || {
        let inner = line.strip_suffix(b"}")?;
        let open = inner.iter().rposition(|byte| *byte == b'{')?;
        let (before, number) = inner.split_at_checked(open)?;
        let number = std::str::from_utf8(number.get(1..)?).ok()?;
        let (digits, waits) = match number.strip_suffix('+') {
            Some(digits) => (digits, false),
            None => (number, true),
        };
        Some((before, Some((digits.parse().ok()?, waits))))
    };
    found().unwrap_or((line, None))
}

fn tokenize(line: &[u8], tokens: &mut Vec<Token>) {
    let mut bytes = line.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' => {}
            b'(' => tokens.push(Token::Open),
            b')' => tokens.push(Token::Close),
            b'"' => tokens.push(Token::Text(quoted(&mut bytes))),
            first => tokens.push(Token::Atom(atom(first, &mut bytes))),
        }
    }
}

fn quoted(bytes: &mut impl Iterator<Item = u8>) -> Vec<u8> {
    let mut text = Vec::new();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => break,
            b'\\' => text.extend(bytes.next()),
            plain => text.push(plain),
        }
    }
    text
}

fn atom(first: u8, bytes: &mut std::iter::Peekable<impl Iterator<Item = u8>>) -> String {
    let mut text = vec![first];
    let mut in_brackets = first == b'[';
    while let Some(byte) = bytes.next_if(|byte| in_brackets || !matches!(byte, b' ' | b'(' | b')')) {
        in_brackets = match byte {
            b'[' => true,
            b']' => false,
            _ => in_brackets,
        };
        text.push(byte);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_taken_apart() {
        let mut tokens = Vec::new();
        tokenize(
            br#"a1 UID FETCH 1:* (UID BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)]<0.9>) "a\"b""#,
            &mut tokens,
        );
        let texts: Vec<String> = tokens.iter().map(Token::text).collect();
        let body = "BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)]<0.9>";
        assert_eq!(texts, ["a1", "UID", "FETCH", "1:*", "(", "UID", body, ")", "a\"b"]);
    }

    #[test]
    fn literals_are_announced_at_the_end_of_a_line() {
        assert_eq!(split_literal(b"a LOGIN {3}"), (&b"a LOGIN "[..], Some((3, true))));
        assert_eq!(split_literal(b"a LOGIN {3+}"), (&b"a LOGIN "[..], Some((3, false))));
        assert_eq!(split_literal(b"a NOOP"), (&b"a NOOP"[..], None));
    }
}
