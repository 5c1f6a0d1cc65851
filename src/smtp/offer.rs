//! What a server offers, from its answer to EHLO (RFC 5321 §4.1.1.1). Pure.

use super::reply::Reply;

/// The extensions that matter to us.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Offer {
    /// STARTTLS (RFC 3207).
    pub(super) has_starttls: bool,
    /// 8BITMIME (RFC 6152).
    pub(super) has_eight_bit: bool,
    /// SMTPUTF8 (RFC 6531).
    pub(super) has_utf8: bool,
    /// SIZE (RFC 1870), with the largest message in bytes where it states one.
    pub(super) size: Option<Option<u64>>,
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
        match words.next() {
            Some("STARTTLS") => self.has_starttls = true,
            Some("8BITMIME") => self.has_eight_bit = true,
            Some("SMTPUTF8") => self.has_utf8 = true,
            Some("SIZE") => {
                let limit = words.next().and_then(|word| word.parse().ok());
                self.size = Some(limit.filter(|limit| *limit > 0));
            }
            Some("AUTH") => {
                for word in words {
                    if !self.has(word) {
                        self.mechanisms.push(word.to_owned());
                    }
                }
            }
            Some(_) | None => {}
        }
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
        assert_eq!(offer.size, Some(Some(35_882_577)));
        assert!(offer.has_eight_bit && offer.has_utf8 && !offer.has_starttls);
    }

    #[test]
    fn a_size_of_nothing_is_no_limit() {
        assert_eq!(offer(&["x", "SIZE"]).size, Some(None));
        assert_eq!(offer(&["x", "SIZE 0"]).size, Some(None));
        assert_eq!(offer(&["x"]).size, None);
        assert_eq!(offer(&["x"]).words(), "no way at all");
    }
}
