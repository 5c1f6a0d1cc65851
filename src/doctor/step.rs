//! One step of a test: how it went, and what a person should know or type beside it.
//! It never asks anybody anything.

use crate::grant::Problem;

/// A step, and how it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// One word or two: `clock`, `dns`, `tcp`, `tls`, `token`, `sign-in`, …
    pub step: &'static str,
    /// What was found.
    pub found: Result<String, Problem>,
    /// Lines to be read beside it: warnings, hints, commands to type.
    pub notes: Vec<String>,
}

impl Checked {
    pub(super) fn ok(step: &'static str, text: impl Into<String>) -> Self {
        Self {
            step,
            found: Ok(text.into()),
            notes: Vec::new(),
        }
    }

    pub(super) fn failed(step: &'static str, problem: Problem) -> Self {
        Self {
            step,
            found: Err(problem),
            notes: Vec::new(),
        }
    }

    pub(super) fn with(mut self, notes: impl IntoIterator<Item = String>) -> Self {
        self.notes.extend(notes);
        self
    }
}

/// A problem of ours to tell.
pub(super) fn problem(code: &str, summary: impl Into<String>, remedy: impl Into<String>) -> Problem {
    Problem {
        code: code.to_owned(),
        summary: summary.into(),
        remedy: remedy.into(),
    }
}
