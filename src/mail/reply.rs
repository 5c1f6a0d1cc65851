//! The new words of a reply, apart from what it quotes and from the signature.
//! It never loses a word: body, elided text and signature together are the whole text; when unsure, words stay.

mod attribution;
mod block;
mod quote;
mod signature;

use std::sync::LazyLock;

use regex::Regex;

use super::{Extract, Mail, Text, body, subject};

/// Longest text that is taken apart; what is longer, a log or a listing, is kept whole.
const TEXT_MAX_BYTES: usize = 1024 * 1024;
/// Most lines that are taken apart.
const LINES_MAX: usize = 10_000;

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Keep,
    Elide,
    Sign,
}

/// What the automaton of a pattern may hold, for each thread that reads, in bytes.
const AUTOMATON_BYTES: usize = 512 << 10;

/// Compiles a pattern of this module.
#[expect(
    clippy::expect_used,
    reason = "the patterns are literals, and a test compiles each of them"
)]
fn pattern(source: &str) -> Regex {
    regex::RegexBuilder::new(source)
        .dfa_size_limit(AUTOMATON_BYTES)
        .build()
        .expect("a literal pattern")
}

/// Whether a message answers another: by In-Reply-To, References or a reply prefix in its subject.
pub fn is_reply(mail: &Mail) -> bool {
    !mail.in_reply_to.is_empty() || !mail.references.is_empty() || subject::has_reply_prefix(&mail.subject)
}

/// Takes the text of a message apart. What is no reply stays whole: a forwarded or first mail needs its quotations.
/// `separators` are lines such as "reply above this line": from one on everything is elided.
pub fn extract(text: &Text, is_reply: bool, separators: &[String]) -> Extract {
    if !is_reply {
        return whole(&text.plain, Vec::new(), 1.0);
    }
    let Some(html) = text.html.as_deref() else {
        return plain(&text.plain, separators);
    };
    let marked = || plain(&body::html_to_marked_text(html), separators);
    if text.is_from_html {
        return marked();
    }
    // The plain part is what the person may have written; the HTML part knows quotations that it does not show.
    let of_plain = plain(&text.plain, separators);
    if of_plain.elided.is_some() || of_plain.rules.contains(&"nothing-left") {
        return of_plain;
    }
    let of_html = marked();
    if of_html.elided.is_some() && of_html.confidence >= 0.5 {
        of_html
    } else {
        of_plain
    }
}

/// An extract that cuts nothing.
fn whole(text: &str, rules: Vec<&'static str>, confidence: f64) -> Extract {
    Extract {
        body: trim_ends(text).to_owned(),
        elided: None,
        signature: None,
        rules,
        confidence,
    }
}

/// Takes plain text apart.
fn plain(text: &str, separators: &[String]) -> Extract {
    let lines: Vec<&str> = text.lines().flat_map(split_attribution).collect();
    if lines.len() > LINES_MAX || text.len() > TEXT_MAX_BYTES {
        return whole(text, vec!["too-long"], 1.0);
    }
    let mut marks = vec![Mark::Keep; lines.len()];
    let mut rules = Vec::new();
    let end = separator(&lines, separators)
        .inspect(|_| rules.push("separator"))
        .unwrap_or(lines.len());
    elide(&mut marks, end..lines.len());
    quote::mark(&lines, end, &mut marks, &mut rules);
    sign(&lines, &mut marks, &mut rules);
    if !lines
        .iter()
        .zip(&marks)
        .any(|(line, mark)| *mark == Mark::Keep && has_word(line))
    {
        return whole(text, vec!["nothing-left"], 0.4);
    }
    assemble(&lines, &marks, rules)
}

/// Cuts a line in two where an attribution begins in its middle: some clients lose the line break.
fn split_attribution(line: &str) -> impl Iterator<Item = &str> {
    static MIDDLE: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"(?:-{2,4} ?)?\bOn (?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? .{8}.*\bwrote:\s*$"));
    let at = if line.len() <= 1000 && line.trim_end().ends_with("wrote:") && !line.trim_start().starts_with('>') {
        MIDDLE.find(line).map_or(0, |found| found.start())
    } else {
        0
    };
    let (before, after) = line.split_at_checked(at).unwrap_or(("", line));
    (at > 0).then_some(before).into_iter().chain(std::iter::once(after))
}

