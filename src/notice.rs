//! Raises, reminds of and resolves alerts, and tells of each in the journal.
//! It never decides what is wrong: who calls it does.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::{error, info};

use crate::alert::{AlertKind, Finding, is_reminder_due};
use crate::broker::{Broker, known_key, plan};
use crate::fault::chain;
use crate::grant::{GrantRef, GrantState, Problem, Proof, Slot};
use crate::store::{Store, StoreError, alert, grant as grant_rows};
use crate::time::Clock;

/// The same finding is counted once in this time.
const RECOUNT: Duration = Duration::from_mins(1);

/// Where findings are told.
#[derive(Clone)]
pub struct Notice {
    store: Store,
    clock: Clock,
    /// What was told and could not be recorded: on a full disk nothing else remembers it.
    unrecorded: Arc<Mutex<Vec<Finding>>>,
}

impl Notice {
    /// Tells in the journal and the database.
    pub fn new(store: Store, clock: Clock) -> Self {
        Self {
            store,
            clock,
            unrecorded: Arc::default(),
        }
    }

    /// Raises an alert, or counts it where it is open already. Where the database cannot take it, as on a
    /// full disk, it stands in the journal all the same.
    pub async fn raise(&self, finding: &Finding) {
        match self.try_raise(finding).await {
            Ok(is_new) => {
                let was_told = self.forget(|told| is_same(told, finding)).is_some();
                if is_new && !was_told {
                    tell_raised(finding);
                }
            }
            Err(fault) => {
                if self.remember(finding) {
                    tell_raised(finding);
                }
                error!(error = %chain(&fault), "the alert could not be recorded");
            }
        }
    }

    /// Keeps in mind what could not be recorded; `false` if it was told before.
    fn remember(&self, finding: &Finding) -> bool {
        let mut unrecorded = self.unrecorded.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = !unrecorded.iter().any(|told| is_same(told, finding));
        if is_new {
            unrecorded.push(finding.clone());
        }
        is_new
    }

    fn forget(&self, is_meant: impl Fn(&Finding) -> bool) -> Option<Finding> {
        let mut unrecorded = self.unrecorded.lock().unwrap_or_else(PoisonError::into_inner);
        let index = unrecorded.iter().position(is_meant)?;
        Some(unrecorded.swap_remove(index))
    }

