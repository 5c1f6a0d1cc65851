//! What is left of a message once the middles of its long parts are cut out: enough to be parsed like the whole,
//! since no boundary and no header is ever among what was cut. It never holds more than a few MiB.

use super::transfer::is_sextet;

/// Length up to which a part stays whole, while the skeleton is short.
const KEPT_FIRST: usize = 1 << 20;
/// The same, once it is long.
const KEPT_LATER: usize = 8 << 10;
/// The same of a file in base64, which nobody reads here.
const KEPT_OF_FILE: usize = 4 << 10;
/// A skeleton is long from here on.
const LONG: usize = 2 << 20;
/// A longer line is taken in pieces.
const LINE_MAX: usize = 64 << 10;

/// A message without the middles of its long parts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Skeleton {
    /// What is left.
    pub bytes: Vec<u8>,
    /// What was cut, in order.
    pub cuts: Vec<Cut>,
}

/// Whole lines that were cut out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Where they stood in the skeleton.
    pub at: u64,
    /// Their length in bytes.
    pub length: u64,
}

impl Cut {
    /// Whether it was cut out of a part that stands between two places of the skeleton.
    pub fn is_within(&self, start: u64, end: u64) -> bool {
        start < self.at && self.at <= end
    }
}

impl Skeleton {
    /// Whether anything was cut out of a part that stands between two places of the skeleton. Nothing is cut at the
    /// beginning of a part.
    pub fn is_cut(&self, start: u64, end: u64) -> bool {
        self.cuts.iter().any(|cut| cut.is_within(start, end))
    }

    /// Where a place of the skeleton is in the message; what was cut just there stands before it.
    pub fn in_message(&self, place: u64) -> u64 {
        let before = self.cuts.iter().take_while(|cut| cut.at <= place);
        before.fold(place, |place, cut| place.saturating_add(cut.length))
    }
}

/// What the header of a part says of its body, as far as one line tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Kind {
    is_base64: bool,
    /// It states a type that is neither text nor made of parts, or that it is attached.
    is_opaque: bool,
}

impl Kind {
    fn hear(&mut self, line: &[u8]) {
        if let Some(value) = field(line, b"content-transfer-encoding:") {
            self.is_base64 = value.eq_ignore_ascii_case(b"base64");
        } else if let Some(value) = field(line, b"content-type:") {
            let is_read = [&b"text/"[..], b"message/", b"multipart/"]
                .iter()
                .any(|start| field(value, start).is_some());
            self.is_opaque |= value.contains(&b'/') && !is_read;
        } else if let Some(value) = field(line, b"content-disposition:") {
            self.is_opaque |= field(value, b"attachment").is_some();
        }
    }

    fn is_file(self) -> bool {
        self.is_base64 && self.is_opaque
    }
}

/// What follows `name`, which is compared without regard to case.
fn field<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let (start, rest) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then(|| rest.trim_ascii())
}

/// Makes a skeleton of a message that comes in pieces.
#[derive(Debug, Default)]
pub struct Skimmer {
    skeleton: Skeleton,
    /// The line that is not complete yet.
    line: Vec<u8>,
    /// The last line of a part may not be cut: the line end before a boundary is not the part's.
    pending: Vec<u8>,
    /// Whether it may be cut once another line follows.
    may_go: bool,
    /// Bytes of the present part; `None` in a header.
    body: Option<usize>,
    /// Of the present part.
    kind: Kind,
    /// The line at hand is the rest of a very long one.
    is_rest: bool,
}

impl Skimmer {
    /// Takes the next piece.
    pub fn push(&mut self, mut piece: &[u8]) {
        while let Some(at) = memchr::memchr(b'\n', piece) {
            let (line, rest) = piece.split_at(at.saturating_add(1));
            if self.line.is_empty() && line.len() <= LINE_MAX {
                self.take(line);
            } else {
                self.extend(line);
                self.take_line();
            }
            self.is_rest = false;
            piece = rest;
        }
        self.extend(piece);
    }

    /// Adds to a line; what is too long is taken in pieces that hold whole groups of base64.
    fn extend(&mut self, mut more: &[u8]) {
        loop {
            let room = LINE_MAX.saturating_sub(self.line.len());
            let Some((fits, rest)) = more.split_at_checked(room).filter(|(_, rest)| !rest.is_empty()) else {
                return self.line.extend_from_slice(more);
            };
            self.line.extend_from_slice(fits);
            self.take_line();
            self.is_rest = true;
            more = rest;
        }
    }

    /// The skeleton.
    pub fn finish(mut self) -> Skeleton {
        if !self.line.is_empty() {
            self.take_line();
        }
        self.keep_pending();
        self.skeleton
    }

    /// Takes the line that came in pieces.
    fn take_line(&mut self) {
        let mut line = std::mem::take(&mut self.line);
        self.take(&line);
        line.clear();
        self.line = line;
    }

    fn take(&mut self, line: &[u8]) {
        let may_be_boundary = line.starts_with(b"--") && !self.is_rest;
        match self.body {
            Some(length) if !may_be_boundary => {
                self.body = Some(length.saturating_add(line.len()));
                self.take_of_body(line, length);
            }
            Some(_) | None => {
                self.keep_pending();
                if self.body.is_some() {
                    self.kind = Kind::default();
                }
                let is_blank = line.iter().all(|byte| matches!(byte, b'\r' | b'\n'));
                self.body = (is_blank && !self.is_rest).then_some(0);
                self.kind.hear(line);
                self.skeleton.bytes.extend_from_slice(line);
            }
        }
    }

