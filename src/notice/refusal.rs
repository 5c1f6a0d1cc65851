//! Mailboxes that their server refuses: one alert each, or one for all that are refused alike.
//! It never tells later of the first ones than of anything else: they are told at once, and together once they are
//! several.

use std::collections::BTreeSet;

use super::{Notice, fold};
use crate::alert::{AlertKind, Finding};
use crate::store::{StoreError, alert};

/// What a server may refuse a mailbox with.
pub(super) const KINDS: [AlertKind; 4] = [
    AlertKind::CredentialsRefused,
    AlertKind::AdminActionRequired,
    AlertKind::ReauthorizationRequired,
    AlertKind::ConfigurationRefused,
];

/// Whether an alert is of a mailbox, or of several, that are refused; with a login it is of a grant.
pub(super) fn is_refusal(finding: &Finding) -> bool {
    KINDS.contains(&finding.kind) && finding.login.is_none()
}

impl Notice {
    /// Whether another mailbox of the same server works, so that what one meets is its own.
    pub fn is_server_well(&self, mailbox: &str) -> bool {
        self.outages().is_server_well(mailbox)
    }

    /// Tells of a refused mailbox, at once unless one alert tells of several or is about to.
    pub(super) async fn refuse(&self, finding: &Finding) {
        let alike = self.outages().refuse(finding);
        if alike >= fold::ALIKE || self.is_told_together(finding.kind, &finding.subject).await {
            self.outages().settle_refusals();
        } else {
            self.raise_alone(finding).await;
        }
    }

    /// A mailbox is refused no longer.
    pub(super) async fn accept(&self, kind: AlertKind, mailbox: &str) {
        self.outages().accept(kind, mailbox);
        if self.is_told_together(kind, mailbox).await {
            self.outages().settle_refusals();
        }
        self.resolve_alone(kind, mailbox, None).await;
    }

    /// Whether one alert tells of several mailboxes of the same server. While that cannot be known, each is told alone.
    async fn is_told_together(&self, kind: AlertKind, mailbox: &str) -> bool {
        let Some(host) = self.outages().host_of(mailbox) else {
            return false;
        };
        let open = alert::open(self.store.readers()).await.unwrap_or_default();
        open.iter()
            .any(|row| is_refusal(&row.finding) && row.finding.kind == kind && row.finding.subject == host)
    }

    /// Makes the alerts about refused mailboxes those that they ask for together.
    ///
    /// # Errors
    /// What the database says.
    pub(super) async fn watch_refusals(&self) -> Result<(), StoreError> {
        if !self.outages().are_refusals_new() {
            return Ok(());
        }
        let open = alert::open(self.store.readers()).await?;
        let together: BTreeSet<(AlertKind, String)> = open
            .into_iter()
            .map(|row| row.finding)
            .filter(|finding| is_refusal(finding) && self.outages().is_host(&finding.subject))
            .map(|finding| (finding.kind, finding.subject))
            .collect();
        let refusals = self.outages().refusals(!together.is_empty());
        let Some(refusals) = refusals else { return Ok(()) };
        let wanted = fold::refusals(&refusals, &together);
        let is_ours = |open: &Finding| is_refusal(open) && self.outages().is_of_refusals(open);
        let settled = self.settle(&wanted, is_ours).await;
        if settled.is_err() {
            self.outages().settle_refusals();
        }
        settled
    }
}
