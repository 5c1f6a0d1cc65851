//! Where a signature begins at the end of what somebody wrote.
//! It never cuts in the middle: everything from the sign to the end must look like a signature.

use std::sync::LazyLock;

use regex::Regex;

use super::{block, pattern};

/// How far from the end a signature is looked for.
const WINDOW_LINES: usize = 150;
/// Most filled lines below a standard delimiter.
const STANDARD_LINES: usize = 40;
/// Most filled lines below any other sign.
const LINES: usize = 14;
/// Most lines of a footer, empty ones included: lawyers write long.
const FOOTER_LINES: usize = 80;
/// How many lines below its rule a footer must show what it is.
const FOOTER_LOOK: usize = 8;
/// Longest line of a signature in characters, disclaimers aside.
const LINE_CHARS: usize = 120;

/// RFC 3676 §4.3 `-- `, and what clients make of it.
static DELIMITER: LazyLock<Regex> = LazyLock::new(|| pattern(r"^\s{0,3}(?:--|—|–|---|--\s?=20|__|\*\s?\*|ᐧ)\s*$"));
/// What telephones and apps write of themselves.
static DEVICE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)^[\s*_<(\[-]{0,4}(?:from my (?:iphone|ipad|android|mobile)|sent (?:from|via|with|by|using) (?:my |mobile|mail\b|mailbox|outlook|yahoo|samsung|gmail|proton|tutanota|the |a |an |iphone|ipad|android|blackberry|nine|airmail|spark|front|superhuman|thunderbird|windows|zoho|missive|hey\b|newton|spike|postbox|polymail|\p{Lu})|get outlook for|(?:diese nachricht wurde )?(?:von|mit) (?:meinem|meiner|der|dem) .{2,40} gesendet|gesendet (?:von|mit|aus)|von meinem .{2,30} gesendet|envoyé (?:de|depuis|à partir)|télécharger outlook|obtenir outlook|enviado (?:desde|do|de|a partir)|enviado pelo|inviato (?:da|dal|con)|verzonden (?:vanaf|met|via)|verstuurd vanaf|skickat från|sendt fra|lähetetty|wysłane? z|odesláno z|отправлено (?:с|из)|надіслано з|发自我的|從我的|从我的|iphoneから送信|나의 .{2,20}에서 보냄|trimis de pe|sent on the go|downloaded from the app|outlook for (?:ios|android))",
    )
});
/// How people end a letter, a line of its own.
static CLOSING: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)^\s*(?:(?:(?:with )?(?:best|kind|kindest|warm|warmest|many|friendly) )?(?:regards|wishes)|best|all the best|sincerely|sincerely yours|yours(?: sincerely| faithfully| truly)?|cordially|cheers|respectfully|mit freundlichen grüßen|mit freundlichem gruß|mit freundlichen grüssen|freundliche grüße|viele grüße|beste grüße|liebe grüße|schöne grüße|mfg|lg|vg|gruß|cordialement|bien cordialement|bien à vous|salutations|meilleures salutations|saludos|un saludo|saludos cordiales|atentamente|cordiali saluti|distinti saluti|saluti|atenciosamente|cumprimentos|met vriendelijke groet(?:en)?|vriendelijke groet(?:en)?|met hartelijke groet|groet(?:en|jes)?|mvh|kh|vh|med vänliga hälsningar|vänliga hälsningar|med vennlig hilsen|med venlig hilsen|hilsen|ystävällisin terveisin|terveisin|pozdrawiam|z poważaniem|s pozdravem|с уважением|з повагою|敬具|此致|祝好)\s*[,.!。，]?\s*$",
    )
});
/// A name behind a dash: `-Ann Example`.
static DASHED_NAME: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^\s*-{1,2}\s?\p{Lu}[\p{L}.'’-]*(?: \p{Lu}[\p{L}.'’-]*){0,3}\s*$"));
/// What stands on a visiting card.
static CONTACT: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)(?:^|\b)(?:tel|telefon|phone|mobile|mob|cell|fax|office|direct|t|m|f|p|e|w|www|email|e-mail|web|skype|twitter|linkedin)\s?[:.]\s?\S|\+[0-9][0-9\s().-]{7,}|https?://\S+|www\.\S+|[^\s@]+@[^\s@]+\.[A-Za-z0-9_À-ſ]{2,}|\b[0-9]{4,5}\s?(?:[A-Z]{2}\b|\p{Lu}\p{L}+)",
    )
});
/// A telephone, by number or label.
static TELEPHONE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)\+[0-9][0-9\s().-]{7,}|\b(?:tel|telefon|téléphone|phone|mobile|mob|cell|fax|office|direct)\b[A-Za-z0-9_À-ſ() ]{0,12}[:. ]\s?[+(0-9]",
    )
});
/// What lawyers have put below every mail.
static DISCLAIMER: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)confidential|intended (?:only |solely |exclusively )?for|vertraulich|confidentiel|confidencial|riservat|vertrouwelijk|unauthori[sz]ed|please consider the environment|think before you print|virus-free|avast|mailing list|unsubscribe|list-?info|swept for|scanned (?:for|by)|virus|this e-?mail and any|disclaimer",
    )
});

