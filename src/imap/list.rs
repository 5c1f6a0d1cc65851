//! What is in a folder: its state, its UIDs with size and date, Message-IDs of single messages.

use async_imap::imap_proto::{AttributeValue, MailboxDatum, Response, ResponseCode, Status};
use chrono::DateTime;

use super::error::{ImapError, Step};
use super::{Session, name};
use crate::mailbox::{Listed, Uid, UidValidity};
use crate::time::Timestamp;

/// A folder that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selected {
    /// The generation of its UIDs; 0 where the server states none.
    pub uidvalidity: UidValidity,
    /// The UID that the next message will get at least, where the server says so (mail.163.com does not).
    pub uidnext: Option<Uid>,
    /// Count of messages.
    pub exists: u32,
}

impl Session {
    /// Opens a folder for reading and writing.
    ///
    /// # Errors
    /// [`ImapError::FolderMissing`] if there is none; else as any command.
    pub async fn select(&mut self, folder: &str) -> Result<Selected, ImapError> {
        self.open("SELECT", folder).await
    }

    /// Opens a folder for reading: nothing in it can change by us.
    ///
    /// # Errors
    /// As [`Session::select`].
    pub async fn examine(&mut self, folder: &str) -> Result<Selected, ImapError> {
        self.open("EXAMINE", folder).await
    }

    async fn open(&mut self, verb: &str, folder: &str) -> Result<Selected, ImapError> {
        let mut selected = Selected {
            uidvalidity: UidValidity(0),
            uidnext: None,
            exists: 0,
        };
        let command = format!("{verb} {}", name::folder(folder)?);
        let opened = self
            .command(Step::Select, &command, |response| note(&mut selected, response))
            .await;
        match opened {
            Err(ImapError::No { refusal, .. }) => Err(ImapError::FolderMissing {
                folder: folder.to_owned(),
                refusal,
            }),
            Err(error) => Err(error),
            Ok(()) => Ok(selected),
        }
    }

    /// The messages with this UID or a higher one: size and date as the server states them, and whether they
    /// are marked seen or deleted. In the order in which the server lists them.
    ///
    /// # Errors
    /// As any command.
    pub async fn list(&mut self, from: Uid) -> Result<Vec<Listed>, ImapError> {
        let mut found = Vec::new();
        let command = format!("UID FETCH {}:* (UID RFC822.SIZE INTERNALDATE FLAGS)", from.get());
        self.command(Step::List, &command, |response| {
            // `n:*` always answers with the last message, even if its UID is below n; and servers report
            // changed flags of messages that nobody asked for.
            if let Response::Fetch(_, attributes) = response
                && let Some(listed) = listed(attributes)
                && listed.uid >= from
            {
                found.push(listed);
            }
        })
        .await?;
        found.sort_by_key(|listed: &Listed| listed.uid);
        found.dedup_by_key(|listed| listed.uid);
        Ok(found)
    }

    /// The Message-IDs of messages, without angle brackets, where they have one.
    ///
    /// # Errors
    /// As any command.
    pub async fn headers(&mut self, uids: &[Uid]) -> Result<Vec<(Uid, Option<String>)>, ImapError> {
        let mut found = Vec::new();
        for set in name::sets(uids) {
            let command = format!("UID FETCH {set} (UID BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])");
            self.command(Step::List, &command, |response| {
                if let Response::Fetch(_, attributes) = response
                    && let Some(uid) = uid(attributes)
                {
                    found.push((uid, body(attributes).and_then(message_id)));
                }
            })
            .await?;
        }
        Ok(found)
    }

    /// Asks for a sign of life.
    ///
    /// # Errors
    /// As any command.
    pub async fn noop(&mut self) -> Result<(), ImapError> {
        self.command(Step::Noop, "NOOP", |_| {}).await
    }
}

