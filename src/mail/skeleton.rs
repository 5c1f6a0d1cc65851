//! What is left of a large message once the middles of its long parts are cut out: enough to be parsed like the whole,
//! since no boundary and no header is ever among what was cut. It never holds more than a few MiB.

/// Length up to which a part stays whole, while the skeleton is short.
const KEPT_FIRST: usize = 1 << 20;
/// The same, once it is long.
const KEPT_LATER: usize = 8 << 10;
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

impl Skeleton {
    /// Whether anything was cut out between two places of the skeleton.
    pub fn is_cut(&self, start: u64, end: u64) -> bool {
        self.cuts.iter().any(|cut| start < cut.at && cut.at < end)
    }

    /// Where a place of the skeleton is in the message.
    pub fn in_message(&self, place: u64) -> u64 {
        let before = self.cuts.iter().take_while(|cut| cut.at < place);
        before.fold(place, |place, cut| place.saturating_add(cut.length))
    }
}

/// Makes a skeleton of a message that comes in pieces.
#[derive(Debug, Default)]
pub struct Skimmer {
    skeleton: Skeleton,
    /// The line that is not complete yet.
    line: Vec<u8>,
    /// The last line of a part may not be cut: the line end before a boundary is not the part's.
    pending: Vec<u8>,
    /// Bytes of the present part; `None` in a header.
    body: Option<usize>,
    /// The line at hand is the rest of a very long one.
    is_rest: bool,
}

impl Skimmer {
    /// Takes the next piece.
    pub fn push(&mut self, mut piece: &[u8]) {
        while let Some(at) = piece.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = piece.split_at(at.saturating_add(1));
            self.line.extend_from_slice(line);
            self.end_line();
            self.is_rest = false;
            piece = rest;
        }
        self.line.extend_from_slice(piece);
        if self.line.len() > LINE_MAX {
            self.end_line();
            self.is_rest = true;
        }
    }

    /// The skeleton.
    pub fn finish(mut self) -> Skeleton {
        self.end_line();
        self.keep_pending();
        self.skeleton
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let may_be_boundary = line.starts_with(b"--") && !self.is_rest;
        match self.body {
            Some(length) if !may_be_boundary => {
                self.body = Some(length.saturating_add(line.len()));
                self.body_line(line, length);
            }
            Some(_) | None => {
                self.keep_pending();
                let is_blank = line.iter().all(|byte| matches!(byte, b'\r' | b'\n'));
                self.body = (is_blank && !self.is_rest).then_some(0);
                self.skeleton.bytes.extend_from_slice(&line);
            }
        }
    }

    fn body_line(&mut self, line: Vec<u8>, length: usize) {
        let kept = if self.skeleton.bytes.len() < LONG {
            KEPT_FIRST
        } else {
            KEPT_LATER
        };
        if length <= kept || !is_unaligned(&line) {
            let pending = std::mem::replace(&mut self.pending, line);
            if length > kept && !pending.is_empty() && !is_unaligned(&pending) {
                self.cut(pending.len());
            } else {
                self.skeleton.bytes.extend_from_slice(&pending);
            }
        } else {
            self.keep_pending();
            self.skeleton.bytes.extend_from_slice(&line);
        }
    }

    fn keep_pending(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        self.skeleton.bytes.extend_from_slice(&pending);
    }

    fn cut(&mut self, length: usize) {
        let (at, length) = (self.skeleton.bytes.len() as u64, length as u64);
        match self.skeleton.cuts.last_mut() {
            Some(last) if last.at == at => last.length = last.length.saturating_add(length),
            Some(_) | None => self.skeleton.cuts.push(Cut { at, length }),
        }
    }
}

/// Whether a line looks like base64 that does not end with a whole group: without it all that follows would be read
/// wrongly.
fn is_unaligned(line: &[u8]) -> bool {
    let text = line.trim_ascii_end();
    let is_base64 = text
        .iter()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='));
    is_base64 && (!text.len().is_multiple_of(4) || text.ends_with(b"="))
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
        assert_eq!(skeleton.cuts.len(), 3);
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
        for message in [b"Subject: x\r\n\r\nhello\r\n".to_vec(), Vec::new(), vec![b'x'; 3 << 20]] {
            let skeleton = skim(&message, 4_096);
            assert!(skeleton.cuts.is_empty());
            assert_eq!(skeleton.bytes, message);
        }
    }
}
