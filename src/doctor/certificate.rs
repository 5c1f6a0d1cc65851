//! The certificate that a server shows, for a person to see why it is not accepted.
//! It looks only: no credential and no command passes on its connection after the handshake, and nothing is ever
//! trusted because of it.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::nid::Nid;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use openssl::x509::{X509NameRef, X509Ref};

use crate::fault::printable;
use crate::time::Timestamp;

/// Time for the connection, and for each answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest dialogue before the handshake, in bytes.
const TALK_LIMIT: usize = 8 * 1024;
/// Longest name that is shown, in characters, and how many.
const SHOWN: (usize, usize) = (100, 10);

/// What is said before the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// Nothing: TLS from the first byte.
    Implicit,
    /// IMAP's STARTTLS.
    Imap,
    /// POP3's STLS.
    Pop3,
    /// SMTP's STARTTLS.
    Smtp,
}

/// A certificate as shown.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shown {
    names: Vec<String>,
    issuer: String,
    is_self_signed: bool,
    begin: Timestamp,
    end: Timestamp,
}

/// What the certificate of a server says and what is wrong with it, in lines; none where there is no look at it.
pub async fn look(host: &str, port: u16, opening: Opening, now: Timestamp) -> Vec<String> {
    let place = host.to_owned();
    let looking = tokio::task::spawn_blocking(move || fetch(&place, port, opening));
    match looking.await {
        Ok(Some(shown)) => shown.lines(host, now),
        Ok(None) | Err(_) => Vec::new(),
    }
}

impl Shown {
    fn lines(&self, host: &str, now: Timestamp) -> Vec<String> {
        let (length, count) = SHOWN;
        let shown: Vec<String> = self
            .names
            .iter()
            .take(count)
            .map(|name| printable(name, length))
            .collect();
        let names = if shown.is_empty() {
            "nobody".to_owned()
        } else {
            shown.join(", ")
        };
        let issuer = if self.is_self_signed {
            "itself".to_owned()
        } else {
            printable(&self.issuer, length)
        };
        let mut lines = vec![format!(
            "its certificate is for {names}; signed by {issuer}; valid from {} until {}",
            self.begin.rfc3339(),
            self.end.rfc3339()
        )];
        let faults = self.faults(host, now);
        let is_sound = faults.is_empty();
        lines.extend(faults);
        if is_sound {
            lines.push("names and dates are right, so it is its signer that this machine does not trust: name the signer's certificate as ca_file, or have the server send the whole chain".to_owned());
        }
        lines
    }

    fn faults(&self, host: &str, now: Timestamp) -> Vec<String> {
        let mut faults = Vec::new();
        if !self.names.iter().any(|name| is_for(name, host)) {
            faults.push(format!(
                "{host} is not among its names: write one of them as host, or have the certificate made for {host}"
            ));
        }
        if self.end < now {
            faults.push("it has expired: have it renewed at the server".to_owned());
        }
        if self.begin > now {
            faults.push("it is not valid yet: check the clocks of this server and of that one".to_owned());
        }
        faults
    }
}

/// Whether a name of a certificate is for a host (RFC 9525 §6.3): itself, or a wildcard for its first label.
fn is_for(name: &str, host: &str) -> bool {
    let host = host.trim_matches(['[', ']']).trim_end_matches('.');
    if let Some(rest) = name.strip_prefix("*.") {
        return host
            .split_once('.')
            .is_some_and(|(_, parent)| parent.eq_ignore_ascii_case(rest));
    }
    match (name.parse::<IpAddr>(), host.parse::<IpAddr>()) {
        (Ok(name), Ok(host)) => name == host,
        _ => name.eq_ignore_ascii_case(host),
    }
}

fn fetch(host: &str, port: u16, opening: Opening) -> Option<Shown> {
    let stream = connect(host, port)?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    talk(&stream, opening)?;
    let mut builder = SslConnector::builder(SslMethod::tls_client()).ok()?;
    // Only to read what is shown: nothing is sent to whoever is there.
    builder.set_verify(SslVerifyMode::NONE);
    let mut configuration = builder.build().configure().ok()?;
    configuration.set_verify_hostname(false);
    let stream = configuration.connect(host.trim_matches(['[', ']']), stream).ok()?;
    shown(&*stream.ssl().peer_certificate()?)
}

fn connect(host: &str, port: u16) -> Option<TcpStream> {
    let addresses = (host.trim_matches(['[', ']']), port).to_socket_addrs().ok()?;
    addresses
        .take(4)
        .find_map(|address| TcpStream::connect_timeout(&address, PATIENCE).ok())
}

