//! Reports about other messages: delivery (RFC 3464), disposition (RFC 8098), abuse (RFC 5965).
//! It never guesses which message is meant: only a stated Message-ID counts.

use super::{Attachment, Mail, Report, ReportKind, bounce, header, identifier};

/// Longest detail that is kept, for the event on the issue.
const DETAIL_MAX_BYTES: usize = 2000;
/// Most report fields that are read.
const FIELDS_MAX: usize = 2000;

/// The report in a message, if it is one: its machine-readable part, else what an older mail system wrote.
pub(crate) fn read(mail: &Mail) -> Option<Report> {
    let part = mail
        .attachments
        .iter()
        .find_map(|part| kind_of(&part.media_type).map(|kind| (kind, part)));
    let Some((kind, part)) = part else {
        return legacy(mail);
    };
    let groups = groups(&part.bytes);
    let original_message_id = original_id(mail, &groups);
    let detail = match kind {
        ReportKind::Delivery => delivery_detail(&groups),
        ReportKind::Disposition => detail_of(&groups, &["Final-Recipient", "Disposition"]),
        ReportKind::Feedback => detail_of(&groups, &["Feedback-Type", "Original-Rcpt-To"]),
    };
    Some(Report {
        kind,
        original_message_id,
        detail,
    })
}

/// What a bounce without a machine-readable part tells: the id of the message that came back with it or is quoted in it.
fn legacy(mail: &Mail) -> Option<Report> {
    bounce::legacy(mail)?;
    let returned = mail.attachments.iter().find_map(returned_id);
    let detail = mail.header("X-Failed-Recipients").unwrap_or_default().to_owned();
    Some(Report {
        kind: ReportKind::Delivery,
        original_message_id: returned.or_else(|| quoted_id(&mail.text.plain)),
        detail: bounded(&[detail]),
    })
}

/// The Message-ID in a header that is quoted in a text.
fn quoted_id(text: &str) -> Option<String> {
    const LINES_MAX: usize = 1000;
    text.lines().take(LINES_MAX).find_map(|line| {
        let (name, value) = line.trim_start_matches(['>', '|', ' ']).split_once(':')?;
        name.eq_ignore_ascii_case("Message-ID")
            .then(|| identifier::read_first(value))
            .flatten()
    })
}

/// What a machine-readable part reports.
pub(crate) fn kind_of(media_type: &str) -> Option<ReportKind> {
    match media_type {
        "message/delivery-status" | "message/global-delivery-status" => Some(ReportKind::Delivery),
        "message/disposition-notification" | "message/global-disposition-notification" => Some(ReportKind::Disposition),
        "message/feedback-report" => Some(ReportKind::Feedback),
        _ => None,
    }
}

/// Field groups, as empty lines part them: the message first, then one a recipient.
type Groups = Vec<Vec<(String, String)>>;

/// Reads the groups of a report part.
fn groups(bytes: &[u8]) -> Groups {
    let mut groups: Groups = Vec::new();
    let mut rest = bytes;
    let mut count = 0_usize;
    while !rest.is_empty() && count < FIELDS_MAX {
        let block = header::split(rest);
        let fields: Vec<(String, String)> = block
            .fields
            .iter()
            .map(|field| (field.name.to_owned(), header::decode(field.value, None)))
            .collect();
        count = count.saturating_add(fields.len()).saturating_add(1);
        if !fields.is_empty() {
            groups.push(fields);
        }
        if block.body.len() == rest.len() {
            break;
        }
        rest = block.body;
    }
    groups
}

/// A field of a group.
fn field<'g>(group: &'g [(String, String)], name: &str) -> Option<&'g str> {
    group
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
}

/// The message that is reported on: stated in the report, or the one that came back with it.
fn original_id(mail: &Mail, groups: &Groups) -> Option<String> {
    let stated = ["Original-Message-ID", "X-Original-Message-ID"]
        .into_iter()
        .find_map(|name| groups.iter().find_map(|group| field(group, name)))
        .and_then(identifier::read_first);
    stated.or_else(|| mail.attachments.iter().find_map(returned_id))
}

/// The Message-ID of a message, or of its header, that came back as an attachment.
fn returned_id(part: &Attachment) -> Option<String> {
    let is_returned = matches!(
        part.media_type.as_str(),
        "message/rfc822"
            | "message/global"
            | "text/rfc822-headers"
            | "message/rfc822-headers"
            | "message/global-headers"
    );
    if !is_returned {
        return None;
    }
    let block = header::split(&part.bytes);
    let id = block
        .fields
        .iter()
        .find(|field| field.name.eq_ignore_ascii_case("Message-ID"))?;
    identifier::read_first(&header::decode(id.value, None))
}

/// One line for each recipient: address, action, status and what the other server said.
fn delivery_detail(groups: &Groups) -> String {
    let lines = groups.iter().filter_map(|group| {
        let recipient = field(group, "Final-Recipient").or_else(|| field(group, "Original-Recipient"))?;
        let address = recipient
            .split_once(';')
            .map_or(recipient, |(_, address)| address)
            .trim();
        let rest = ["Action", "Status", "Diagnostic-Code"]
            .into_iter()
            .filter_map(|name| field(group, name))
            .collect::<Vec<_>>()
            .join(" ");
        Some(format!("{address}: {rest}"))
    });
    bounded(&lines.collect::<Vec<_>>())
}

/// The named fields, one a line.
fn detail_of(groups: &Groups, names: &[&str]) -> String {
    let lines = names.iter().filter_map(|name| {
        groups
            .iter()
            .find_map(|group| field(group, name))
            .map(|value| format!("{name}: {value}"))
    });
    bounded(&lines.collect::<Vec<_>>())
}

/// Joins lines up to [`DETAIL_MAX_BYTES`].
fn bounded(lines: &[String]) -> String {
    let mut detail = lines.join("\n");
    detail.truncate(detail.floor_char_boundary(DETAIL_MAX_BYTES));
    detail
}
