//! When the provider will end a sign-in: by what it states, by its rules, and by how it ended former ones. Pure.
//! It never says so of a grant that has outlived what was foreseen.

use std::time::Duration;

use super::ending::span;
use super::why::{SINGLE_PAGE_CODE, Why};
use crate::alert::{AlertKind, Finding};
use crate::grant::{GrantRef, GrantState, Problem, Provider, PublishingStatus};
use crate::store::grant::GrantRow;
use crate::store::grant::sign_in::SignInRow;
use crate::time::Timestamp;

const DAY: Duration = Duration::from_hours(24);

/// Life of a sign-in at a Google application in testing
/// (<https://developers.google.com/identity/protocols/oauth2#expiration>).
const GOOGLE_TESTING: Duration = Duration::from_hours(7 * 24);
/// How long before that it is told.
const GOOGLE_TESTING_NOTICE: Duration = Duration::from_hours(2 * 24);
/// Ages at which a sign-in of an application in testing is found dead: renewals are up to half a day apart.
const GOOGLE_WEEK: std::ops::RangeInclusive<Duration> = Duration::from_hours(156)..=Duration::from_hours(180);
/// Life of a sign-in whose redirect URI is registered for a single-page application (AADSTS700084).
const SINGLE_PAGE: Duration = DAY;
/// After this time without use Microsoft ends a refresh token (AADSTS700082).
const MICROSOFT_DISUSE: Duration = Duration::from_hours(90 * 24);
/// The same at Google: six months.
const GOOGLE_DISUSE: Duration = Duration::from_hours(180 * 24);
/// A grant that was not renewed for so long is in disuse; else it is renewed within hours.
const UNUSED: Duration = Duration::from_hours(7 * 24);
/// Sign-ins that end sooner end for reasons that do not recur by the clock.
const SHORTEST: Duration = Duration::from_hours(6);
/// Least difference in age of two that ended for one reason: the end is noticed at the next renewal.
const ALIKE: Duration = Duration::from_hours(2);
/// Codes of the sign-in frequency, whose text states a life.
const FREQUENCY_CODES: [&str; 2] = ["AADSTS70043", "AADSTS700081"];
/// Accounts with grants of one Google client at which it is told, since at 100 an unverified application is full; and
/// refresh tokens of one account and client, since beyond 100 its oldest ends silently.
const CROWDED: usize = 80;

/// What is known of one grant.
pub(super) struct Facts<'f> {
    pub(super) grant: &'f GrantRef,
    pub(super) row: &'f GrantRow,
    /// Its own sign-ins, the oldest first.
    pub(super) own: Vec<&'f SignInRow>,
    /// Those of all grants of the same client.
    pub(super) client: Vec<&'f SignInRow>,
    /// What signs in again.
    pub(super) command: String,
}

/// An end that is foreseen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) end: Timestamp,
    warn_at: Timestamp,
    why: Why,
}

/// The first end that is foreseen.
pub(super) fn expected(facts: &Facts<'_>, now: Timestamp) -> Option<Expected> {
    let is_alive = match facts.row.state {
        GrantState::Ok | GrantState::Degraded | GrantState::NeedsAdmin | GrantState::Misconfigured => true,
        GrantState::Pending | GrantState::NeedsAuthorization => false,
    };
    if !is_alive || !facts.grant.integration.flow.needs_person() || facts.row.refresh_token.is_none() {
        return None;
    }
    let known = [testing(facts), learned(facts), stated(facts), disuse(facts, now)];
    known
        .into_iter()
        .flatten()
        .filter(|expected| !is_refuted(facts.row, expected))
        .min_by_key(|expected| expected.end)
}

/// Whether it was renewed after what was foreseen as its end.
fn is_refuted(row: &GrantRow, expected: &Expected) -> bool {
    row.refreshed_at.is_some_and(|at| at > expected.end.plus(ALIKE))
}

fn began(facts: &Facts<'_>) -> Option<Timestamp> {
    let last = facts.own.last().filter(|last| last.end.is_none());
    last.map(|last| last.began_at)
}

fn after(began: Timestamp, life: Duration, notice: Duration, why: Why) -> Expected {
    Expected {
        end: began.plus(life),
        warn_at: began.plus(life.saturating_sub(notice)),
        why,
    }
}

fn testing(facts: &Facts<'_>) -> Option<Expected> {
    let integration = &facts.grant.integration;
    if integration.provider != Provider::Google {
        return None;
    }
    let why = match integration.publishing_status {
        Some(PublishingStatus::Testing) => Why::Testing,
        None if weeks(&facts.client) >= 2 => Why::LikeTesting,
        Some(PublishingStatus::Production | PublishingStatus::Internal) | None => return None,
    };
    let began = began(facts).or(facts.row.refresh_token_issued_at)?;
    Some(after(began, GOOGLE_TESTING, GOOGLE_TESTING_NOTICE, why))
}

