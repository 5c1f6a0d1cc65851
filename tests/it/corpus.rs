//! Odd mails from files: the project's own in `tests/corpus`, and any directory that `MAILINTAKE_CORPUS` names.
//! Whatever the bytes: no panic, in bounded time, and no word is lost between body, elided text and signature.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use mailintake::mail::classify::{Facts, classify};
use mailintake::mail::parse::{carrier_key, fingerprint, parse};
use mailintake::mail::{Class, Mail, ReportKind, Text, reply, sender};
use mailintake::skimmed::{Skimmed, Stretch};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

/// What one file may take; debug builds are slow.
const TIME_MAX: Duration = Duration::from_secs(10);

fn own(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name)).unwrap()
}

/// A mail of the project's own corpus, read with LF and with CRLF; both must say the same.
fn read(name: &str) -> Mail {
    let lf = own(name);
    let crlf = String::from_utf8_lossy(&lf).contains('\u{fffd}').then(|| lf.clone());
    let crlf = crlf.unwrap_or_else(|| {
        String::from_utf8(lf.clone())
            .unwrap()
            .replace('\n', "\r\n")
            .into_bytes()
    });
    let (unix, network) = (parse(&lf).unwrap(), parse(&crlf).unwrap());
    assert_eq!(unix.text.plain, network.text.plain, "{name}");
    assert_eq!(unix.headers, network.headers, "{name}");
    assert_eq!(unix.attachments.len(), network.attachments.len(), "{name}");
    unix
}

fn class(mail: &Mail) -> Class {
    let own = HashSet::from(["support@contoso.example".to_owned()]);
    classify(
        mail,
        &Facts {
            own: &own,
            answers_ours: false,
            is_ours: false,
        },
    )
    .class
}

fn names(mail: &Mail) -> Vec<&str> {
    mail.attachments
        .iter()
        .filter_map(|part| part.filename.as_deref())
        .collect()
}

#[test]
fn a_message_that_was_cut_off_keeps_its_words() {
    let mail = read("truncated-multipart.eml");
    assert!(mail.text.plain.contains("The words before"), "{:?}", mail.text);
    assert_eq!(names(&mail), ["a.pdf"]);
    assert!(read("lost-boundary.eml").text.plain.contains("inner words"));
    assert!(read("blank-line-of-spaces.eml").text.plain.contains("The body begins"));
}

#[test]
fn a_message_without_header_or_body_is_still_a_mail() {
    assert!(read("no-header.eml").text.plain.contains("Only words"));
    assert_eq!(read("headers-only.eml").subject, "nothing inside");
    assert_eq!(read("mbox-line.eml").subject, "from a box");
    assert!(parse(b"").is_err());
    assert!(parse(b" \r\n\0").is_err());
    assert!(parse(b"x").is_ok());
}

#[test]
fn charsets_are_read_stated_or_not() {
    let mail = read("raw-8bit-headers.eml");
    assert_eq!(
        (mail.subject.as_str(), mail.text.plain.trim()),
        ("Grüße aus Köln", "Schöne Grüße!")
    );
    assert_eq!(mail.from.unwrap().name.as_deref(), Some("Jürgen"));
    let mail = read("unknown-charset.eml");
    assert_eq!((mail.subject.as_str(), mail.text.plain.trim()), ("café", "café"));
}

#[test]
fn the_first_of_double_headers_counts() {
    let mail = read("double-headers.eml");
    assert_eq!(mail.from_address(), Some("ann@b.example"));
    assert_eq!(
        (mail.subject.as_str(), mail.message_id.as_deref()),
        ("the first", Some("first@b.example"))
    );
    assert_eq!(mail.headers_named("From").count(), 2);
}

#[test]
fn attachments_have_safe_names_and_right_bytes() {
    assert_eq!(
        names(&read("odd-filenames.eml")),
        ["two words.pdf", "passwd", "€uro.txt"]
    );
    let mail = read("embedded-base64.eml");
    assert_eq!(names(&mail), ["inner words.eml"]);
    assert_eq!(
        parse(&mail.attachments[0].bytes).unwrap().text.plain.trim(),
        "inner body"
    );
    assert_eq!(read("uuencoded.eml").attachments[0].bytes, b"Cat");
}

