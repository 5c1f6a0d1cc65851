//! When a token is renewed, when a failed try is repeated, and what a grant's row asks for now. Pure.
//! It never sends a request.

use std::time::Duration;

use crate::alert::{AlertKind, Finding};
use crate::grant::{Flow, GrantState, Integration, PublishingStatus};
use crate::oauth::failure::Class;
use crate::oauth::token::Tokens;
use crate::store::grant::GrantRow;
use crate::time::Timestamp;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Least time before its end that a token is renewed, in seconds.
const MARGIN: u64 = 5 * MINUTE;
/// The same at Microsoft, whose High Volume Email endpoint refuses tokens with less.
const MICROSOFT_MARGIN: u64 = 10 * MINUTE;
/// Delays between tries while the provider has a fault, in seconds.
const TRANSIENT: [u64; 6] = [30, MINUTE, 2 * MINUTE, 4 * MINUTE, 8 * MINUTE, 15 * MINUTE];
/// Delays between tries while a person or administrator must act: they heal things without telling us.
const PARKED: [u64; 5] = [15 * MINUTE, 15 * MINUTE, 15 * MINUTE, HOUR, 6 * HOUR];
/// Life of a refresh token of a Google application in testing
/// (<https://developers.google.com/identity/protocols/oauth2#expiration>).
const GOOGLE_TESTING: Duration = Duration::from_secs(7 * DAY);
/// How soon before the end of the access token an outage becomes an alert, in seconds.
const OUTAGE_BEFORE_END: u64 = 2 * MINUTE;
/// How long an outage may last before it becomes an alert, whatever the access token, in seconds.
const OUTAGE: u64 = HOUR;
/// How long a lease holds: longer than an exchange with the provider may last (12 s).
pub(super) const LEASE: Duration = Duration::from_secs(15);
/// How far the clock may be behind what the row says before the row's times are no longer believed.
const CLOCK_SLACK: Duration = Duration::from_secs(30);
/// The longest wait that a failed try can have set: the last of [`PARKED`] and a fifth of it.
const LONGEST_WAIT: Duration = Duration::from_secs(6 * HOUR + 6 * HOUR / 5);

/// What a grant's row asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Give its access token.
    Give,
    /// Ask the token endpoint.
    Renew,
    /// Another process asks; look again soon.
    Wait,
    /// It is not well, and it is too early to try again.
    Refuse,
    /// Nobody has signed in.
    SignIn,
}

/// What to do with a grant now. `settings` is the digest of the present configuration.
pub(super) fn step(row: &GrantRow, flow: Flow, settings: &[u8], now: Timestamp) -> Step {
    let is_usable = is_usable(row, now);
    if flow.needs_person() && row.refresh_token.is_none() {
        return if is_usable { Step::Give } else { Step::SignIn };
    }
    match (is_usable, is_due(row, settings, now), is_leased(row, now)) {
        (true, false, _) | (true, true, true) => Step::Give,
        (false, true, true) => Step::Wait,
        (_, true, false) => Step::Renew,
        (false, false, _) => Step::Refuse,
    }
}

fn is_usable(row: &GrantRow, now: Timestamp) -> bool {
    row.access_token.is_some() && !row.is_rejected && row.access_token_expires_at.is_some_and(|end| end > now)
}

fn is_due(row: &GrantRow, settings: &[u8], now: Timestamp) -> bool {
    let is_failing = row.failures > 0;
    let is_changed = row.settings.as_deref().is_some_and(|used| used != settings);
    // After the clock was set back, a time that was computed before it cannot be waited for.
    let is_absurd = if is_failing {
        row.next_refresh_at
            .is_some_and(|at| at > now.plus(LONGEST_WAIT).plus(CLOCK_SLACK))
    } else {
        row.refreshed_at.is_some_and(|at| at > now.plus(CLOCK_SLACK))
    };
    row.next_refresh_at.is_none_or(|at| at <= now)
        || is_absurd
        || (is_failing && is_changed)
        || (!is_failing && !is_usable(row, now))
}

