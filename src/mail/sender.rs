//! Who sent a message, how far that is proven, and whether a machine may answer.
//! It never trusts a field that the sender could have written himself.

use super::{Class, Classification, Mail, authentication};

pub use super::subject::{canonical_subject, has_forward_prefix, has_reply_prefix};

/// How far the address in From is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// A trusted server says that DMARC passed for the domain in From.
    Authenticated,
    /// A trusted server says that DMARC failed.
    Failed,
    /// Nobody trusted says anything.
    Unverified,
}

impl Trust {
    /// The word for it in JSON and SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Authenticated => "authenticated",
            Self::Failed => "failed",
            Self::Unverified => "unverified",
        }
    }
}

/// How far From is proven, by the topmost Authentication-Results field (RFC 8601) of a server named in
/// `authserv_id`. An empty id there stands for a field without one, as Exchange Online writes it. Fields below the
/// border are the sender's own words: see `authentication`.
pub fn trust(mail: &Mail, authserv_id: &[String]) -> Trust {
    let is_one_author = mail.headers_named("From").count() == 1
        && mail.header("From").is_some_and(|from| from.matches('<').count() <= 1);
    let domain = mail
        .from_address()
        .and_then(|address| address.rsplit_once('@'))
        .map(|(_, domain)| domain);
    let (true, Some(domain)) = (is_one_author, domain) else {
        return Trust::Unverified;
    };
    let Some(results) = authentication::trusted(mail, authserv_id) else {
        return Trust::Unverified;
    };
    match results
        .iter()
        .filter(|result| result.method == "dmarc")
        .collect::<Vec<_>>()
        .as_slice()
    {
        [only]
            if only.result == "pass"
                && only
                    .property("header.from")
                    .is_some_and(|from| from.eq_ignore_ascii_case(domain)) =>
        {
            Trust::Authenticated
        }
        [only] if matches!(only.result.as_str(), "fail" | "permerror") => Trust::Failed,
        _ => Trust::Unverified,
    }
}

/// Local parts behind which nobody reads.
const NOBODY: [&str; 14] = [
    "noreply",
    "no-reply",
    "no_reply",
    "donotreply",
    "do-not-reply",
    "do_not_reply",
    "mailer-daemon",
    "mailerdaemon",
    "postmaster",
    "abuse",
    "listserv",
    "majordomo",
    "bounce",
    "bounces",
];

/// Why no automatic answer may be sent to this message (RFC 3834 §2), `None` if one may.
pub fn suppresses_answer(mail: &Mail, classification: &Classification) -> Option<&'static str> {
    if classification.class != Class::Human {
        return Some("class-not-human");
    }
    let rules: [(&'static str, bool); 6] = [
        (
            "auto-response-suppress",
            mail.headers_named("X-Auto-Response-Suppress").any(asks_for_silence),
        ),
        (
            "null-return-path",
            mail.header("Return-Path").is_some_and(|path| path.trim() == "<>"),
        ),
        (
            "mailing-list",
            mail.headers.iter().any(|(name, _)| {
                name.len() > 5 && name.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("list-"))
            }),
        ),
        (
            "automatic",
            mail.header("Auto-Submitted")
                .is_some_and(|value| !value.trim().eq_ignore_ascii_case("no")),
        ),
        (
            "nobody-reads",
            answer_address(mail).is_none_or(is_nobody) || mail.from_address().is_none_or(is_nobody),
        ),
        ("spam", is_spam(mail)),
    ];
    rules.into_iter().find(|(_, holds)| *holds).map(|(why, _)| why)
}

/// Whether X-Auto-Response-Suppress ([MS-OXCMAIL] §2.1.3.2.20) asks for silence of such as us.
fn asks_for_silence(value: &str) -> bool {
    value.split(',').map(str::trim).any(|word| {
        ["all", "autoreply", "oof"]
            .iter()
            .any(|known| known.eq_ignore_ascii_case(word))
    })
}