/// The first line that holds one of the configured separators, whatever quotes or wraps it.
fn separator(lines: &[&str], separators: &[String]) -> Option<usize> {
    let wanted: Vec<String> = separators
        .iter()
        .map(|separator| separator.trim().to_lowercase())
        .filter(|separator| !separator.is_empty())
        .collect();
    if wanted.is_empty() {
        return None;
    }
    lines.iter().position(|line| {
        let lower = line.to_lowercase();
        wanted.iter().any(|separator| lower.contains(separator))
    })
}

/// Whether a line says anything.
fn has_word(line: &str) -> bool {
    line.chars().any(char::is_alphanumeric)
}

/// Marks lines as elided.
fn elide(marks: &mut [Mark], range: std::ops::Range<usize>) {
    for mark in marks.iter_mut().take(range.end).skip(range.start) {
        *mark = Mark::Elide;
    }
}

/// Marks the signatures: at the end of each stretch of kept lines that is followed by something cut, or by the end.
fn sign(lines: &[&str], marks: &mut [Mark], rules: &mut Vec<&'static str>) {
    let filled = |range: std::ops::Range<usize>, marks: &[Mark]| {
        let pairs = lines.iter().zip(marks).take(range.end).skip(range.start);
        pairs
            .filter(|(line, mark)| **mark == Mark::Keep && has_word(line))
            .count()
    };
    let mut left = filled(0..lines.len(), marks);
    let mut start = 0;
    while start < marks.len() {
        let length = marks.iter().skip(start).take_while(|mark| **mark == Mark::Keep).count();
        let end = start.saturating_add(length);
        if let Some((at, rule)) = lines.get(start..end).and_then(signature::find) {
            let first = start.saturating_add(at);
            let signed = filled(first..end, marks);
            // A signature is one only below something.
            if signed < left {
                left = left.saturating_sub(signed);
                for mark in marks.iter_mut().take(end).skip(first) {
                    *mark = Mark::Sign;
                }
                rules.push(rule);
            }
        }
        start = end.saturating_add(1);
    }
}

/// Puts the pieces together. Empty lines next to what was cut go, but one stays between two pieces of body.
fn assemble(lines: &[&str], marks: &[Mark], rules: Vec<&'static str>) -> Extract {
    let body = gather(lines, marks, Mark::Keep);
    let elided = gather(lines, marks, Mark::Elide);
    let signature = gather(lines, marks, Mark::Sign);
    let confidence = confidence(&body, &rules);
    let filled = |text: String| (!text.trim().is_empty()).then_some(text);
    Extract {
        body,
        elided: filled(elided),
        signature: filled(signature),
        rules,
        confidence,
    }
}

/// The lines of one kind.
fn gather(lines: &[&str], marks: &[Mark], wanted: Mark) -> String {
    let mut text = String::new();
    let mut is_cut_before = false;
    for (line, mark) in lines.iter().zip(marks) {
        if *mark != wanted {
            is_cut_before = !text.is_empty();
            continue;
        }
        if is_cut_before && !text.ends_with("\n\n") {
            text.push('\n');
        }
        let is_doubled_gap = is_cut_before && line.trim().is_empty();
        if !is_doubled_gap {
            is_cut_before = false;
            text.push_str(line);
            text.push('\n');
        }
    }
    trim_ends(&text).to_owned()
}

/// Takes empty lines off both ends and white space off the last.
fn trim_ends(text: &str) -> &str {
    let end = text.trim_end();
    let lead: usize = end
        .split_inclusive('\n')
        .take_while(|line| line.trim().is_empty())
        .map(str::len)
        .sum();
    end.get(lead..).unwrap_or_default()
}

/// How sure the cut is.
fn confidence(body: &str, rules: &[&'static str]) -> f64 {
    match rules.first() {
        None | Some(&"separator") => 1.0,
        Some(_) if body.chars().filter(|c| c.is_alphanumeric()).count() < 2 => 0.45,
        Some(_)
            if rules
                .iter()
                .any(|rule| matches!(*rule, "card" | "dashed-name" | "weak-attribution")) =>
        {
            0.7
        }
        Some(_) => 0.9,
    }
}