/// The first line of the signature at the end of `lines`, if there is one.
pub(super) fn find(lines: &[&str]) -> Option<(usize, &'static str)> {
    let skipped = lines.len().saturating_sub(WINDOW_LINES);
    let (start, rule) = find_near(lines.get(skipped..)?)?;
    Some((start.saturating_add(skipped), rule))
}

/// The same among few lines.
fn find_near(lines: &[&str]) -> Option<(usize, &'static str)> {
    let mut end = lines.len();
    let mut found = None;
    // A telephone's line may stand below a card, which may stand below a closing.
    for _ in 0..40 {
        let head = lines.get(..end)?;
        let Some((start, rule)) = find_once(head).filter(|(start, _)| *start < end) else {
            break;
        };
        end = start;
        found = Some((start, rule));
    }
    found
}

/// One sign.
fn find_once(lines: &[&str]) -> Option<(usize, &'static str)> {
    let filled = lines.iter().rposition(|line| !line.trim().is_empty())?;
    let last = lines.get(filled)?;
    if block::is_rule(last) || DELIMITER.is_match(last) {
        return Some((filled, "signature-delimiter"));
    }
    delimiter(lines)
        .or_else(|| device(lines))
        .or_else(|| footer(lines))
        .or_else(|| closing(lines))
        .or_else(|| dashed_name(lines))
        .or_else(|| card(lines))
}

/// Filled lines from `start` on, and whether all are short enough for a signature.
fn tail(lines: &[&str], start: usize) -> (usize, bool) {
    let filled = lines.iter().skip(start).filter(|line| !line.trim().is_empty());
    let is_short = filled
        .clone()
        .all(|line| line.chars().count() <= LINE_CHARS || DISCLAIMER.is_match(line));
    (filled.count(), is_short)
}

/// The first delimiter that is followed by few enough lines.
fn delimiter(lines: &[&str]) -> Option<(usize, &'static str)> {
    let at = lines.iter().enumerate().position(|(at, line)| {
        let is_standard = line.trim_end_matches('\r') == "-- ";
        let (count, is_short) = tail(lines, at.saturating_add(1));
        DELIMITER.is_match(line)
            && (is_standard && count <= STANDARD_LINES || count <= LINES && is_short && !says_still(lines, at))
    })?;
    Some((at, "signature-delimiter"))
}

/// A telephone's line among the last three filled ones.
fn device(lines: &[&str]) -> Option<(usize, &'static str)> {
    let filled = lines
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, line)| !line.trim().is_empty())
        .take(3);
    let (at, _) = filled
        .into_iter()
        .find(|(_, line)| line.chars().count() <= LINE_CHARS && DEVICE.is_match(line))?;
    // What follows must stand there by itself: a link, a name.
    let (count, is_short) = tail(lines, at.saturating_add(1));
    (count <= 2 && is_short).then_some((at, "device-line"))
}

/// The footer of a mailing list or a lawyer below a rule.
fn footer(lines: &[&str]) -> Option<(usize, &'static str)> {
    let is_footer = |at: usize| {
        let below = lines.iter().skip(at.saturating_add(1)).take(FOOTER_LOOK);
        below
            .filter(|line| !block::is_rule(line))
            .any(|line| DISCLAIMER.is_match(line))
    };
    let at = lines
        .iter()
        .enumerate()
        .position(|(at, line)| block::is_rule(line) && line.trim().len() >= 10 && is_footer(at))?;
    (lines.len().saturating_sub(at) <= FOOTER_LINES).then_some((at, "footer"))
}

