//! The text of `format=flowed`, its paragraphs in one line each again.
//! It never touches other text.

use super::parameter;

/// Joins the soft line breaks of `format=flowed` (RFC 3676 §4).
pub(super) fn unflow(text: &str, kind: &parameter::Value) -> String {
    if !kind
        .parameter("format")
        .is_some_and(|format| format.eq_ignore_ascii_case("flowed"))
    {
        return text.to_owned();
    }
    let drops_space = kind
        .parameter("delsp")
        .is_some_and(|value| value.eq_ignore_ascii_case("yes"));
    let mut joined = String::with_capacity(text.len());
    let mut open_depth = None;
    for line in text.lines() {
        let bare = line.trim_start_matches('>');
        let depth = line.len().saturating_sub(bare.len());
        // Space-stuffing (§4.4).
        let content = bare.strip_prefix(' ').unwrap_or(bare);
        let is_separator = content == "-- ";
        if open_depth == Some(depth) && !is_separator {
            joined.push_str(content);
        } else {
            if open_depth.is_some() {
                joined.push('\n');
            }
            joined.push_str(line.get(..depth).unwrap_or_default());
            joined.push_str(if depth > 0 && !content.is_empty() { " " } else { "" });
            joined.push_str(content);
        }
        if content.ends_with(' ') && !is_separator {
            if drops_space {
                joined.pop();
            }
            open_depth = Some(depth);
        } else {
            joined.push('\n');
            open_depth = None;
        }
    }
    joined
}
