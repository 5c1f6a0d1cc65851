//! What becomes of a delivery after a try, and what its issue is told. Pure.
//! It never lets an acknowledgement go out twice.

use std::time::Duration;

use crate::alert::AlertKind;
use crate::grant::Problem;
use crate::outgoing::{MailPayload, OutgoingKind};
use crate::store::outgoing::{End, Outgoing};
use crate::time::Timestamp;

/// A delivery that is still not through after this is given up, and said so: as long as mail systems try
/// (RFC 5321 §4.5.4.1).
const GIVE_UP: Duration = Duration::from_hours(5 * 24);
/// First delay between tries, doubled up to [`RETRY_LAST`].
const RETRY_FIRST: Duration = Duration::from_secs(5);
/// Longest delay between tries.
const RETRY_LAST: Duration = Duration::from_mins(30);
/// Delay where a person must act: so seldom that no account is locked.
const RETRY_PARKED: Duration = Duration::from_mins(15);

/// What came of one try.
#[derive(Debug)]
pub(crate) enum Delivery {
    /// The receiver has it, and said this.
    Sent(String),
    /// Not now; not before `after` where the receiver stated it.
    Retry {
        /// What went wrong.
        problem: Problem,
        /// The wait that the receiver asked for.
        after: Option<Duration>,
        /// Whether the target as a whole is to blame, so that the rest of the round waits too.
        is_target: bool,
    },
    /// Not until a person acts, who is told so at once.
    Parked {
        /// What went wrong.
        problem: Problem,
        /// The alert that says so.
        kind: AlertKind,
        /// Whether the rest of the round waits too.
        is_target: bool,
    },
    /// Never: the receiver refuses this one for good.
    Refused(Problem),
    /// It broke after everything was sent: the receiver may have it.
    Lost(Problem),
}

/// What becomes of a delivery after a try.
#[derive(Debug)]
pub(super) enum Fate {
    /// It is over.
    Ended(End, Problem),
    /// It is tried again.
    Again {
        at: Timestamp,
        problem: Problem,
        /// Whether the rest of the round waits, too.
        is_target: bool,
        /// The alert that is raised at once.
        alert: Option<AlertKind>,
    },
}

/// Decides what becomes of a delivery.
pub(super) fn decide(row: &Outgoing, delivery: Delivery, now: Timestamp, jitter: f64) -> Fate {
    let (problem, wait, is_target, alert) = match delivery {
        Delivery::Sent(response) => {
            let said = Problem {
                code: String::new(),
                summary: response,
                remedy: String::new(),
            };
            return Fate::Ended(End::Sent, said);
        }
        Delivery::Refused(problem) => return Fate::Ended(End::Failed, problem),
        Delivery::Lost(problem) if row.kind == OutgoingKind::Acknowledgement => {
            return Fate::Ended(End::Unknown, problem);
        }
        Delivery::Lost(problem) => (problem, Duration::ZERO, true, None),
        Delivery::Retry {
            problem,
            after,
            is_target,
        } => (problem, after.unwrap_or_default(), is_target, None),
        Delivery::Parked {
            problem,
            kind,
            is_target,
        } => (problem, RETRY_PARKED, is_target, Some(kind)),
    };
    if row.created_at.until(now) >= GIVE_UP {
        return Fate::Ended(End::Failed, problem);
    }
    Fate::Again {
        at: now.plus(wait.max(delay(row.attempts, jitter))),
        problem,
        is_target,
        alert,
    }
}

/// Delay before try `attempts` + 1: 5 s, doubled up to 30 min, scaled by `jitter` in 0.5..=1.0.
fn delay(attempts: u32, jitter: f64) -> Duration {
    RETRY_FIRST
        .saturating_mul(1 << attempts.min(16))
        .min(RETRY_LAST)
        .mul_f64(jitter.clamp(0.5, 1.0))
}

/// What the issue of a mail is told of its end: kind and detail of an event.
pub(super) fn event(row: &Outgoing, end: End, problem: &Problem) -> (&'static str, String) {
    let kind = match (end, row.kind) {
        (End::Sent, OutgoingKind::Acknowledgement) => "acknowledged",
        (End::Sent, OutgoingKind::Reply | OutgoingKind::Alert | OutgoingKind::Event) => "mailed",
        (End::Failed, _) => "mail-refused",
        (End::Unknown, _) => "mail-unknown",
    };
    let recipients = serde_json::from_str::<MailPayload>(&row.payload).map(|mail| mail.recipients.join(", "));
    let to = recipients.unwrap_or_default();
    (kind, format!("to {to} by {}: {}", row.target, problem.summary))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outgoing::Channel;

    fn row(kind: OutgoingKind, attempts: u32) -> Outgoing {
        Outgoing {
            id: 1,
            channel: Channel::Mail,
            kind,
            target: "relay".into(),
            lane: String::new(),
            issue: None,
            payload: "{}".into(),
            attempts,
            created_at: Timestamp(1_000),
        }
    }

    fn problem() -> Problem {
        Problem {
            code: "cut".into(),
            summary: "cut".into(),
            remedy: "wait".into(),
        }
    }

    #[test]
    fn what_may_have_arrived_is_sent_again_unless_it_is_an_acknowledgement() {
        let fate = |kind| decide(&row(kind, 0), Delivery::Lost(problem()), Timestamp(1_000), 1.0);
        assert!(matches!(
            fate(OutgoingKind::Acknowledgement),
            Fate::Ended(End::Unknown, _)
        ));
        for kind in [OutgoingKind::Reply, OutgoingKind::Alert, OutgoingKind::Event] {
            assert!(matches!(fate(kind), Fate::Again { .. }), "{kind:?}");
        }
    }

    #[test]
    fn the_wait_grows_honours_the_receiver_and_ends() {
        let retry = |attempts, after, now| {
            let delivery = Delivery::Retry {
                problem: problem(),
                after,
                is_target: false,
            };
            decide(&row(OutgoingKind::Reply, attempts), delivery, Timestamp(now), 1.0)
        };
        let at = |fate| match fate {
            Fate::Again { at, .. } => at.0 - 1_000,
            Fate::Ended(end, _) => panic!("{end:?}"),
        };
        assert_eq!(at(retry(0, None, 1_000)), 5);
        assert_eq!(at(retry(3, None, 1_000)), 40);
        assert_eq!(at(retry(40, None, 1_000)), 1_800);
        assert_eq!(at(retry(0, Some(Duration::from_secs(90)), 1_000)), 90);
        let late = 1_000 + i64::try_from(GIVE_UP.as_secs()).unwrap();
        assert!(matches!(retry(9, None, late), Fate::Ended(End::Failed, _)));
    }

    #[test]
    fn where_a_person_must_act_it_is_told_at_once_and_tried_seldom() {
        let parked = Delivery::Parked {
            problem: problem(),
            kind: AlertKind::CredentialsRefused,
            is_target: true,
        };
        let fate = decide(&row(OutgoingKind::Reply, 0), parked, Timestamp(1_000), 0.5);
        let Fate::Again { at, alert, .. } = fate else {
            panic!("{fate:?}")
        };
        assert_eq!((at, alert), (Timestamp(1_900), Some(AlertKind::CredentialsRefused)));
    }
}