/// How many ended after a week.
fn weeks(sign_ins: &[&SignInRow]) -> usize {
    sign_ins
        .iter()
        .filter_map(|row| age(row))
        .filter(|age| GOOGLE_WEEK.contains(age))
        .count()
}

fn age(row: &SignInRow) -> Option<Duration> {
    row.end.as_ref().map(|(at, _)| row.began_at.until(*at))
}

fn learned(facts: &Facts<'_>) -> Option<Expected> {
    let began = began(facts)?;
    let mut ended = facts.own.iter().rev().filter(|row| row.end.is_some());
    let last = ended.next()?;
    let (_, code) = last.end.as_ref()?;
    let code = code.as_str();
    if code == SINGLE_PAGE_CODE {
        let life = last.life.unwrap_or(SINGLE_PAGE);
        return Some(after(began, life, life / 10, Why::SinglePage));
    }
    if let Some(life) = last.life.filter(|_| FREQUENCY_CODES.contains(&code)) {
        return Some(after(began, life, life / 10, Why::Frequency(code.to_owned())));
    }
    let (one, other) = (age(last)?, age(ended.next()?)?);
    let life = one.min(other);
    let is_alike = one.abs_diff(other) <= ALIKE.max(life / 20);
    (is_alike && life >= SHORTEST).then(|| after(began, life, life / 10, Why::Alike(life, code.to_owned())))
}

fn stated(facts: &Facts<'_>) -> Option<Expected> {
    let (issued, end) = (facts.row.refresh_token_issued_at?, facts.row.expected_end_at?);
    let life = issued.until(end);
    Some(after(issued, life, life / 10, Why::Stated))
}

fn disuse(facts: &Facts<'_>, now: Timestamp) -> Option<Expected> {
    let provider = facts.grant.integration.provider;
    let span = match provider {
        Provider::Google => GOOGLE_DISUSE,
        _ if provider.is_microsoft() => MICROSOFT_DISUSE,
        _ => return None,
    };
    let used = facts.row.refreshed_at.or(facts.row.refresh_token_issued_at)?;
    (used.until(now) >= UNUSED).then(|| after(used, span, span / 10, Why::Disuse(span)))
}

/// What is to be said of a grant now, if anything.
pub(super) fn finding(facts: &Facts<'_>, now: Timestamp) -> Option<Finding> {
    let expected = expected(facts, now).filter(|expected| expected.warn_at <= now)?;
    let when = if expected.end > now {
        format!(
            "ends on {}, in {}",
            expected.end.rfc3339(),
            span(now.until(expected.end))
        )
    } else {
        format!("was expected to end on {}", expected.end.rfc3339())
    };
    Some(Finding {
        kind: AlertKind::GrantExpiring,
        subject: facts.grant.integration.name.clone(),
        login: Some(facts.row.key.login.clone()),
        problem: Problem {
            code: expected.why.code().to_owned(),
            summary: format!(
                "the sign-in of {} {when}: {}",
                facts.row.key.login,
                expected.why.cause()
            ),
            remedy: expected.why.remedy(&facts.grant.integration, &facts.command),
        },
    })
}

/// A Google client with nearly as many accounts as one may have; `accounts` have a grant of it.
pub(super) fn crowded(grant: &GrantRef, accounts: usize) -> Option<Finding> {
    let integration = &grant.integration;
    let is_counted = integration.provider == Provider::Google
        && integration.flow.needs_person()
        && integration.publishing_status != Some(PublishingStatus::Internal);
    (is_counted && accounts >= CROWDED).then(|| Finding {
        kind: AlertKind::GrantExpiring,
        subject: integration.name.clone(),
        login: Some(crate::alert::SEVERAL.to_owned()),
        problem: Problem {
            code: "google-100-grants".to_owned(),
            summary: format!("{accounts} accounts have signed in with this client; Google allows 100"),
            remedy: "Verify the app or make it Internal (Google Cloud console > Google Auth Platform), use a service \
                     account, or a second client for the others"
                .to_owned(),
        },
    })
}

