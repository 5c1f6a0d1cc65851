//! Texts of the configuration into values: durations, sizes, dates, addresses, URLs; and the nearest word.
//! Pure: it reads no file and reports no fault.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use chrono::{FixedOffset, Local, MappedLocalTime, NaiveDate, NaiveDateTime, TimeZone};
use toml::value::{Datetime, Offset};
use url::{Host, Url};

use crate::time::Timestamp;

/// A duration such as `90s`, `5m`, `1h` or `30d`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

/// A size such as `25 MiB`, in bytes. `KB`, `MB` and `GB` are powers of 1000.
pub(super) fn size_bytes(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let factor = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "KB" | "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(end)?;
    Some((number.parse().ok()?, unit.trim_start()))
}

/// A duration as the configuration writes it, in the largest unit that fits.
pub(crate) fn write_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (number, unit) = match seconds {
        0 => (0, "s"),
        _ if seconds.is_multiple_of(86400) => (seconds / 86400, "d"),
        _ if seconds.is_multiple_of(3600) => (seconds / 3600, "h"),
        _ if seconds.is_multiple_of(60) => (seconds / 60, "m"),
        _ => (seconds, "s"),
    };
    format!("{number}{unit}")
}

/// A size as the configuration writes it, in the largest unit that fits.
pub(crate) fn write_size(bytes: u64) -> String {
    let (number, unit) = match bytes {
        0 => (0, "B"),
        _ if bytes.is_multiple_of(1 << 30) => (bytes >> 30, "GiB"),
        _ if bytes.is_multiple_of(1 << 20) => (bytes >> 20, "MiB"),
        _ if bytes.is_multiple_of(1 << 10) => (bytes >> 10, "KiB"),
        _ => (bytes, "B"),
    };
    format!("{number} {unit}")
}

/// The instant of a TOML date or date with time, of the same in quotes: a date is its first second, and
/// without an offset local time is meant.
pub(super) fn instant(value: &Datetime) -> Option<Timestamp> {
    let date = value.date?;
    let day = NaiveDate::from_ymd_opt(date.year.into(), date.month.into(), date.day.into())?;
    let (hour, minute, second) = value
        .time
        .map_or((0, 0, 0), |time| (time.hour, time.minute, time.second.unwrap_or(0)));
    let local = day.and_hms_opt(hour.into(), minute.into(), second.into())?;
    let seconds = match value.offset {
        Some(Offset::Z) => local.and_utc().timestamp(),
        Some(Offset::Custom { minutes }) => {
            let offset = FixedOffset::east_opt(i32::from(minutes) * 60)?;
            offset.from_local_datetime(&local).single()?.timestamp()
        }
        None => local_seconds(&local),
    };
    Some(Timestamp(seconds))
}

/// Where clocks are set forward over a local time, it is read as UTC: an hour does not matter then.
fn local_seconds(local: &NaiveDateTime) -> i64 {
    match Local.from_local_datetime(local) {
        MappedLocalTime::Single(time) | MappedLocalTime::Ambiguous(time, _) => time.timestamp(),
        MappedLocalTime::None => local.and_utc().timestamp(),
    }
}

/// As [`instant`], of a quoted date.
pub(super) fn instant_of_text(text: &str) -> Option<Timestamp> {
    instant(&Datetime::from_str(text).ok()?)
}

/// The address in `Support <support@example.org>` or in a bare address.
pub(crate) fn address_in(text: &str) -> Option<&str> {
    let address = match text.rsplit_once('<') {
        Some((_, rest)) => rest.trim_end().strip_suffix('>')?,
        None => text,
    };
    is_address(address.trim()).then(|| address.trim())
}

/// Whether a text has the form of a mail address: one that servers and people use, not all that RFC 5322 allows.
pub(super) fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    let is_plain = |c: char| !c.is_control() && !c.is_whitespace() && !matches!(c, '<' | '>' | ',' | ';' | '"');
    !local.is_empty()
        && !local.contains('@')
        && text.chars().all(is_plain)
        && !domain.is_empty()
        && domain.split('.').all(|label| !label.is_empty())
        && text.len() <= 254
}

/// Why a URL cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UrlFault {
    /// It is no absolute URL with a host.
    Malformed,
    /// It is neither https nor http on loopback.
    NotProtected,
    /// It holds a user name or password.
    HasCredentials,
}

/// A URL that may be called: https, or http where the host is on loopback.
pub(super) fn protected_url(text: &str) -> Result<Url, UrlFault> {
    let url = Url::parse(text).map_err(|_| UrlFault::Malformed)?;
    let Some(host) = url.host() else {
        return Err(UrlFault::Malformed);
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlFault::HasCredentials);
    }
    let is_loopback = match host {
        Host::Domain(name) => is_loopback(name),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback => Ok(url),
        _ => Err(UrlFault::NotProtected),
    }
}

/// Whether a host is this machine itself.
pub(crate) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || IpAddr::from_str(host).is_ok_and(|address| address.is_loopback())
}

/// Whether a host cannot be known to the public Internet: an address, a bare name or a name under a private domain.
pub(super) fn is_private_host(host: &str) -> bool {
    /// Top-level domains that are no public suffix (RFC 6761, RFC 6762, RFC 8375, ICANN's `.internal`).
    const PRIVATE: [&str; 11] = [
        "local",
        "lan",
        "internal",
        "intranet",
        "home",
        "corp",
        "private",
        "localdomain",
        "arpa",
        "test",
        "invalid",
    ];
    let host = host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
    if IpAddr::from_str(&host).is_ok() {
        return true;
    }
    host.rsplit_once('.').is_none_or(|(_, top)| PRIVATE.contains(&top))
}