/// Asks for TLS as the protocol has it.
fn talk(mut stream: &TcpStream, opening: Opening) -> Option<()> {
    let say = |mut stream: &TcpStream, text: &str| stream.write_all(text.as_bytes()).ok();
    match opening {
        Opening::Implicit => {}
        Opening::Imap => {
            hear(&mut stream, |line| line.starts_with("* "))?;
            say(stream, "a STARTTLS\r\n")?;
            hear(&mut stream, |line| line.starts_with("a "))?;
        }
        Opening::Pop3 => {
            hear(&mut stream, |line| line.starts_with("+OK"))?;
            say(stream, "STLS\r\n")?;
            hear(&mut stream, |line| line.starts_with("+OK"))?;
        }
        Opening::Smtp => {
            hear(&mut stream, |line| line.starts_with("220 "))?;
            say(stream, "EHLO localhost\r\n")?;
            hear(&mut stream, |line| line.starts_with("250 "))?;
            say(stream, "STARTTLS\r\n")?;
            hear(&mut stream, |line| line.starts_with("220 "))?;
        }
    }
    Some(())
}

/// Reads, byte by byte so that none is read ahead, until a line is the one that is waited for.
fn hear(stream: &mut &TcpStream, is_last: impl Fn(&str) -> bool) -> Option<()> {
    let mut line = Vec::new();
    for _ in 0..TALK_LIMIT {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        line.extend(byte);
        if byte == [b'\n'] {
            if is_last(&String::from_utf8_lossy(&line)) {
                return Some(());
            }
            line.clear();
        }
    }
    None
}

fn shown(certificate: &X509Ref) -> Option<Shown> {
    let mut names: Vec<String> = Vec::new();
    for name in certificate.subject_alt_names().into_iter().flatten() {
        names.extend(name.dnsname().map(str::to_owned));
        names.extend(name.ipaddress().and_then(address));
    }
    if names.is_empty() {
        names.extend(name_of(certificate.subject_name()));
    }
    Some(Shown {
        names,
        issuer: name_of(certificate.issuer_name()).unwrap_or_else(|| "nobody named".to_owned()),
        is_self_signed: certificate
            .issuer_name()
            .try_cmp(certificate.subject_name())
            .ok()?
            .is_eq(),
        begin: instant(certificate.not_before())?,
        end: instant(certificate.not_after())?,
    })
}

fn address(bytes: &[u8]) -> Option<String> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let six = <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    four.or(six).ok().map(|address| address.to_string())
}

/// The common name, else the organization.
fn name_of(name: &X509NameRef) -> Option<String> {
    let entry = |kind| {
        name.entries_by_nid(kind)
            .next()
            .and_then(|entry| entry.data().to_string().ok())
    };
    entry(Nid::COMMONNAME).or_else(|| entry(Nid::ORGANIZATIONNAME))
}

fn instant(time: &Asn1TimeRef) -> Option<Timestamp> {
    let since = Asn1Time::from_unix(0).ok()?.diff(time).ok()?;
    Some(Timestamp(i64::from(since.days) * 86_400 + i64::from(since.secs)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_for_its_names_only() {
        for (name, host, is_right) in [
            ("mail.example.org", "MAIL.example.org", true),
            ("*.example.org", "mail.example.org", true),
            ("*.example.org", "a.mail.example.org", false),
            ("*.example.org", "example.org", false),
            ("example.org", "mail.example.org", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("::1", "[::1]", true),
        ] {
            assert_eq!(is_for(name, host), is_right, "{name} {host}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_certificate_is_said() {
        let shown = Shown {
            names: vec!["mail.example.org".into()],
            issuer: "Some CA".into(),
            is_self_signed: false,
            begin: Timestamp(1_000),
            end: Timestamp(2_000),
        };
        for (host, now, words) in [
            ("mail.example.org", 1_500, "ca_file"),
            ("imap.example.org", 1_500, "imap.example.org is not among its names"),
            ("mail.example.org", 3_000, "has expired"),
            ("mail.example.org", 500, "not valid yet"),
        ] {
            let lines = shown.lines(host, Timestamp(now));
            assert_eq!(lines.len(), 2, "{lines:?}");
            assert!(lines[0].contains("signed by Some CA; valid from 1970-01-01T00:16:40Z until 1970-01-01T00:33:20Z"));
            assert!(lines[1].contains(words), "{lines:?}");
        }
    }
}
