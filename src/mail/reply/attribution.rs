//! Lines that say who wrote what follows: "On Monday, Ann <ann@example.org> wrote:", in the languages of the clients.
//! It looks at shape before words: a date, an address, a verb of writing, a colon at the end.

use std::sync::LazyLock;

use regex::Regex;

use super::pattern;

/// Most lines that an attribution is wrapped over.
const LINES_MAX: usize = 6;
/// Longest attribution, in bytes: longer is prose.
const BYTES_MAX: usize = 500;

/// How sure an attribution is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strength {
    /// Only a quotation right behind it makes it one.
    Weak,
    /// It is one wherever it stands.
    Strong,
}

/// An attribution: its first line, how many lines, how sure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attribution {
    pub(super) first: usize,
    pub(super) lines: usize,
    pub(super) strength: Strength,
}

/// Verbs of writing.
static VERB: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)\b(?:wrote|writes|said|says|sent|schrieb|schreibt|geschrieben|a écrit|écrit|a envoyé|nous a dit|escribió|escribio|ha scritto|scrive|scritto|escreveu|escreveu-nos|schreef|geschreven|verzond|skrev|skrifaði|kirjoitti|napisał|napisała|napisał\(a\)|pisze|napsal|napsala|napsal\(a\)|napísal|написал|написала|написав|пише|пишет|писал|đã viết|yazdı|şunu yazdı|έγραψε|написа|a scris|írta|menulis|כתב)\b|写道|寫道|寫到|wrote|作成|작성|のメッセージ|さんは書きました|написал\(а\)|napisał\(a\)|napsal\(a\)",
    )
});
/// A day or an hour.
static DATE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"[0-9]{1,4}[./-]\s?[0-9]{1,2}[./-]\s?[0-9]{1,4}|[0-9]{1,2}[:.h][0-9]{2}|\b(?:19|20)[0-9][0-9]\b|[0-9]{1,2}[-\s][^\x00-@\x5b-`\x7b-\x7f]{3,9}[-\s][0-9]{2,4}|[0-9]\s?[年月日時]|[0-9]\s?년",
    )
});
/// A mail address.
static ADDRESS: LazyLock<Regex> = LazyLock::new(|| pattern(r"[^\s<>@]+@[^\s<>@]+\.[^\s<>@]+|<mailto:"));
/// A day with an hour or a year: what a client writes and a person hardly does.
static FULL_DATE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"[0-9]{1,4}[./-]\s?[0-9]{1,2}[./-]\s?[0-9]{1,4}|(?:19|20)[0-9][0-9].{0,25}[0-9]{1,2}[:.h][0-9]{2}|[0-9]{1,2}[:.h][0-9]{2}.{0,30}(?:19|20)[0-9][0-9]|\b[0-9]{1,2}\b.{1,15}\b(?:19|20)[0-9][0-9]\b|[^\x00-@\x5b-`\x7b-\x7f]{3,10}\.? [0-9]{1,2},? (?:19|20)[0-9][0-9]|[0-9]{1,2}[-\s][^\x00-@\x5b-`\x7b-\x7f]{3,9}[-\s][0-9]{2,4}|[^\x00-@\x5b-`\x7b-\x7f]{3,10}\.? [0-9]{1,2},? (?:at|um|à) [0-9]{1,2}|[0-9]{4}年",
    )
});
/// How a wrapped attribution begins.
static START: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)^\s*(?:[-*_>]{0,8}\s*)(?:(?:on|at|am|le|el|il|em|op|den|på|pe|ke|ma|ti|to|su|la|w dniu|dnia|dne|dňa|vào|a|in data|em|data|le|lun|mar|mer|gio|ven|sab|dom|man|tir|ons|tor|fre|lør|søn|mån|tis|lör|sön|pon|wt|śr|czw|pt|sob|ndz|пн|вт|ср|чт|пт|сб|вс|mon|tue|wed|thu|fri|sat|sun|monday|tuesday|wednesday|thursday|friday|saturday|sunday)\b|[0-9]{1,4}[./\s-]|[0-9]{4}年)",
    )
});

/// The attribution that ends on line `last`, if one does.
pub(super) fn ending_at(lines: &[&str], last: usize) -> Option<Attribution> {
    let line = lines.get(last)?.trim_end();
    if line.len() > BYTES_MAX || !may_end(line) {
        return None;
    }
    // The shortest window that begins as attributions do; else what the last line says alone.
    let mut alone = None;
    for count in 1..=LINES_MAX {
        let Some(first) = (last.saturating_add(1)).checked_sub(count) else {
            break;
        };
        let window = lines.get(first..=last)?;
        let head = window.first()?;
        let joined = window.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
        if is_quoted(head) || joined.len() > BYTES_MAX {
            break;
        }
        let is_beginning = !head.trim().is_empty() && begins(head, count);
        let Some(strength) = strength(&joined, count) else {
            continue;
        };
        if is_beginning && (strength == Strength::Strong || count > 1) {
            return Some(Attribution {
                first,
                lines: count,
                strength,
            });
        }
        if count == 1 {
            alone = Some(Attribution {
                first,
                lines: count,
                strength,
            });
        }
    }
    alone
}

