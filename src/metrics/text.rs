//! The text that Prometheus reads, format 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>). Pure.

use std::fmt::{Display, Write as _};

/// In front of each name.
const PREFIX: &str = "mailintake_";

/// The text so far.
#[derive(Default)]
pub(super) struct Text(String);

impl Text {
    /// Begins a value that goes up and down.
    pub(super) fn gauge(&mut self, name: &str, help: &str) {
        self.begin(name, help, "gauge");
    }

    /// Begins a value that only grows.
    pub(super) fn counter(&mut self, name: &str, help: &str) {
        self.begin(name, help, "counter");
    }

    /// Begins a distribution.
    pub(super) fn histogram(&mut self, name: &str, help: &str) {
        self.begin(name, help, "histogram");
    }

    fn begin(&mut self, name: &str, help: &str, kind: &str) {
        self.push(format_args!(
            "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}\n"
        ));
    }

    /// Adds a value.
    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let pairs: Vec<String> = labels
            .iter()
            .map(|(label, text)| format!("{label}=\"{}\"", escaped(text)))
            .collect();
        let labels = match pairs.as_slice() {
            [] => String::new(),
            pairs => format!("{{{}}}", pairs.join(",")),
        };
        self.push(format_args!("{PREFIX}{name}{labels} {value}\n"));
    }

    /// The whole.
    pub(super) fn finish(self) -> String {
        self.0
    }

    fn push(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        self.0.write_fmt(line).unwrap_or_default();
    }
}

/// The value of a label: backslash, quote and line feed are escaped.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_quotes_and_line_feeds_stays_one_label() {
        let mut text = Text::default();
        text.gauge("mailbox_up", "Whether.");
        text.sample("mailbox_up", &[("mailbox", "a\"b\\c\nd"), ("x", "y")], 1);
        text.sample("plain", &[], 0.25);
        assert_eq!(
            text.finish(),
            "# HELP mailintake_mailbox_up Whether.\n# TYPE mailintake_mailbox_up gauge\n\
             mailintake_mailbox_up{mailbox=\"a\\\"b\\\\c\\nd\",x=\"y\"} 1\nmailintake_plain 0.25\n"
        );
    }
}
