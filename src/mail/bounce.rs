//! Bounces of mail systems that write no RFC 3464: many weak signs, two of which make one.
//! It never decides by one sign, nor by words of the body alone.

use super::{Mail, parameter};

/// Signs that are needed.
const SIGNS: usize = 2;
/// How many bytes of the body are looked at: a bounce says so at its top.
const BODY_BYTES: usize = 3000;

/// Local parts that mail systems write from.
const DAEMONS: [&str; 8] = [
    "mailer-daemon",
    "mailerdaemon",
    "postmaster",
    "mail-daemon",
    "maildaemon",
    "mail-delivery-system",
    "mdaemon",
    "post_master",
];

/// How their subjects begin, in lower case.
const SUBJECTS: [&str; 42] = [
    "undeliverable",
    "undelivered mail",
    "undelivered message",
    "undeliverd",
    "delivery status notification",
    "delivery failure",
    "delivery failed",
    "delivery has failed",
    "delivery notification",
    "delivery report",
    "delivery error",
    "returned mail",
    "returned to sender",
    "mail delivery fail",
    "mail delivery error",
    "mail delivery problem",
    "mail system error",
    "mail could not be delivered",
    "message frozen",
    "warning: message",
    "warning: could not send",
    "failure notice",
    "failure delivery",
    "failed mail",
    "mail failed",
    "delivery status",
    "failed delivery",
    "non delivery",
    "non-delivery",
    "message undeliverable",
    "message delivery fail",
    "could not send message",
    "unable to deliver",
    "mail failure",
    "error sending",
    "nondeliverable",
    "unzustellbar",
    "onbestelbaar",
    "não_entregue",
    "non_remis",
    "non recapitabile",
    "не доставлено",
];

/// What their bodies say near the top, in lower case.
const PHRASES: [&str; 36] = [
    "this is the qmail",
    "could not be delivered",
    "couldn't be delivered",
    "unable to deliver",
    "wasn't able to deliver",
    "was not delivered",
    "was not able to deliver",
    "not been delivered",
    "delivery failed",
    "delivery to the following",
    "delivery has failed",
    "returned to sender",
    "returned to the sender",
    "undeliverable",
    "permanent error",
    "permanent fatal errors",
    "fatal errors",
    "user unknown",
    "invalid user address",
    "requested action not taken",
    "unknown user",
    "no such user",
    "mailbox unavailable",
    "mailbox full",
    "quota exceeded",
    "over quota",
    "does not exist",
    "message has been returned",
    "recipients of your message",
    "following addresses had",
    "following address",
    "couldn't deliver",
    "cannot be delivered",
    "could not deliver",
    "delivery error",
    "failed permanently",
];

/// Whether two signs say that this is a bounce, and which.
pub(crate) fn legacy(mail: &Mail) -> Option<String> {
    if is_ses_notification(mail) {
        return Some("an Amazon SES notification".to_owned());
    }
    // An absent person's machine may use the null path too, and quote what it answers: without a strong sign the
    // weak ones are not even looked at.
    let mut signs: Vec<&str> = holding(strong_signs(mail)).collect();
    if signs.is_empty() {
        return None;
    }
    signs.extend(holding(weak_signs(mail)));
    (signs.len() >= SIGNS).then(|| signs.join(", "))
}

/// The names of the signs that hold.
fn holding<const N: usize>(signs: [(&'static str, bool); N]) -> impl Iterator<Item = &'static str> {
    signs.into_iter().filter_map(|(name, holds)| holds.then_some(name))
}

/// Signs that mail systems leave and people do not.
fn strong_signs(mail: &Mail) -> [(&'static str, bool); 7] {
    let subject = mail.subject.to_lowercase();
    let subject = super::subject::without_tags(&subject);
    let is_mailer_daemon = |from: &str| from.to_ascii_lowercase().starts_with("mailer-daemon@");
    [
        ("daemon", is_daemon(mail)),
        // Two signs in one: no person has this address.
        (
            "mailer-daemon-address",
            mail.from_address().is_some_and(is_mailer_daemon),
        ),
        ("failed-recipients", mail.header("X-Failed-Recipients").is_some()),
        ("exchange-ndr", mail.header("X-MS-Exchange-Message-Is-Ndr").is_some()),
        (
            "qmail-bounce",
            mail.headers_named("Received")
                .any(|value| value.contains("invoked for bounce")),
        ),
        ("report-without-type", is_untyped_report(mail)),
        ("subject", SUBJECTS.iter().any(|start| subject.starts_with(start))),
    ]
}

/// Signs that others leave too.
fn weak_signs(mail: &Mail) -> [(&'static str, bool); 3] {
    let is_message = |media_type: &str| matches!(media_type, "message/rfc822" | "text/rfc822-headers");
    [
        (
            "null-return-path",
            mail.header("Return-Path").is_some_and(|path| path.trim() == "<>"),
        ),
        ("body", says_so(mail)),
        (
            "returned-message",
            mail.attachments.iter().any(|part| is_message(&part.media_type)),
        ),
    ]
}

/// Whether a mail system wrote it: by its address or its name.
fn is_daemon(mail: &Mail) -> bool {
    let from = mail.from_address().unwrap_or_default().to_ascii_lowercase();
    let local = from.split('@').next().unwrap_or_default();
    let name = mail
        .from
        .as_ref()
        .and_then(|from| from.name.as_deref())
        .unwrap_or_default()
        .to_ascii_lowercase();
    let raw = mail.header("From").unwrap_or_default();
    DAEMONS.contains(&local)
        || name.contains("mail delivery s")
        || name.contains("mailer-daemon")
        || raw.trim() == "<>"
        || raw.trim().ends_with("<>")
}

/// What Amazon SES publishes through SNS about a mail of ours, as JSON (Amazon SES developer guide, "notification
/// contents").
fn is_ses_notification(mail: &Mail) -> bool {
    let is_sns = mail
        .from_address()
        .is_some_and(|from| from.to_ascii_lowercase().ends_with("@sns.amazonaws.com"));
    is_sns
        && ["Bounce", "Complaint", "Delivery"]
            .iter()
            .any(|kind| mail.text.plain.contains(&format!("\"notificationType\":\"{kind}\"")))
}

/// A multipart/report that does not say of what.
fn is_untyped_report(mail: &Mail) -> bool {
    mail.header("Content-Type")
        .map(parameter::read)
        .is_some_and(|kind| kind.main == "multipart/report" && kind.parameter("report-type").is_none())
}

/// Whether the top of the body speaks of a failed delivery.
fn says_so(mail: &Mail) -> bool {
    let text = &mail.text.plain;
    let top = text
        .get(..text.floor_char_boundary(text.len().min(BODY_BYTES)))
        .unwrap_or_default()
        .to_lowercase();
    let folded = top.split_whitespace().collect::<Vec<_>>().join(" ");
    PHRASES.iter().any(|phrase| folded.contains(phrase))
}