fn note(selected: &mut Selected, response: &Response<'_>) {
    match response {
        Response::MailboxData(MailboxDatum::Exists(count)) => selected.exists = *count,
        Response::Data {
            status: Status::Ok,
            outcome,
        } => match outcome.code {
            Some(ResponseCode::UidValidity(number)) => selected.uidvalidity = UidValidity(number),
            Some(ResponseCode::UidNext(number)) => selected.uidnext = Uid::new(number),
            Some(_) | None => {}
        },
        _ => {}
    }
}

fn listed(attributes: &[AttributeValue<'_>]) -> Option<Listed> {
    let mut listed = Listed {
        uid: uid(attributes)?,
        size: 0,
        received_at: received_at(attributes),
        is_seen: false,
        is_deleted: false,
    };
    let mut has_size = false;
    for attribute in attributes {
        match attribute {
            AttributeValue::Rfc822Size(size) => {
                listed.size = u64::from(*size);
                has_size = true;
            }
            AttributeValue::Flags(flags) => {
                listed.is_seen = flags.iter().any(|flag| flag.eq_ignore_ascii_case("\\Seen"));
                listed.is_deleted = flags.iter().any(|flag| flag.eq_ignore_ascii_case("\\Deleted"));
            }
            _ => {}
        }
    }
    // Without size and date it is an unasked report of changed flags. A size over 4 GiB is none to the parser; sizes
    // are hints, and the fetch finds out.
    (has_size || listed.received_at.is_some()).then_some(listed)
}

/// The UID among the attributes of a FETCH response.
pub(super) fn uid(attributes: &[AttributeValue<'_>]) -> Option<Uid> {
    attributes.iter().find_map(|attribute| match attribute {
        AttributeValue::Uid(number) => Uid::new(*number),
        _ => None,
    })
}

/// The date of arrival among the attributes of a FETCH response.
pub(super) fn received_at(attributes: &[AttributeValue<'_>]) -> Option<Timestamp> {
    attributes.iter().find_map(|attribute| match attribute {
        AttributeValue::InternalDate(text) => DateTime::parse_from_str(text.trim(), "%d-%b-%Y %H:%M:%S %z")
            .ok()
            .map(|date| Timestamp(date.timestamp())),
        _ => None,
    })
}

/// The bytes of a body section among the attributes of a FETCH response.
pub(super) fn body<'a>(attributes: &'a [AttributeValue<'_>]) -> Option<&'a [u8]> {
    attributes.iter().find_map(|attribute| match attribute {
        AttributeValue::BodySection { data, .. }
        | AttributeValue::Rfc822(data)
        | AttributeValue::Rfc822Header(data) => data.as_deref(),
        _ => None,
    })
}

/// The id in a Message-ID header field, which may be folded.
fn message_id(header: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(header);
    let (_, value) = text.split_once(':')?;
    let value = value.split_whitespace().collect::<Vec<_>>().join("");
    let id = value.strip_prefix('<').unwrap_or(&value);
    let id = id.split('>').next().unwrap_or(id);
    (!id.is_empty()).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_id_may_be_folded_or_bare() {
        for (header, id) in [
            ("Message-ID: <a@b>\r\n\r\n", Some("a@b")),
            ("MESSAGE-ID:\r\n <a@b>\r\n\r\n", Some("a@b")),
            ("Message-Id: a@b\r\n", Some("a@b")),
            ("\r\n", None),
            ("Message-ID: \r\n", None),
        ] {
            assert_eq!(message_id(header.as_bytes()).as_deref(), id, "{header:?}");
        }
    }

    #[test]
    fn an_internal_date_is_read() {
        let date = |text: &str| received_at(&[AttributeValue::InternalDate(text.to_owned().into())]);
        assert_eq!(date("02-Nov-2026 10:00:00 +0100"), Some(Timestamp(1_793_610_000)));
        assert_eq!(date(" 2-Nov-2026 10:00:00 +0100"), Some(Timestamp(1_793_610_000)));
        assert_eq!(date("nonsense"), None);
    }
}
