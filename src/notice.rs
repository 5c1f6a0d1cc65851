//! Raises, reminds of and resolves alerts, and tells of each in the journal.
//! It never decides what is wrong: who calls it does.

mod fold;
mod journal;
mod outage;
mod refusal;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::error;

use self::fold::Step;
pub use self::fold::Wanted;
use self::journal::{tell_raised, tell_reminded, tell_resolved};
use self::outage::Outages;
use crate::alert::{AlertKind, Finding, Severity, is_reminder_due};
use crate::broker::{Broker, overview, plan};
use crate::fault::chain;
use crate::grant::{GrantRef, GrantState, Problem, Proof, Slot};
use crate::store::{Store, StoreError, alert};
use crate::telling::{Teller, Turn};
use crate::time::Clock;

/// The same finding is counted once in this time.
const RECOUNT: Duration = Duration::from_mins(1);

/// Where findings are told.
#[derive(Clone)]
pub struct Notice {
    store: Store,
    clock: Clock,
    teller: Teller,
    /// What was told and could not be recorded: on a full disk nothing else remembers it.
    unrecorded: Arc<Mutex<Vec<Finding>>>,
    outages: Arc<Mutex<Outages>>,
}

impl Notice {
    /// Tells in the journal and the database.
    pub fn new(store: Store, clock: Clock) -> Self {
        Self {
            store,
            clock,
            teller: Teller::default(),
            unrecorded: Arc::default(),
            outages: Arc::default(),
        }
    }

    /// The same, which also tells those outside.
    #[must_use]
    pub fn telling(self, teller: Teller) -> Self {
        Self { teller, ..self }
    }

    /// Who tells those outside.
    pub(crate) fn teller(&self) -> &Teller {
        &self.teller
    }

    /// From now on outages of these mailboxes, each with its server as `host:port`, are told together where they
    /// have one cause: by [`Notice::watch_outages`].
    pub fn watch(&self, hosts: BTreeMap<String, String>) {
        self.outages().watch(hosts);
    }

    /// The mailbox that an outage is about, where it is about one.
    fn mailbox_of(&self, finding: &Finding) -> Option<String> {
        let is_of_mailbox = finding.kind == AlertKind::MailboxUnreachable || refusal::is_refusal(finding);
        (is_of_mailbox && self.outages().knows(&finding.subject)).then(|| finding.subject.clone())
    }

    fn outages(&self) -> std::sync::MutexGuard<'_, Outages> {
        self.outages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an outage that is too young to tell of: it may be part of one that lasts.
    pub fn suspect(&self, mailbox: &str, problem: &Problem) {
        self.outages().unreachable(mailbox, problem.clone(), false);
    }

    /// Raises an alert, or counts it where it is open already. Where the database cannot take it, as on a
    /// full disk, it stands in the journal all the same. An outage of a watched mailbox is told with its like.
    pub async fn raise(&self, finding: &Finding) {
        if finding.kind == AlertKind::MailboxUnreachable && self.outages().knows(&finding.subject) {
            let problem = finding.problem.clone();
            self.outages().unreachable(&finding.subject, problem, true);
            return;
        }
        if refusal::is_refusal(finding) && self.outages().knows(&finding.subject) {
            return self.refuse(finding).await;
        }
        self.raise_alone(finding).await;
    }

