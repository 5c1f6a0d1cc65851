//! Bytes of a message into a [`Mail`], under limits: what is over one is cut and noted, not refused.
//! It never panics and never gives up on a message in which anything can be read.

use std::sync::LazyLock;

use mail_parser::{Address, HeaderName, Message, MessageParser, PartType};
use sha2::{Digest, Sha256};

pub use super::identifier::carrier_key;
use super::{Mail, Person, header, identifier, nesting, parameter, part, report};

/// Most addresses that are taken from one field.
const ADDRESSES_MAX: usize = 500;
/// Longest decoded header value that is kept: Postfix cuts at 100 KiB.
const VALUE_MAX_BYTES: usize = 64 * 1024;
/// Header fields that say where a message was delivered to; no standard, all common.
const DELIVERED_TO: [&str; 3] = ["Delivered-To", "X-Original-To", "Envelope-To"];

/// Reads what we ask it for: the other fields are decoded here, the first of doubles and all charsets heeded.
static PARSER: LazyLock<MessageParser> = LazyLock::new(|| {
    MessageParser::new()
        .with_mime_headers()
        .with_address_headers()
        .header_date(HeaderName::Date)
        .default_header_ignore()
});

/// Why nothing could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The message holds no visible byte.
    #[error("the message is empty")]
    Empty,
    /// The message has neither header nor body that the parser can tell apart.
    #[error("the message has no readable structure")]
    Unreadable,
}

impl ParseError {
    /// Kebab-case code for the ledger.
    pub fn code(self) -> &'static str {
        match self {
            Self::Empty => "message-empty",
            Self::Unreadable => "message-unreadable",
        }
    }
}

/// Reads a message.
///
/// # Errors
/// [`ParseError::Empty`] if there is no visible byte, [`ParseError::Unreadable`] if the parser sees no message.
pub fn parse(bytes: &[u8]) -> Result<Mail, ParseError> {
    if bytes.iter().all(|byte| byte.is_ascii_whitespace() || *byte == 0) {
        return Err(ParseError::Empty);
    }
    let block = header::split(bytes);
    let charset = block.has_8_bit().then(|| stated_charset(bytes)).flatten();
    read(bytes, &block, charset.as_deref(), None)
}

/// Reads a message whose header block is known; a second time with a `boundary` that the parser could not read.
fn read(
    bytes: &[u8],
    block: &header::Block<'_>,
    charset: Option<&str>,
    boundary: Option<&str>,
) -> Result<Mail, ParseError> {
    let prepared = header::prepare(bytes, block, charset, boundary);
    let flat = nesting::flatten(&prepared);
    let message = PARSER.parse(&*flat).ok_or(ParseError::Unreadable)?;
    let mut mail = headers(block, charset);
    if boundary.is_none()
        && let Some(found) = lost_boundary(&message, &mail, block)
    {
        return read(bytes, block, charset, Some(&found));
    }
    people(&message, &mut mail);
    if block.is_cut {
        mail.notes.push("headers-cut");
    }
    part::take(message, &prepared, &mut mail);
    place_in_message(&mut mail, prepared.len(), bytes.len());
    mail.report = report::read(&mail);
    Ok(mail)
}

/// Only the header was prepared: what stands behind it is moved by as much as that grew or shrank.
fn place_in_message(mail: &mut Mail, prepared: usize, message: usize) {
    let place = |place: u64| place.saturating_add(message as u64).checked_sub(prepared as u64);
    for attachment in &mut mail.attachments {
        attachment.encoded = attachment.encoded.and_then(|encoded| {
            Some(super::Encoded {
                start: place(encoded.start)?,
                end: place(encoded.end)?,
                ..encoded
            })
        });
    }
}

/// The boundary of a multipart message that the parser took for text: as stated, if parts begin with it, else the
/// first line of the body that looks like one and stands there again.
fn lost_boundary(message: &Message<'_>, mail: &Mail, block: &header::Block<'_>) -> Option<String> {
    let is_split = message
        .parts
        .first()
        .is_some_and(|root| matches!(root.body, PartType::Multipart(_)));
    let kind = parameter::read(mail.header("Content-Type")?);
    if is_split || !kind.main.starts_with("multipart/") {
        return None;
    }
    let body = String::from_utf8_lossy(block.body);
    let stands = |boundary: &str| {
        body.lines()
            .filter(|line| line.strip_prefix("--").is_some_and(|rest| rest.starts_with(boundary)))
            .nth(1)
            .is_some()
    };
    let stated = kind.parameter("boundary").filter(|boundary| stands(boundary));
    let seen = || {
        let line = body
            .lines()
            .map(str::trim_end)
            .find(|line| line.starts_with("--") && line.len() > 4)?;
        line.strip_prefix("--")
            .filter(|boundary| stands(boundary))
            .map(str::to_owned)
    };
    stated.or_else(seen).filter(|boundary| !boundary.contains('"'))
}

