//! What a server offers, from its answer to EHLO (RFC 5321 §4.1.1.1). Pure.

use super::reply::Reply;

/// The extensions of a server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Offer {
    /// Their keywords, in upper case.
    extensions: Vec<String>,
    /// The largest message in bytes, where SIZE (RFC 1870) states one.
    pub(super) size_limit: Option<u64>,
    /// The mechanisms of AUTH (RFC 4954) in upper case and in the server's order.
    pub(super) mechanisms: Vec<String>,
}

impl Offer {
    /// Of the answer to EHLO, whose first line is a greeting.
    pub(super) fn of(reply: &Reply) -> Self {
        let mut offer = Self::default();
        for line in reply.lines.iter().skip(1) {
            offer.note(&line.to_uppercase());
        }
        offer
    }

    fn note(&mut self, line: &str) {
        // Old servers write AUTH=LOGIN.
        let mut words = line
            .split(|c: char| c == '=' || c.is_whitespace())
            .filter(|word| !word.is_empty());
        let Some(keyword) = words.next() else { return };
        match keyword {
            "SIZE" => {
                let limit = words.next().and_then(|word| word.parse().ok());
                self.size_limit = limit.filter(|limit| *limit > 0);
            }
            "AUTH" => {
                for word in words {
                    if !self.has(word) {
                        self.mechanisms.push(word.to_owned());
                    }
                }
            }
            _ => {}
        }
        self.extensions.push(keyword.to_owned());
    }

    /// Whether an extension is offered, by its keyword in upper case.
    pub(super) fn can(&self, extension: &str) -> bool {
        self.extensions.iter().any(|offered| offered == extension)
    }

    /// Whether a mechanism is offered.
    pub(super) fn has(&self, mechanism: &str) -> bool {
        self.mechanisms.iter().any(|offered| offered == mechanism)
    }

    /// The mechanisms in words.
    pub(super) fn words(&self) -> String {
        if self.mechanisms.is_empty() {
            return "no way at all".to_owned();
        }
        self.mechanisms.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(lines: &[&str]) -> Offer {
        Offer::of(&Reply {
            code: 250,
            lines: lines.iter().map(|&line| line.to_owned()).collect(),
        })
    }

    #[test]
    fn an_offer_is_read_in_any_spelling() {
        let offer = offer(&[
            "AUTH is not offered in the greeting",
            "size 35882577",
            "8bitmime",
            "SMTPUTF8",
            "auth login",
            "AUTH=LOGIN PLAIN",
            "",
        ]);
        assert_eq!(offer.mechanisms, ["LOGIN", "PLAIN"]);
        assert_eq!(offer.size_limit, Some(35_882_577));
        assert!(offer.can("8BITMIME") && offer.can("SMTPUTF8") && !offer.can("STARTTLS"));
    }

    #[test]
    fn a_size_of_nothing_is_no_limit() {
        for (line, has_size) in [
            ("SIZE", true),
            ("SIZE 0", true),
            ("SIZE x", true),
            ("PIPELINING", false),
        ] {
            let offer = offer(&["x", line]);
            assert_eq!((offer.can("SIZE"), offer.size_limit), (has_size, None), "{line}");
        }
        assert_eq!(offer(&["x"]).words(), "no way at all");
    }
}
