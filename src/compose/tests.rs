use proptest::prelude::*;

use super::encode::{clean, name_of, text_part, unstructured};
use super::sign::{KEY_LENGTH, Keys, NONCE_LENGTH};
use super::*;
use crate::mail::parse;

fn token() -> Token {
    let keys = Keys::new(vec![[1; KEY_LENGTH]]);
    keys.sign(("SUP", 1), [7; NONCE_LENGTH]).unwrap()
}

fn sender(text: &str) -> Sender {
    Sender::parse(text).unwrap_or_else(|| panic!("{text}"))
}

fn written(subject: &str, from: &str, ids: &[String], text: &str) -> String {
    let (from, to) = (sender(from), Address::parse("ann@customer.example").unwrap());
    let composed = write(&Draft {
        from: &from,
        to: &to,
        subject,
        answered: Answered {
            message_id: ids.last().map(String::as_str),
            references: ids,
        },
        is_automatic: true,
        token: &token(),
        text,
        at: Timestamp(1_793_610_000),
    });
    composed.payload.message
}

const FIELDS: [&str; 13] = [
    "Date",
    "From",
    "To",
    "Subject",
    "Message-ID",
    "In-Reply-To",
    "References",
    "Auto-Submitted",
    "X-Auto-Response-Suppress",
    "X-Mailintake-Origin",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
];

/// Lines end with CRLF and are short, nothing but ASCII, and the fields are ours, each once at the most.
fn assert_sound(message: &str) {
    assert!(message.is_ascii(), "{message}");
    assert!(!message.replace("\r\n", "").contains(['\r', '\n', '\0']), "{message:?}");
    assert!(message.split("\r\n").all(|line| line.len() <= 998), "{message}");
    let (header, _) = message.split_once("\r\n\r\n").unwrap();
    let mut seen = std::collections::HashSet::new();
    for line in header.split("\r\n").filter(|line| !line.starts_with(' ')) {
        let (name, _) = line.split_once(':').unwrap_or_else(|| panic!("{line}"));
        assert!(FIELDS.contains(&name) && seen.insert(name), "{line}\n{header}");
    }
}

proptest! {
    #[test]
    fn nothing_that_somebody_wrote_makes_a_field_or_a_line(
        subject in any::<String>(),
        name in any::<String>(),
        ids in prop::collection::vec(any::<String>(), 0..20),
        text in any::<String>(),
    ) {
        let from = Sender { name: clean(&name, NAME_LIMIT), address: Address::parse("a@example.org").unwrap() };
        let message = written(&subject, &format!("{} <a@example.org>", name.replace('<', "")), &ids, &text);
        assert_sound(&message);
        assert_sound(&message.replace(&mailbox(&sender("a@example.org")), &mailbox(&from)));
        let read = parse::parse(message.as_bytes()).unwrap();
        let clean = clean(&subject, SUBJECT_LIMIT);
        prop_assert_eq!(read.subject.trim(), clean.trim());
        prop_assert_eq!(read.from_address(), Some("a@example.org"));
        prop_assert_eq!(read.to.len(), 1);
    }

    #[test]
    fn a_hostile_header_does_not_pass(
        before in "[ -~]{0,60}",
        breaks in prop::sample::select(vec!["\r\n", "\n", "\r", "\u{2028}", "\u{85}", "\r\n ", "=?UTF-8?Q?=0D=0A?=", "\0"]),
    ) {
        let evil = format!("{before}{breaks}Bcc: victim@example.org{breaks}{breaks}body");
        let message = written(&evil, "a@example.org", &[format!("x{breaks}Bcc:y@z")], &evil);
        assert_sound(&message);
        let read = parse::parse(message.as_bytes()).unwrap();
        prop_assert!(read.header("Bcc").is_none());
        prop_assert!(read.in_reply_to.is_empty());
    }

    #[test]
    fn a_text_comes_out_as_it_went_in(text in "(?s)[ -~äöü€😀\n=.]{0,300}") {
        let message = written("x", "a@example.org", &[], &text);
        let read = parse::parse(message.as_bytes()).unwrap();
        let lines = |text: &str| text.trim_end().lines().map(str::to_owned).collect::<Vec<_>>();
        prop_assert_eq!(lines(&read.text.plain), lines(&text));
        prop_assert!(message.split("\r\n").all(|line| line.len() <= 78));
    }

    #[test]
    fn an_address_is_one_word(text in any::<String>(), local in "[ -~]{0,20}") {
        for text in [text, format!("{local}@example.org")] {
            if let Some(address) = Address::parse(&text) {
                let is_word = |b: u8| b.is_ascii_graphic() && !b"<>(),;:\"[]\\".contains(&b);
                prop_assert!(address.as_str().bytes().all(is_word), "{}", text);
                prop_assert_eq!(address.as_str().matches('@').count(), 1);
            }
        }
    }
}

