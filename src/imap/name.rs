//! Names and numbers as IMAP wants them: modified UTF-7, quoted strings, sets of UIDs.

use base64::Engine;
use base64::alphabet::IMAP_MUTF7;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};

use super::ImapError;
use crate::mailbox::Uid;

/// Longest set of UIDs in one command, in characters.
const SET_LIMIT: usize = 1000;

const MUTF7: GeneralPurpose = GeneralPurpose::new(&IMAP_MUTF7, GeneralPurposeConfig::new().with_encode_padding(false));

/// A folder's name as a quoted string in modified UTF-7 (RFC 3501 §5.1.3). A name that is in it already stays.
///
/// # Errors
/// [`ImapError::BadName`] if it has control characters.
pub(super) fn folder(name: &str) -> Result<String, ImapError> {
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(ImapError::BadName(name.to_owned()));
    }
    let encoded = if name.is_ascii() { ascii(name) } else { mutf7(name) };
    Ok(format!("\"{}\"", encoded.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// Only `&` is special in an ASCII name; as part of `&…-` it is an encoding already.
fn ascii(name: &str) -> String {
    let is_encoded = name.split('&').skip(1).all(|rest| {
        rest.split_once('-')
            .is_some_and(|(code, _)| code.chars().all(|c| c.is_ascii_alphanumeric() || c == '+' || c == ','))
    });
    if is_encoded {
        name.to_owned()
    } else {
        name.replace('&', "&-")
    }
}

fn mutf7(name: &str) -> String {
    let mut encoded = String::new();
    let mut foreign: Vec<u16> = Vec::new();
    for c in name.chars() {
        if c.is_ascii() {
            flush(&mut foreign, &mut encoded);
            encoded.push(c);
            if c == '&' {
                encoded.push('-');
            }
        } else {
            foreign.extend_from_slice(c.encode_utf16(&mut [0; 2]));
        }
    }
    flush(&mut foreign, &mut encoded);
    encoded
}

fn flush(foreign: &mut Vec<u16>, encoded: &mut String) {
    if foreign.is_empty() {
        return;
    }
    let bytes: Vec<u8> = foreign.drain(..).flat_map(u16::to_be_bytes).collect();
    encoded.push('&');
    encoded.push_str(&MUTF7.encode(bytes));
    encoded.push('-');
}

/// A keyword such as `$Ingested` (RFC 9051 §2.3.2).
///
/// # Errors
/// [`ImapError::BadName`] if it is no atom.
pub(super) fn keyword(name: &str) -> Result<&str, ImapError> {
    let is_atom = !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic() && !"(){%*\"\\]".contains(c));
    let is_system = name
        .strip_prefix('\\')
        .is_some_and(|rest| ["Flagged", "Answered", "Seen"].contains(&rest));
    if is_atom || is_system {
        Ok(name)
    } else {
        Err(ImapError::BadName(name.to_owned()))
    }
}

/// UIDs as sets such as `1:3,7`, as many as a command line holds each.
pub(super) fn sets(uids: &[Uid]) -> Vec<String> {
    let mut sorted: Vec<u32> = uids.iter().map(|uid| uid.get()).collect();
    sorted.sort_unstable();
    sorted.dedup();
    let mut sets = Vec::new();
    let mut set = String::new();
    for run in sorted.chunk_by(|a, b| a.saturating_add(1) == *b) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            continue;
        };
        let range = if first == last {
            first.to_string()
        } else {
            format!("{first}:{last}")
        };
        if set.len() + range.len() >= SET_LIMIT {
            sets.push(std::mem::take(&mut set));
        }
        if !set.is_empty() {
            set.push(',');
        }
        set.push_str(&range);
    }
    if !set.is_empty() {
        sets.push(set);
    }
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_names_are_encoded_once() {
        for (name, wire) in [
            ("INBOX", "\"INBOX\""),
            ("Entwürfe", "\"Entw&APw-rfe\""),
            ("台北", "\"&U,BTFw-\""),
            ("R&D", "\"R&-D\""),
            ("Entw&APw-rfe", "\"Entw&APw-rfe\""),
            ("a\"b\\c", "\"a\\\"b\\\\c\""),
            ("😀", "\"&2D3eAA-\""),
        ] {
            assert_eq!(folder(name).unwrap(), wire, "{name}");
        }
        assert!(folder("a\r\nb").is_err() && folder("").is_err());
    }

    #[test]
    fn sets_are_short_and_complete() {
        let uids: Vec<Uid> = [7, 1, 2, 3, 9, 10, 3].into_iter().filter_map(Uid::new).collect();
        assert_eq!(sets(&uids), ["1:3,7,9:10"]);
        let odd: Vec<Uid> = (1..2000).step_by(2).filter_map(Uid::new).collect();
        let all = sets(&odd);
        assert!(all.iter().all(|set| set.len() <= SET_LIMIT));
        assert_eq!(all.join(",").split(',').count(), 1000);
        assert!(sets(&[]).is_empty());
    }

    #[test]
    fn keywords_are_atoms() {
        assert!(keyword("$Ingested").is_ok() && keyword("\\Flagged").is_ok());
        assert!(keyword("a b").is_err() && keyword("\\Deleted").is_err() && keyword("").is_err());
    }
}
