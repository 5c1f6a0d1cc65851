//! Values with a meaning, from their keys: durations, sizes, addresses, URLs, files.
//! It adds getters to [`Section`]; each notes what is wrong and never shows a secret.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::value;
use super::walk::Section;

impl Section<'_> {
    /// A duration whose seconds are in a range.
    pub(super) fn duration(&self, key: &str, range: &RangeInclusive<u64>) -> Option<Duration> {
        let text = self.text(key)?;
        let Some(duration) = value::duration(&text) else {
            self.wrong(key, "is no duration; write a number and s, m, h or d, such as \"5m\"");
            return None;
        };
        if range.contains(&duration.as_secs()) {
            return Some(duration);
        }
        let written = |seconds: &u64| value::write_duration(Duration::from_secs(*seconds));
        let (least, most) = (written(range.start()), written(range.end()));
        self.wrong(key, &format!("is out of range; write {least} to {most}"));
        None
    }

    /// A size whose bytes are in a range.
    pub(super) fn size_bytes(&self, key: &str, range: &RangeInclusive<u64>) -> Option<u64> {
        let text = self.text(key)?;
        let Some(size) = value::size_bytes(&text) else {
            self.wrong(
                key,
                "is no size; write a number and KiB, MiB or GiB, such as \"25 MiB\"",
            );
            return None;
        };
        if range.contains(&size) {
            return Some(size);
        }
        let (least, most) = (value::write_size(*range.start()), value::write_size(*range.end()));
        self.wrong(key, &format!("is out of range; write {least} to {most}"));
        None
    }

    /// A mail address on its own.
    pub(super) fn address(&self, key: &str) -> Option<String> {
        let text = self.text(key)?;
        if value::is_address(&text) {
            return Some(text);
        }
        self.wrong(key, "is no mail address; write one such as \"support@example.org\"");
        None
    }

    /// A mail address that must be there.
    pub(super) fn required_address(&self, key: &str, remedy: &str) -> Option<String> {
        if !self.has(key) {
            self.missing(key, remedy);
        }
        self.address(key)
    }

    /// A mail address with or without a display name.
    pub(super) fn sender(&self, key: &str) -> Option<String> {
        let text = self.text(key)?;
        if value::address_in(&text).is_some() {
            return Some(text);
        }
        self.wrong(key, "is no sender; write one such as \"Support <support@example.org>\"");
        None
    }

    /// A URL that may be called.
    pub(super) fn url(&self, key: &str) -> Option<String> {
        let text = self.text(key)?;
        match value::protected_url(&text) {
            Ok(_) => return Some(text),
            Err(value::UrlFault::Malformed) => self.wrong(key, "is no URL; write one such as \"https://host/path\""),
            Err(value::UrlFault::NotProtected) => {
                self.wrong(key, "must begin with https:// (http:// is for loopback only)");
            }
            Err(value::UrlFault::HasCredentials) => {
                self.fault(
                    key,
                    &format!("{key} must not hold a user name or password; take it out of the URL"),
                );
            }
        }
        None
    }

    /// The path of a file, from the directory of the configuration where it is relative.
    pub(super) fn path(&self, key: &str) -> Option<PathBuf> {
        self.text(key).map(|text| self.report.resolve(&text))
    }

    /// A CA file that can be used.
    pub(super) fn ca_file(&self, key: &str) -> Option<PathBuf> {
        let path = self.path(key)?;
        if let Some(why) = self.report.ca_file_fault(&path) {
            self.fault(key, &format!("{key}: {why}; it must be a PEM file"));
        }
        Some(path)
    }
}
