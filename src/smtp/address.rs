//! Addresses of the envelope: what may stand in MAIL and RCPT. Pure.

use lettre::Address;

/// Longest address, in bytes (RFC 5321 §4.5.3.1.3, without the brackets).
const LIMIT: usize = 254;

/// The address as it goes into a command: the domain in ASCII where it can be, since many servers lack SMTPUTF8.
/// `None` for what is no address, or would end the command early.
pub(super) fn of_envelope(text: &str) -> Option<Address> {
    let (local, domain) = text.rsplit_once('@')?;
    // Laxer than the grammar: real mailboxes begin or end with a dot, or have two in a row.
    let is_sound = |c: char| !c.is_control() && !c.is_whitespace() && !matches!(c, '<' | '>');
    if local.is_empty() || domain.is_empty() || text.len() > LIMIT || !text.chars().all(is_sound) {
        return None;
    }
    let domain = if domain.is_ascii() {
        domain.to_owned()
    } else {
        url::Host::parse(domain).ok()?.to_string()
    };
    Some(Address::new_dangerous(local, domain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_ends_no_command() {
        for (text, expected) in [
            ("ann@example.org", Some("ann@example.org")),
            ("ann..b.@docomo.example", Some("ann..b.@docomo.example")),
            ("ann@bücher.example", Some("ann@xn--bcher-kva.example")),
            ("änn@example.org", Some("änn@example.org")),
            ("ann@[192.0.2.1]", Some("ann@[192.0.2.1]")),
            ("ann", None),
            ("@example.org", None),
            ("ann@", None),
            ("ann@x> SIZE=1", None),
            ("ann@x\r\nRCPT TO:<bob@x>", None),
            ("ann@x\u{85}y", None),
        ] {
            let address = of_envelope(text);
            assert_eq!(address.as_ref().map(AsRef::<str>::as_ref), expected, "{text:?}");
        }
        assert!(of_envelope(&format!("{}@example.org", "a".repeat(300))).is_none());
    }
}
