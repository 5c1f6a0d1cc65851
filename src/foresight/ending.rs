//! Client secrets, passwords and certificates whose end is known: what is to be said of them now. Pure.
//! It never reads a secret's value.

use std::time::Duration;

use openssl::asn1::Asn1Time;
use openssl::x509::X509;

use super::remedy;
use crate::alert::{AlertKind, Finding};
use crate::grant::{Integration, Problem};
use crate::outgoing::{Smtp, SmtpSignIn};
use crate::time::Timestamp;

const HOUR: u64 = 60 * 60;
const DAY: u64 = 24 * HOUR;

/// Days before an end at which it is told, and the code of the time from then on.
const THRESHOLDS: [(u64, &str); 5] = [
    (1, "expires-within-1-day"),
    (7, "expires-within-7-days"),
    (14, "expires-within-14-days"),
    (30, "expires-within-30-days"),
    (60, "expires-within-60-days"),
];
/// Code of what has ended.
const EXPIRED: &str = "expired";
/// Code of what ends while its second slot goes on.
const SUCCEEDED: &str = "second-slot-takes-over";

/// Something with an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ending {
    kind: AlertKind,
    subject: String,
    /// What ends, as a subject of a sentence.
    what: String,
    end: Timestamp,
    successor: Successor,
    /// What to do.
    remedy: String,
}

/// What takes its place by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Successor {
    /// Nothing.
    None,
    /// This key, whose end nobody stated.
    Open(&'static str),
    /// This key, until then.
    Until(&'static str, Timestamp),
}

/// What ends of these.
pub(super) fn endings<'s>(
    integrations: impl IntoIterator<Item = &'s Integration>,
    smtp: impl IntoIterator<Item = &'s Smtp>,
) -> Vec<Ending> {
    let of_integrations = integrations
        .into_iter()
        .flat_map(|integration| [secret(integration), certificate(integration)]);
    let of_smtp = smtp.into_iter().map(password);
    of_integrations.chain(of_smtp).flatten().collect()
}

/// When the credential of an integration ends that is in its first slot.
pub(crate) fn credential_end(integration: &Integration) -> Option<Timestamp> {
    match &integration.certificate {
        Some(certificate) => certificate_end(&certificate.pem),
        None => integration
            .client_secret
            .as_ref()
            .and(integration.client_secret_expires),
    }
}

/// The `notAfter` of the first certificate of a PEM text.
pub(crate) fn certificate_end(pem: &str) -> Option<Timestamp> {
    let certificate = X509::from_pem(pem.as_bytes()).ok()?;
    let since = Asn1Time::from_unix(0).ok()?.diff(certificate.not_after()).ok()?;
    Some(Timestamp(i64::from(since.days) * 86_400 + i64::from(since.secs)))
}

fn secret(integration: &Integration) -> Option<Ending> {
    let secret = integration.client_secret.as_ref()?;
    Some(Ending {
        kind: AlertKind::SecretExpiring,
        subject: integration.name.clone(),
        what: "the client secret".to_owned(),
        end: integration.client_secret_expires?,
        successor: integration
            .next_client_secret
            .as_ref()
            .map_or(Successor::None, |_| Successor::Open("next_client_secret")),
        remedy: remedy::client_secret(integration, &secret.source),
    })
}

fn certificate(integration: &Integration) -> Option<Ending> {
    let certificate = integration.certificate.as_ref()?;
    let next = integration.next_certificate.as_ref();
    Some(Ending {
        kind: AlertKind::CertificateExpiring,
        subject: integration.name.clone(),
        what: format!("the certificate {}", certificate.path.display()),
        end: certificate_end(&certificate.pem)?,
        successor: next
            .and_then(|next| certificate_end(&next.pem))
            .map_or(Successor::None, |end| Successor::Until("next_certificate", end)),
        remedy: remedy::certificate(integration, certificate),
    })
}

fn password(smtp: &Smtp) -> Option<Ending> {
    let SmtpSignIn::Password {
        username,
        password,
        expires,
    } = &smtp.sign_in
    else {
        return None;
    };
    Some(Ending {
        kind: AlertKind::SecretExpiring,
        subject: smtp.name.clone(),
        what: format!("the password of the smtp server {}", smtp.name),
        end: (*expires)?,
        successor: Successor::None,
        remedy: remedy::password(smtp, username, &password.source),
    })
}

/// What is to be said of it now, if anything.
pub(super) fn finding(ending: &Ending, now: Timestamp) -> Option<Finding> {
    let (code, summary) = match ending.successor {
        Successor::Open(key) => (
            code(ending.end, now).map(|_| SUCCEEDED)?,
            format!(
                "{}; {key} is set and takes its place",
                ends(&ending.what, ending.end, now)
            ),
        ),
        Successor::Until(key, end) if end > ending.end => match code(end, now) {
            // Both end soon: what counts is the later one.
            Some(code) => (code, ends(key, end, now)),
            None => (
                code(ending.end, now).map(|_| SUCCEEDED)?,
                format!(
                    "{}; {key} is set and takes its place until {}",
                    ends(&ending.what, ending.end, now),
                    end.local_day()
                ),
            ),
        },
        Successor::Until(..) | Successor::None => (code(ending.end, now)?, ends(&ending.what, ending.end, now)),
    };
    Some(Finding {
        kind: ending.kind,
        subject: ending.subject.clone(),
        login: None,
        problem: Problem {
            code: code.to_owned(),
            summary,
            remedy: ending.remedy.clone(),
        },
    })
}

