//! `issue export`: issues as lines of JSON, or their messages as an mbox file.
//! It holds one issue or message at a time.

use clap::ValueEnum;

use super::not_found;
use crate::cli::context::{Database, Failure, OK};
use crate::cli::print;
use crate::store::Store;
use crate::store::view::{issue as view, message};
use crate::thread::parse_key;
use crate::time::Timestamp;

/// What is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Each issue as `issue show --json` has it, one a line
    Jsonl,
    /// The original bytes of the messages that made the issues
    Mbox,
}

/// Prints the issues of these keys; all where none is given.
pub(super) async fn run(database: &Database, keys: &[String], format: Format) -> Result<u8, Failure> {
    let store = database.store().await?;
    let mut gone = 0;
    for key in keys {
        gone += one(&store, key, format).await?;
    }
    let mut after = 0;
    while keys.is_empty() {
        let page = view::keys(store.readers(), after).await?;
        let Some((last, _)) = page.last() else { break };
        after = *last;
        for (_, key) in &page {
            gone += one(&store, key, format).await?;
        }
    }
    if gone > 0 {
        print::aside(&format!("the bytes of {gone} messages are not kept any more"));
    }
    Ok(OK)
}

/// Prints one; returns how many of its messages have no bytes any more.
async fn one(store: &Store, key: &str, format: Format) -> Result<usize, Failure> {
    let parsed = parse_key(key).ok_or_else(|| not_found(key))?;
    match format {
        Format::Jsonl => {
            let found = view::show(store.readers(), parsed).await?;
            let issue = found.ok_or_else(|| not_found(key))?;
            let text = serde_json::to_string(&issue).map_err(|error| Failure::Failed(error.to_string()))?;
            print::json_line(&text)?;
            Ok(0)
        }
        Format::Mbox => {
            let found = view::show(store.readers(), parsed).await?;
            found.ok_or_else(|| not_found(key))?;
            messages(store, parsed).await
        }
    }
}

async fn messages(store: &Store, issue: (&str, i64)) -> Result<usize, Failure> {
    let mut gone = 0;
    for (id, received_at) in message::of_issue(store.readers(), issue).await? {
        match message::original(store.readers(), id).await? {
            Some(bytes) => print::bytes(&entry(&bytes, received_at))?,
            None => gone += 1,
        }
    }
    Ok(gone)
}

/// A message in an mbox file: a From line, the bytes with each `From ` at the beginning of a line quoted by one
/// more `>` (mboxrd, RFC 4155 and <https://www.loc.gov/preservation/digital/formats/fdd/fdd000385.shtml>), and
/// an empty line.
fn entry(bytes: &[u8], received_at: Timestamp) -> Vec<u8> {
    let time = chrono::DateTime::from_timestamp(received_at.0, 0).unwrap_or_default();
    let mut entry = format!("From MAILER-DAEMON {}\n", time.format("%a %b %e %H:%M:%S %Y")).into_bytes();
    entry.reserve(bytes.len() + 16);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let unquoted = line.iter().position(|byte| *byte != b'>').unwrap_or(line.len());
        if line.get(unquoted..).is_some_and(|rest| rest.starts_with(b"From ")) {
            entry.push(b'>');
        }
        entry.extend_from_slice(line);
    }
    if !entry.ends_with(b"\n") {
        entry.push(b'\n');
    }
    entry.push(b'\n');
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_mbox_entry_quotes_what_looks_like_a_from_line() {
        let entry = entry(
            b"Subject: x\r\n\r\nFrom here\r\n>From there\r\nFromage\r\nlast",
            Timestamp(1_793_610_000),
        );
        assert_eq!(
            String::from_utf8(entry).unwrap(),
            "From MAILER-DAEMON Mon Nov  2 09:00:00 2026\n\
             Subject: x\r\n\r\n>From here\r\n>>From there\r\nFromage\r\nlast\n\n"
        );
    }
}