#[test]
fn reports_say_which_message_they_are_about() {
    let mail = read("bounce.eml");
    assert_eq!(class(&mail), Class::Bounce);
    let report = mail.report.unwrap();
    assert_eq!(
        (report.kind, report.original_message_id.as_deref()),
        (ReportKind::Delivery, Some("ours@contoso.example"))
    );
    assert_eq!(report.detail, "nobody@b.example: failed 5.1.1 smtp; 550 user unknown");
    let mail = read("bounce-legacy.eml");
    assert_eq!(class(&mail), Class::Bounce);
    assert_eq!(
        mail.report.unwrap().original_message_id.as_deref(),
        Some("ours@contoso.example")
    );
    let mail = read("invitation.eml");
    assert_eq!(
        (class(&mail), mail.calendar_method.as_deref()),
        (Class::Calendar, Some("REPLY"))
    );
    assert_eq!(names(&mail), ["calendar.ics"]);
}

#[test]
fn a_reply_in_html_is_cut_at_the_client_s_mark() {
    let mail = read("outlook-html-reply.eml");
    assert!(reply::is_reply(&mail) && mail.text.is_from_html);
    let extract = reply::extract(&mail.text, true, &[]);
    assert_eq!(extract.body, "It burns ägain.");
    assert!(extract.elided.unwrap().contains("Is it still on fire?"));
    let whole = reply::extract(&mail.text, false, &[]);
    assert!(whole.elided.is_none() && whole.body.contains("Is it still on fire?"));
}

#[test]
fn a_fingerprint_outlives_rewritten_bytes_and_tells_contents_apart() {
    let bytes = own("bounce.eml");
    let mail = parse(&bytes).unwrap();
    let mut rewritten = b"X-Added-By: the server\r\n".to_vec();
    rewritten.extend(String::from_utf8(bytes).unwrap().replace('\n', "\r\n").into_bytes());
    assert_eq!(mail.text.plain, parse(&rewritten).unwrap().text.plain);
    let mut other = mail.clone();
    other.text.plain.push_str("another word");
    assert_ne!(fingerprint(&mail), fingerprint(&other));
    assert_eq!(carrier_key("<A@B.Example>"), "A@b.example");
}

#[test]
fn a_text_without_quotation_is_kept_whole() {
    for text in ["", "one line", "a\n\nb\n", "From: the start\nwe knew", "- a\n- b"] {
        let extract = reply::extract(&plain(text), true, &[]);
        assert_eq!(
            (extract.body.as_str(), extract.elided, extract.signature),
            (text.trim(), None, None),
            "{text:?}"
        );
    }
    let separators = ["-- reply above this line --".to_owned()];
    let extract = reply::extract(
        &plain("new\n> -- Reply above this line --\n> old\nrest"),
        true,
        &separators,
    );
    assert_eq!(
        (extract.body.as_str(), extract.rules.first()),
        ("new", Some(&"separator"))
    );
}

fn plain(text: &str) -> Text {
    Text {
        plain: text.to_owned(),
        html: None,
        is_from_html: false,
    }
}

/// The words of a text, as a bag.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    words.sort();
    words
}

/// Parses, classifies and extracts, and checks that no word was lost. The source of the extract is the plain text or
/// the HTML, so either bag may match.
fn check(bytes: &[u8], name: &str) {
    let started = Instant::now();
    let Ok(mail) = parse(bytes) else { return };
    let classification = classify(
        &mail,
        &Facts {
            own: &HashSet::new(),
            answers_ours: true,
            is_ours: false,
        },
    );
    let _why = sender::suppresses_answer(&mail, &classification);
    let _trust = sender::trust(&mail, &["mx.google.com".to_owned()]);
    for is_reply in [false, true] {
        let extract = reply::extract(&mail.text, is_reply, &[]);
        let all = [Some(extract.body), extract.elided, extract.signature]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join("\n");
        let html = mail
            .text
            .html
            .as_deref()
            .map(mailintake::mail::body::html_to_text)
            .unwrap_or_default();
        let found = words(&all);
        assert!(
            found == words(&mail.text.plain) || found == words(&html),
            "{name}: words were lost ({is_reply})"
        );
    }
    assert!(started.elapsed() < TIME_MAX, "{name} took {:?}", started.elapsed());
}