/// The first charset that anything in the message states: the best guess for raw 8-bit header fields.
fn stated_charset(bytes: &[u8]) -> Option<String> {
    const LOOK_BYTES: usize = 64 * 1024;
    let window = bytes.get(..bytes.len().min(LOOK_BYTES))?;
    let text = String::from_utf8_lossy(window);
    let lower = text.to_ascii_lowercase();
    let (_, after) = lower.split_once("charset=")?;
    let label: String = after
        .trim_start_matches('"')
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':'))
        .take(40)
        .collect();
    (!label.is_empty()).then_some(label)
}

/// The fields that are no addresses.
fn headers(block: &header::Block<'_>, charset: Option<&str>) -> Mail {
    let headers: Vec<(String, String)> = block
        .fields
        .iter()
        .map(|field| {
            let value = field
                .value
                .get(..field.value.len().min(VALUE_MAX_BYTES))
                .unwrap_or_default();
            (field.name.to_owned(), header::decode(value, charset))
        })
        .collect();
    let mut mail = Mail {
        headers,
        ..Mail::default()
    };
    mail.subject = mail.header("Subject").unwrap_or_default().to_owned();
    mail.message_id = mail.header("Message-ID").and_then(identifier::read_first);
    mail.in_reply_to = mail.header("In-Reply-To").map(identifier::read_all).unwrap_or_default();
    mail.references = mail.header("References").map(identifier::read_all).unwrap_or_default();
    mail.delivered_to = mail
        .headers
        .iter()
        .filter(|(name, _)| DELIVERED_TO.iter().any(|known| known.eq_ignore_ascii_case(name)))
        .map(|(_, value)| value.trim_matches(['<', '>']).to_owned())
        .take(ADDRESSES_MAX)
        .collect();
    mail
}

/// Dates and addresses, which the MIME parser has read.
fn people(message: &Message<'_>, mail: &mut Mail) {
    mail.date = message
        .date()
        .filter(|date| date.is_valid())
        .map(mail_parser::DateTime::to_timestamp);
    mail.from = message.from().map(persons).and_then(|found| first_person(&found));
    mail.sender = message.sender().map(persons).and_then(|found| found.into_iter().next());
    mail.reply_to = message.reply_to().map(persons).unwrap_or_default();
    mail.to = message.all_to().flat_map(persons).take(ADDRESSES_MAX).collect();
    mail.cc = message.all_cc().flat_map(persons).take(ADDRESSES_MAX).collect();
}

/// The first person with an address, else the first.
fn first_person(found: &[Person]) -> Option<Person> {
    found
        .iter()
        .find(|person| person.address.is_some())
        .or(found.first())
        .cloned()
}

/// The people in an address field; groups are flattened.
fn persons(address: &Address<'_>) -> Vec<Person> {
    address.iter().take(ADDRESSES_MAX).filter_map(person).collect()
}

/// One person; an address without `@` that stands alone is a name.
fn person(found: &mail_parser::Addr<'_>) -> Option<Person> {
    let name = found
        .name
        .as_deref()
        .map(header::unfold)
        .filter(|name| !name.is_empty());
    let address = found
        .address
        .as_deref()
        .map(|address| header::unfold(address).trim_matches(['<', '>', '"', '\'']).to_owned())
        .filter(|address| !address.is_empty());
    match (name, address) {
        (None, None) => None,
        (name, address) => Some(Person { name, address }),
    }
}

/// SHA-256 over Message-ID, Date, From, Subject and the decoded contents: equal for one message of which a server
/// rewrote the stored bytes (Exchange does), different where the content differs.
pub fn fingerprint(mail: &Mail) -> [u8; 32] {
    let mut hash = fingerprint_of_text(mail);
    for attachment in &mail.attachments {
        hash.update(Sha256::digest(&attachment.bytes));
    }
    hash.finalize().into()
}

/// Adds a piece to a fingerprint: the length first, so that no two lists of pieces give the same stream.
fn add(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

/// The fingerprint so far without the attachments, whose SHA-256 follow in their order.
pub fn fingerprint_of_text(mail: &Mail) -> Sha256 {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| add(&mut hash, bytes);
    add(mail
        .message_id
        .as_deref()
        .map(carrier_key)
        .unwrap_or_default()
        .as_bytes());
    add(&mail.date.unwrap_or_default().to_le_bytes());
    add(mail.from_address().unwrap_or_default().to_lowercase().as_bytes());
    add(mail.subject.split_whitespace().collect::<Vec<_>>().join(" ").as_bytes());
    add(mail.text.plain.trim_end().as_bytes());
    add(mail
        .text
        .html
        .as_deref()
        .unwrap_or_default()
        .replace("\r\n", "\n")
        .trim_end()
        .as_bytes());
    hash
}
