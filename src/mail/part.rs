//! The parts of a MIME message into readable text and attachments.
//! It never copies what it can take, and never lets a part be neither text nor attachment.

use std::borrow::Cow;
use std::collections::HashSet;

use mail_parser::{Encoding, HeaderName, Message, MessagePart, PartType};

use super::flowed::unflow;
use super::{Attachment, Encoded, Mail, body, charset, filename, header, identifier, parameter, transfer};

/// Most parts that are looked at.
const PARTS_MAX: usize = 500;
/// Most attachments that are kept.
const ATTACHMENTS_MAX: usize = 100;
/// Longest HTML part that is kept.
const HTML_MAX_BYTES: usize = 2 * 1024 * 1024;

/// A part with the header fields that say what it is.
struct Described<'x> {
    kind: parameter::Value,
    disposition: parameter::Value,
    content_id: Option<String>,
    transfer: String,
    part: MessagePart<'x>,
}

/// Fills text, attachments and calendar method of `mail` from `message`, which was parsed from `raw`.
pub(crate) fn take(mut message: Message<'_>, raw: &[u8], mail: &mut Mail) {
    if message.parts.len() > PARTS_MAX {
        mail.notes.push("parts-cut");
    }
    let text_ids = std::mem::take(&mut message.text_body);
    let html_ids = std::mem::take(&mut message.html_body);
    let attachment_ids = std::mem::take(&mut message.attachments);
    let mut parts: Vec<Option<Described<'_>>> = std::mem::take(&mut message.parts)
        .into_iter()
        .take(PARTS_MAX)
        .map(|part| Some(describe(part, raw)))
        .collect();
    let mut used = HashSet::new();
    texts(&mut parts, raw, (&text_ids, &html_ids), mail);
    if mail.text.plain.trim().is_empty() && mail.text.html.is_none() {
        used.extend(recover(&parts, raw, &attachment_ids, mail));
    }
    if mail.text.plain.trim().is_empty()
        && let Some(html) = mail.text.html.as_deref()
    {
        mail.text.plain = body::html_to_text(html);
        mail.text.is_from_html = true;
    }
    let mut ids: Vec<u32> = attachment_ids.into_iter().filter(|id| !used.contains(id)).collect();
    ids.dedup();
    if ids.len() > ATTACHMENTS_MAX {
        mail.notes.push("attachments-cut");
    }
    for id in ids.into_iter().take(ATTACHMENTS_MAX) {
        if let Some(described) = slot(&mut parts, id).and_then(Option::take) {
            attach(described, raw, mail);
        }
    }
    mark_inline(mail);
}

/// The place of part `id`.
fn slot<T>(parts: &mut [T], id: u32) -> Option<&mut T> {
    usize::try_from(id).ok().and_then(|at| parts.get_mut(at))
}

/// Reads the fields of a part from its original bytes.
fn describe<'x>(part: MessagePart<'x>, raw: &[u8]) -> Described<'x> {
    let value = |name: &HeaderName<'_>| {
        part.headers
            .iter()
            .find(|field| field.name == *name)
            .and_then(|field| slice(raw, field.offset_start, field.offset_end))
            .map(<[u8]>::to_vec)
    };
    let parsed = |name: &HeaderName<'_>| {
        value(name)
            .map(|bytes| parameter::read(&unworded(&bytes)))
            .unwrap_or_default()
    };
    Described {
        kind: parsed(&HeaderName::ContentType),
        disposition: parsed(&HeaderName::ContentDisposition),
        content_id: value(&HeaderName::ContentId)
            .and_then(|bytes| identifier::read_first(&header::decode(&bytes, None)).or_else(|| bare_id(&bytes))),
        transfer: value(&HeaderName::ContentTransferEncoding)
            .map(|bytes| header::decode(&bytes, None))
            .unwrap_or_default(),
        part,
    }
}

/// A field's value unfolded, with its encoded words left for the parameters to decode.
fn unworded(bytes: &[u8]) -> String {
    header::unfold(&charset::decode(bytes, None))
}