/// The attachments by the skeleton are those by all bytes, whatever was cut.
fn check_cuts(bytes: Vec<u8>, name: &str) {
    let Ok(whole) = parse(&bytes) else { return };
    let message = Arc::new(Skimmed::held(bytes));
    let mail = parse(message.parsed()).unwrap();
    let parts: Vec<_> = mail.attachments.iter().map(|attachment| attachment.encoded).collect();
    let is_explained = message.skeleton.cuts.iter().all(|cut| {
        let mut parts = parts.iter().flatten();
        parts.any(|encoded| cut.is_within(encoded.start, encoded.end))
    });
    if !is_explained {
        // Then all bytes are parsed.
        return;
    }
    assert!(mail.text == whole.text, "{name}: another text");
    assert_eq!(mail.attachments.len(), whole.attachments.len(), "{name}");
    for (cut, attachment) in mail.attachments.iter().zip(&whole.attachments) {
        let sha256: [u8; 32] = match &cut.encoded {
            Some(encoded) if message.skeleton.is_cut(encoded.start, encoded.end) => {
                Stretch::part(Arc::clone(&message), encoded).measure().unwrap().sha256
            }
            Some(_) | None => Sha256::digest(&cut.bytes).into(),
        };
        assert!(
            *Sha256::digest(&attachment.bytes) == sha256,
            "{name}: {:?}",
            attachment.filename
        );
    }
}

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn every_file_of_a_corpus_is_read_and_no_word_is_lost() {
    let mut found = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus"), &mut found);
    match std::env::var_os("MAILINTAKE_CORPUS") {
        Some(directory) => files(Path::new(&directory), &mut found),
        None => eprintln!("MAILINTAKE_CORPUS is not set: only the project's own mails are read"),
    }
    for path in &found {
        let (bytes, name) = (std::fs::read(path).unwrap(), path.display().to_string());
        check(&bytes, &name);
        check_cuts(bytes, &name);
    }
    eprintln!("{} files read", found.len());
}

#[test]
fn deeply_nested_messages_end_no_thread() {
    let nested = "Content-Type: message/rfc822\n\n".repeat(20_000);
    let engine = base64::engine::general_purpose::STANDARD;
    let coded = format!(
        "Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n{}",
        engine.encode(&nested)
    );
    let digests: Vec<String> = (0..5_000)
        .map(|n| format!("Content-Type: multipart/digest; boundary=b{n}\n\n--b{n}\n\n"))
        .collect();
    let spaced = "Content-Type : Message\n /\n RFC822\n\n".repeat(20_000);
    let parts: Vec<String> = (0..2_000)
        .map(|n| format!("Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n"))
        .collect();
    for bytes in [
        nested,
        coded,
        digests.concat(),
        spaced,
        parts.concat(),
        "A: b\n".repeat(200_000),
        format!("To: {}\n\nx", "a@b, ".repeat(50_000)),
        "(".repeat(1_000_000),
    ] {
        let worker = std::thread::Builder::new()
            .stack_size(2 * 1024 * 1024)
            .spawn(move || check(bytes.as_bytes(), "nested"));
        worker.unwrap().join().unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        check(&bytes, "random");
    }

    #[test]
    fn mutated_mails_are_read(which in 0_usize..100, cut in 0_usize..1000, changes in proptest::collection::vec((0_usize..1000, any::<u8>()), 0..12)) {
        let mut found = Vec::new();
        files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus"), &mut found);
        found.sort();
        let mut bytes = std::fs::read(&found[which % found.len()]).unwrap();
        for (at, byte) in changes {
            let length = bytes.len();
            if let Some(slot) = bytes.get_mut(at % length.max(1)) {
                *slot = byte;
            }
        }
        bytes.truncate(bytes.len().saturating_sub(cut / 3));
        check(&bytes, "mutated");
    }

    #[test]
    fn no_text_loses_words(lines in proptest::collection::vec(prop_oneof![
        "[a-z ]{0,30}", Just("-- ".to_owned()), Just("> quoted words".to_owned()), Just(String::new()),
        Just("On Mon, 2 Nov 2026 at 10:00, Ann <a@b.example> wrote:".to_owned()), Just("Sent from my iPhone".to_owned()),
        Just("From: Ann".to_owned()), Just("Sent: Monday".to_owned()), Just("To: Bob".to_owned()), Just("Subject: x".to_owned()),
        Just("-----Original Message-----".to_owned()), Just("Best regards,".to_owned()), Just("__________".to_owned()),
        Just("reply On Mon, 2 Nov 2026, Ann wrote:".to_owned()), ".{0,20}",
    ], 0..40)) {
        let text = lines.join("\n");
        let extract = reply::extract(&plain(&text), true, &[]);
        let all = [Some(extract.body.clone()), extract.elided, extract.signature].into_iter().flatten().collect::<Vec<_>>().join("\n");
        prop_assert_eq!(words(&all), words(&text));
        prop_assert!(extract.body.chars().any(char::is_alphanumeric) || !text.chars().any(char::is_alphanumeric));
    }
}
