//! A part of a message, or what is left of it without some parts, read piece by piece. It holds a piece at most.

use std::io::{self, Read};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{Contents, Skimmed};
use crate::mail::transfer::lines::{Lines, Taken};
use crate::mail::{Encoded, transfer};

/// Bytes that are looked at for the layout of base64, and decoded at once.
const PIECE: u64 = 64 << 10;

/// Some of the bytes of a message, one stretch after the other, and how they are encoded.
#[derive(Debug, Clone)]
pub struct Stretch {
    message: Arc<Skimmed>,
    /// From and to, in order.
    spans: Vec<(u64, u64)>,
    encoding: transfer::Encoding,
    /// Its layout, of base64 that was found to be regular.
    lines: Option<Lines>,
}

/// What the contents of a part are.
#[derive(Debug)]
pub struct Measured {
    /// Of the decoded bytes.
    pub sha256: [u8; 32],
    /// Count of the decoded bytes.
    pub size: u64,
    /// The decoded bytes.
    pub contents: Contents,
    /// Where the message has them as base64 that can be made again from them.
    pub regular: Option<Regular>,
}

/// Base64 that can be made again from what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Regular {
    /// Its layout.
    pub lines: Lines,
    /// From and to, in the message; the line end after the last line is not in it.
    pub span: (u64, u64),
}

impl Stretch {
    /// The whole message but for these spans, which are in order.
    pub fn without(message: Arc<Skimmed>, holes: impl Iterator<Item = (u64, u64)>) -> Self {
        let mut spans = Vec::new();
        let mut at = 0;
        for (from, to) in holes {
            spans.push((at, from));
            at = to;
        }
        spans.push((at, message.size));
        Self {
            message,
            spans,
            encoding: transfer::Encoding::Identity,
            lines: None,
        }
    }

    /// The contents of a part that the skeleton shows, decoded.
    pub fn part(message: Arc<Skimmed>, encoded: &Encoded) -> Self {
        let places = [encoded.start, encoded.end].map(|place| message.skeleton.in_message(place));
        let [from, to] = places;
        Self {
            spans: vec![(from, to)],
            encoding: encoded.encoding,
            lines: None,
            message,
        }
    }

    /// Its decoded bytes.
    pub(super) fn reader(&self) -> Box<dyn Read + Send + '_> {
        if let (Some(lines), [span]) = (self.lines, self.spans.as_slice()) {
            return Box::new(ByLines::new(&self.message, *span, lines));
        }
        let raw = Spans {
            stretch: self,
            next: 0,
            at: 0,
        };
        Box::new(transfer::Decoder::new(raw, self.encoding))
    }

    /// Its bytes as they stand, packed where the message is held; else packed when they are written.
    ///
    /// # Errors
    /// Only where memory is short.
    pub fn contents(self) -> io::Result<Contents> {
        if !self.message.is_held() {
            return Ok(Contents::OnDisk(self));
        }
        let mut nothing = Vec::new();
        if let [span] = *self.spans.as_slice() {
            return Contents::packed(self.message.between(span, &mut nothing)?);
        }
        let mut bytes = Vec::new();
        for span in &self.spans {
            bytes.extend_from_slice(self.message.between(*span, &mut nothing)?);
        }
        Contents::packed(&bytes)
    }

    /// Looks at the decoded bytes of a part.
    ///
    /// # Errors
    /// What the disk says.
    pub fn measure(mut self) -> io::Result<Measured> {
        let length = self
            .spans
            .iter()
            .map(|(from, to)| to.saturating_sub(*from))
            .sum::<u64>();
        let held = self
            .message
            .is_held()
            .then_some(usize::try_from(length).unwrap_or(0) / 4 * 3);
        let mut sink = Sink::new(held);
        if let Some(regular) = self.regular(|decoded| sink.add(decoded))? {
            self.lines = Some(regular.lines);
            return sink.finish(self, Some(regular));
        }
        let mut sink = Sink::new(held);
        io::copy(&mut self.reader(), &mut sink)?;
        sink.finish(self, None)
    }

    /// Gives the decoded bytes of regular base64 piece by piece, then its layout and place. `None`: it is none, and
    /// what was given is of no use.
    fn regular(&self, mut give: impl FnMut(&[u8])) -> io::Result<Option<Regular>> {
        let [(from, to)] = *self.spans.as_slice() else {
            return Ok(None);
        };
        if self.encoding != transfer::Encoding::Base64 {
            return Ok(None);
        }
        let mut buffer = Vec::new();
        let head = (from, to.min(from.saturating_add(PIECE)));
        let Some(lines) = Lines::of(self.message.between(head, &mut buffer)?) else {
            return Ok(None);
        };
        let mut reader = ByLines::new(&self.message, (from, to), lines);
        while reader.fill()? {
            give(&reader.ready);
        }
        let is_whole = match reader.end {
            Some(end) => self.is_blank(end, to)?,
            None => false,
        };
        Ok(reader.end.filter(|_| is_whole).map(|end| Regular {
            lines,
            span: (from, end),
        }))
    }

    /// Whether only white space stands there; a little, for more of it is not looked at.
    fn is_blank(&self, from: u64, to: u64) -> io::Result<bool> {
        if to.saturating_sub(from) > PIECE {
            return Ok(false);
        }
        let mut buffer = Vec::new();
        Ok(self.message.between((from, to), &mut buffer)?.trim_ascii().is_empty())
    }
}