    async fn try_raise(&self, finding: &Finding) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let is_fresh = |row: &alert::AlertRow| row.finding == *finding && row.last_seen.until(now) < RECOUNT;
        if alert::open(self.store.readers()).await?.iter().any(is_fresh) {
            return Ok(false);
        }
        let mut write = self.store.write().await?;
        let raised = alert::raise(write.connection()?, finding, now).await?;
        write.commit().await?;
        Ok(raised.is_some())
    }

    /// Resolves an alert if it is open. `login` only where the subject is an integration.
    pub async fn resolve(&self, kind: AlertKind, subject: &str, login: Option<&str>) {
        let is_meant = |told: &Finding| told.kind == kind && told.subject == subject && told.login.as_deref() == login;
        match self.try_resolve(kind, subject, login.unwrap_or_default()).await {
            Ok(Some(row)) => tell_resolved(&row.finding),
            Ok(None) => {
                if let Some(told) = self.forget(is_meant) {
                    tell_resolved(&told);
                }
            }
            Err(fault) => error!(error = %chain(&fault), "an alert could not be resolved"),
        }
    }

    async fn try_resolve(
        &self,
        kind: AlertKind,
        subject: &str,
        login: &str,
    ) -> Result<Option<alert::AlertRow>, StoreError> {
        let is_open = alert::open(self.store.readers()).await?.into_iter().any(|row| {
            row.finding.kind == kind
                && row.finding.subject == subject
                && row.finding.login.as_deref().unwrap_or_default() == login
        });
        if !is_open {
            return Ok(None);
        }
        let mut write = self.store.write().await?;
        let resolved = alert::resolve(write.connection()?, kind, (subject, login), self.clock.now()).await?;
        write.commit().await?;
        Ok(resolved)
    }

    /// Raises and resolves what the states of these grants ask for: one alert for a grant, however many
    /// mailboxes sign in with it.
    ///
    /// # Errors
    /// What the database says.
    pub async fn watch_grants(&self, grants: &[GrantRef], broker: &Broker) -> Result<(), StoreError> {
        for grant in grants {
            let key = known_key(&self.store, grant).await?;
            let row = match &key {
                Some(key) => grant_rows::find(self.store.readers(), key).await?,
                None => None,
            };
            let found = match &row {
                Some(row) if row.state != GrantState::Pending => {
                    plan::finding(row, &grant.integration.name, self.clock.now())
                }
                Some(_) | None => not_signed_in(grant, broker),
            };
            for kind in GRANT_ALERTS {
                if found.as_ref().is_none_or(|finding| finding.kind != kind) {
                    self.resolve(kind, &grant.integration.name, Some(&grant.login.to_lowercase()))
                        .await;
                }
            }
            if let Some(finding) = found {
                self.raise(&finding).await;
            }
        }
        Ok(())
    }

    /// Raises and resolves what the clients of these grants ask for: one alert for an integration whose second
    /// credentials stand in for the first. It is told apart from the warnings before their end by the client.
    ///
    /// # Errors
    /// What the database says.
    pub async fn watch_clients(&self, grants: &[GrantRef], broker: &Broker) -> Result<(), StoreError> {
        for (integration, problem) in broker.refused_clients(grants).await? {
            let found = problem.map(|problem| Finding {
                kind: match integration.proof(Slot::First) {
                    Some(Proof::Certificate(_)) => AlertKind::CertificateExpiring,
                    Some(Proof::Secret(_) | Proof::Public) | None => AlertKind::SecretExpiring,
                },
                subject: integration.name.clone(),
                login: Some(integration.client_id.clone()),
                problem,
            });
            for kind in [AlertKind::SecretExpiring, AlertKind::CertificateExpiring] {
                if found.as_ref().is_none_or(|finding| finding.kind != kind) {
                    self.resolve(kind, &integration.name, Some(&integration.client_id))
                        .await;
                }
            }
            if let Some(finding) = found {
                self.raise(&finding).await;
            }
        }
        Ok(())
    }

    /// Tells again of what is open, unacknowledged and due.
    ///
    /// # Errors
    /// What the database says.
    pub async fn remind(&self, remind_after: &[Duration]) -> Result<(), StoreError> {
        let now = self.clock.now();
        for row in alert::open(self.store.readers()).await? {
            if row.is_acknowledged || !is_reminder_due(row.since, row.reminders, remind_after, now) {
                continue;
            }
            let mut write = self.store.write().await?;
            alert::add_reminder(write.connection()?, row.id).await?;
            write.commit().await?;
            tell_reminded(&row);
        }
        Ok(())
    }
}

/// Whether two findings are one alert.
fn is_same(one: &Finding, other: &Finding) -> bool {
    one.kind == other.kind && one.subject == other.subject && one.login == other.login
}

/// What a grant may raise.
const GRANT_ALERTS: [AlertKind; 4] = [
    AlertKind::ReauthorizationRequired,
    AlertKind::AdminActionRequired,
    AlertKind::ConfigurationRefused,
    AlertKind::TokenRefreshFailing,
];

fn not_signed_in(grant: &GrantRef, broker: &Broker) -> Option<Finding> {
    grant.integration.flow.needs_person().then(|| Finding {
        kind: AlertKind::ReauthorizationRequired,
        subject: grant.integration.name.clone(),
        login: Some(grant.login.to_lowercase()),
        problem: Problem {
            code: "not-signed-in".into(),
            summary: format!("nobody has signed in as {} yet", grant.login),
            remedy: format!("Run `{}`", broker.command(grant)),
        },
    })
}

/// A remedy as a sentence of its own.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// The integration that an alert is about, where it is about a grant.
fn integration(finding: &Finding) -> Option<&str> {
    finding.login.as_ref().map(|_| finding.subject.as_str())
}

fn tell_raised(finding: &Finding) {
    tell_open("alert.raised", "", finding);
}

fn tell_reminded(row: &alert::AlertRow) {
    let since = format!("still, since {}: ", row.since.rfc3339());
    tell_open("alert.reminded", &since, &row.finding);
}

fn tell_open(event: &str, since: &str, finding: &Finding) {
    let problem = &finding.problem;
    error!(
        event,
        integration = integration(finding),
        alert = finding.kind.as_str(),
        severity = finding.kind.severity().as_str(),
        subject = finding.subject,
        provider_code = problem.code,
        message_id = finding.kind.catalog_id(),
        "{since}{}: {}. {}",
        finding.subject,
        problem.summary,
        sentence(&problem.remedy)
    );
}

fn tell_resolved(finding: &Finding) {
    info!(
        event = "alert.resolved",
        integration = integration(finding),
        alert = finding.kind.as_str(),
        subject = finding.subject,
        provider_code = finding.problem.code,
        "over: {}: {}",
        finding.subject,
        finding.problem.summary
    );
}