fn is_leased(row: &GrantRow, now: Timestamp) -> bool {
    // One that would hold for longer was taken before the clock was set back.
    let is_held = |until: Timestamp| until > now && until <= now.plus(LEASE);
    row.lease.as_ref().is_some_and(|(_, until)| is_held(*until))
}

/// When tokens that were obtained `now` are renewed: before their end by a tenth of their life, at least
/// 5 min (10 min at Microsoft), at most half of it; earlier where the provider says so; and up to a quarter
/// of that margin or a minute earlier by `jitter` in 0.0..1.0, so that grants do not knock together.
pub(super) fn renew_at(tokens: &Tokens, is_microsoft: bool, now: Timestamp, jitter: f64) -> Timestamp {
    let life = tokens.expires_in.as_secs();
    let least = if is_microsoft { MICROSOFT_MARGIN } else { MARGIN };
    let margin = (life / 10).max(least).min(life / 2);
    let age = tokens
        .refresh_in
        .map_or(life - margin, |wanted| wanted.as_secs().min(life - margin));
    let early = Duration::from_secs(MINUTE.min(margin / 4)).mul_f64(jitter.clamp(0.0, 1.0));
    now.plus(Duration::from_secs(age).saturating_sub(early))
}

/// Delay before the next try after `failures` (1 = the first), in whole seconds: longer if the provider
/// asked for it, and up to a fifth longer by `jitter` in 0.0..1.0.
pub(super) fn retry_delay(class: Class, failures: u32, asked: Option<Duration>, jitter: f64) -> Duration {
    let delays: &[u64] = match class {
        Class::Transient => &TRANSIENT,
        Class::Reauthorize | Class::Admin | Class::Configuration | Class::Bug => &PARKED,
    };
    let index = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
    let seconds = delays.get(index).or(delays.last()).copied().unwrap_or(HOUR);
    let delay = Duration::from_secs(seconds).mul_f64(1.0 + jitter.clamp(0.0, 1.0) / 5.0);
    delay.max(asked.unwrap_or_default())
}

/// The state of a grant whose last try failed. Where nobody signs in, nobody can sign in again.
pub(super) fn state(class: Class, flow: Flow) -> GrantState {
    match class {
        Class::Transient | Class::Bug => GrantState::Degraded,
        Class::Reauthorize if flow.needs_person() => GrantState::NeedsAuthorization,
        Class::Reauthorize | Class::Admin => GrantState::NeedsAdmin,
        Class::Configuration => GrantState::Misconfigured,
    }
}

/// When the provider is expected to end a refresh token that it issued `now`.
pub(super) fn expected_end(integration: &Integration, tokens: &Tokens, now: Timestamp) -> Option<Timestamp> {
    let testing = match integration.publishing_status {
        Some(PublishingStatus::Testing) => Some(GOOGLE_TESTING),
        Some(PublishingStatus::Production | PublishingStatus::Internal) | None => None,
    };
    tokens.refresh_token_expires_in.or(testing).map(|life| now.plus(life))
}

/// What a person must know about a grant, if anything; the subject is left to who knows its names.
/// An outage is told once the access token is about to end, or after an hour.
pub fn finding(row: &GrantRow, subject: &str, now: Timestamp) -> Option<Finding> {
    let problem = row.problem.clone()?;
    let kind = match row.state {
        GrantState::NeedsAuthorization => AlertKind::ReauthorizationRequired,
        GrantState::NeedsAdmin => AlertKind::AdminActionRequired,
        GrantState::Misconfigured => AlertKind::ConfigurationRefused,
        GrantState::Degraded if is_outage_urgent(row, now) => AlertKind::TokenRefreshFailing,
        GrantState::Degraded | GrantState::Ok | GrantState::Pending => return None,
    };
    Some(Finding {
        kind,
        subject: subject.to_owned(),
        login: Some(row.key.login.clone()),
        problem,
    })
}

