//! Subjects: the prefixes that clients and servers put before what a person wrote.
//! It decides about words only; who answers whom is decided by ids.

/// Prefixes of an answer, as clients of many languages write them. `VS` is missing: Finnish clients answer with it,
/// Danish ones forward.
const REPLY: [&str; 27] = [
    "re",
    "aw",
    "antw",
    "antwort",
    "sv",
    "svar",
    "res",
    "resp",
    "rif",
    "r",
    "odp",
    "vá",
    "ynt",
    "atb",
    "bls",
    "απ",
    "σχετ",
    "회신",
    "回复",
    "回覆",
    "答复",
    "답장",
    "отв",
    "ответ",
    "відп",
    "השב",
    "رد",
];
/// Prefixes of a forwarded message.
const FORWARD: [&str; 22] = [
    "fw", "fwd", "wg", "doorst", "tr", "vb", "vl", "rv", "enc", "i", "inoltra", "pd", "prz", "ilt", "i̇lt", "yml",
    "trs", "転送", "转发", "轉寄", "전달", "πρθ",
];
/// Prefixes that mean one thing here and another there.
const EITHER: [&str; 2] = ["vs", "fs"];
/// Longest tag in brackets that is skipped, such as `[External]`.
const TAG_MAX_CHARS: usize = 40;

/// A subject as it is compared: without prefixes and tags, white space folded, in lower case.
pub fn canonical_subject(subject: &str) -> String {
    let mut rest = subject.trim();
    loop {
        let shorter = skip_prefix(rest).map(|(_, rest)| rest).or_else(|| skip_tag(rest));
        match shorter {
            Some(shorter) if !shorter.is_empty() => rest = shorter,
            Some(_) | None => break,
        }
    }
    rest.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

/// Whether the subject begins as that of an answer.
pub fn has_reply_prefix(subject: &str) -> bool {
    leading_prefix(subject).is_some_and(|prefix| REPLY.contains(&prefix.as_str()))
}

/// Whether the subject begins as that of a forwarded message.
pub fn has_forward_prefix(subject: &str) -> bool {
    leading_prefix(subject).is_some_and(|prefix| FORWARD.contains(&prefix.as_str()))
}

/// The first prefix, tags before it skipped.
fn leading_prefix(subject: &str) -> Option<String> {
    let mut rest = subject.trim();
    while let Some(shorter) = skip_tag(rest) {
        rest = shorter;
    }
    skip_prefix(rest).map(|(prefix, _)| prefix)
}

/// A subject without the tags that gateways put before it.
pub(crate) fn without_tags(subject: &str) -> &str {
    let mut rest = subject.trim();
    while let Some(shorter) = skip_tag(rest) {
        rest = shorter;
    }
    rest
}

/// Takes `Re:`, `RE[2]:`, `Re^3 :`, `回复：` off the front.
fn skip_prefix(subject: &str) -> Option<(String, &str)> {
    let (before, rest) = subject.split_once([':', '：'])?;
    let word = before
        .trim_end()
        .trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '[' | ']' | '(' | ')' | '^' | '*'))
        .trim_end()
        .to_lowercase();
    let is_known = [&REPLY[..], &FORWARD[..], &EITHER[..]]
        .iter()
        .any(|list| list.contains(&word.as_str()));
    is_known.then(|| (word, rest.trim_start()))
}

/// Takes `[External]` off the front.
fn skip_tag(subject: &str) -> Option<&str> {
    let (tag, rest) = subject.strip_prefix('[')?.split_once(']')?;
    (tag.chars().count() <= TAG_MAX_CHARS && !rest.trim().is_empty()).then(|| rest.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_and_tags_do_not_count() {
        for (subject, canonical, is_reply, is_forward) in [
            ("Printer  on fire", "printer on fire", false, false),
            ("Re: Printer on fire", "printer on fire", true, false),
            ("AW: WG: Drucker", "drucker", true, false),
            ("RE : Imprimante", "imprimante", true, false),
            ("Re[2]: x", "x", true, false),
            ("Re(3): x", "x", true, false),
            ("回复：你好", "你好", true, false),
            ("[External] Re: x", "x", true, false),
            ("Re: [SUP-1] x", "x", true, false),
            ("Fwd: x", "x", false, true),
            ("TR : x", "x", false, true),
            ("VS: x", "x", false, false),
            ("[only a tag]", "[only a tag]", false, false),
            ("Re:", "re:", true, false),
            ("Recall: x", "recall: x", false, false),
            ("", "", false, false),
        ] {
            assert_eq!(canonical_subject(subject), canonical, "{subject}");
            assert_eq!(
                (has_reply_prefix(subject), has_forward_prefix(subject)),
                (is_reply, is_forward),
                "{subject}"
            );
        }
    }
}