    fn take_of_body(&mut self, line: &[u8], length: usize) {
        let is_long = self.skeleton.bytes.len() >= LONG;
        let (kept, may_go): (_, fn(&[u8]) -> bool) = match (self.kind.is_file(), is_long) {
            (true, _) => (KEPT_OF_FILE, is_groups),
            (false, false) => (KEPT_FIRST, is_no_end),
            (false, true) => (KEPT_LATER, is_no_end),
        };
        if self.may_go {
            self.cut(self.pending.len());
            self.pending.clear();
        } else {
            self.keep_pending();
        }
        self.may_go = length > kept && may_go(line);
        self.pending.extend_from_slice(line);
    }

    fn keep_pending(&mut self) {
        self.skeleton.bytes.extend_from_slice(&self.pending);
        self.pending.clear();
        self.may_go = false;
    }

    fn cut(&mut self, length: usize) {
        let (at, length) = (self.skeleton.bytes.len() as u64, length as u64);
        match self.skeleton.cuts.last_mut() {
            Some(last) if last.at == at => last.length = last.length.saturating_add(length),
            Some(_) | None => self.skeleton.cuts.push(Cut { at, length }),
        }
    }
}

/// Whether a line does not look like base64 that does not end with a whole group: without such a line all that follows
/// would be read wrongly.
fn is_no_end(line: &[u8]) -> bool {
    let text = line.trim_ascii_end();
    let is_base64 = text.iter().all(|byte| is_sextet(*byte) || *byte == b'=');
    !is_base64 || text.len().is_multiple_of(4) && !text.ends_with(b"=")
}

/// Whether a line is base64 of whole groups and nothing else, so that what stands around it reads the same without it.
fn is_groups(line: &[u8]) -> bool {
    let text = line.trim_ascii_end();
    // Without a way out in between, so that the compiler can look at many at once.
    text.len().is_multiple_of(4) && text.iter().fold(true, |is, byte| is & is_sextet(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skim(message: &[u8], piece: usize) -> Skeleton {
        let mut skimmer = Skimmer::default();
        for piece in message.chunks(piece) {
            skimmer.push(piece);
        }
        skimmer.finish()
    }

    /// A message with three long parts of different kinds.
    fn message() -> Vec<u8> {
        let part = |head: &str, line: &str, count: usize| format!("--b\r\n{head}\r\n\r\n{}", line.repeat(count));
        let base64 = format!("{}\r\n", "QUJD".repeat(19));
        [
            "Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n".to_owned(),
            part("Content-Type: text/plain", "some words of a letter\r\n", 100),
            part("Content-Transfer-Encoding: base64", &base64, 40_000),
            part(
                "Content-Transfer-Encoding: quoted-printable",
                "caf=C3=A9 and so on=\r\n",
                90_000,
            ),
            part("Content-Type: image/png", &base64, 30_000),
            part(
                "Content-Type: image/png\r\nContent-Transfer-Encoding: BASE64",
                &base64,
                1_000,
            ),
            part(
                "Content-Type: text/html\r\nContent-Transfer-Encoding: base64",
                &base64,
                100,
            ),
            "--b--\r\n".to_owned(),
        ]
        .concat()
        .into_bytes()
    }

    #[test]
    fn a_skeleton_is_short_and_its_places_lead_to_the_message() {
        let message = message();
        let skeleton = skim(&message, 8_192);
        assert!(skeleton.bytes.len() < 3 << 20, "{}", skeleton.bytes.len());
        assert_eq!(skeleton.cuts.len(), 4);
        let cut: u64 = skeleton.cuts.iter().map(|cut| cut.length).sum();
        assert_eq!(skeleton.bytes.len() as u64 + cut, message.len() as u64);
        for (at, window) in skeleton.bytes.windows(4).enumerate() {
            if window == b"--b\r" {
                let place = usize::try_from(skeleton.in_message(at as u64)).unwrap();
                assert_eq!(&message[place..place + 4], b"--b\r");
            }
        }
        let ends = [1, 100, 70_000].map(|piece| skim(&message, piece));
        assert!(
            ends.iter().all(|other| *other == skeleton),
            "the pieces make a difference"
        );
    }

    #[test]
    fn what_is_short_or_has_no_lines_stays_whole() {
        let file = format!(
            "Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n{}",
            "QUJD".repeat(2_000)
        );
        for message in [
            b"Subject: x\r\n\r\nhello\r\n".to_vec(),
            Vec::new(),
            vec![b'x'; 3 << 20],
            file.into_bytes(),
        ] {
            let skeleton = skim(&message, 4_096);
            assert!(skeleton.cuts.is_empty());
            assert_eq!(skeleton.bytes, message);
        }
    }

    #[test]
    fn a_file_in_one_line_is_cut_at_whole_groups() {
        let head = "Content-Type: application/zip\r\nContent-Transfer-Encoding: base64\r\n\r\n";
        let message = format!("{head}{}\r\n", "QUJD".repeat(100_000)).into_bytes();
        let skeleton = skim(&message, 10_000);
        assert!(skeleton.bytes.len() < 200_000, "{}", skeleton.bytes.len());
        assert!(skeleton.cuts.iter().all(|cut| cut.length.is_multiple_of(4)));
        assert_eq!(skim(&message, 1 << 20), skeleton);
    }
}
