//! The mail about an alert: plain text, what is wrong, since when, and what to do.
//! It never carries anything that a stranger wrote as it stands.

use std::time::{Duration, SystemTime};

use lettre::Message;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Mailboxes};

use super::Turn;
use crate::fault::printable;
use crate::outgoing::{MailPayload, Smtp};
use crate::store::alert::AlertRow;
use crate::time::Timestamp;

/// Longest subject, in characters.
const SUBJECT_LIMIT: usize = 160;
/// Longest paragraph, in characters.
const TEXT_LIMIT: usize = 2_000;

/// Why an alert cannot be mailed.
#[derive(Debug, thiserror::Error)]
pub(super) enum LetterError {
    /// The server has no sender.
    #[error("smtp \"{0}\" has no sender")]
    NoSender(String),
    /// An address is none.
    #[error("{0:?} is no address")]
    Address(String, #[source] lettre::address::AddressError),
    /// The mail cannot be made.
    #[error("the mail cannot be made")]
    Compose(#[from] lettre::error::Error),
}

/// Composes the mail about an alert for one of those who get it.
pub(super) fn compose(
    (turn, alert): (Turn, &AlertRow),
    smtp: &Smtp,
    (everybody, address): (&[String], &str),
    now: Timestamp,
) -> Result<MailPayload, LetterError> {
    let sender = smtp
        .alert_sender()
        .ok_or_else(|| LetterError::NoSender(smtp.name.clone()))?;
    let from = mailbox(sender)?;
    let to = everybody
        .iter()
        .map(|one| mailbox(one))
        .collect::<Result<Mailboxes, _>>()?;
    let recipient = mailbox(address)?.email.to_string();
    let (domain, sender) = (from.email.domain().to_owned(), from.email.to_string());
    let first = message_id(Turn::Raised, alert, &domain);
    let own = message_id(turn, alert, &domain);
    let mut builder = Message::builder()
        .from(from)
        .mailbox(lettre::message::header::To::from(to))
        .subject(subject(turn, alert))
        .date(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(now.0).unwrap_or_default()))
        .message_id(Some(own.clone()))
        // RFC 3834 §5: nobody's absence is reported to us.
        .raw_header(HeaderValue::new(
            HeaderName::new_from_ascii_str("Auto-Submitted"),
            "auto-generated".to_owned(),
        ))
        .header(ContentType::TEXT_PLAIN);
    if own != first {
        builder = builder.in_reply_to(first.clone()).references(first);
    }
    let message = builder.body(text((turn, alert), &host(), now))?;
    Ok(MailPayload {
        sender: Some(sender),
        recipients: vec![recipient],
        message: String::from_utf8_lossy(&message.formatted()).into_owned(),
    })
}

fn mailbox(text: &str) -> Result<Mailbox, LetterError> {
    text.parse()
        .map_err(|error| LetterError::Address(printable(text, SUBJECT_LIMIT), error))
}

/// The same whenever it is made again, so that reminders and the end stand below the first notice.
fn message_id(turn: Turn, alert: &AlertRow, domain: &str) -> String {
    let turn = match turn {
        Turn::Raised => "raised".to_owned(),
        Turn::Reminded => format!("reminded-{}", alert.reminders),
        Turn::Resolved => "resolved".to_owned(),
    };
    format!("<mailintake.alert.{}.{}.{turn}@{domain}>", alert.id, alert.since.0)
}

fn subject(turn: Turn, alert: &AlertRow) -> String {
    let finding = &alert.finding;
    let severity = finding.severity().as_str();
    let state = match turn {
        Turn::Raised => severity.to_owned(),
        Turn::Reminded => format!("still {severity}"),
        Turn::Resolved => "over".to_owned(),
    };
    let what = format!("[mailintake] {state}: {}: {}", finding.subject, finding.problem.summary);
    printable(&what, SUBJECT_LIMIT)
}

fn text((turn, alert): (Turn, &AlertRow), host: &str, now: Timestamp) -> String {
    let finding = &alert.finding;
    let problem = &finding.problem;
    let para = |text: &str| printable(text, TEXT_LIMIT);
    let mut lines = Vec::new();
    let summary = para(&problem.summary);
    match turn {
        Turn::Raised => lines.push(summary),
        Turn::Reminded => lines.push(format!("Still, since {}: {summary}", alert.since.rfc3339())),
        Turn::Resolved => lines.push(format!("This is over: {summary}")),
    }
    if turn != Turn::Resolved {
        lines.extend([String::new(), "What to do:".to_owned(), para(&problem.remedy)]);
    }
    let login = finding.login.as_deref().map(|login| format!(" ({login})"));
    lines.extend([
        String::new(),
        format!("Host:   {host}"),
        format!("About:  {}{}", para(&finding.subject), login.unwrap_or_default()),
        format!("Kind:   {} ({})", finding.kind.as_str(), finding.severity().as_str()),
        format!("Code:   {}", para(&problem.code)),
        format!("Since:  {}", alert.since.rfc3339()),
    ]);
    if turn == Turn::Resolved {
        lines.push(format!("Until:  {}", now.rfc3339()));
    } else {
        lines.extend([
            String::new(),
            format!("On {host}, to see all that is open:       mailintake alert list"),
            format!(
                "On {host}, to be reminded no more of it:  mailintake alert acknowledge {}",
                alert.id
            ),
        ]);
    }
    lines.push(String::new());
    lines.join("\r\n")
}

/// The name of this machine.
fn host() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    printable(&name.to_string_lossy(), SUBJECT_LIMIT)
}
