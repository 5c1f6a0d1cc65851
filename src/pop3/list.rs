//! What is in the mailbox: numbers, sizes, and unique ids where there are some.

use std::collections::HashMap;

use super::Session;
use super::error::{Pop3Error, Step};

/// Most messages of a mailbox; their list is held in memory.
const ENTRIES_LIMIT: usize = 200_000;
/// Longest unique id that is taken for one, in bytes; RFC 1939 §7 allows 70.
const UIDL_LIMIT: usize = 512;

/// A message that is on the server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its number in this session.
    pub number: u32,
    /// Its size as the server states it, in bytes: a hint.
    pub size: u64,
    /// Its unique id; the same for two messages where a server makes it of their contents.
    pub uidl: Option<String>,
    /// It is over the limit, whatever its stated size: only its header is to be read.
    pub is_oversize: bool,
}

/// What the ids begin with that are made of the bytes, for servers without UIDL.
const OF_BYTES: &str = "sha256:";

/// The id of a message at a server without UIDL, of the SHA-256 of its bytes.
pub fn id_of_bytes(sha256: &[u8; 32]) -> String {
    let halves = sha256.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    let digits = halves.filter_map(|half| char::from_digit(u32::from(half), 16));
    OF_BYTES.chars().chain(digits).collect()
}

/// Whether an id was made of the bytes.
pub fn is_of_bytes(id: &str) -> bool {
    id.starts_with(OF_BYTES)
}

impl Session {
    /// Lists the mailbox, in the order of its numbers.
    ///
    /// # Errors
    /// As any command. A server that announces UIDL and refuses it is in trouble; one that never announced anything
    /// has none.
    pub async fn list(&mut self) -> Result<Vec<Entry>, Pop3Error> {
        let limit = self.wire.timeouts().command;
        let listed = tokio::time::timeout(limit, self.try_list()).await;
        listed.unwrap_or(Err(Pop3Error::Timeout { step: Step::List }))
    }

    async fn try_list(&mut self) -> Result<Vec<Entry>, Pop3Error> {
        let mut sizes = HashMap::new();
        self.wire.command(Step::List, "LIST").await?;
        self.wire
            .list(Step::List, ENTRIES_LIMIT, |line| {
                if let Some((number, rest)) = numbered(line) {
                    let size = rest.split_whitespace().next().and_then(|word| word.parse().ok());
                    sizes.insert(number, size.unwrap_or(0));
                }
            })
            .await?;
        let mut ids = self.unique_ids().await?;
        let mut entries: Vec<Entry> = sizes
            .into_iter()
            .map(|(number, size)| Entry {
                number,
                size,
                uidl: ids.remove(&number),
                is_oversize: false,
            })
            .collect();
        entries.sort_unstable_by_key(|entry| entry.number);
        Ok(entries)
    }

    async fn unique_ids(&mut self) -> Result<HashMap<u32, String>, Pop3Error> {
        let mut ids = HashMap::new();
        if !self.offer.has_uidl {
            return Ok(ids);
        }
        match self.wire.ask(Step::List, "UIDL").await? {
            Ok(_) => {}
            Err(_) if !self.offer.is_told => return Ok(ids),
            Err(refusal) => {
                return Err(Pop3Error::Refused {
                    step: Step::List,
                    refusal,
                });
            }
        }
        self.wire
            .list(Step::List, ENTRIES_LIMIT, |line| {
                if let Some((number, id)) = numbered(line).filter(|(_, id)| is_unique_id(id)) {
                    ids.insert(number, id.to_owned());
                }
            })
            .await?;
        Ok(ids)
    }
}

fn numbered(line: &str) -> Option<(u32, &str)> {
    let (number, rest) = line.trim().split_once([' ', '\t'])?;
    Some((number.parse().ok().filter(|number| *number > 0)?, rest.trim()))
}

/// One of our own ids of contents must not be taken for the server's.
fn is_unique_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= UIDL_LIMIT && !id.chars().any(char::is_control) && !is_of_bytes(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_list_are_read_with_care() {
        assert_eq!(numbered("1 320"), Some((1, "320")));
        assert_eq!(numbered(" 2\t a b "), Some((2, "a b")));
        for line in ["", "x 1", "0 5", "-1 5", "99999999999 1", "7"] {
            assert_eq!(numbered(line), None, "{line}");
        }
        assert!(is_unique_id("whqtswO00WBw418f9t5JxYwZ") && !is_unique_id("") && !is_unique_id("sha256:00"));
    }
}