/// A closing on a line of its own, near enough to the end, with something above it.
fn closing(lines: &[&str]) -> Option<(usize, &'static str)> {
    let at = lines
        .iter()
        .rposition(|line| line.len() <= 80 && CLOSING.is_match(line))?;
    let (count, is_short) = tail(lines, at.saturating_add(1));
    let has_text_above = lines.iter().take(at).any(|line| !line.trim().is_empty());
    if says_still(lines, at) {
        return None;
    }
    // A closing without a name is a last word rather than a signature.
    ((1..=LINES).contains(&count) && is_short && has_text_above).then_some((at, "closing"))
}

/// Whether a line below line `at` is a sentence, so that no signature begins there.
fn says_still(lines: &[&str], at: usize) -> bool {
    lines.iter().skip(at.saturating_add(1)).any(|line| is_sentence(line))
}

/// Whether a line below a closing says something still: a postscript, a question.
fn is_sentence(line: &str) -> bool {
    let trimmed = line.trim();
    let is_postscript = ["ps", "p.s", "nb", "n.b"].iter().any(|start| {
        let lower = trimmed.to_lowercase();
        lower
            .strip_prefix(start)
            .is_some_and(|rest| rest.starts_with([':', '.', ' ']))
    });
    let is_prose = trimmed.ends_with(['.', '?', '!']) && trimmed.split_whitespace().count() >= 6;
    (is_postscript || is_prose) && !DISCLAIMER.is_match(line) && !DEVICE.is_match(line)
}

/// `-Ann Example` as the last or the last but one filled line.
fn dashed_name(lines: &[&str]) -> Option<(usize, &'static str)> {
    let at = lines.iter().rposition(|line| !line.trim().is_empty())?;
    let line = lines.get(at)?;
    let is_list = lines.get(..at).is_some_and(|above| {
        above
            .iter()
            .rev()
            .take(3)
            .any(|line| line.trim_start().starts_with('-'))
    });
    (DASHED_NAME.is_match(line) && !is_list).then_some((at, "dashed-name"))
}

/// A visiting card as the last paragraph: several short lines, two of which say where to reach somebody; or a
/// disclaimer.
fn card(lines: &[&str]) -> Option<(usize, &'static str)> {
    let filled = lines.iter().rposition(|line| !line.trim().is_empty())?;
    let start = lines
        .get(..filled)?
        .iter()
        .rposition(|line| line.trim().is_empty())?
        .saturating_add(1);
    let paragraph = lines.get(start..=filled)?;
    let is_short = paragraph.iter().all(|line| line.chars().count() <= 80);
    let contacts = paragraph.iter().filter(|line| CONTACT.is_match(line)).count();
    // A list of addresses is no card: a telephone or a label must be among them, and a name above.
    let has_telephone = paragraph.iter().any(|line| TELEPHONE.is_match(line));
    let begins_with_name = paragraph.first().is_some_and(|line| !CONTACT.is_match(line));
    let is_card =
        (3..=LINES).contains(&paragraph.len()) && is_short && contacts >= 2 && has_telephone && begins_with_name;
    let is_disclaimer = paragraph.len() <= LINES
        && paragraph.iter().filter(|line| DISCLAIMER.is_match(line)).count() > 0
        && paragraph.iter().map(|line| line.len()).sum::<usize>() > 150;
    let has_text_above = lines.iter().take(start).any(|line| !line.trim().is_empty());
    (has_text_above && (is_card || is_disclaimer)).then_some((start, if is_card { "card" } else { "disclaimer" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_begin_where_they_begin() {
        for (text, start) in [
            ("text\n-- \nAnn", Some(1)),
            ("text\n--\nAnn\nContoso", Some(1)),
            ("text\n\nSent from my iPhone", Some(2)),
            ("text\n\nVon meinem iPhone gesendet", Some(2)),
            ("text\n\nBest regards,\nAnn", Some(2)),
            ("text\n\nBest regards,\nAnn\n\nPS: the other printer too", None),
            (
                "text\n\nBest regards,\nAnn\n\nCould you call me back tomorrow morning?",
                None,
            ),
            ("text\n\nMit freundlichen Grüßen\nAnn", Some(2)),
            ("text\n\n-Ann Example", Some(2)),
            ("text\n\nAnn Example\nTel: +1 555 123 4567\nann@b.example", Some(2)),
            ("text about sent from my iPhone app\nand more\nand more\nand more", None),
            ("- one\n- two\n- Three", None),
            (
                "text\n--\nvery long markdown table follows\n1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n13\n14\n15",
                None,
            ),
            ("text\n\n---\n\nThe next chapter says a lot of things.", None),
            ("text", None),
        ] {
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(find(&lines).map(|(start, _)| start), start, "{text}");
        }
    }
}
