//! Whatever ends a session, and what follows from it: state, alert, and when to try again. Pure.

use std::time::Duration;

use crate::alert::AlertKind;
use crate::broker::TokenError;
use crate::fault::{Remedy, chain};
use crate::grant::Problem;
use crate::imap::ImapError;
use crate::intake::IntakeError;
use crate::mailbox::MailboxState;
use crate::pop3::Pop3Error;
use crate::store::StoreError;
use crate::time::backoff;

/// What ends a session.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The server, or the way to it.
    #[error("the mail server failed")]
    Imap(#[from] ImapError),
    /// The POP3 server, or the way to it.
    #[error("the mail server failed")]
    Pop3(#[from] Pop3Error),
    /// No access token is to be had.
    #[error("no access token")]
    Token(#[from] TokenError),
    /// The batch could not be recorded.
    #[error("the intake failed")]
    Intake(#[from] IntakeError),
    /// The database.
    #[error("the database failed")]
    Store(#[from] StoreError),
    /// The daemon stops.
    #[error("stopped")]
    Stopped,
}

/// What follows from the end of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Consequence {
    /// The state of the folder.
    pub(super) state: MailboxState,
    /// What `status` says.
    pub(super) problem: Problem,
    /// The alert, and whether it is raised at once.
    pub(super) alert: Option<(AlertKind, Urgency)>,
    /// When to try again.
    pub(super) wait: Duration,
    /// Whether a new generation of the grant ends the wait.
    pub(super) waits_for_grant: bool,
}

/// When an alert is raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// At once.
    Now,
    /// Once it has lasted, for outages mostly heal themselves.
    Lasting,
}

/// First delay after a refused password: some servers refuse while their directory is away.
const SECOND_LOOK: Duration = Duration::from_secs(3);
/// Delay between looks at a full disk.
const DISK_FULL: Duration = Duration::from_secs(3);
/// Delays between probes of what only a person can mend: administrators heal things without telling us.
const PROBES: [Duration; 5] = [
    Duration::from_mins(15),
    Duration::from_mins(15),
    Duration::from_mins(15),
    Duration::from_hours(1),
    Duration::from_hours(6),
];

/// What follows from an error after `failures` of its kind in a row (1 = the first), on a mailbox that
/// signs in by password or by token.
pub(super) fn consequence(error: &WorkerError, failures: u32, by_password: bool, jitter: f64) -> Consequence {
    match error {
        WorkerError::Imap(error) => of_server((error.remedy(), error.problem()), failures, by_password, jitter),
        WorkerError::Pop3(error) => of_server((error.remedy(), error.problem()), failures, by_password, jitter),
        WorkerError::Token(error) => of_token(error, failures, jitter),
        WorkerError::Intake(IntakeError::Store(error)) | WorkerError::Store(error) => of_store(error, failures, jitter),
        WorkerError::Intake(error) => retry(problem("intake-failed", &chain(error)), failures, jitter),
        WorkerError::Stopped => retry(problem("stopped", "the daemon stops"), failures, jitter),
    }
}

/// Tries in a row after which a mailbox that signs in and does not open is an administrator's, not an outage: where
/// others of the same server open, or it never has itself.
const UNOPENED: u32 = 6;
/// The same where it has worked and no other shows that the server is well: some half an hour, in which Exchange's
/// throttling ends.
const UNOPENED_ALIKE: u32 = 11;

/// What follows instead, where a mailbox signs in and does not open, and has not for long.
pub(super) fn unopened(error: &WorkerError, failures: u32, is_alone: bool) -> Option<Consequence> {
    let patience = if is_alone { UNOPENED } else { UNOPENED_ALIKE };
    match error {
        WorkerError::Imap(error) if error.is_unopened() && failures >= patience => Some(Consequence {
            state: MailboxState::NeedsAdmin,
            problem: error.problem(),
            alert: Some((AlertKind::AdminActionRequired, Urgency::Now)),
            wait: probe(failures - patience + 1),
            waits_for_grant: true,
        }),
        _ => None,
    }
}

fn of_server((remedy, problem): (Remedy, Problem), failures: u32, by_password: bool, jitter: f64) -> Consequence {
    let (state, kind) = match remedy {
        Remedy::Retry { after } => {
            let mut consequence = retry(problem, failures, jitter);
            consequence.wait = consequence.wait.max(after.unwrap_or_default());
            consequence.alert = Some((AlertKind::MailboxUnreachable, Urgency::Lasting));
            return consequence;
        }
        Remedy::Reauthorize if by_password => (MailboxState::Misconfigured, AlertKind::CredentialsRefused),
        Remedy::Reauthorize => (MailboxState::NeedsAuthorization, AlertKind::ReauthorizationRequired),
        Remedy::AskAdministrator => (MailboxState::NeedsAdmin, AlertKind::AdminActionRequired),
        Remedy::FixConfiguration | Remedy::Quarantine | Remedy::Abort => {
            (MailboxState::Misconfigured, AlertKind::ConfigurationRefused)
        }
    };
    parked(state, kind, problem, failures)
}

fn of_token(error: &TokenError, failures: u32, jitter: f64) -> Consequence {
    // The alert is raised once for the grant, by whoever watches the grants.
    let state = match error.remedy() {
        Remedy::Retry { after } => {
            let mut consequence = retry(error.problem(), failures, jitter);
            consequence.wait = consequence.wait.max(after.unwrap_or_default());
            consequence.waits_for_grant = true;
            return consequence;
        }
        Remedy::Reauthorize => MailboxState::NeedsAuthorization,
        Remedy::AskAdministrator => MailboxState::NeedsAdmin,
        Remedy::FixConfiguration | Remedy::Quarantine | Remedy::Abort => MailboxState::Misconfigured,
    };
    Consequence {
        state,
        problem: error.problem(),
        alert: None,
        wait: probe(failures),
        waits_for_grant: true,
    }
}

fn of_store(error: &StoreError, failures: u32, jitter: f64) -> Consequence {
    if !error.is_full() {
        return retry(problem("database", &chain(error)), failures, jitter);
    }
    Consequence {
        state: MailboxState::BackingOff,
        problem: Problem {
            code: "disk-full".into(),
            summary: chain(error),
            remedy: "Make room on the disk of the state directory; the intake goes on by itself".into(),
        },
        alert: Some((AlertKind::DiskLow, Urgency::Now)),
        wait: DISK_FULL,
        waits_for_grant: false,
    }
}

fn retry(problem: Problem, failures: u32, jitter: f64) -> Consequence {
    Consequence {
        state: MailboxState::BackingOff,
        problem,
        alert: None,
        wait: backoff(failures.saturating_sub(1), jitter),
        waits_for_grant: false,
    }
}

fn parked(state: MailboxState, kind: AlertKind, problem: Problem, failures: u32) -> Consequence {
    let is_first = failures <= 1;
    Consequence {
        state,
        problem,
        alert: (!is_first).then_some((kind, Urgency::Now)),
        wait: if is_first { SECOND_LOOK } else { probe(failures - 1) },
        waits_for_grant: true,
    }
}

fn probe(failures: u32) -> Duration {
    let index = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
    PROBES.get(index.min(PROBES.len() - 1)).copied().unwrap_or(SECOND_LOOK)
}

fn problem(code: &str, summary: &str) -> Problem {
    Problem {
        code: code.into(),
        summary: summary.into(),
        remedy: "Nothing is to be done yet: it is tried again by itself".into(),
    }
}

/// Whether nothing can go on: the database is damaged or gone.
pub(super) fn is_fatal(error: &WorkerError) -> bool {
    let store = match error {
        WorkerError::Intake(crate::intake::IntakeError::Store(error)) | WorkerError::Store(error) => error,
        WorkerError::Intake(_)
        | WorkerError::Imap(_)
        | WorkerError::Pop3(_)
        | WorkerError::Token(_)
        | WorkerError::Stopped => return false,
    };
    matches!(store.remedy(), Remedy::Abort)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imap::Step;

    fn bad(step: Step, text: &str) -> WorkerError {
        let refusal = crate::imap::Refusal {
            code: None,
            text: text.into(),
        };
        ImapError::Bad { step, refusal }.into()
    }

    #[test]
    fn a_mailbox_that_does_not_open_is_an_outage_first_and_an_administrators_then() {
        let unconnected = "User is authenticated but not connected.";
        for (step, text, failures, is_alone, expected) in [
            (Step::Select, unconnected, 5, true, None),
            (Step::Select, unconnected, 6, true, Some(15)),
            (Step::SignIn, "whatever it says", 6, true, Some(15)),
            (Step::Select, unconnected, 10, false, None),
            (Step::Select, unconnected, 11, false, Some(15)),
            (Step::Select, unconnected, 14, false, Some(60)),
            (
                Step::Select,
                "Request is throttled. Suggested Backoff Time: 92415 milliseconds",
                99,
                true,
                None,
            ),
            (Step::Fetch, unconnected, 99, true, None),
        ] {
            let found = unopened(&bad(step, text), failures, is_alone);
            let minutes = found.as_ref().map(|consequence| consequence.wait.as_secs() / 60);
            assert_eq!(minutes, expected, "{step:?} {text} {failures}");
            assert!(found.is_none_or(|consequence| consequence.state == MailboxState::NeedsAdmin));
        }
        let error = bad(Step::Select, unconnected);
        let first = consequence(&error, 1, false, 1.0);
        assert_eq!(first.state, MailboxState::BackingOff);
        assert!(first.problem.remedy.contains("FullAccess"), "{first:?}");
    }
}