/// Decodes base64 of a layout.
struct ByLines<'m> {
    message: &'m Skimmed,
    lines: Lines,
    /// Where it goes on, and where the part ends.
    at: u64,
    to: u64,
    /// Where the base64 ends, once that is known; never, where it is not of the layout.
    end: Option<u64>,
    is_over: bool,
    buffer: Vec<u8>,
    /// Decoded, and how much of it was given.
    ready: Vec<u8>,
    given: usize,
}

impl<'m> ByLines<'m> {
    fn new(message: &'m Skimmed, (at, to): (u64, u64), lines: Lines) -> Self {
        Self {
            message,
            lines,
            at,
            to,
            end: None,
            is_over: false,
            buffer: Vec::new(),
            ready: Vec::new(),
            given: 0,
        }
    }

    /// Decodes the next piece; whether there was one.
    fn fill(&mut self) -> io::Result<bool> {
        self.ready.clear();
        self.given = 0;
        let length = self.lines.length() as u64;
        // Where it ends with a whole line, the end of that line is not counted.
        let before = self.at.saturating_sub(length.saturating_sub(self.lines.width as u64));
        if self.is_over {
            return Ok(false);
        }
        if self.at >= self.to {
            self.end = Some(before);
            self.is_over = true;
            return Ok(false);
        }
        let step = (PIECE / length).max(1).saturating_mul(length);
        let end = self.to.min(self.at.saturating_add(step));
        let text = self.message.between((self.at, end), &mut self.buffer)?;
        match self.lines.decode(text, &mut self.ready) {
            Some(Taken::Whole) => self.at = end,
            Some(Taken::Ended(0)) => (self.end, self.is_over) = (Some(before), true),
            Some(Taken::Ended(count)) => {
                (self.end, self.is_over) = (Some(self.at.saturating_add(count as u64)), true);
            }
            None => {
                self.is_over = true;
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Read for ByLines<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.given == self.ready.len() {
            if !self.fill()? {
                return Ok(0);
            }
        }
        let mut left = self.ready.get(self.given..).unwrap_or_default();
        let count = left.read(out)?;
        self.given = self.given.saturating_add(count);
        Ok(count)
    }
}

/// Takes decoded bytes as they come.
struct Sink {
    hash: Sha256,
    size: u64,
    /// The bytes, of a message that is held.
    bytes: Option<Vec<u8>>,
}

impl Sink {
    /// With room for so many bytes of a message that is held.
    fn new(held: Option<usize>) -> Self {
        Self {
            hash: Sha256::new(),
            size: 0,
            bytes: held.map(Vec::with_capacity),
        }
    }

    fn add(&mut self, decoded: &[u8]) {
        self.hash.update(decoded);
        self.size = self.size.saturating_add(decoded.len() as u64);
        if let Some(bytes) = &mut self.bytes {
            bytes.extend_from_slice(decoded);
        }
    }

    fn finish(self, stretch: Stretch, regular: Option<Regular>) -> io::Result<Measured> {
        Ok(Measured {
            sha256: self.hash.finalize().into(),
            size: self.size,
            contents: match self.bytes {
                Some(bytes) => Contents::packed(&bytes)?,
                None => Contents::OnDisk(stretch),
            },
            regular,
        })
    }
}

impl io::Write for Sink {
    fn write(&mut self, decoded: &[u8]) -> io::Result<usize> {
        self.add(decoded);
        Ok(decoded.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The bytes of a stretch as they stand.
struct Spans<'s> {
    stretch: &'s Stretch,
    /// Which span.
    next: usize,
    /// Bytes of it that were read.
    at: u64,
}

impl Read for Spans<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while let Some((from, to)) = self.stretch.spans.get(self.next) {
            let from = from.saturating_add(self.at);
            if from >= *to {
                self.next = self.next.saturating_add(1);
                self.at = 0;
                continue;
            }
            let wanted = usize::try_from(to.saturating_sub(from)).map_or(out.len(), |left| out.len().min(left));
            let count = self
                .stretch
                .message
                .read_at(out.get_mut(..wanted).unwrap_or_default(), from)?;
            self.at = self.at.saturating_add(count as u64);
            return Ok(count);
        }
        Ok(0)
    }
}