/// The address that an answer would go to.
fn answer_address(mail: &Mail) -> Option<&str> {
    mail.reply_to
        .first()
        .and_then(|person| person.address.as_deref())
        .or_else(|| mail.from_address())
}

/// Whether nobody reads what is sent to an address.
fn is_nobody(address: &str) -> bool {
    let local = address.split('@').next().unwrap_or_default().to_ascii_lowercase();
    let plain = local.split('+').next().unwrap_or_default();
    NOBODY.contains(&plain)
        || plain.starts_with("owner-")
        || plain.starts_with("bounce-")
        || plain.starts_with("bounces-")
        || plain.ends_with("-request")
        || plain.ends_with("-owner")
        || plain.ends_with("-bounces")
        || plain.contains("noreply")
        || plain.contains("no-reply")
}

/// Whether a filter on the way marked it as spam.
fn is_spam(mail: &Mail) -> bool {
    let says_yes = |name: &str| {
        mail.header(name)
            .is_some_and(|value| value.trim().to_ascii_lowercase().starts_with("yes"))
    };
    says_yes("X-Spam-Flag") || says_yes("X-Spam-Status") || says_yes("X-Spam")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::mail::{classify, parse};

    fn read(headers: &str) -> Mail {
        parse::parse(format!("{headers}\n\nbody\n").as_bytes()).unwrap()
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn only_what_a_trusted_server_wrote_proves_a_sender() {
        let ids = vec!["mx.contoso.example".to_owned()];
        let good = "Authentication-Results: mx.contoso.example; spf=pass smtp.mailfrom=b.example; dmarc=pass (p=none) header.from=b.example";
        let fail = "Authentication-Results: mx.contoso.example; dmarc=fail header.from=b.example";
        let from = "From: Ann <ann@b.example>";
        let received = "Received: from out.b.example by mx.contoso.example with ESMTP; Mon, 2 Nov 2026 10:00:00 +0000";
        let foreign = "Received: from a by out.b.example; Mon, 2 Nov 2026 10:00:00 +0000";
        for (name, headers, trust_wanted) in [
            (
                "above Received",
                format!("{good}\n{received}\n{from}"),
                Trust::Authenticated,
            ),
            (
                "below our own Received, as Gmail has it",
                format!("{received}\n{good}\n{foreign}\n{from}"),
                Trust::Authenticated,
            ),
            (
                "below a foreign Received",
                format!("{received}\n{foreign}\n{good}\n{from}"),
                Trust::Unverified,
            ),
            (
                "another server",
                format!("{}\n{from}", good.replace("mx.contoso", "mx.evil")),
                Trust::Unverified,
            ),
            (
                "another domain",
                format!(
                    "{}\n{from}",
                    good.replace("header.from=b.example", "header.from=c.example")
                ),
                Trust::Unverified,
            ),
            (
                "no domain",
                format!("{}\n{from}", good.replace(" header.from=b.example", "")),
                Trust::Unverified,
            ),
            ("fail", format!("{fail}\n{received}\n{from}"), Trust::Failed),
            ("the topmost counts", format!("{fail}\n{good}\n{from}"), Trust::Failed),
            (
                "pass in a comment",
                format!(
                    "Authentication-Results: mx.contoso.example; dmarc=none (dmarc=pass header.from=b.example)\n{from}"
                ),
                Trust::Unverified,
            ),
            (
                "id in a comment",
                format!("Authentication-Results: evil (mx.contoso.example); dmarc=pass header.from=b.example\n{from}"),
                Trust::Unverified,
            ),
            (
                "an open comment",
                format!("Authentication-Results: mx.contoso.example; dmarc=pass header.from=b.example (\n{from}"),
                Trust::Unverified,
            ),
            (
                "pass in a quoted value",
                format!(
                    "Authentication-Results: mx.contoso.example; spf=none reason=\"; dmarc=pass header.from=b.example\"\n{from}"
                ),
                Trust::Unverified,
            ),
            (
                "two verdicts",
                format!(
                    "Authentication-Results: mx.contoso.example; dmarc=pass header.from=b.example; dmarc=fail header.from=b.example\n{from}"
                ),
                Trust::Unverified,
            ),
            (
                "two From",
                format!("{good}\n{from}\nFrom: x@c.example"),
                Trust::Unverified,
            ),
            (
                "with a version",
                format!("{}\n{from}", good.replace("contoso.example;", "contoso.example 1;")),
                Trust::Authenticated,
            ),
            (
                "upper case",
                format!("{}\n{from}", good.replace("mx.contoso", "MX.Contoso")),
                Trust::Authenticated,
            ),
            ("none", from.to_owned(), Trust::Unverified),
        ] {
            assert_eq!(trust(&read(&headers), &ids), trust_wanted, "{name}");
        }
        assert_eq!(trust(&read(&format!("{good}\n{from}")), &[]), Trust::Unverified);
        let exchange = "Authentication-Results: spf=pass smtp.mailfrom=b.example; dmarc=pass action=none header.from=b.example;compauth=pass reason=100";
        assert_eq!(
            trust(&read(&format!("{exchange}\n{from}")), &[String::new()]),
            Trust::Authenticated
        );
        assert_eq!(trust(&read(&format!("{exchange}\n{from}")), &ids), Trust::Unverified);
        // Within Exchange Online it stands below some fields of its own; what the sender wrote stands below his.
        let hop = |by: &str| format!("Received: from a by {by} with HTTPS; Mon, 2 Nov 2026 10:00:00 +0000");
        let (own, front) = (
            hop("AM0PR01.eurprd01.prod.outlook.com"),
            hop("DB5EUR.mail.protection.outlook.com"),
        );
        let senders = hop("mail.evil.example");
        for (headers, expected) in [
            (format!("{own}\n{exchange}\n{front}\n{from}"), Trust::Authenticated),
            (
                format!("{own}\n{front}\n{senders}\n{exchange}\n{from}"),
                Trust::Unverified,
            ),
            (
                format!(
                    "{own}\n{}\n{front}\n{exchange}\n{from}",
                    exchange.replace("dmarc=pass", "dmarc=fail")
                ),
                Trust::Failed,
            ),
        ] {
            assert_eq!(trust(&read(&headers), &[String::new()]), expected, "{headers}");
        }
    }

    #[test]
    fn machines_lists_and_nobodies_get_no_answer() {
        for (headers, why) in [
            ("From: ann@b.example", None),
            ("From: ann@b.example\nAuto-Submitted: no", None),
            ("From: ann@b.example\nX-Auto-Response-Suppress: DR, RN", None),
            (
                "From: ann@b.example\nX-Auto-Response-Suppress: DR, OOF, AutoReply",
                Some("auto-response-suppress"),
            ),
            ("From: ann@b.example\nReturn-Path: <>", Some("null-return-path")),
            ("From: ann@b.example\nList-Help: <mailto:x@y>", Some("mailing-list")),
            ("From: listserv@b.example", Some("nobody-reads")),
            (
                "From: ann@b.example\nReply-To: noreply+1@b.example",
                Some("nobody-reads"),
            ),
            ("Subject: nobody wrote this", Some("nobody-reads")),
            ("From: ann@b.example\nX-Spam-Flag: YES", Some("spam")),
            (
                "From: ann@b.example\nAuto-Submitted: auto-replied",
                Some("class-not-human"),
            ),
        ] {
            let mail = read(headers);
            let own = HashSet::new();
            let class = classify::classify(
                &mail,
                &classify::Facts {
                    own: &own,
                    answers_ours: false,
                    is_ours: false,
                },
            );
            assert_eq!(suppresses_answer(&mail, &class), why, "{headers}");
        }
    }
}
