//! UID FETCH: sets of UIDs, what is asked of each message, and the answer.

use std::collections::BTreeSet;

use super::store::Message;

/// What is asked of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    Uid,
    Flags,
    Size,
    InternalDate,
    EmailId,
    Body {
        section: String,
        partial: Option<(usize, usize)>,
        marks_seen: bool,
    },
}

impl Item {
    /// Reads an item as written, for example `BODY.PEEK[HEADER]<0.100>`.
    pub(super) fn of(text: &str) -> Option<Self> {
        let upper = text.to_uppercase();
        match upper.as_str() {
            "UID" => Some(Self::Uid),
            "FLAGS" => Some(Self::Flags),
            "RFC822.SIZE" => Some(Self::Size),
            "INTERNALDATE" => Some(Self::InternalDate),
            "EMAILID" => Some(Self::EmailId),
            _ => body_item(&upper),
        }
    }

    pub(super) fn marks_seen(&self) -> bool {
        matches!(self, Self::Body { marks_seen: true, .. })
    }
}

fn body_item(text: &str) -> Option<Item> {
    let (verb, rest) = text.split_once('[')?;
    let (section, partial) = rest.split_once(']')?;
    let marks_seen = match verb {
        "BODY" => true,
        "BODY.PEEK" => false,
        _ => return None,
    };
    let partial = match partial.strip_prefix('<') {
        Some(range) => {
            let (offset, length) = range.strip_suffix('>')?.split_once('.')?;
            Some((offset.parse().ok()?, length.parse().ok()?))
        }
        None => None,
    };
    Some(Item::Body {
        section: section.to_owned(),
        partial,
        marks_seen,
    })
}

/// One FETCH response. `number` is the message's sequence number.
pub(super) fn response(number: usize, message: &Message, items: &[Item], out: &mut Vec<u8>) {
    out.extend(format!("* {number} FETCH (").as_bytes());
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        attribute(message, item, out);
    }
    out.extend(b")\r\n");
}

fn attribute(message: &Message, item: &Item, out: &mut Vec<u8>) {
    let text = match item {
        Item::Uid => format!("UID {}", message.uid),
        Item::Flags => format!("FLAGS ({})", listed(&message.flags)),
        Item::Size => format!(
            "RFC822.SIZE {}",
            message.stated_size.unwrap_or(message.raw.len() as u64)
        ),
        Item::InternalDate => format!("INTERNALDATE \"{}\"", date(message.arrived_at)),
        Item::EmailId => format!("EMAILID ({})", message.email_id),
        Item::Body { section, partial, .. } => return body(message, section, *partial, out),
    };
    out.extend(text.as_bytes());
}

fn body(message: &Message, section: &str, partial: Option<(usize, usize)>, out: &mut Vec<u8>) {
    let whole = of_section(&message.raw, section);
    let (from, length) = partial.unwrap_or((0, usize::MAX));
    let part = whole
        .get(from.min(whole.len())..from.saturating_add(length).min(whole.len()))
        .unwrap_or_default();
    let origin = partial.map(|(from, _)| format!("<{from}>")).unwrap_or_default();
    out.extend(format!("BODY[{section}]{origin} {{{}}}\r\n", part.len()).as_bytes());
    out.extend(part);
}

fn of_section(raw: &[u8], section: &str) -> Vec<u8> {
    let header_end = raw
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map_or(raw.len(), |at| at + 4);
    let (header, text) = raw.split_at(header_end);
    match section {
        "" => raw.to_vec(),
        "HEADER" => header.to_vec(),
        "TEXT" => text.to_vec(),
        fields => {
            let names = fields
                .strip_prefix("HEADER.FIELDS (")
                .and_then(|rest| rest.strip_suffix(')'));
            of_fields(header, names.unwrap_or_default())
        }
    }
}

/// The header fields of these names (in upper case, between spaces), with the empty line that ends them.
fn of_fields(header: &[u8], names: &str) -> Vec<u8> {
    let mut found = Vec::new();
    let mut is_wanted = false;
    for line in header.split_inclusive(|byte| *byte == b'\n') {
        if !line.starts_with(b" ") && !line.starts_with(b"\t") {
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
            let name = String::from_utf8_lossy(name).trim().to_uppercase();
            is_wanted = names.split(' ').any(|wanted| wanted == name);
        }
        if is_wanted {
            found.extend(line);
        }
    }
    found.extend(b"\r\n");
    found
}

/// Flags with spaces between them.
pub(super) fn listed(flags: &BTreeSet<String>) -> String {
    flags.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
}

/// A date as INTERNALDATE writes it, in UTC.
fn date(seconds: i64) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since the first of March of the year 0, so that the leap day is the last of its year.
    let shifted = days + 719_468;
    let era_day = shifted.rem_euclid(146_097);
    let era_year = (era_day - era_day / 1460 + era_day / 36_524 - era_day / 146_096) / 365;
    let year_day = era_day - (365 * era_year + era_year / 4 - era_year / 100);
    let march_month = (5 * year_day + 2) / 153;
    let day = year_day - (153 * march_month + 2) / 5 + 1;
    let month = (march_month + 2) % 12;
    let year = era_year + 400 * shifted.div_euclid(146_097) + i64::from(month < 2);
    let name = usize::try_from(month)
        .ok()
        .and_then(|month| MONTHS.get(month))
        .unwrap_or(&"Jan");
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{day:02}-{name}-{year} {hour:02}:{minute:02}:{second:02} +0000")
}

/// Whether a set such as `1:3,7,9:*` has this UID; `*` stands for the last one that there is.
pub(super) fn set_has(set: &str, uid: u32, last: u32) -> bool {
    let number = |text: &str| if text == "*" { Some(last) } else { text.parse().ok() };
    set.split(',').any(|range| match range.split_once(':') {
        Some((from, to)) => match (number(from), number(to)) {
            (Some(from), Some(to)) => (from.min(to)..=from.max(to)).contains(&uid),
            _ => false,
        },
        None => number(range) == Some(uid),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_imap_does() {
        assert_eq!(date(1_793_610_000), "02-Nov-2026 09:00:00 +0000");
        assert_eq!(date(951_782_400), "29-Feb-2000 00:00:00 +0000");
        assert_eq!(date(0), "01-Jan-1970 00:00:00 +0000");
    }

    #[test]
    fn sets_know_their_uids() {
        for (set, uid, is_in) in [
            ("1:3,7", 2, true),
            ("1:3,7", 5, false),
            ("9:*", 6, true),
            ("5:*", 6, true),
            ("*", 6, true),
        ] {
            assert_eq!(set_has(set, uid, 6), is_in, "{set} {uid}");
        }
    }
}