/// An account with nearly as many refresh tokens of a Google client as it may have: each sign-in makes one, which
/// lives on beside the next until Google refuses it. Those that other programs have of the client count, too.
pub(super) fn worn(facts: &Facts<'_>) -> Option<Finding> {
    let integration = &facts.grant.integration;
    let tokens = facts.own.iter().filter(|sign_in| sign_in.end.is_none()).count();
    let is_worn = integration.provider == Provider::Google && integration.flow.needs_person() && tokens >= CROWDED;
    is_worn.then(|| Finding {
        kind: AlertKind::GrantExpiring,
        subject: integration.name.clone(),
        login: Some(facts.row.key.login.clone()),
        problem: Problem {
            code: "google-100-tokens".to_owned(),
            summary: format!(
                "{} has signed in {tokens} times with this client; beyond 100 Google ends its oldest sign-in without a word",
                facts.row.key.login
            ),
            remedy: format!(
                "Remove the application's access at https://myaccount.google.com/connections, which ends all of them, \
                 then sign in once: {}",
                facts.command
            ),
        },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::grant::{AssertionAlgorithm, ClientAuthentication, EndpointSource, Flow, GrantKey, Integration};
    use crate::store::grant::GrantId;

    const NOW: Timestamp = Timestamp(1_800_000_000);

    fn ago(span: Duration) -> Timestamp {
        Timestamp(NOW.0 - i64::try_from(span.as_secs()).unwrap())
    }

    fn hours(count: u64) -> Duration {
        Duration::from_hours(count)
    }

    fn grant(provider: Provider, publishing_status: Option<PublishingStatus>) -> GrantRef {
        GrantRef {
            integration: Arc::new(Integration {
                name: "idp".into(),
                description: None,
                provider,
                tenant: None,
                flow: Flow::AuthorizationCode,
                client_id: "client".into(),
                client_authentication: ClientAuthentication::Post,
                client_secret: None,
                next_client_secret: None,
                client_secret_expires: None,
                certificate: None,
                next_certificate: None,
                service_account: None,
                publishing_status,
                endpoints: EndpointSource::Issuer("https://idp.example.org".into()),
                scopes: vec![],
                authorization_parameters: BTreeMap::new(),
                assertion_algorithm: AssertionAlgorithm::Ps256,
                ca_file: None,
            }),
            login: "ann@example.org".into(),
        }
    }

    fn row() -> GrantRow {
        GrantRow {
            id: GrantId(1),
            key: GrantKey::new("client", "https://idp.example.org/token", "ann@example.org"),
            integration: "idp".into(),
            generation: 1,
            access_token: None,
            access_token_expires_at: None,
            is_rejected: false,
            forced_at: None,
            refresh_token: Some(vec![2]),
            previous_refresh_token: None,
            refresh_token_issued_at: Some(ago(hours(1))),
            scopes: None,
            refreshed_at: Some(ago(hours(1))),
            next_refresh_at: None,
            expected_end_at: None,
            state: GrantState::Ok,
            state_since: NOW,
            failures: 0,
            problem: None,
            settings: None,
            lease: None,
        }
    }

    /// Sign-ins by the age at which they began, how long they lasted, and their code and stated life.
    fn sign_ins(list: &[(Duration, Option<Duration>, &str, Option<Duration>)]) -> Vec<SignInRow> {
        let one = |(began, lasted, code, life): &(Duration, Option<Duration>, &str, Option<Duration>)| SignInRow {
            grant: GrantId(1),
            began_at: ago(*began),
            end: lasted.map(|lasted| (ago(*began).plus(lasted), (*code).to_owned())),
            life: *life,
        };
        list.iter().map(one).collect()
    }

    fn look(grant: &GrantRef, row: &GrantRow, known: &[SignInRow]) -> Option<(String, i64)> {
        let facts = Facts {
            grant,
            row,
            own: known.iter().collect(),
            client: known.iter().collect(),
            command: "mailintake authorize ann".into(),
        };
        let found = finding(&facts, NOW)?;
        assert!(!found.problem.remedy.is_empty() && found.login.is_some());
        let end = expected(&facts, NOW).unwrap().end;
        Some((found.problem.code, (end.0 - NOW.0) / 3600))
    }

    #[test]
    fn an_application_in_testing_is_told_two_days_before_its_week_is_over() {
        let testing = grant(Provider::Google, Some(PublishingStatus::Testing));
        let production = grant(Provider::Google, Some(PublishingStatus::Production));
        for (grant, age, expected) in [
            (&testing, 119, None),
            (&testing, 121, Some(("google-testing".to_owned(), 47))),
            // It was renewed after its end: the application is published by now.
            (&testing, 180, None),
            (&production, 121, None),
        ] {
            let known = sign_ins(&[(hours(age), None, "", None)]);
            assert_eq!(look(grant, &row(), &known), expected, "{age} h");
        }
    }

    #[test]
    fn two_ends_after_a_week_are_an_application_in_testing() {
        let unknown = grant(Provider::Google, None);
        let week = Some(hours(169));
        let once = [(hours(400), week, "invalid_grant", None), (hours(130), None, "", None)];
        assert_eq!(look(&unknown, &row(), &sign_ins(&once)), None);
        let twice = [(hours(600), week, "invalid_grant", None), once[0], once[1]];
        assert_eq!(
            look(&unknown, &row(), &sign_ins(&twice)),
            Some(("google-testing".to_owned(), 38))
        );
    }

    #[test]
    fn a_life_that_the_provider_stated_is_expected_again_and_told_a_tenth_before() {
        let microsoft = grant(Provider::Microsoft, None);
        for (code, life, age, expected) in [
            ("AADSTS70043", Some(hours(12)), 10, None),
            ("AADSTS70043", Some(hours(12)), 11, Some(1)),
            ("AADSTS70043", None, 11, None),
            ("AADSTS700084", None, 22, Some(2)),
            ("AADSTS50173", Some(hours(12)), 11, None),
            // It has outlived what was foreseen.
            ("AADSTS700084", None, 30, None),
        ] {
            let known = sign_ins(&[(hours(100), Some(hours(13)), code, life), (hours(age), None, "", None)]);
            let expected = expected.map(|left| (code.to_owned(), left));
            assert_eq!(look(&microsoft, &row(), &known), expected, "{code} {age}");
        }
    }

    #[test]
    fn two_ends_at_one_age_are_a_rule_and_two_at_different_ages_are_not() {
        let custom = grant(Provider::Custom, None);
        for (one, other, expected) in [(240, 241, true), (240, 252, true), (240, 300, false), (3, 3, false)] {
            let known = sign_ins(&[
                (hours(2000), Some(hours(one)), "invalid_grant", None),
                (hours(1000), Some(hours(other)), "invalid_grant", None),
                (hours(one.min(other) - 1), None, "", None),
            ]);
            assert_eq!(look(&custom, &row(), &known).is_some(), expected, "{one} {other}");
        }
    }

    #[test]
    fn a_stated_end_that_moves_with_each_renewal_is_never_near() {
        let custom = grant(Provider::Custom, None);
        let at = |issued, end| GrantRow {
            refresh_token_issued_at: Some(ago(issued)),
            expected_end_at: Some(end),
            ..row()
        };
        let soon = NOW.plus(hours(2));
        assert_eq!(
            look(&custom, &at(hours(28), soon), &[]),
            Some(("refresh-token-ends".to_owned(), 2))
        );
        assert_eq!(look(&custom, &at(hours(1), soon), &[]), None);
    }

    #[test]
    fn a_grant_that_nothing_renews_is_told_before_the_provider_forgets_it() {
        let microsoft = grant(Provider::Microsoft, None);
        let unused = |days: u64, state| GrantRow {
            refreshed_at: Some(ago(hours(days * 24))),
            state,
            ..row()
        };
        for (days, state, expected) in [
            (80, GrantState::NeedsAdmin, false),
            (82, GrantState::NeedsAdmin, true),
            (82, GrantState::Degraded, true),
            (82, GrantState::NeedsAuthorization, false),
        ] {
            let found = look(&microsoft, &unused(days, state), &[]);
            assert_eq!(found.is_some(), expected, "{days} {state:?}");
        }
    }

    #[test]
    fn an_account_that_signs_in_over_and_over_is_told_before_its_oldest_token_ends() {
        let google = grant(Provider::Google, Some(PublishingStatus::Internal));
        let elsewhere = grant(Provider::Microsoft, None);
        let living = sign_ins(&[(hours(1), None, "", None); 79]);
        let mut dead = living.clone();
        dead.extend(sign_ins(&[(hours(9), Some(hours(2)), "invalid_grant", None)]));
        let full = living.iter().chain(&living[..1]).cloned().collect::<Vec<_>>();
        for (grant, known, is_told) in [
            (&google, &living, false),
            (&google, &dead, false),
            (&google, &full, true),
            (&elsewhere, &full, false),
        ] {
            let facts = Facts {
                grant,
                row: &row(),
                own: known.iter().collect(),
                client: known.iter().collect(),
                command: "mailintake authorize ann".into(),
            };
            let told = worn(&facts);
            assert_eq!(told.is_some(), is_told, "{} {told:?}", known.len());
            assert!(told.is_none_or(|finding| finding.problem.remedy.ends_with("mailintake authorize ann")));
        }
    }

    #[test]
    fn a_crowded_google_client_is_told_at_eighty_accounts() {
        let external = grant(Provider::Google, None);
        let internal = grant(Provider::Google, Some(PublishingStatus::Internal));
        assert!(crowded(&external, 79).is_none() && crowded(&external, 80).is_some());
        assert!(crowded(&internal, 200).is_none());
        assert!(crowded(&grant(Provider::Microsoft, None), 200).is_none());
    }
}
