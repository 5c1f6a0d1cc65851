//! Which lines of a reply are quoted: by their marks, or because they stand below an attribution, a header block or a
//! separator. Answers between quotations keep the quotations that they answer.

use super::attribution::{self, Attribution, Strength, is_quoted};
use super::{Mark, block, elide, has_word, signature};

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
    let end = (0..end)
        .find(|at| {
            lines
                .get(*at)
                .is_some_and(|line| !is_quoted(line) && block::is_forward(line))
        })
        .unwrap_or(end);
    let runs = runs(lines, end);
    let is_text = |from: usize, to: usize| {
        lines
            .get(from..to)
            .is_some_and(|piece| piece.iter().any(|line| has_word(line)) && !is_signature_only(piece))
    };
    let is_between = |(at, run): (usize, &Run)| {
        let before = at
            .checked_sub(1)
            .and_then(|before| runs.get(before))
            .map_or(0, |run| run.end);
        let has_before = (0..=at).any(|index| {
            let from = index
                .checked_sub(1)
                .and_then(|before| runs.get(before))
                .map_or(0, |run| run.end);
            let to = runs.get(index).map_or(end, |run| run.first);
            is_text(from, to)
        });
        let has_after = (at..runs.len()).any(|index| {
            let from = runs.get(index).map_or(0, |run| run.end);
            let to = runs.get(index.saturating_add(1)).map_or(end, |run| run.first);
            is_text(from, to)
        });
        let _ = (before, run);
        (has_before, has_after)
    };
    let places: Vec<(bool, bool)> = runs.iter().enumerate().map(is_between).collect();
    let answered = places.iter().filter(|(_, after)| *after).count();
    for (run, (before, after)) in runs.iter().zip(&places) {
        let rule = match (before, after) {
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

/// The line from which on everything is the original message, if there is one with an answer above it.
fn cut(lines: &[&str], end: usize) -> Option<(usize, &'static str)> {
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
        if has_text && let Some(found) = attribution_at(lines, at, end) {
            return Some((above_rule(lines, found.first), "attribution"));
        }
        if block::is_forward(line) {
            return None;
        }
        is_rule_above = block::is_rule(line);
        has_text |= has_word(line);
    }
    None
}

/// A sure attribution that begins on line `at` and is followed by text without quotation marks.
fn attribution_at(lines: &[&str], at: usize, end: usize) -> Option<Attribution> {
    let found = (at..end.min(at.saturating_add(5))).find_map(|last| {
        attribution::ending_at(lines, last).filter(|found| found.first == at && found.strength == Strength::Strong)
    })?;
    let below = found.first.saturating_add(found.lines);
    let next = lines.get(below..end)?.iter().find(|line| !line.trim().is_empty());
    let is_bare = next.is_none_or(|line| !is_quoted(line));
    is_bare.then_some(found)
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
