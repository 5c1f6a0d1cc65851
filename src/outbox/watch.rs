//! What is said about deliveries: in the journal, as alerts, and when alerts are over. It never sends anything.
//! The journal has codes, not the words of a server that refuses one mail: those name people.

use std::collections::HashSet;
use std::time::Duration;

use tracing::{info, warn};

use super::Outbox;
use super::fate::Delivery;
use super::target::named;
use crate::alert::{AlertKind, Finding};
use crate::compose::acknowledgement::WINDOW;
use crate::fault::chain;
use crate::grant::Problem;
use crate::outgoing::Channel;
use crate::store::outgoing::{self as rows, End, Outgoing};
use crate::store::{StoreError, alert};

/// A target that is not to be had for so long has an alert.
const TARGET_ALARM: Duration = Duration::from_mins(2);
/// One that takes others but not this has it later: greylisting lasts minutes.
const AGE_ALARM: Duration = Duration::from_mins(20);

/// What a target may raise; over with the first delivery that it takes.
const TARGET_ALERTS: [AlertKind; 5] = [
    AlertKind::OutgoingFailing,
    AlertKind::CredentialsRefused,
    AlertKind::ConfigurationRefused,
    AlertKind::AdminActionRequired,
    AlertKind::ReauthorizationRequired,
];

impl Outbox {
    pub(super) async fn tell_end(&self, row: &Outgoing, end: End, problem: &Problem) {
        let (kind, target) = (row.kind.as_str(), named(row.channel, &row.target));
        match end {
            End::Sent => {
                info!("{kind} {} went to {target}", row.id);
                if let Err(error) = self.resolve(row).await {
                    warn!(error = %chain(&error), "the alerts about {target} could not be looked up");
                }
            }
            End::Failed => {
                warn!("{kind} {} to {target} was given up ({})", row.id, problem.code);
                if row.channel != Channel::Mail {
                    self.raise(row, AlertKind::OutgoingFailing, problem.clone()).await;
                }
            }
            End::Unknown => warn!(
                "{kind} {} to {target} may have arrived ({}); it is not sent twice",
                row.id, problem.code
            ),
        }
    }

    pub(super) fn tell_again(row: &Outgoing, (problem, is_target): (&Problem, bool), delay: Duration) {
        let (kind, target) = (row.kind.as_str(), named(row.channel, &row.target));
        let why = if is_target { &problem.summary } else { &problem.code };
        warn!(
            attempt = row.attempts + 1,
            delay_ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX),
            "{kind} {} to {target}: {why}",
            row.id
        );
    }

    pub(super) async fn raise(&self, row: &Outgoing, kind: AlertKind, problem: Problem) {
        let finding = Finding {
            kind,
            subject: named(row.channel, &row.target).to_owned(),
            login: None,
            problem,
        };
        self.notice.raise(&finding).await;
    }

    /// Raises the alert of a target that has waited too long.
    pub(super) async fn watch_age(&self, row: &Outgoing, problem: Problem, is_target: bool) -> Result<(), StoreError> {
        let waiting = rows::waiting(self.store.readers(), row.channel, &row.target).await?;
        let Some((oldest, count)) = waiting else { return Ok(()) };
        let (alarm, why) = if is_target {
            (TARGET_ALARM, problem.summary)
        } else {
            (AGE_ALARM, format!("the last refusal was {}", problem.code))
        };
        if oldest.until(self.clock.now()) < alarm {
            return Ok(());
        }
        let problem = Problem {
            summary: format!("{count} deliveries wait, the oldest since {}: {why}", oldest.rfc3339()),
            ..problem
        };
        self.raise(row, AlertKind::OutgoingFailing, problem).await;
        Ok(())
    }

    /// A target works: what was wrong with it is over. Not so its failing, while something waits for long: one delivery
    /// that it never takes, among others that it does, would else raise and end the alert at each try.
    async fn resolve(&self, row: &Outgoing) -> Result<(), StoreError> {
        let target = named(row.channel, &row.target);
        let about = |finding: &Finding| {
            finding.subject == target && finding.login.is_none() && TARGET_ALERTS.contains(&finding.kind)
        };
        let mut open = alert::open(self.store.readers()).await?;
        open.retain(|row| about(&row.finding));
        if open.is_empty() {
            return Ok(());
        }
        let waiting = rows::waiting(self.store.readers(), row.channel, &row.target).await?;
        let is_late = waiting.is_some_and(|(oldest, _)| oldest.until(self.clock.now()) >= AGE_ALARM);
        for row in open {
            if !(is_late && row.finding.kind == AlertKind::OutgoingFailing) {
                self.notice.resolve(row.finding.kind, target, None).await;
            }
        }
        Ok(())
    }

    /// Takes up what nobody is about any more: what a former process was sending when it died, or what could not be
    /// written down; ends the alerts whose time is over.
    pub(super) async fn keep_up(&self, busy: &HashSet<(Channel, String)>) {
        let kept = async {
            self.take_up(busy).await?;
            self.end_loops().await
        };
        if let Err(error) = kept.await {
            warn!(error = %chain(&error), "what was being sent could not be looked up");
        }
    }

    async fn take_up(&self, busy: &HashSet<(Channel, String)>) -> Result<(), StoreError> {
        for row in rows::interrupted(self.store.readers()).await? {
            if busy.contains(&(row.channel, row.target.clone())) {
                continue;
            }
            let lost = Delivery::Lost(Problem {
                code: "interrupted".into(),
                summary: "the process ended while it was sending this".into(),
                remedy: "Nothing is to be done".into(),
            });
            self.conclude(&row, lost).await?;
        }
        Ok(())
    }

    /// Nothing was held back for as long as it is looked back: the loop has ended.
    async fn end_loops(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        for row in alert::open(self.store.readers()).await? {
            if row.finding.kind == AlertKind::LoopSuppressed && row.last_seen.until(now) > WINDOW {
                self.notice.resolve(row.finding.kind, &row.finding.subject, None).await;
            }
        }
        Ok(())
    }

    /// Tries at once what waits: the configuration may have been mended.
    pub(super) async fn hasten(&self) {
        let hastened = async {
            let mut write = self.store.write().await?;
            rows::hasten(write.connection()?, self.clock.now()).await?;
            write.commit().await
        };
        if let Err(error) = hastened.await {
            warn!(error = %chain(&error), "what waits could not be hastened");
        }
    }
}
