//! Text for people and JSON for programs, on standard output; complaints on standard error.

use std::io::{ErrorKind, Write};

use comfy_table::{ContentArrangement, Table, presets};

use super::context::Failure;

/// Prints a text and a line end. A reader that has gone away is no fault.
///
/// # Errors
/// [`Failure::Output`].
pub fn line(text: &str) -> Result<(), Failure> {
    bytes(text.trim_end_matches('\n').as_bytes())?;
    bytes(b"\n")
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
    line(&text)
}

/// Says what went wrong.
pub fn complaint(text: &str) {
    // Where standard error is gone there is nobody to tell.
    writeln!(std::io::stderr(), "mailintake: {text}").unwrap_or_default();
}

/// Says something aside, on standard error.
pub fn aside(text: &str) {
    writeln!(std::io::stderr(), "{text}").unwrap_or_default();
}

/// An aligned table without lines; as wide as the terminal where there is one.
pub fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic);
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