    async fn raise_alone(&self, finding: &Finding) {
        match self.try_raise(finding).await {
            Ok(is_new) => {
                let was_told = self.forget(|told| is_same(told, finding)).is_some();
                if is_new && !was_told {
                    tell_raised(finding, self.mailbox_of(finding).as_deref());
                }
            }
            Err(fault) => {
                if self.remember(finding) {
                    tell_raised(finding, self.mailbox_of(finding).as_deref());
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
        if let Some(id) = raised {
            let row = alert::AlertRow::new(id, finding, now);
            self.teller
                .alert(write.connection()?, (Turn::Raised, &row), now)
                .await?;
        }
        write.commit().await?;
        Ok(raised.is_some())
    }

    /// Resolves an alert if it is open. `login` only where the subject is an integration.
    pub async fn resolve(&self, kind: AlertKind, subject: &str, login: Option<&str>) {
        if kind == AlertKind::MailboxUnreachable && self.outages().knows(subject) {
            self.outages().reached(subject);
            return;
        }
        if refusal::KINDS.contains(&kind) && login.is_none() && self.outages().knows(subject) {
            return self.accept(kind, subject).await;
        }
        self.resolve_alone(kind, subject, login).await;
    }

    async fn resolve_alone(&self, kind: AlertKind, subject: &str, login: Option<&str>) {
        let is_meant = |told: &Finding| told.kind == kind && told.subject == subject && told.login.as_deref() == login;
        match self.try_resolve(kind, subject, login.unwrap_or_default()).await {
            Ok(Some(row)) => tell_resolved(&row.finding, self.mailbox_of(&row.finding).as_deref()),
            Ok(None) => {
                if let Some(told) = self.forget(is_meant) {
                    tell_resolved(&told, self.mailbox_of(&told).as_deref());
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
        self.end(kind, (subject, login), true).await
    }

    /// Ends an open alert; those outside are told or not.
    async fn end(
        &self,
        kind: AlertKind,
        (subject, login): (&str, &str),
        is_told: bool,
    ) -> Result<Option<alert::AlertRow>, StoreError> {
        let now = self.clock.now();
        let mut write = self.store.write().await?;
        let resolved = alert::resolve(write.connection()?, kind, (subject, login), now).await?;
        if let Some(row) = resolved.as_ref().filter(|_| is_told) {
            self.teller
                .alert(write.connection()?, (Turn::Resolved, row), now)
                .await?;
        }
        write.commit().await?;
        Ok(resolved)
    }

    /// Raises and resolves what the states of these grants ask for: one alert for a grant, however many
    /// mailboxes sign in with it, and one for a client that is refused whoever signs in with it.
    ///
    /// # Errors
    /// What the database says.
    pub async fn watch_grants(&self, grants: &[GrantRef], broker: &Broker) -> Result<(), StoreError> {
        let mut findings = Vec::new();
        for (grant, row) in overview(&self.store, grants).await? {
            let found = match &row {
                Some(row) if row.state != GrantState::Pending => {
                    plan::finding(row, &grant.integration.name, self.clock.now())
                }
                Some(_) | None => not_signed_in(grant, broker),
            };
            findings.extend(found);
        }
        // A login stands only in alerts about grants; the same kinds without one are of mailboxes.
        let is_ours = |open: &Finding| GRANT_ALERTS.contains(&open.kind) && open.login.is_some();
        self.settle(&fold::grants(findings), is_ours).await
    }

    /// Raises and resolves what the watched mailboxes ask for that cannot be reached, or are refused alike.
    ///
    /// # Errors
    /// What the database says.
    pub async fn watch_outages(&self) -> Result<(), StoreError> {
        self.watch_refusals().await?;
        if !self.outages().is_new() {
            return Ok(());
        }
        let is_ours = |open: &Finding| open.kind == AlertKind::MailboxUnreachable;
        let open = alert::open(self.store.readers()).await?;
        let is_any_open = open.iter().any(|row| is_ours(&row.finding));
        let wanted = self.outages().wanted(is_any_open);
        let Some(wanted) = wanted else { return Ok(()) };
        let settled = self.settle(&wanted, is_ours).await;
        if settled.is_err() {
            self.outages().repeat();
        }
        settled
    }

    /// Makes the open alerts that are of the caller's business those that it wants.
    ///
    /// # Errors
    /// What the database says.
    pub(crate) async fn settle(
        &self,
        wanted: &[Wanted],
        is_ours: impl Fn(&Finding) -> bool + Send,
    ) -> Result<(), StoreError> {
        let mut open = alert::open(self.store.readers()).await?;
        open.retain(|row| is_ours(&row.finding));
        for step in fold::steps(&open, wanted) {
            match step {
                Step::Raise(finding) => self.raise_alone(finding).await,
                Step::Renew(row, finding) => self.retitle(row, finding, true).await?,
                Step::Retitle(row, finding, is_wider) => self.retitle(row, finding, is_wider).await?,
                Step::Absorb(row) => self.absorb(&row.finding).await?,
                Step::Resolve(row) => {
                    let finding = &row.finding;
                    self.resolve_alone(finding.kind, &finding.subject, finding.login.as_deref())
                        .await;
                }
            }
        }
        let is_over = |told: &Finding| is_ours(told) && !wanted.iter().any(|one| is_same(&one.finding, told));
        while let Some(told) = self.forget(is_over) {
            tell_resolved(&told, self.mailbox_of(&told).as_deref());
        }
        Ok(())
    }

    async fn absorb(&self, finding: &Finding) -> Result<(), StoreError> {
        let login = finding.login.as_deref().unwrap_or_default();
        self.end(finding.kind, (&finding.subject, login), false).await.map(drop)
    }

    /// Makes an open alert say something else, and tells of it again unless somebody has taken note; of what has
    /// become critical in any case.
    async fn retitle(&self, row: &alert::AlertRow, finding: &Finding, is_told: bool) -> Result<(), StoreError> {
        let is_told = is_told && (!row.is_acknowledged || finding.severity() == Severity::Critical);
        let now = self.clock.now();
        let mut write = self.store.write().await?;
        alert::retitle(write.connection()?, row.id, finding, now).await?;
        let retitled = alert::AlertRow {
            finding: finding.clone(),
            reminders: row.reminders.saturating_add(u32::from(is_told)),
            ..row.clone()
        };
        if is_told {
            alert::add_reminder(write.connection()?, row.id).await?;
            self.teller
                .alert(write.connection()?, (Turn::Reminded, &retitled), now)
                .await?;
        }
        write.commit().await?;
        if is_told {
            tell_reminded(&retitled, self.mailbox_of(finding).as_deref());
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
        for mut row in alert::open(self.store.readers()).await? {
            let is_left_alone = row.is_acknowledged || row.finding.kind.is_told_by_date();
            if is_left_alone || !is_reminder_due(row.since, row.reminders, remind_after, now) {
                continue;
            }
            let mut write = self.store.write().await?;
            alert::add_reminder(write.connection()?, row.id).await?;
            row.reminders += 1;
            self.teller
                .alert(write.connection()?, (Turn::Reminded, &row), now)
                .await?;
            write.commit().await?;
            tell_reminded(&row, self.mailbox_of(&row.finding).as_deref());
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
