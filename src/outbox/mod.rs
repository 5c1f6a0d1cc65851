//! What goes out: queued > sending > sent | failed | unknown, one round per target at a time, so that a target that
//! is slow or down holds up no other. It never composes anything: whoever queued it did.

mod command;
mod mail;
mod target;
mod webhook;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::target::{Targets, named};
use crate::alert::{AlertKind, Finding};
use crate::broker::Broker;
use crate::config::Config;
use crate::fault::chain;
use crate::grant::Problem;
use crate::notice::Notice;
use crate::outgoing::{Channel, OutgoingKind};
use crate::store::outgoing::{self as rows, End, Outgoing};
use crate::store::{Store, StoreError};
use crate::time::{Clock, Heartbeat, Timestamp, jitter};
use crate::worker::Peers;

/// Time between looks at the queue: commands put rows there, too.
const LOOK: Duration = Duration::from_secs(1);
/// Most rows looked at at once.
const LOOK_LIMIT: u32 = 200;
/// A delivery that is still not through after this is given up, and said so.
const GIVE_UP: Duration = Duration::from_hours(3 * 24);
/// A target whose oldest delivery waits for longer than this has an alert.
const AGE_ALARM: Duration = Duration::from_mins(10);
/// First delay between tries, doubled up to [`RETRY_LAST`].
const RETRY_FIRST: Duration = Duration::from_secs(5);
/// Longest delay between tries.
const RETRY_LAST: Duration = Duration::from_mins(30);
/// Time that a delivery in hand may go on once the daemon is to stop.
const STOP_GRACE: Duration = Duration::from_secs(8);
/// Silence after which systemd restarts us: longer than any delivery may take.
const PATIENCE: Duration = Duration::from_mins(10);

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
    /// Never: the receiver refuses this one for good.
    Refused(Problem),
    /// It broke after everything was sent: the receiver may have it.
    Lost(Problem),
}

/// The loop.
#[derive(Clone)]
pub struct Outbox {
    store: Store,
    clock: Clock,
    broker: Arc<Broker>,
    notice: Notice,
    targets: Arc<RwLock<Arc<Targets>>>,
}

impl Outbox {
    /// The outbox of a configuration.
    pub fn new(config: &Config, peers: &Peers) -> Self {
        Self {
            store: peers.store.clone(),
            clock: peers.clock.clone(),
            broker: Arc::clone(&peers.broker),
            notice: peers.notice.clone(),
            targets: Arc::new(RwLock::new(Arc::new(Targets::of(config)))),
        }
    }

