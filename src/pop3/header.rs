//! What a header block says that a list needs: the Message-ID, and when the server took the message in. Pure.

use chrono::DateTime;

use crate::time::Timestamp;

/// Largest header that is looked at, in bytes.
pub const LIMIT: usize = 256 * 1024;

/// The header block of a message, its empty line included; all of it where there is none.
pub fn block(bytes: &[u8]) -> &[u8] {
    let head = bytes.get(..LIMIT).unwrap_or(bytes);
    let ends = [(b"\r\n\r\n".as_slice(), 4), (b"\n\n", 2)];
    let found = ends
        .iter()
        .filter_map(|(end, length)| Some(head.windows(end.len()).position(|at| at == *end)? + length))
        .min();
    found.and_then(|end| head.get(..end)).unwrap_or(head)
}

/// The first Message-ID, without angle brackets.
pub fn message_id(header: &[u8]) -> Option<String> {
    let value = fields(header).find_map(|(name, value)| name.eq_ignore_ascii_case("Message-ID").then_some(value))?;
    let value = value.split_whitespace().collect::<Vec<_>>().concat();
    let id = value.strip_prefix('<').unwrap_or(&value);
    let id = id.split('>').next().unwrap_or(id);
    (!id.is_empty()).then(|| id.to_owned())
}

/// When the server received it: the date of the topmost Received field (RFC 5321 §4.4), else Date.
pub fn received_at(header: &[u8]) -> Option<Timestamp> {
    let received = fields(header).find_map(|(name, value)| {
        let is_received = name.eq_ignore_ascii_case("Received");
        is_received.then(|| date(value.rsplit_once(';').map_or("", |(_, date)| date)))
    });
    let dated = || fields(header).find_map(|(name, value)| name.eq_ignore_ascii_case("Date").then(|| date(&value)));
    received.flatten().or_else(|| dated().flatten())
}

/// The day of the week is passed over: where it is wrong, the date is not.
fn date(text: &str) -> Option<Timestamp> {
    let text = text.split_once(',').map_or(text, |(_, date)| date);
    let date = DateTime::parse_from_rfc2822(text.trim()).ok()?;
    Some(Timestamp(date.timestamp()))
}

/// The fields, unfolded.
fn fields(header: &[u8]) -> impl Iterator<Item = (String, String)> {
    let text = String::from_utf8_lossy(header);
    let mut unfolded: Vec<String> = Vec::new();
    for line in text.lines() {
        match unfolded.last_mut() {
            Some(last) if line.starts_with([' ', '\t']) => last.push_str(line),
            _ => unfolded.push(line.to_owned()),
        }
    }
    unfolded.into_iter().filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.trim_end().to_owned(), value.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_dates_are_found() {
        let header = b"Received: from a by b;\r\n\tMon, 2 Nov 2026 10:00:00 +0100 (CET)\r\n\
            Received: from c by a; Mon, 2 Nov 2026 08:00:00 +0000\r\n\
            Date: Sun, 1 Nov 2026 08:00:00 +0000\r\nMESSAGE-ID:\r\n <a@b>\r\n\r\nDate: x\r\n";
        assert_eq!(message_id(block(header)).as_deref(), Some("a@b"));
        assert_eq!(received_at(block(header)), Some(Timestamp(1_793_610_000)));
        let dated = b"Date: Fri, 2 Nov 2026 09:00:00 +0000\n\nMessage-ID: <x@y>\n";
        assert_eq!(received_at(block(dated)), Some(Timestamp(1_793_610_000)));
        assert_eq!(message_id(block(dated)), None);
        assert_eq!(received_at(b"Received: nonsense\r\n\r\n"), None);
        assert_eq!(block(b"no end"), b"no end");
    }
}