fn is_outage_urgent(row: &GrantRow, now: Timestamp) -> bool {
    let soon = now.plus(Duration::from_secs(OUTAGE_BEFORE_END));
    let is_ending = row.is_rejected || row.access_token_expires_at.is_none_or(|end| end <= soon);
    is_ending || row.state_since.until(now).as_secs() >= OUTAGE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::{GrantKey, Problem};
    use crate::store::grant::GrantId;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn row() -> GrantRow {
        GrantRow {
            id: GrantId(1),
            key: GrantKey::new("client", "https://idp.example.org/token", "ann@example.org"),
            integration: "idp".into(),
            generation: 1,
            access_token: Some(vec![1]),
            access_token_expires_at: Some(Timestamp(NOW.0 + 600)),
            is_rejected: false,
            forced_at: None,
            refresh_token: Some(vec![2]),
            previous_refresh_token: None,
            refresh_token_issued_at: None,
            scopes: None,
            refreshed_at: Some(Timestamp(NOW.0 - 100)),
            next_refresh_at: Some(Timestamp(NOW.0 + 300)),
            expected_end_at: None,
            state: GrantState::Ok,
            state_since: NOW,
            failures: 0,
            problem: None,
            settings: Some(vec![9]),
            lease: None,
        }
    }

    fn changed(change: impl Fn(&mut GrantRow)) -> GrantRow {
        let mut row = row();
        change(&mut row);
        row
    }

    #[test]
    fn a_row_asks_for_one_thing() {
        let past = Some(Timestamp(NOW.0 - 1));
        let leased = Some(("other@boot".to_owned(), Timestamp(NOW.0 + 9)));
        let failing = |row: &mut GrantRow| {
            row.failures = 2;
            row.access_token_expires_at = past;
        };
        let cases: [(&str, GrantRow, Step); 11] = [
            ("fresh", row(), Step::Give),
            ("due", changed(|r| r.next_refresh_at = past), Step::Renew),
            (
                "due elsewhere",
                changed(|r| (r.next_refresh_at, r.lease) = (past, leased.clone())),
                Step::Give,
            ),
            ("ended", changed(|r| r.access_token_expires_at = past), Step::Renew),
            (
                "ended elsewhere",
                changed(|r| (r.access_token_expires_at, r.lease) = (past, leased.clone())),
                Step::Wait,
            ),
            ("rejected", changed(|r| r.is_rejected = true), Step::Renew),
            (
                "nobody signed in",
                changed(|r| (r.refresh_token, r.access_token) = (None, None)),
                Step::SignIn,
            ),
            ("failing", changed(failing), Step::Refuse),
            ("failing with a token", changed(|r| r.failures = 2), Step::Give),
            (
                "failing, due",
                changed(|r| {
                    failing(r);
                    r.next_refresh_at = past;
                }),
                Step::Renew,
            ),
            (
                "failing, reconfigured",
                changed(|r| {
                    failing(r);
                    r.settings = Some(vec![8]);
                }),
                Step::Renew,
            ),
        ];
        check_steps(&cases);
        let client = changed(|r| (r.refresh_token, r.access_token, r.next_refresh_at) = (None, None, None));
        assert_eq!(step(&client, Flow::ClientCredentials, &[9], NOW), Step::Renew);
    }

    fn check_steps(cases: &[(&str, GrantRow, Step)]) {
        for (name, row, expected) in cases {
            assert_eq!(step(row, Flow::AuthorizationCode, &[9], NOW), *expected, "{name}");
        }
    }

    #[test]
    fn times_of_a_clock_that_was_set_right_are_not_believed() {
        check_steps(&[
            // Its end was computed by a clock that was fast: by the provider's it comes sooner.
            (
                "clock set back",
                changed(|r| r.refreshed_at = Some(Timestamp(NOW.0 + 120))),
                Step::Renew,
            ),
            (
                "clock set back in a renewal",
                changed(|r| {
                    r.access_token_expires_at = Some(NOW);
                    r.lease = Some(("other@boot".to_owned(), Timestamp(NOW.0 + 7200)));
                }),
                Step::Renew,
            ),
            (
                "clock set back a little",
                changed(|r| r.refreshed_at = Some(Timestamp(NOW.0 + 20))),
                Step::Give,
            ),
            (
                "parked for as long as can be",
                changed(|r| {
                    (r.failures, r.access_token_expires_at) = (9, Some(NOW));
                    r.next_refresh_at = Some(Timestamp(NOW.0 + 25_920));
                }),
                Step::Refuse,
            ),
        ]);
    }

    fn tokens(expires_in: u64, refresh_in: Option<u64>) -> Tokens {
        Tokens {
            access_token: "a".into(),
            expires_in: Duration::from_secs(expires_in),
            refresh_in: refresh_in.map(Duration::from_secs),
            refresh_token: None,
            refresh_token_expires_in: None,
            scopes: None,
            id_token: None,
        }
    }

    #[test]
    fn a_token_is_renewed_well_before_its_end() {
        for (life, refresh_in, is_microsoft, jitter, age) in [
            (3600, None, false, 0.0, 3240),
            (3600, None, true, 0.0, 3000),
            (3600, None, false, 1.0, 3180),
            (3600, Some(1800), true, 0.0, 1800),
            (3600, Some(9999), false, 0.0, 3240),
            (600, None, false, 0.0, 300),
            (10, None, true, 0.0, 5),
            (1, None, true, 1.0, 1),
            (86_400, None, false, 0.0, 77_760),
        ] {
            let at = renew_at(&tokens(life, refresh_in), is_microsoft, NOW, jitter);
            assert_eq!(at.0 - NOW.0, age, "life {life}");
        }
    }

    #[test]
    fn tries_become_rarer_and_honour_the_provider() {
        let seconds = |class, failures, asked| retry_delay(class, failures, asked, 0.0).as_secs();
        let outage: Vec<u64> = (1..=8).map(|n| seconds(Class::Transient, n, None)).collect();
        assert_eq!(outage, [30, 60, 120, 240, 480, 900, 900, 900]);
        let parked: Vec<u64> = (1..=6).map(|n| seconds(Class::Reauthorize, n, None)).collect();
        assert_eq!(parked, [900, 900, 900, 3600, 21_600, 21_600]);
        assert_eq!(seconds(Class::Transient, 1, Some(Duration::from_secs(77))), 77);
        assert_eq!(seconds(Class::Transient, 3, Some(Duration::from_secs(7))), 120);
        assert_eq!(retry_delay(Class::Transient, 1, None, 1.0).as_secs(), 36);
        // Microsoft's AADSTS50196: whoever asks in a loop must stop for a while.
        assert!(seconds(Class::Bug, 1, None) >= 900);
        assert_eq!(retry_delay(Class::Bug, 9, None, 1.0), LONGEST_WAIT);
    }

    #[test]
    fn an_outage_is_told_when_mail_is_about_to_stop() {
        let problem = Some(Problem {
            code: "http-503".into(),
            summary: "down".into(),
            remedy: "wait".into(),
        });
        let degraded = changed(|r| (r.state, r.problem) = (GrantState::Degraded, problem.clone()));
        let kind = |row: &GrantRow, now| finding(row, "idp", now).map(|finding| finding.kind);
        assert_eq!(kind(&degraded, NOW), None);
        assert_eq!(
            kind(&degraded, Timestamp(NOW.0 + 500)),
            Some(AlertKind::TokenRefreshFailing)
        );
        let revoked = changed(|r| (r.state, r.problem) = (GrantState::NeedsAuthorization, problem.clone()));
        assert_eq!(kind(&revoked, NOW), Some(AlertKind::ReauthorizationRequired));
        assert_eq!(kind(&row(), NOW), None);
    }
}
