//! The mails that we write about issues: who, what, and the marks by which answers find back. Pure.
//! Nothing that a sender wrote gets into a header but the subject, cleaned, and ids and addresses, judged.

pub mod acknowledgement;
pub mod encode;
pub mod reply;
pub mod sign;
pub mod template;

use chrono::{DateTime, Utc};

use self::encode::{clean, is_plain_id, name_of, text_part, unstructured};
use self::sign::Token;
use crate::mail::sender::has_reply_prefix;
use crate::outgoing::MailPayload;
use crate::time::Timestamp;

/// Longest subject that is quoted, in characters.
const SUBJECT_LIMIT: usize = 200;
/// Longest display name, in characters.
const NAME_LIMIT: usize = 60;
/// Of a long chain of References the first and the last are kept: the thread's root, and what clients look at.
const REFERENCES_FIRST: usize = 4;
const REFERENCES_LAST: usize = 6;

/// An address that a mail can be sent to without SMTPUTF8: one `@`, dots and letters, nothing that needs quoting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// The address of a text, `None` if it is not of this plain form (RFC 5321 §4.1.2 allows more).
    pub fn parse(text: &str) -> Option<Self> {
        let (local, domain) = text.split_once('@')?;
        let is_atom = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
        let is_label = |label: &str| {
            !label.is_empty()
                && !label.starts_with('-')
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        };
        let is_local = !local.is_empty() && local.len() <= 64 && local.chars().all(is_atom) && !local.starts_with('-');
        let is_good = is_local && text.len() <= 254 && domain.split('.').all(is_label);
        is_good.then(|| Self(text.to_owned()))
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn domain(&self) -> &str {
        self.0.rsplit_once('@').map_or("localhost", |(_, domain)| domain)
    }
}

/// Who a mail is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    name: String,
    address: Address,
}

impl Sender {
    /// The sender of `Support <support@example.org>`, or of an address alone.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, address) = match text.rsplit_once('<') {
            Some((name, rest)) => (name, rest.trim_end().strip_suffix('>')?),
            None => ("", text),
        };
        Some(Self {
            name: clean(name.trim().trim_matches('"'), NAME_LIMIT),
            address: Address::parse(address.trim())?,
        })
    }

    /// The address.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

/// The mail that is answered.
#[derive(Debug, Clone, Copy, Default)]
pub struct Answered<'a> {
    /// Its Message-ID, without angle brackets.
    pub message_id: Option<&'a str>,
    /// Its References, oldest first.
    pub references: &'a [String],
}

/// A mail to be written.
#[derive(Debug, Clone, Copy)]
pub struct Draft<'d> {
    /// From.
    pub from: &'d Sender,
    /// To.
    pub to: &'d Address,
    /// Subject; what is not to be seen in it is taken out.
    pub subject: &'d str,
    /// What it answers.
    pub answered: Answered<'d>,
    /// Whether no person wrote it (RFC 3834).
    pub is_automatic: bool,
    /// The mark by which an answer is known.
    pub token: &'d Token,
    /// The text, lines ended by LF.
    pub text: &'d str,
    /// Date.
    pub at: Timestamp,
}

/// A mail that is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Composed {
    /// Its Message-ID, without angle brackets.
    pub message_id: String,
    /// Envelope and bytes.
    pub payload: MailPayload,
}

/// Writes a mail. An automatic one has the null return path, so that nothing answers it.
pub fn write(draft: &Draft<'_>) -> Composed {
    let message_id = format!("{}@{}", draft.token, draft.from.address.domain());
    let mut headers = vec![
        format!("Date: {}", date(draft.at)),
        format!("From: {}", mailbox(draft.from)),
        format!("To: {}", draft.to.as_str()),
        unstructured("Subject", &clean(draft.subject, SUBJECT_LIMIT)),
        format!("Message-ID: <{message_id}>"),
    ];
    headers.extend(threading(&draft.answered));
    if draft.is_automatic {
        headers.push("Auto-Submitted: auto-replied".to_owned());
        // [MS-OXCMAIL] §2.1.3.2.20: asks Exchange for no out-of-office answer, receipt or report.
        headers.push("X-Auto-Response-Suppress: All".to_owned());
    }
    headers.push(format!("{}: v1; {}", sign::ORIGIN_FIELD, draft.token));
    let (encoding, body) = text_part(draft.text);
    headers.push("MIME-Version: 1.0".to_owned());
    headers.push("Content-Type: text/plain; charset=utf-8".to_owned());
    headers.push(format!("Content-Transfer-Encoding: {encoding}"));
    Composed {
        message_id,
        payload: MailPayload {
            sender: (!draft.is_automatic).then(|| draft.from.address.0.clone()),
            recipients: vec![draft.to.0.clone()],
            message: format!("{}\r\n\r\n{body}", headers.join("\r\n")),
        },
    }
}

/// `[SUP-1] Re: subject`, or with the key at the end; nothing twice that the subject has already.
pub fn answer_subject(subject: &str) -> String {
    let subject = clean(subject, SUBJECT_LIMIT);
    if has_reply_prefix(&subject) {
        subject
    } else {
        format!("Re: {subject}")
    }
}

/// RFC 5322 §3.3, in UTC.
fn date(at: Timestamp) -> String {
    DateTime::<Utc>::from_timestamp(at.0, 0)
        .unwrap_or_default()
        .to_rfc2822()
}

fn mailbox(sender: &Sender) -> String {
    match name_of(&sender.name) {
        Some(name) => format!("{name} <{}>", sender.address.0),
        None => sender.address.0.clone(),
    }
}

/// In-Reply-To and References (RFC 5322 §3.6.4), one id a line, never encoded: Outlook drops those that are.
fn threading(answered: &Answered<'_>) -> Vec<String> {
    let Some(id) = answered.message_id.filter(|id| is_plain_id(id)) else {
        return Vec::new();
    };
    let mut chain: Vec<&str> = answered.references.iter().map(String::as_str).collect();
    chain.retain(|known| is_plain_id(known) && *known != id);
    let last = chain.len().saturating_sub(REFERENCES_LAST).max(REFERENCES_FIRST);
    let kept = chain.iter().take(REFERENCES_FIRST).chain(chain.iter().skip(last));
    let references: Vec<String> = kept.copied().chain([id]).map(|id| format!("<{id}>")).collect();
    vec![
        format!("In-Reply-To: <{id}>"),
        format!("References: {}", references.join("\r\n ")),
    ]
}

#[cfg(test)]
mod tests;
