//! The faults and warnings of one configuration file, gathered while it is walked, and where its offsets lie in it.
//! It decides nothing about the values.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::fault::Fault;
use crate::fault::printable;

/// Longest value that a message repeats, in characters.
pub(super) const SHOWN_LIMIT: usize = 80;

/// Longest message, in characters.
const MESSAGE_LIMIT: usize = 1000;

/// What was found out about one file.
pub(super) struct Report<'t> {
    text: &'t str,
    /// Offset of each line end, for looking up the line of an offset.
    line_ends: Vec<usize>,
    /// Directory of the file: relative paths in it start there.
    directory: &'t Path,
    /// The group that may read secret files with mode 0640.
    pub(super) daemon_gid: Cell<u32>,
    /// The lines whose syntax is broken. What seems to be missing may stand there, and what stands there may be
    /// anything, even a secret that lost its key.
    broken: RefCell<Vec<usize>>,
    /// What is wrong with each CA file that was looked at: thousands of mailboxes may name the same.
    ca_files: RefCell<HashMap<PathBuf, Option<String>>>,
    faults: RefCell<Vec<Fault>>,
    warnings: RefCell<Vec<String>>,
}

impl<'t> Report<'t> {
    pub(super) fn new(text: &'t str, directory: &'t Path) -> Self {
        Self {
            text,
            line_ends: text.match_indices('\n').map(|(offset, _)| offset).collect(),
            directory,
            daemon_gid: Cell::new(nix::unistd::Gid::effective().as_raw()),
            broken: RefCell::default(),
            ca_files: RefCell::default(),
            faults: RefCell::default(),
            warnings: RefCell::default(),
        }
    }

    /// Notes what the parser could not read.
    pub(super) fn syntax(&self, error: &toml::de::Error) {
        let span = error.span().unwrap_or_default();
        let line = self.line(span.start);
        let mut message = error.message().to_owned();
        if message == "duplicate key" {
            message = format!("{} is there twice", self.shown(&span));
        } else {
            self.broken.borrow_mut().push(line);
            message = format!("no valid TOML: {message}");
        }
        self.fault(Some(line), &message);
    }

    /// Notes a fault, on one line whatever the file holds.
    pub(super) fn fault(&self, line: Option<usize>, message: &str) {
        let message = printable(message, MESSAGE_LIMIT);
        self.faults.borrow_mut().push(Fault { line, message });
    }

    /// Notes that something is not there.
    pub(super) fn missing(&self, line: Option<usize>, message: &str) {
        if self.broken.borrow().is_empty() {
            self.fault(line, message);
        }
    }

    /// Whether the syntax is broken in a line before this one, so that a key may have lost its section.
    pub(super) fn is_after_break(&self, line: usize) -> bool {
        self.broken.borrow().iter().any(|broken| *broken < line)
    }

    /// Whether the syntax is broken in the lines of a piece of the file, or where it ends.
    pub(super) fn is_garbled(&self, span: &Range<usize>) -> bool {
        let lines = self.line(span.start)..=self.line(span.end) + 1;
        self.broken.borrow().iter().any(|broken| lines.contains(broken))
    }

    pub(super) fn warn(&self, message: &str) {
        self.warnings.borrow_mut().push(printable(message, MESSAGE_LIMIT));
    }

    /// All faults by line, and all warnings.
    pub(super) fn finish(self) -> (Vec<Fault>, Vec<String>) {
        let mut faults = self.faults.into_inner();
        faults.sort_by_key(|fault| fault.line);
        faults.dedup();
        (faults, self.warnings.into_inner())
    }

    /// What is wrong with a CA file.
    pub(super) fn ca_file_fault(&self, path: &Path) -> Option<String> {
        let mut known = self.ca_files.borrow_mut();
        let fault = || {
            crate::tls::check_ca_file(path)
                .err()
                .map(|error| crate::fault::chain(&error))
        };
        known.entry(path.to_owned()).or_insert_with(fault).clone()
    }

    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.directory.join(path)
    }

    pub(super) fn line(&self, offset: usize) -> usize {
        1 + self.line_ends.partition_point(|end| *end < offset)
    }

    /// The text of a value as it stands in the file, on one line.
    pub(super) fn shown(&self, span: &Range<usize>) -> String {
        printable(self.text.get(span.clone()).unwrap_or("…").trim(), SHOWN_LIMIT)
    }
}