#[test]
fn addresses_that_need_quoting_or_name_a_place_to_run_are_refused() {
    for (text, is_good) in [
        ("ann@customer.example", true),
        ("o'hara+x@sub.customer.example", true),
        ("a..b@docomo.example", true),
        ("\"a b\"@x.example", false),
        ("a@b@c", false),
        ("@x.example", false),
        ("a@", false),
        ("a@x..example", false),
        ("a@-x.example", false),
        ("-oQ/tmp@x.example", false),
        ("a@[127.0.0.1]", false),
        ("jörg@x.example", false),
        ("a@x.example\r\nRCPT TO:<b@x>", false),
    ] {
        assert_eq!(Address::parse(text).is_some(), is_good, "{text}");
    }
}

#[test]
fn a_long_chain_keeps_its_root_and_its_end() {
    let ids: Vec<String> = (0..30).map(|n| format!("{n}@x.example")).collect();
    let message = written("x", "a@example.org", &ids, "text");
    let read = parse::parse(message.as_bytes()).unwrap();
    let kept: Vec<_> = [0, 1, 2, 3, 23, 24, 25, 26, 27, 28, 29]
        .map(|n: u32| format!("{n}@x.example"))
        .into();
    assert_eq!(read.references, kept);
    assert_eq!(read.in_reply_to, ["29@x.example"]);
    for ids in [
        vec!["a@x.example".to_owned()],
        vec!["b@x.example".to_owned(), "a@x.example".to_owned()],
    ] {
        let read = parse::parse(written("x", "a@example.org", &ids, "t").as_bytes()).unwrap();
        assert_eq!(read.references, ids);
    }
}

#[test]
fn what_is_not_ascii_is_encoded_and_what_is_not_seen_goes() {
    assert_eq!(unstructured("Subject", "plain"), "Subject: plain");
    let long = unstructured("Subject", &"Größe ".repeat(30));
    assert!(
        long.split("\r\n").all(|line| line.len() <= 76 && line.is_ascii()),
        "{long}"
    );
    let plain = unstructured("Subject", &"word ".repeat(40));
    assert!(
        plain.contains("\r\n ") && plain.split("\r\n").all(|line| line.len() <= 77),
        "{plain}"
    );
    assert_eq!(name_of("Support, \"EU\"").unwrap(), "\"Support, \\\"EU\\\"\"");
    assert_eq!(clean("a\u{202e}b\r\n\tc\u{200b}", 10), "ab c");
    assert_eq!(clean("abcdef", 3), "abc…");
    assert_eq!(text_part("a\nb"), ("7bit", "a\r\nb\r\n".to_owned()));
    assert_eq!(text_part("ä ").1, "=C3=A4=20\r\n");
}

#[test]
fn a_reply_says_what_it_answers_and_an_acknowledgement_has_no_return_path() {
    let (from, to) = (
        sender("Support <support@example.org>"),
        Address::parse("ann@customer.example").unwrap(),
    );
    let composed = reply::compose(
        &reply::Reply {
            from: &from,
            to: &to,
            summary: "Drucker [SUP-1] kaputt",
            text: "Erledigt, Gruß.\n",
            answered: Answered {
                message_id: Some("first@customer.example"),
                references: &[],
            },
            quoted: Some(reply::Quoted {
                author: "Ann\u{202e} Customer",
                at: Timestamp(1_793_610_000),
                text: "Er geht nicht.\n> alt",
            }),
        },
        &token(),
        Timestamp(1_793_613_600),
    );
    assert_eq!(composed.payload.sender.as_deref(), Some("support@example.org"));
    let read = parse::parse(composed.payload.message.as_bytes()).unwrap();
    assert_eq!(read.message_id.as_deref(), Some(composed.message_id.as_str()));
    assert_eq!(read.subject, "Re: Drucker [SUP-1] kaputt");
    assert_eq!(read.header("Auto-Submitted"), None);
    let expected = format!(
        "Erledigt, Gruß.\n\n{}\n\nOn Mon, 2 Nov 2026 at 09:00 UTC, Ann Customer wrote:\n> Er geht nicht.\n>> alt",
        token().line()
    );
    assert_eq!(read.text.plain.trim_end(), expected);
    let keys = Keys::new(vec![[1; KEY_LENGTH]]);
    assert!(keys.verify(&Token::of_text(&read.text.plain).unwrap()));
}