/// The threshold that an end has come within.
fn code(end: Timestamp, now: Timestamp) -> Option<&'static str> {
    if end <= now {
        return Some(EXPIRED);
    }
    let left = now.until(end);
    let (_, code) = THRESHOLDS
        .into_iter()
        .find(|(days, _)| left <= Duration::from_secs(days * DAY))?;
    Some(code)
}

fn ends(what: &str, end: Timestamp, now: Timestamp) -> String {
    if end <= now {
        return format!("{what} expired on {}, {} ago", end.local_day(), span(end.until(now)));
    }
    format!("{what} ends on {}, in {}", end.local_day(), span(now.until(end)))
}

/// A span in days, or in hours where it is short, rounded down.
pub(super) fn span(span: Duration) -> String {
    let (count, unit) = match span.as_secs() {
        seconds if seconds >= 2 * DAY => (seconds / DAY, "days"),
        seconds if seconds >= 2 * HOUR => (seconds / HOUR, "hours"),
        seconds => (seconds / 60, "minutes"),
    };
    format!("{count} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::Severity;

    const NOW: Timestamp = Timestamp(1_800_000_000);

    fn days(count: i64) -> Timestamp {
        Timestamp(NOW.0 + count * 86_400)
    }

    fn ending(end: Timestamp, successor: Successor) -> Ending {
        Ending {
            kind: AlertKind::SecretExpiring,
            subject: "contoso".into(),
            what: "the client secret".into(),
            end,
            successor,
            remedy: "Make a new one".into(),
        }
    }

    #[test]
    fn an_end_is_told_from_sixty_days_on_and_is_critical_from_seven() {
        for (end, expected) in [
            (61, None),
            (60, Some(("expires-within-60-days", Severity::Warning))),
            (30, Some(("expires-within-30-days", Severity::Warning))),
            (14, Some(("expires-within-14-days", Severity::Warning))),
            (8, Some(("expires-within-14-days", Severity::Warning))),
            (7, Some(("expires-within-7-days", Severity::Critical))),
            (1, Some(("expires-within-1-day", Severity::Critical))),
            (0, Some(("expired", Severity::Critical))),
            (-5, Some(("expired", Severity::Critical))),
        ] {
            let found = finding(&ending(days(end), Successor::None), NOW);
            let found = found.as_ref().map(|f| (f.problem.code.as_str(), f.severity()));
            assert_eq!(found, expected, "{end} days");
        }
    }

    #[test]
    fn a_second_slot_that_goes_on_is_named_and_nothing_is_critical() {
        for (end, successor, code, words) in [
            (
                3,
                Successor::Open("next_client_secret"),
                SUCCEEDED,
                "next_client_secret is set",
            ),
            (-3, Successor::Open("next_client_secret"), SUCCEEDED, "expired on"),
            (
                3,
                Successor::Until("next_certificate", days(400)),
                SUCCEEDED,
                "until 2028-",
            ),
            (
                3,
                Successor::Until("next_certificate", days(20)),
                "expires-within-30-days",
                "next_certificate ends",
            ),
            (
                3,
                Successor::Until("next_certificate", days(1)),
                "expires-within-7-days",
                "the client secret ends",
            ),
        ] {
            let found = finding(&ending(days(end), successor), NOW).unwrap();
            assert_eq!(found.problem.code, code, "{end} {successor:?}");
            assert!(found.problem.summary.contains(words), "{}", found.problem.summary);
        }
        let far = ending(days(90), Successor::Open("next_client_secret"));
        assert_eq!(finding(&far, NOW), None);
    }

    #[test]
    fn what_has_ended_says_since_when() {
        let found = finding(&ending(Timestamp(NOW.0 - 86_400 * 3), Successor::None), NOW).unwrap();
        assert_eq!(
            found.problem.summary,
            "the client secret expired on 2027-01-12, 3 days ago"
        );
    }

    #[test]
    fn the_end_of_a_certificate_is_read_to_the_second_and_rubbish_has_none() {
        use openssl::{hash::MessageDigest, pkey::PKey, rsa::Rsa, x509::X509Builder};
        let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let mut builder = X509Builder::new().unwrap();
        builder.set_pubkey(&key).unwrap();
        builder
            .set_not_before(&Asn1Time::from_unix(1_700_000_000).unwrap())
            .unwrap();
        builder
            .set_not_after(&Asn1Time::from_unix(1_812_345_678).unwrap())
            .unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        let pem = String::from_utf8(builder.build().to_pem().unwrap()).unwrap();
        assert_eq!(certificate_end(&pem), Some(Timestamp(1_812_345_678)));
        assert_eq!(certificate_end("-----BEGIN CERTIFICATE-----\nnonsense\n"), None);
    }
}
