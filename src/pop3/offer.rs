//! What a server says that it can do (CAPA, RFC 2449). Pure.

use std::time::Duration;

/// Longest LOGIN-DELAY that is believed.
const DELAY_LIMIT: Duration = Duration::from_hours(1);

/// What a server offers.
#[expect(clippy::struct_excessive_bools, reason = "each is one capability of the standard")]
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Offer {
    /// Whether it answers CAPA at all: if not, everything is tried.
    pub is_told: bool,
    /// The SASL mechanisms, in upper case.
    pub mechanisms: Vec<String>,
    /// Whether USER and PASS are taken.
    pub has_user: bool,
    /// Whether messages have unique ids.
    pub has_uidl: bool,
    /// Whether headers can be read alone.
    pub has_top: bool,
    /// Whether several commands may be sent at once.
    pub has_pipelining: bool,
    /// Shortest time between two sign-ins.
    pub login_delay: Duration,
}

impl Offer {
    /// Of a server that does not know CAPA: what RFC 1939 has, as far as it turns out to be there.
    pub(super) fn untold() -> Self {
        Self {
            has_user: true,
            has_uidl: true,
            has_top: true,
            ..Self::default()
        }
    }

    /// Of the lines of the answer to CAPA.
    pub(super) fn of<'l>(lines: impl Iterator<Item = &'l str>) -> Self {
        let mut offer = Self {
            is_told: true,
            ..Self::default()
        };
        for line in lines {
            offer.note(&line.to_uppercase());
        }
        offer
    }

    fn note(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("SASL") => self.mechanisms.extend(words.map(str::to_owned)),
            Some("USER") => self.has_user = true,
            Some("UIDL") => self.has_uidl = true,
            Some("TOP") => self.has_top = true,
            Some("PIPELINING") => self.has_pipelining = true,
            // `LOGIN-DELAY 300 USER`: it may differ by user, and is said again after the sign-in (RFC 2449 §6.5).
            Some("LOGIN-DELAY") => {
                let seconds = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
                self.login_delay = Duration::from_secs(seconds).min(DELAY_LIMIT);
            }
            Some(_) | None => {}
        }
    }

    /// Whether a SASL mechanism is offered.
    pub(super) fn has(&self, mechanism: &str) -> bool {
        self.mechanisms.iter().any(|offered| offered == mechanism)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_understood() {
        let offer =
            Offer::of("top\nUIDL\nSASL PLAIN xoauth2\nLOGIN-DELAY 300 USER\nEXPIRE NEVER\n\nX-GOOGLE-RICO".lines());
        assert!(offer.has_top && offer.has_uidl && !offer.has_user && !offer.has_pipelining);
        assert!(offer.has("XOAUTH2") && !offer.has("LOGIN"));
        assert_eq!(offer.login_delay, Duration::from_mins(5));
        let absurd = Offer::of(["LOGIN-DELAY 99999999"].into_iter());
        assert_eq!(absurd.login_delay, DELAY_LIMIT);
        assert_eq!(Offer::of(["LOGIN-DELAY x"].into_iter()).login_delay, Duration::ZERO);
    }
}
