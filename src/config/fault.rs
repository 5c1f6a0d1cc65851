//! What is wrong with a configuration file, and how it is told.
//! It never holds the value of a secret.

use std::fmt;
use std::path::PathBuf;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The line it is about, from 1; `None` where it is about the whole file.
    pub line: Option<usize>,
    /// Section, key, value and remedy.
    pub message: String,
}

/// A configuration that cannot be used: every fault of it, by line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Refused {
    /// The file, as it was named.
    pub path: PathBuf,
    /// What is wrong with it, at least one.
    pub faults: Vec<Fault>,
    /// The state directory, where the file is well-formed enough to name it.
    pub state_dir: Option<PathBuf>,
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            if index > 0 {
                writeln!(formatter)?;
            }
            write!(formatter, "{}:", self.path.display())?;
            if let Some(line) = fault.line {
                write!(formatter, "{line}:")?;
            }
            write!(formatter, " {}", fault.message)?;
        }
        Ok(())
    }
}
