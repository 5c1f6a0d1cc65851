//! What a domain publishes for mail programs: Thunderbird's autoconfig format. Pure.
//! It takes no server that is without TLS, and no name that is none.
//!
//! Source: <https://wiki.mozilla.org/Thunderbird:Autoconfiguration:ConfigFileFormat>.

use std::sync::LazyLock;

use regex::Regex;

use super::ImapServer;
use crate::mailbox::Tls;

/// Where a domain publishes it.
pub fn addresses(domain: &str) -> [String; 2] {
    [
        format!("https://autoconfig.{domain}/mail/config-v1.1.xml"),
        format!("https://{domain}/.well-known/autoconfig/mail/config-v1.1.xml"),
    ]
}

static SERVERS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r#"(?is)<incomingServer\s[^>]*type\s*=\s*["']imap["'][^>]*>(.*?)</incomingServer>"#).ok()
});

/// The IMAP server of a document: the first with TLS from the first byte, else the first with STARTTLS.
pub fn read(document: &str, domain: &str) -> Option<ImapServer> {
    let servers: Vec<ImapServer> = SERVERS
        .as_ref()?
        .captures_iter(document)
        .filter_map(|found| server(found.get(1)?.as_str(), domain))
        .collect();
    let implicit = servers.iter().find(|server| server.tls == Tls::Implicit);
    implicit.or(servers.first()).cloned()
}

fn server(element: &str, domain: &str) -> Option<ImapServer> {
    let host = value(element, "hostname")?
        .replace("%EMAILDOMAIN%", domain)
        .to_ascii_lowercase();
    let tls = match value(element, "socketType")?.as_str() {
        "SSL" => Tls::Implicit,
        "STARTTLS" => Tls::StartTls,
        _ => return None,
    };
    let port = value(element, "port")?.parse().ok().filter(|port| *port != 0)?;
    is_host(&host).then_some(ImapServer { host, port, tls })
}

/// The text of a child element.
fn value(element: &str, name: &str) -> Option<String> {
    let (_, rest) = element.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.trim().to_owned())
}

/// Whether a text is a host name that may stand in a configuration (RFC 1123 §2.1).
pub fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty() && label.len() <= 63 && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    text.len() <= 253 && text.contains('.') && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kind, host, port and socket type of a server.
    type Told = (&'static str, &'static str, u16, &'static str);
    type Taken = (&'static str, u16, Tls);

    fn document(servers: &[Told]) -> String {
        let one = |(kind, host, port, socket): &Told| {
            format!(
                "<incomingServer type=\"{kind}\">\n <hostname>{host}</hostname> <port> {port} </port>\
                 <socketType>{socket}</socketType><username>%EMAILADDRESS%</username></incomingServer>\n"
            )
        };
        let servers: String = servers.iter().map(one).collect();
        format!("<?xml version=\"1.0\"?><clientConfig><emailProvider id=\"x\">{servers}</emailProvider></clientConfig>")
    }

    #[test]
    fn the_best_protected_imap_server_is_taken() {
        let cases: [(&[Told], Option<Taken>); 6] = [
            (
                &[
                    ("pop3", "pop.example.org", 995, "SSL"),
                    ("imap", "a.example.org", 143, "STARTTLS"),
                    ("imap", "b.example.org", 993, "SSL"),
                ],
                Some(("b.example.org", 993, Tls::Implicit)),
            ),
            (
                &[("imap", "mail.%EMAILDOMAIN%", 143, "STARTTLS")],
                Some(("mail.example.org", 143, Tls::StartTls)),
            ),
            (&[("imap", "a.example.org", 143, "plain")], None),
            (&[("imap", "a\"\nhost = \"b", 993, "SSL")], None),
            (&[("imap", "a.example.org", 0, "SSL")], None),
            (&[("pop3", "pop.example.org", 995, "SSL")], None),
        ];
        for (servers, expected) in cases {
            let found = read(&document(servers), "example.org");
            let found = found
                .as_ref()
                .map(|server| (server.host.as_str(), server.port, server.tls));
            assert_eq!(found, expected, "{servers:?}");
        }
        for text in ["", "<html>", "<incomingServer type=\"imap\">", "\u{0}"] {
            assert_eq!(read(text, "example.org"), None);
        }
    }
}