/// A Content-ID without angle brackets or `@`.
fn bare_id(bytes: &[u8]) -> Option<String> {
    let id = header::decode(bytes, None).trim_matches(['<', '>', ' ']).to_owned();
    (!id.is_empty() && !id.contains(char::is_whitespace)).then_some(id)
}

/// The bytes between two offsets.
fn slice(raw: &[u8], start: u32, end: u32) -> Option<&[u8]> {
    raw.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
}

/// The readable text, from the parts that the parser took for it.
fn texts(parts: &mut [Option<Described<'_>>], raw: &[u8], (text_ids, html_ids): (&[u32], &[u32]), mail: &mut Mail) {
    let mut plain = String::new();
    let mut html = String::new();
    let mut is_plain = false;
    for id in html_ids {
        if let Some(Some(described)) = slot(parts, *id).map(|part| part.as_ref())
            && let PartType::Html(text) = &described.part.body
        {
            append(&mut html, &readable(described, text, raw));
        }
    }
    for id in text_ids {
        let Some(Some(described)) = slot(parts, *id).map(|part| part.as_ref()) else {
            continue;
        };
        match &described.part.body {
            PartType::Text(text) => {
                is_plain |= !text.trim().is_empty();
                append(&mut plain, &unflow(&readable(described, text, raw), &described.kind));
            }
            PartType::Html(text) => append(&mut plain, &body::html_to_text(&readable(described, text, raw))),
            PartType::Binary(_) | PartType::InlineBinary(_) | PartType::Message(_) | PartType::Multipart(_) => {}
        }
    }
    set_html(html, mail);
    mail.text.is_from_html = !is_plain && mail.text.html.is_some();
    mail.text.plain = plain;
}

/// Keeps the HTML within its limit.
fn set_html(mut html: String, mail: &mut Mail) {
    if html.len() > HTML_MAX_BYTES {
        html.truncate(html.floor_char_boundary(HTML_MAX_BYTES));
        mail.notes.push("html-cut");
    }
    mail.text.html = (!html.trim().is_empty()).then_some(html);
}

/// Appends one part to the text so far.
fn append(text: &mut String, part: &str) {
    if !text.is_empty() && !text.ends_with('\n') && !part.is_empty() {
        text.push('\n');
    }
    if part.contains('\r') {
        text.push_str(&part.replace("\r\n", "\n").replace('\r', "\n"));
    } else {
        text.push_str(part);
    }
}

/// The text of a part: as the parser decoded it, or from the bytes where their charset was unknown, unstated or
/// misstated.
fn readable<'t>(described: &Described<'_>, decoded: &'t str, raw: &[u8]) -> Cow<'t, str> {
    let label = described.kind.parameter("charset");
    let may_be_misstated = !decoded.is_ascii()
        && label
            .as_deref()
            .is_some_and(|label| !label.eq_ignore_ascii_case("utf-8"));
    if !may_be_misstated && !is_suspect(decoded, label.as_deref()) {
        return Cow::Borrowed(decoded);
    }
    let Some(bytes) = original(described, raw) else {
        return Cow::Borrowed(decoded);
    };
    let is_misstated = label
        .as_deref()
        .is_some_and(|label| charset::is_misstated(&bytes, label));
    if is_misstated || is_suspect(decoded, label.as_deref()) {
        Cow::Owned(charset::decode(&bytes, label.as_deref()))
    } else {
        Cow::Borrowed(decoded)
    }
}

/// Whether the parser may have decoded wrongly.
fn is_suspect(decoded: &str, label: Option<&str>) -> bool {
    decoded.contains(['\u{fffd}', '\u{1a}'])
        || decoded.contains('\u{1b}')
        || label.is_some_and(|label| label.to_ascii_lowercase().contains("ascii") && !decoded.is_ascii())
}

/// The bytes of a part with its transfer encoding undone.
fn original(described: &Described<'_>, raw: &[u8]) -> Option<Vec<u8>> {
    let bytes = slice(raw, described.part.offset_body, described.part.offset_end)?;
    let stated = match described.part.encoding {
        Encoding::Base64 => "base64",
        Encoding::QuotedPrintable => "quoted-printable",
        Encoding::None => described.transfer.as_str(),
    };
    Some(transfer::decode(bytes, stated))
}

/// Finds the text of a message that was cut off in its middle or lost its boundary: the parser then files it under
/// attachments. Returns the parts that were used.
fn recover(parts: &[Option<Described<'_>>], raw: &[u8], ids: &[u32], mail: &mut Mail) -> Vec<u32> {
    let mut used = Vec::new();
    for wanted in ["text/plain", "text/html"] {
        for id in ids {
            let Some(Some(part)) = usize::try_from(*id).ok().and_then(|at| parts.get(at)) else {
                continue;
            };
            let kind = part.kind.main.as_str();
            let is_wanted =
                kind == wanted || wanted == "text/plain" && (kind.is_empty() || kind.starts_with("multipart/"));
            // A message that is one text part is read whatever its disposition.
            let is_file = part.disposition.main == "attachment" && parts.len() > 1;
            let (PartType::Text(text) | PartType::Html(text)) = &part.part.body else {
                continue;
            };
            if !is_wanted || is_file {
                continue;
            }
            let bytes = original(part, raw).unwrap_or_else(|| text.as_bytes().to_vec());
            let text = charset::decode(&bytes, part.kind.parameter("charset").as_deref());
            if wanted == "text/html" {
                set_html(text, mail);
            } else {
                append(&mut mail.text.plain, &unflow(&text, &part.kind));
            }
            // What has a name stays an attachment too.
            if name(part).is_none() {
                used.push(*id);
            }
        }
        if !mail.text.plain.trim().is_empty() {
            break;
        }
    }
    if !used.is_empty() {
        mail.notes.push("structure-broken");
    }
    used
}

/// The stated name of a part.
fn name(described: &Described<'_>) -> Option<String> {
    described
        .disposition
        .parameter("filename")
        .or_else(|| described.kind.parameter("name"))
        .or_else(|| described.disposition.parameter("name"))
}

/// Makes an attachment of a part.
fn attach(described: Described<'_>, raw: &[u8], mail: &mut Mail) {
    let media_type = media_type(&described);
    let stated = name(&described).as_deref().and_then(filename::label);
    let is_shown = described.disposition.main == "inline" && described.content_id.is_some();
    let content_id = described.content_id.clone();
    let method = described.kind.parameter("method");
    let encoded = encoded(&described);
    let Some(bytes) = contents(described, raw) else { return };
    if media_type == "text/calendar" && mail.calendar_method.is_none() {
        mail.calendar_method = calendar_method(method, &bytes);
    }
    let filename = stated.or_else(|| default_name(&media_type, &bytes));
    mail.attachments.push(Attachment {
        filename,
        media_type,
        is_inline: is_shown,
        content_id,
        bytes,
        encoded,
    });
}

/// Where the contents of a part stand.
fn encoded(described: &Described<'_>) -> Option<Encoded> {
    Some(Encoded {
        start: u64::from(described.part.offset_body),
        end: u64::from(described.part.offset_end),
        encoding: match described.part.encoding {
            Encoding::Base64 => transfer::Encoding::Base64,
            Encoding::QuotedPrintable => transfer::Encoding::QuotedPrintable,
            Encoding::None => transfer::Encoding::of(&described.transfer)?,
        },
    })
}

/// The media type that a part states, or that the parser gave it.
fn media_type(described: &Described<'_>) -> String {
    let stated = described.kind.main.as_str();
    let is_whole = stated
        .split_once('/')
        .is_some_and(|(kind, sub)| !kind.is_empty() && !sub.is_empty());
    match (&described.part.body, is_whole) {
        (_, true) => stated.split_whitespace().next().unwrap_or(stated).to_owned(),
        (PartType::Message(_), false) => "message/rfc822".to_owned(),
        (PartType::Text(_), false) => "text/plain".to_owned(),
        (PartType::Html(_), false) => "text/html".to_owned(),
        (PartType::Binary(_) | PartType::InlineBinary(_) | PartType::Multipart(_), false) => {
            "application/octet-stream".to_owned()
        }
    }
}

/// The decoded bytes of a part, taken where they are its own.
fn contents(described: Described<'_>, raw: &[u8]) -> Option<Vec<u8>> {
    match &described.part.body {
        PartType::Text(_) | PartType::Html(_) => original(&described, raw),
        PartType::Message(_) if described.part.encoding == Encoding::None => original(&described, raw),
        PartType::Multipart(_) => None,
        // Only base64 is taken as the parser decoded it: other bytes it may have seen changed (see `nesting`).
        PartType::Binary(_) | PartType::InlineBinary(_) if described.part.encoding != Encoding::Base64 => {
            original(&described, raw)
        }
        PartType::Message(_) | PartType::Binary(_) | PartType::InlineBinary(_) => match described.part.body {
            PartType::Message(nested) => Some(nested.raw_message.into_owned()),
            PartType::Binary(bytes) | PartType::InlineBinary(bytes) => Some(bytes.into_owned()),
            PartType::Text(_) | PartType::Html(_) | PartType::Multipart(_) => None,
        },
    }
}

/// A name for what states none: an embedded message is called by its subject.
fn default_name(media_type: &str, bytes: &[u8]) -> Option<String> {
    match media_type {
        "message/rfc822" | "message/global" => {
            let block = header::split(bytes);
            let subject = block
                .fields
                .iter()
                .find(|field| field.name.eq_ignore_ascii_case("Subject"));
            let subject = subject
                .map(|field| header::decode(field.value, None))
                .filter(|subject| !subject.is_empty());
            filename::label(&format!("{}.eml", subject.as_deref().unwrap_or("message")))
        }
        "text/calendar" => Some("calendar.ics".to_owned()),
        _ => None,
    }
}

/// The method of a calendar part: its parameter, else its METHOD line.
fn calendar_method(stated: Option<String>, bytes: &[u8]) -> Option<String> {
    let in_body = || {
        let text = String::from_utf8_lossy(bytes.get(..bytes.len().min(4096)).unwrap_or_default()).into_owned();
        text.lines()
            .find_map(|line| line.trim().strip_prefix("METHOD:").map(str::to_owned))
    };
    stated
        .or_else(in_body)
        .map(|method| method.trim().to_ascii_uppercase())
        .filter(|method| !method.is_empty())
}

/// Marks the images that the HTML shows (RFC 2392).
fn mark_inline(mail: &mut Mail) {
    let Some(html) = mail.text.html.as_deref() else { return };
    for attachment in &mut mail.attachments {
        let is_referred = attachment.content_id.as_deref().is_some_and(|id| {
            html.contains(&format!("cid:{id}")) || html.contains(&format!("cid:{}", id.replace('@', "%40")))
        });
        attachment.is_inline |= is_referred && attachment.media_type.starts_with("image/");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flowed_text_is_joined_at_soft_breaks_only() {
        for (text, kind, joined) in [
            ("one \ntwo\nthree\n", "text/plain; format=flowed", "one two\nthree\n"),
            ("> a \n> b\n>> c\nd\n", "text/plain; format=flowed", "> a b\n>> c\nd\n"),
            ("hi\n-- \nAnn\n", "text/plain; format=flowed", "hi\n-- \nAnn\n"),
            ("on \ne\n", "text/plain; format=flowed; delsp=yes", "one\n"),
            ("one \ntwo\n", "text/plain", "one \ntwo\n"),
            (" stuffed\n", "text/plain; format=flowed", "stuffed\n"),
        ] {
            assert_eq!(unflow(text, &parameter::read(kind)), joined, "{text:?} as {kind}");
        }
    }
}