/// Whether an attribution of `count` lines may begin with `head`.
fn begins(head: &str, count: usize) -> bool {
    let is_short = head.chars().count() <= 120 && !head.trim_end().ends_with(['.', '!', '?']);
    match count {
        1 => START.is_match(head) && DATE.is_match(head),
        2 => is_short && (START.is_match(head) || ADDRESS.is_match(head) && DATE.is_match(head)),
        // Clients that break at every bracket put empty lines between.
        _ => is_short && START.is_match(head) && DATE.is_match(head),
    }
}

/// Whether a line could be the last of an attribution.
fn may_end(line: &str) -> bool {
    line.ends_with([':', '：', '>', ';'])
        || line.ends_with("wrote")
        || line.ends_with("----")
        || line.ends_with("：")
        || line.ends_with(":*")
        || line.ends_with("wrote...")
        || line.ends_with("wrote…")
        || line.ends_with("sent:")
}

/// Judges the joined text.
fn strength(joined: &str, count: usize) -> Option<Strength> {
    let has_colon = joined.trim_end_matches(['*', '_', '-', ' ']).ends_with([':', '：']);
    let has_verb = VERB.is_match(joined);
    let has_address = ADDRESS.is_match(joined);
    let has_full_date = FULL_DATE.is_match(joined);
    let is_zoho = joined.trim_start().starts_with("----") && joined.trim_end().ends_with("----");
    match (has_colon || is_zoho, has_verb) {
        // "As I wrote on Monday at 10:00:" is prose; with a beginning as clients write it, it is none.
        (true, true) if has_full_date && (has_address || is_zoho || START.is_match(joined)) => Some(Strength::Strong),
        (true, true) if has_address => Some(Strength::Strong),
        (true, true) if count == 1 && joined.chars().count() <= 120 => Some(Strength::Weak),
        (true, false) if has_address && has_full_date => Some(Strength::Strong),
        (true, false) if has_full_date && count == 1 && joined.chars().count() <= 120 => Some(Strength::Weak),
        (true, false) if has_address && count == 1 => Some(Strength::Weak),
        (false, true) if has_full_date => Some(Strength::Weak),
        (false, false)
            if has_address && has_full_date && joined.trim_end().ends_with('>') && START.is_match(joined) =>
        {
            Some(Strength::Weak)
        }
        (true | false, true | false) => None,
    }
}

/// Whether a line is quoted; the closing bracket of an address that was wrapped is none: `> wrote:`.
pub(super) fn is_quoted(line: &str) -> bool {
    let Some(rest) = line.trim_start().strip_prefix(['>', '＞']) else {
        return false;
    };
    rest.len() > 40
        || !rest.trim_end().ends_with([':', '：'])
        || !VERB.is_match(rest)
        || rest.trim_end_matches([':', ' ']).contains(' ') && rest.trim().contains(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributions_are_seen_in_many_languages_and_prose_is_not() {
        for (text, wanted) in [
            (
                "On Mon, 2 Nov 2026 at 10:00, Ann <ann@b.example> wrote:",
                Some((0, 1, Strength::Strong)),
            ),
            (
                "On Mon, 2 Nov 2026 at 10:00, Ann Example <\nann@b.example> wrote:",
                Some((0, 2, Strength::Strong)),
            ),
            ("Am 02.11.2026 um 10:00 schrieb Ann:", Some((0, 1, Strength::Strong))),
            ("Le 2 nov. 2026 à 10:00, Ann a écrit :", Some((0, 1, Strength::Strong))),
            (
                "Op ma 2 nov. 2026 om 10:00 schreef Ann <ann@b.example>:",
                Some((0, 1, Strength::Strong)),
            ),
            (
                "2026-11-02 10:00 GMT+01:00 Ann <ann@b.example>:",
                Some((0, 1, Strength::Strong)),
            ),
            ("W dniu 02.11.2026 o 10:00 Ann pisze:", Some((0, 1, Strength::Strong))),
            ("Ann wrote:", Some((0, 1, Strength::Weak))),
            ("As I wrote on 02.11.2026 at 10:00:", Some((0, 1, Strength::Weak))),
            (
                "On Tue, 3 Nov 2026 at 10:00 Ann\n\n<\nmailto:Ann <ann@b.example>\n> wrote:",
                Some((0, 5, Strength::Strong)),
            ),
            (
                "Ann <ann@b.example> schrieb am Mo., 2. Nov. 2026\num 10:00 Uhr:",
                Some((0, 2, Strength::Strong)),
            ),
            ("Please do this:", None),
            ("Here is what I wrote yesterday.", None),
            ("See http://a.example/", None),
        ] {
            let lines: Vec<&str> = text.lines().collect();
            let found = ending_at(&lines, lines.len() - 1).map(|found| (found.first, found.lines, found.strength));
            assert_eq!(found, wanted, "{text}");
        }
    }
}