/// The known word that a mistyped one is most likely meant to be.
pub(crate) fn nearest<'w>(word: &str, known: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let limit = 1 + word.chars().count() / 4;
    known
        .into_iter()
        .map(|candidate| (distance(&word.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many letters must be changed, inserted, left out or swapped with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    let mut last_a = None;
    for (row, letter) in a.chars().enumerate() {
        let mut current = vec![row + 1];
        for (column, other) in b.iter().enumerate() {
            let at = |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX - 1);
            let mut least = (at(&above, column) + usize::from(letter != *other))
                .min(at(&above, column + 1) + 1)
                .min(at(&current, column) + 1);
            let is_swapped = column > 0 && last_a == Some(*other) && b.get(column - 1) == Some(&letter);
            if is_swapped {
                least = least.min(at(&before, column - 1) + 1);
            }
            current.push(least);
        }
        before = above;
        above = current;
        last_a = Some(letter);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_unit() {
        for (text, seconds) in [
            ("90s", Some(90)),
            ("5m", Some(300)),
            ("1h", Some(3600)),
            ("30d", Some(30 * 86400)),
            ("5 m", Some(300)),
            ("5 fortnights", None),
            ("5", None),
            ("m", None),
            ("-5m", None),
            ("", None),
            ("99999999999999999999d", None),
            ("9999999999999999999d", None),
        ] {
            assert_eq!(duration(text).map(|d| d.as_secs()), seconds, "{text}");
        }
        for text in ["90s", "5m", "1h", "30d", "0s"] {
            assert_eq!(duration(text).map(write_duration).as_deref(), Some(text));
        }
    }

    #[test]
    fn sizes_have_a_unit() {
        for (text, bytes) in [
            ("25 MiB", Some(25 << 20)),
            ("25MiB", Some(25 << 20)),
            ("1 KB", Some(1000)),
            ("1 GiB", Some(1 << 30)),
            ("512 B", Some(512)),
            ("25", None),
            ("25 Mb", None),
            ("MiB", None),
        ] {
            assert_eq!(size_bytes(text), bytes, "{text}");
        }
        assert_eq!(write_size(25 << 20), "25 MiB");
        assert_eq!(write_size(1000), "1000 B");
    }

    #[test]
    fn dates_are_local_unless_they_say_otherwise() {
        assert_eq!(instant_of_text("2026-11-02T10:00:00Z"), Some(Timestamp(1_793_613_600)));
        assert_eq!(
            instant_of_text("2026-11-02T10:00:00+01:00"),
            Some(Timestamp(1_793_610_000))
        );
        let day = instant_of_text("2026-11-02").unwrap();
        assert_eq!(instant_of_text("2026-11-02T00:00:00"), Some(day));
        for wrong in ["2026-13-01", "2026-02-30", "10:00:00", "yesterday", ""] {
            assert_eq!(instant_of_text(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn addresses_are_told_from_other_texts() {
        for (text, address) in [
            ("support@example.org", Some("support@example.org")),
            ("Support <support@example.org>", Some("support@example.org")),
            ("\"A, B\" <a+b@sub.example.org>", Some("a+b@sub.example.org")),
            ("someone@localhost", Some("someone@localhost")),
            ("billing", None),
            ("@example.org", None),
            ("a@", None),
            ("a@b@c", None),
            ("a b@example.org", None),
            ("a@example..org", None),
            ("a@example.org\r\nBcc: x@y.example", None),
            ("Support <support@example.org", None),
        ] {
            assert_eq!(address_in(text), address, "{text}");
        }
    }

    #[test]
    fn http_is_for_loopback_only() {
        for (text, fault) in [
            ("https://idp.example.org/token", None),
            ("http://127.0.0.1:8425", None),
            ("http://localhost:1/x", None),
            ("http://[::1]:1/", None),
            ("http://idp.example.org", Some(UrlFault::NotProtected)),
            ("http://127.0.0.1.example.org", Some(UrlFault::NotProtected)),
            ("ftp://localhost", Some(UrlFault::NotProtected)),
            ("idp.example.org", Some(UrlFault::Malformed)),
            ("mailto:a@b.example", Some(UrlFault::Malformed)),
            ("https://user:pass@idp.example.org", Some(UrlFault::HasCredentials)),
        ] {
            assert_eq!(protected_url(text).err(), fault, "{text}");
        }
    }

    #[test]
    fn private_hosts_are_known() {
        for host in [
            "intake.local",
            "intake",
            "10.0.0.1",
            "[2001:db8::1]",
            "mail.home.arpa",
            "x.LAN.",
        ] {
            assert!(is_private_host(host), "{host}");
        }
        for host in ["intake.example.org", "intake.contoso.example"] {
            assert!(!is_private_host(host), "{host}");
        }
    }

    #[test]
    fn a_typo_finds_its_word() {
        let known = ["host", "port", "poll_interval", "sasl", "sasl_user"];
        for (word, meant) in [
            ("hots", Some("host")),
            ("prot", Some("port")),
            ("pol_intervall", Some("poll_interval")),
            ("poll-interval", Some("poll_interval")),
            ("Host", Some("host")),
            ("colour", None),
        ] {
            assert_eq!(nearest(word, known), meant, "{word}");
        }
    }
}
