//! Walks a spanned TOML table: each getter gives a value or notes the fault with its line, so that one run finds all.
//! It knows no section of ours, and never prints what could be a secret.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::{Report, SHOWN_LIMIT};
use super::value;
use crate::fault::printable;

/// One table of the file with the name that messages give it.
pub(super) struct Section<'a> {
    pub(super) report: &'a Report<'a>,
    /// Such as `mailbox "support"`.
    pub(super) label: String,
    line: usize,
    table: &'a DeTable<'a>,
}

impl<'a> Section<'a> {
    /// The whole document.
    pub(super) fn root(report: &'a Report<'a>, table: &'a DeTable<'a>) -> Self {
        Self {
            report,
            label: String::new(),
            line: 1,
            table,
        }
    }

    /// Reports each key that is not among `known`.
    pub(super) fn allow(self, known: &[&str]) -> Self {
        let unknown = self
            .table
            .iter()
            .filter(|(key, _)| !known.contains(&key.get_ref().as_ref()));
        for (key, value) in unknown {
            let line = self.report.line(key.span().start);
            let name = printable(key.get_ref(), SHOWN_LIMIT);
            let is_root = self.label.is_empty();
            if self.report.is_garbled(&key.span()) || (is_root && self.report.is_after_break(line)) {
                continue;
            }
            let is_section = matches!(value.get_ref(), DeValue::Table(_) | DeValue::Array(_));
            if is_root && !is_section {
                let advice = "move it under one, such as [daemon]";
                self.note(line, &format!("{name} stands outside of any section; {advice}"));
                continue;
            }
            let advice = match value::nearest(&name, known.iter().copied()) {
                Some(meant) => format!("did you mean {meant}?"),
                None => format!("known are {}", known.join(", ")),
            };
            let what = if is_root { "section" } else { "key" };
            self.note(line, &format!("{name} is no {what}; {advice}"));
        }
        self
    }