    /// Replaces where things go; what is under way goes on as it was.
    pub fn set(&self, config: &Config) {
        *self.targets.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Targets::of(config));
    }

    pub(crate) fn targets(&self) -> Arc<Targets> {
        Arc::clone(&self.targets.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A heart for the watchdog, which [`Outbox::run`] lets beat.
    pub fn heart() -> Heartbeat {
        Heartbeat::new("outbox", PATIENCE)
    }

    /// Sends until it is told to stop.
    pub async fn run(self, heart: Heartbeat, stop: CancellationToken) {
        self.recover().await;
        let mut busy: HashSet<(Channel, String)> = HashSet::new();
        let mut rounds = FuturesUnordered::new();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !stop.is_cancelled() {
            let has_progressed = tokio::select! {
                () = stop.cancelled() => break,
                _ = look.tick() => true,
                Some((target, has_progressed)) = rounds.next() => {
                    busy.remove(&target);
                    has_progressed
                }
            };
            heart.beat();
            if !has_progressed {
                continue;
            }
            for (target, due) in self.due(&busy).await {
                busy.insert(target.clone());
                rounds.push(self.round(target, due, &stop));
            }
        }
        let rest = async { while rounds.next().await.is_some() {} };
        if tokio::time::timeout(STOP_GRACE, rest).await.is_err() {
            debug!("a delivery was cut short by the stop");
        }
    }

    /// What is due, by target, without the targets that have a round under way.
    async fn due(&self, busy: &HashSet<(Channel, String)>) -> BTreeMap<(Channel, String), Vec<Outgoing>> {
        let mut by_target: BTreeMap<_, Vec<Outgoing>> = BTreeMap::new();
        match rows::due(self.store.readers(), self.clock.now(), LOOK_LIMIT).await {
            Ok(due) => {
                for row in due {
                    let target = (row.channel, row.target.clone());
                    if !busy.contains(&target) {
                        by_target.entry(target).or_default().push(row);
                    }
                }
            }
            Err(error) => warn!(error = %chain(&error), "what is to be sent could not be read"),
        }
        by_target
    }

    /// Everything that is due for one target, one after the other. Says whether anything went out.
    async fn round(
        &self,
        target: (Channel, String),
        due: Vec<Outgoing>,
        stop: &CancellationToken,
    ) -> ((Channel, String), bool) {
        let targets = self.targets();
        if targets.is_gone(&target) {
            self.abandon(&target).await;
            return (target, false);
        }
        let mut has_progressed = false;
        let mut line = Line::new(self, &targets);
        for row in due {
            if stop.is_cancelled() {
                break;
            }
            match self.deliver(&mut line, &row).await {
                Ok(Next::Go) => has_progressed = true,
                Ok(Next::Wait) => break,
                Err(error) => {
                    warn!(error = %chain(&error), "a delivery could not be recorded");
                    break;
                }
            }
        }
        line.close().await;
        (target, has_progressed)
    }

    async fn deliver(&self, line: &mut Line<'_>, row: &Outgoing) -> Result<Next, StoreError> {
        let mut write = self.store.write().await?;
        let is_mine = rows::begin(write.connection()?, row.id).await?;
        write.commit().await?;
        if !is_mine {
            return Ok(Next::Go);
        }
        let delivery = line.deliver(row).await;
        self.conclude(row, delivery).await
    }

    async fn conclude(&self, row: &Outgoing, delivery: Delivery) -> Result<Next, StoreError> {
        let now = self.clock.now();
        match decide(row, delivery, now, jitter()) {
            Fate::Ended(end, problem) => {
                let mut write = self.store.write().await?;
                rows::end(
                    write.connection()?,
                    (row.id, end),
                    (&problem.code, &problem.summary),
                    now,
                )
                .await?;
                write.commit().await?;
                self.tell_end(row, end, &problem).await;
                Ok(Next::Go)
            }
            Fate::Again { at, problem, is_target } => {
                let mut write = self.store.write().await?;
                rows::put_back(write.connection()?, row.id, at, (&problem.code, &problem.summary)).await?;
                write.commit().await?;
                let kind = row.kind.as_str();
                warn!(
                    attempt = row.attempts + 1,
                    delay_ms = i64::try_from(now.until(at).as_millis()).unwrap_or(i64::MAX),
                    "{kind} {} to {}: {}",
                    row.id,
                    named(row.channel, &row.target),
                    problem.summary
                );
                self.watch_age(row, &problem).await?;
                Ok(if is_target { Next::Wait } else { Next::Go })
            }
        }
    }

    async fn tell_end(&self, row: &Outgoing, end: End, problem: &Problem) {
        let (kind, target) = (row.kind.as_str(), named(row.channel, &row.target));
        match end {
            End::Sent => {
                info!("{kind} {} went to {target}", row.id);
                self.notice.resolve(AlertKind::OutgoingFailing, target, None).await;
                self.notice.resolve(AlertKind::CredentialsRefused, target, None).await;
            }
            End::Failed => {
                warn!("{kind} {} to {target} was given up: {}", row.id, problem.summary);
                if row.channel != Channel::Mail {
                    self.notice.raise(&failing(target, problem.clone())).await;
                }
            }
            End::Unknown => warn!(
                "{kind} {} to {target} may have arrived: {}; it is not sent twice",
                row.id, problem.summary
            ),
        }
    }

    /// Raises the alert of a target that has waited too long, or whose sign-in is refused.
    async fn watch_age(&self, row: &Outgoing, problem: &Problem) -> Result<(), StoreError> {
        let waiting = rows::waiting(self.store.readers(), row.channel, &row.target).await?;
        let Some((oldest, count)) = waiting else { return Ok(()) };
        if oldest.until(self.clock.now()) < AGE_ALARM {
            return Ok(());
        }
        let problem = Problem {
            code: problem.code.clone(),
            summary: format!(
                "{count} deliveries wait, the oldest since {}: {}",
                oldest.rfc3339(),
                problem.summary
            ),
            remedy: problem.remedy.clone(),
        };
        self.notice
            .raise(&failing(named(row.channel, &row.target), problem))
            .await;
        Ok(())
    }

    /// What a former process was sending when it died: what may arrive twice is sent again.
    async fn recover(&self) {
        let recovered = async {
            for row in rows::interrupted(self.store.readers()).await? {
                let lost = Delivery::Lost(Problem {
                    code: "interrupted".into(),
                    summary: "the process ended while it was sending this".into(),
                    remedy: "Nothing is to be done".into(),
                });
                self.conclude(&row, lost).await?;
            }
            Ok::<(), StoreError>(())
        };
        if let Err(error) = recovered.await {
            warn!(error = %chain(&error), "what was being sent could not be looked up");
        }
    }
}

fn failing(target: &str, problem: Problem) -> Finding {
    Finding {
        kind: AlertKind::OutgoingFailing,
        subject: target.to_owned(),
        login: None,
        problem,
    }
}

/// Whether the round goes on.
enum Next {
    Go,
    Wait,
}

/// What becomes of a delivery after a try.
#[derive(Debug)]
enum Fate {
    Ended(End, Problem),
    Again {
        at: Timestamp,
        problem: Problem,
        is_target: bool,
    },
}

/// Decides what becomes of a delivery.
fn decide(row: &Outgoing, delivery: Delivery, now: Timestamp, jitter: f64) -> Fate {
    match delivery {
        Delivery::Sent(response) => Fate::Ended(
            End::Sent,
            Problem {
                code: String::new(),
                summary: response,
                remedy: String::new(),
            },
        ),
        Delivery::Refused(problem) => Fate::Ended(End::Failed, problem),
        Delivery::Lost(problem) if row.kind == OutgoingKind::Acknowledgement => Fate::Ended(End::Unknown, problem),
        Delivery::Lost(problem) => again(row, (problem, None, true), now, jitter),
        Delivery::Retry {
            problem,
            after,
            is_target,
        } => again(row, (problem, after, is_target), now, jitter),
    }
}

fn again(
    row: &Outgoing,
    (problem, after, is_target): (Problem, Option<Duration>, bool),
    now: Timestamp,
    jitter: f64,
) -> Fate {
    if row.created_at.until(now) >= GIVE_UP {
        return Fate::Ended(End::Failed, problem);
    }
    let at = now.plus(after.unwrap_or_default().max(delay(row.attempts, jitter)));
    Fate::Again { at, problem, is_target }
}

/// Delay before try `attempts` + 1: 5 s, doubled up to 30 min, scaled by `jitter` in 0.5..=1.0.
fn delay(attempts: u32, jitter: f64) -> Duration {
    RETRY_FIRST
        .saturating_mul(1 << attempts.min(16))
        .min(RETRY_LAST)
        .mul_f64(jitter.clamp(0.5, 1.0))
}

/// The way to one target for one round; connections are kept within it.
struct Line<'l> {
    mail: mail::Line<'l>,
    outbox: &'l Outbox,
    targets: &'l Targets,
}

impl<'l> Line<'l> {
    fn new(outbox: &'l Outbox, targets: &'l Targets) -> Self {
        Self {
            mail: mail::Line::new(&outbox.broker, targets),
            outbox,
            targets,
        }
    }

    async fn deliver(&mut self, row: &Outgoing) -> Delivery {
        match row.channel {
            Channel::Mail => self.mail.deliver(row).await,
            Channel::Webhook => webhook::deliver(self.targets, row, self.outbox.clock.now()).await,
            Channel::Command => command::deliver(self.targets, row).await,
        }
    }

    async fn close(self) {
        self.mail.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: OutgoingKind, attempts: u32) -> Outgoing {
        Outgoing {
            id: 1,
            channel: Channel::Mail,
            kind,
            target: "relay".into(),
            lane: String::new(),
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
}
