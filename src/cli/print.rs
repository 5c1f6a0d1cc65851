//! Text for people and JSON for programs, on standard output; complaints on standard error.

use std::borrow::Cow;
use std::io::{ErrorKind, Write};

use comfy_table::{ContentArrangement, Table, presets};

use super::context::Failure;

/// Narrowest terminal that a table is fitted to, in columns; one that says less does not know its width.
const LEAST_WIDTH: u16 = 40;

/// Prints a text for people and a line end. What senders wrote stands in it, and commands no terminal. A reader
/// that has gone away is no fault.
///
/// # Errors
/// [`Failure::Output`].
pub fn line(text: &str) -> Result<(), Failure> {
    json_line(&harmless(text))
}

/// Prints a text for programs, as it is, and a line end.
///
/// # Errors
/// [`Failure::Output`].
pub fn json_line(text: &str) -> Result<(), Failure> {
    bytes(text.trim_end_matches('\n').as_bytes())?;
    bytes(b"\n")
}

/// A text in which what a terminal would obey, such as an escape sequence, or a change of the direction of writing
/// that hides what stands there, is U+FFFD.
fn harmless(text: &str) -> Cow<'_, str> {
    let is_command = |c: char| {
        (c.is_control() && c != '\n' && c != '\t') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if text.contains(is_command) {
        Cow::Owned(text.replace("\r\n", "\n").replace(is_command, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// Prints bytes as they are.
///
/// # Errors
/// [`Failure::Output`].
pub fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(Failure::Output),
    }
}

/// Prints a value as JSON.
///
/// # Errors
/// [`Failure::Output`].
pub fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::Failed(error.to_string()))?;
    json_line(&text)
}

/// Says what went wrong.
pub fn complaint(text: &str) {
    // Where standard error is gone there is nobody to tell.
    writeln!(std::io::stderr(), "mailintake: {}", harmless(text)).unwrap_or_default();
}

/// Says something aside, on standard error.
pub fn aside(text: &str) {
    writeln!(std::io::stderr(), "{}", harmless(text)).unwrap_or_default();
}

/// An aligned table without lines; as wide as the terminal where there is one.
pub fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    if table.width().is_some_and(|width| width < LEAST_WIDTH) {
        table.set_content_arrangement(ContentArrangement::Disabled);
    }
    table.set_header(head.iter().map(|word| word.to_uppercase()));
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
        .to_string()
        .lines()
        .map(str::trim_end)
        .collect::<Vec<_>>()
        .join("\n")
}

/// An RFC 3339 time in UTC as local time for people, such as `2026-11-02 10:00:00`.
pub fn local_time(rfc3339: &str) -> String {
    chrono::DateTime::parse_from_rfc3339(rfc3339).map_or_else(
        |_| rfc3339.to_owned(),
        |time| {
            time.with_timezone(&chrono::Local)
                .format("%Y-%m-%d %H:%M:%S")
                .to_string()
        },
    )
}

/// Something that may be absent, for a table.
pub fn or_dash(value: Option<&str>) -> String {
    value.filter(|value| !value.is_empty()).unwrap_or("-").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_senders_wrote_commands_no_terminal() {
        for (text, shown) in [
            ("two\nlines,\ta tab, ä and 日本", "two\nlines,\ta tab, ä and 日本"),
            ("\u{1b}]0;title\u{7}", "\u{fffd}]0;title\u{fffd}"),
            ("\u{9b}31m and \u{7f}", "\u{fffd}31m and \u{fffd}"),
            ("a\r\nb\rc", "a\nb\u{fffd}c"),
            ("invoice\u{202e}fdp.exe", "invoice\u{fffd}fdp.exe"),
        ] {
            assert_eq!(harmless(text), shown, "{text:?}");
        }
    }
}
