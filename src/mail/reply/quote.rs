//! Which lines of a reply are quoted: by their marks, or because they stand below an attribution, a header block or a
//! separator. Answers between quotations keep the quotations that they answer.

use super::attribution::{self, Attribution, Strength, is_quoted};
use super::{Mark, block, elide, has_word, signature};

/// Most empty lines between an attribution and what it introduces.
const GAP_LINES: usize = 12;

/// A stretch of quoted lines with the attribution above it.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// The first line: of the attribution, where there is one.
    first: usize,
    /// The line behind the last.
    end: usize,
    is_attributed: bool,
}

/// Marks what is quoted among the first `end` lines.
pub(super) fn mark(lines: &[&str], end: usize, marks: &mut [Mark], rules: &mut Vec<&'static str>) {
    let end = match cut(lines, end) {
        Some((at, rule)) => {
            rules.push(rule);
            elide(marks, at..end);
            at
        }
        None => end,
    };
    // A forwarded message is what the sender wants to show.
    let is_forward = |at: &usize| {
        lines
            .get(*at)
            .is_some_and(|line| !is_quoted(line) && block::is_forward(line))
    };
    let end = (0..end).find(is_forward).unwrap_or(end);
    let runs = runs(lines, end);
    let texts = texts_between(lines, &runs, end);
    // Text number n stands before run n; the last one behind all.
    let first = texts.iter().position(|is_text| *is_text);
    let last = texts.iter().rposition(|is_text| *is_text);
    let is_before = |at: usize| first.is_some_and(|first| first <= at);
    let is_after = |at: usize| last.is_some_and(|last| last > at);
    let answered = (0..runs.len()).filter(|at| is_after(*at)).count();
    for (at, run) in runs.iter().enumerate() {
        let rule = match (is_before(at), is_after(at)) {
            (_, false) => Some("trailing-quotation"),
            (false, true) if answered == 1 => Some("leading-quotation"),
            (true, true) if answered == 1 && run.is_attributed => Some("attributed-quotation"),
            (true | false, true) => None,
        };
        if let Some(rule) = rule {
            rules.push(rule);
            elide(marks, run.first..run.end);
        }
    }
}

/// Whether somebody wrote something before each run, and behind the last; a signature alone is nothing.
fn texts_between(lines: &[&str], runs: &[Run], end: usize) -> Vec<bool> {
    let starts = std::iter::once(0).chain(runs.iter().map(|run| run.end));
    let ends = runs.iter().map(|run| run.first).chain(std::iter::once(end));
    starts
        .zip(ends)
        .map(|(from, to)| {
            let piece = lines.get(from..to).unwrap_or_default();
            piece.iter().any(|line| has_word(line)) && !is_signature_only(piece)
        })
        .collect()
}

/// The line from which on everything is the original message, if there is one with an answer above it.
fn cut(lines: &[&str], end: usize) -> Option<(usize, &'static str)> {
    let attributions = bare_attributions(lines, end);
    let mut has_text = false;
    let mut is_rule_above = false;
    for at in 0..end {
        let line = lines.get(at)?;
        if line.trim().is_empty() {
            continue;
        }
        if is_quoted(line) {
            is_rule_above = false;
            continue;
        }
        if has_text && block::is_separator(line) {
            return Some((at, "original-message"));
        }
        if has_text && block::begins_at(lines, at, is_rule_above) {
            return Some((above_rule(lines, at), "header-block"));
        }
        if has_text && attributions.iter().any(|found| found.first == at) {
            return Some((above_rule(lines, at), "attribution"));
        }
        if block::is_forward(line) {
            return None;
        }
        is_rule_above = block::is_rule(line);
        has_text |= has_word(line);
    }
    None
}

/// The sure attributions that are followed by text without quotation marks, in order of their first lines.
fn bare_attributions(lines: &[&str], end: usize) -> Vec<Attribution> {
    let is_bare = |found: &Attribution| {
        let below = lines
            .get(found.first.saturating_add(found.lines)..end)
            .unwrap_or_default();
        let next = below.iter().take(GAP_LINES).find(|line| !line.trim().is_empty());
        next.is_none_or(|line| !is_quoted(line))
    };
    (0..end)
        .filter_map(|last| attribution::ending_at(lines, last))
        .filter(|found| found.strength == Strength::Strong && is_bare(found))
        .collect()
}

/// Moves a cut up over the rule and the empty lines above it.
fn above_rule(lines: &[&str], at: usize) -> usize {
    let filled = lines
        .get(..at)
        .and_then(|above| above.iter().rposition(|line| !line.trim().is_empty()));
    match filled {
        Some(above) if lines.get(above).is_some_and(|line| block::is_rule(line)) => above,
        Some(_) | None => at,
    }
}

/// The stretches of quoted lines before `end`; empty lines between quoted ones belong to them.
fn runs(lines: &[&str], end: usize) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut at = 0;
    let mut floor = 0;
    while at < end {
        if !lines.get(at).is_some_and(|line| is_quoted(line)) {
            at = at.saturating_add(1);
            continue;
        }
        let stop = run_end(lines, at, end);
        let (first, is_attributed) = with_attribution(lines, at, floor);
        runs.push(Run {
            first,
            end: stop,
            is_attributed,
        });
        floor = stop;
        at = stop;
    }
    runs
}

/// The line behind the stretch that begins on line `at`.
fn run_end(lines: &[&str], at: usize, end: usize) -> usize {
    let mut stop = at;
    for (index, line) in lines.iter().enumerate().take(end).skip(at) {
        if is_quoted(line) {
            stop = index.saturating_add(1);
        } else if !line.trim().is_empty() && !is_wrapped(lines, index) {
            break;
        }
    }
    stop
}

/// Whether an unquoted line is the end of the quoted line above that was too long: another follows at once.
fn is_wrapped(lines: &[&str], at: usize) -> bool {
    let above = at.checked_sub(1).and_then(|above| lines.get(above));
    let below = lines.get(at.saturating_add(1));
    above.is_some_and(|line| is_quoted(line) && line.chars().count() >= 60) && below.is_some_and(|line| is_quoted(line))
}

/// The first line of the attribution above line `at`, at most two empty lines between them.
fn with_attribution(lines: &[&str], at: usize, floor: usize) -> (usize, bool) {
    let above = lines.get(floor..at).unwrap_or_default();
    let Some(filled) = above.iter().rposition(|line| !line.trim().is_empty()) else {
        return (at, false);
    };
    let gap = above.len().saturating_sub(filled.saturating_add(1));
    let last = floor.saturating_add(filled);
    if gap > 2 {
        return (at, false);
    }
    match attribution::ending_at(lines, last) {
        Some(found) if found.first >= floor => (found.first, true),
        Some(_) | None if lines.get(last).is_some_and(|line| block::is_separator(line)) => (last, true),
        Some(_) | None => (at, false),
    }
}

/// Whether lines hold a signature and nothing else.
fn is_signature_only(lines: &[&str]) -> bool {
    let Some((start, _)) = signature::find(lines) else {
        return false;
    };
    !lines.iter().take(start).any(|line| has_word(line))
}