    /// The table of a single section; `None` where it is not there.
    pub(super) fn single(&self, key: &str, known: &[&str]) -> Option<Section<'a>> {
        let value = self.value(key)?;
        let DeValue::Table(table) = value.get_ref() else {
            self.note(self.line_of(key), &format!("{key} is one section; write [{key}]"));
            return None;
        };
        Some(self.inner(key.to_owned(), value, table).allow(known))
    }

    /// The tables of a section that may be repeated, each named by the first of `names` that it has.
    pub(super) fn repeated(&self, key: &str, names: &[&str], known: &[&str]) -> Vec<Section<'a>> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let elements: Vec<&Spanned<DeValue<'a>>> = if let DeValue::Array(array) = value.get_ref() {
            array.iter().collect()
        } else {
            self.note(self.line_of(key), &format!("{key} can be repeated; write [[{key}]]"));
            vec![value]
        };
        let mut found = Vec::new();
        for (index, element) in elements.into_iter().enumerate() {
            let DeValue::Table(table) = element.get_ref() else {
                self.note(self.line_of(key), &format!("{key} is a section; write [[{key}]]"));
                continue;
            };
            let name = names.iter().find_map(|name| text_in(table, name));
            let label = match name {
                Some(name) => format!("{key} \"{}\"", printable(name, SHOWN_LIMIT)),
                None => format!("{key} {}", index + 1),
            };
            found.push(self.inner(label, element, table).allow(known));
        }
        found
    }

    /// An inline table under a key; its keys are not checked.
    pub(super) fn child(&self, key: &str) -> Option<Section<'a>> {
        let value = self.value(key)?;
        if self.report.is_garbled(&value.span()) {
            return None;
        }
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong(key, "must be a table such as { name = \"value\" }");
            return None;
        };
        Some(self.inner(format!("{}: {key}", self.label), value, table))
    }

    /// An inline table of texts under keys of the administrator's choice.
    pub(super) fn child_of_texts(&self, key: &str) -> Option<Vec<(String, String)>> {
        let child = self.child(key)?;
        let texts = child
            .keys()
            .filter_map(|name| Some((name.to_owned(), child.text(name)?)));
        Some(texts.collect())
    }

    fn inner(&self, label: String, value: &'a Spanned<DeValue<'a>>, table: &'a DeTable<'a>) -> Section<'a> {
        Section {
            report: self.report,
            label,
            line: self.report.line(value.span().start),
            table,
        }
    }

    /// The value under a key.
    pub(super) fn value(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        let mut entries = self.table.iter();
        entries
            .find(|(known, _)| known.get_ref() == key)
            .map(|(_, value)| value)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// The text under a key, where it is one; reports nothing.
    pub(super) fn quiet(&self, key: &str) -> Option<&'a str> {
        text_in(self.table, key)
    }

    /// The keys in it.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.table.keys().map(|key| key.get_ref().as_ref())
    }

    /// Where a key stands, else where the section begins.
    pub(super) fn line_of(&self, key: &str) -> usize {
        let mut keys = self.table.keys();
        let found = keys.find(|known| known.get_ref() == key);
        found.map_or(self.line, |key| self.report.line(key.span().start))
    }

    fn note(&self, line: usize, message: &str) {
        let separator = if self.label.is_empty() { "" } else { ": " };
        let message = format!("{}{separator}{message}", self.label);
        self.report.fault(Some(line), &message);
    }

    /// Notes what is wrong with a key or with what it stands for, without its value.
    pub(super) fn fault(&self, key: &str, message: &str) {
        self.note(self.line_of(key), message);
    }

    /// Notes what is wrong with the value of a key, and shows it. Never for secrets. Broken syntax in it has been
    /// noted already.
    pub(super) fn wrong(&self, key: &str, why: &str) {
        if let Some(shown) = self.shown(key) {
            self.fault(key, &format!("{key} = {shown} {why}"));
        }
    }

    fn shown(&self, key: &str) -> Option<String> {
        let span = self.value(key)?.span();
        (!self.report.is_garbled(&span)).then(|| self.report.shown(&span))
    }

    /// Notes that a key is not there, and what to write.
    pub(super) fn missing(&self, key: &str, remedy: &str) {
        let message = format!("{}: {key} is missing; {remedy}", self.label);
        self.report.missing(Some(self.line), &message);
    }

    /// Notes that a value names something that is nowhere.
    pub(super) fn nowhere(&self, key: &str, why: &str) {
        if let Some(shown) = self.shown(key) {
            let message = format!("{}: {key} = {shown} {why}", self.label);
            self.report.missing(Some(self.line_of(key)), &message);
        }
    }

    pub(super) fn warn(&self, message: &str) {
        self.report.warn(&format!("{}: {message}", self.label));
    }

    // ---- values ----

    /// A text that is not empty.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        let DeValue::String(text) = self.value(key)?.get_ref() else {
            self.wrong(key, "must be a text in quotes");
            return None;
        };
        if text.trim().is_empty() {
            self.wrong(key, "is empty; write a value or leave the key out");
            return None;
        }
        if text.chars().any(char::is_control) {
            self.wrong(key, "has a control character, such as a line end; take it out");
            return None;
        }
        Some(text.to_string())
    }

    /// A text that must be there.
    pub(super) fn required(&self, key: &str, remedy: &str) -> Option<String> {
        if !self.has(key) {
            self.missing(key, remedy);
        }
        self.text(key)
    }

    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        if let DeValue::Boolean(flag) = self.value(key)?.get_ref() {
            return Some(*flag);
        }
        self.wrong(key, "must be true or false");
        None
    }

    /// A TCP port.
    pub(super) fn port(&self, key: &str, usual: u16) -> Option<u16> {
        let DeValue::Integer(number) = self.value(key)?.get_ref() else {
            self.wrong(key, &format!("must be a number; the usual port is {usual}"));
            return None;
        };
        match i64::from_str_radix(number.as_str(), number.radix()).map(u16::try_from) {
            Ok(Ok(port)) if port > 0 => Some(port),
            Ok(Ok(_)) => {
                self.wrong(key, &format!("is no port; the usual port is {usual}"));
                None
            }
            Ok(Err(_)) | Err(_) => {
                let side = if number.as_str().starts_with('-') {
                    "under 1"
                } else {
                    "over 65535"
                };
                self.wrong(key, &format!("is {side}; the usual port is {usual}"));
                None
            }
        }
    }

    /// A list of texts, none of them empty.
    pub(super) fn texts(&self, key: &str) -> Option<Vec<String>> {
        let value = self.value(key)?;
        if self.report.is_garbled(&value.span()) {
            return None;
        }
        let DeValue::Array(array) = value.get_ref() else {
            self.wrong(key, "must be a list such as [\"one\", \"two\"]");
            return None;
        };
        let mut texts = Vec::new();
        for element in array {
            match element.get_ref() {
                DeValue::String(text) if is_plain(text) => texts.push(text.to_string()),
                _ => {
                    self.wrong(key, "must be a list of texts in quotes, none of them empty");
                    return None;
                }
            }
        }
        Some(texts)
    }

    /// One of some words, which must be there.
    pub(super) fn required_word<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Option<T> {
        if !self.has(key) {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.missing(key, &format!("write one of {}", known.join(", ")));
        }
        self.word(key, words)
    }

    /// One of some words.
    pub(super) fn word<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            self.wrong(key, &unknown_word(&text, words.iter().map(|(word, _)| *word)));
        }
        found.map(|(_, meaning)| *meaning)
    }
}

/// The text under a key of a table, where it is one; for names of sections.
fn text_in<'a>(table: &'a DeTable<'a>, key: &str) -> Option<&'a str> {
    let (_, value) = table.iter().find(|(known, _)| known.get_ref() == key)?;
    value.get_ref().as_str()
}

/// That a word is not known, with the one that was meant or with all of them.
pub(super) fn unknown_word<'w>(word: &str, known: impl Iterator<Item = &'w str> + Clone) -> String {
    match value::nearest(word, known.clone()) {
        Some(meant) => format!("is not known; did you mean \"{meant}\"?"),
        None => format!("is not known; write one of {}", known.collect::<Vec<_>>().join(", ")),
    }
}

/// Whether there is something in a text, and no control character.
fn is_plain(text: &str) -> bool {
    !text.trim().is_empty() && !text.chars().any(char::is_control)
}
