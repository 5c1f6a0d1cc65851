//! What will stop mail if nobody acts: secrets, passwords, certificates and sign-ins that end.
//! It never asks a provider: all is known from the configuration and from how former sign-ins ended.

pub(crate) mod ending;
mod remedy;
mod sign_in;
mod why;

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use crate::alert::{AlertKind, Finding};
use crate::broker::{Broker, overview};
use crate::grant::{GrantRef, Integration};
use crate::notice::{Notice, Wanted};
use crate::outgoing::Smtp;
use crate::store::grant::GrantRow;
use crate::store::{self, Store, StoreError};
use crate::time::{Clock, Timestamp};

/// The kinds that are raised and resolved here.
const KINDS: [AlertKind; 3] = [
    AlertKind::SecretExpiring,
    AlertKind::CertificateExpiring,
    AlertKind::GrantExpiring,
];

/// What is looked at: what the configuration has.
#[derive(Debug, Clone, Default)]
pub struct Subjects {
    /// `[[integration]]`.
    pub integrations: Vec<Arc<Integration>>,
    /// `[[smtp]]`.
    pub smtp: Vec<Smtp>,
    /// The grants that are configured.
    pub grants: Vec<GrantRef>,
}

/// Looks ahead. Clones share what is looked at.
#[derive(Clone)]
pub struct Foresight {
    store: Store,
    clock: Clock,
    subjects: Arc<RwLock<Arc<Subjects>>>,
}

impl Foresight {
    /// Looks ahead for these.
    pub fn new(store: Store, clock: Clock, subjects: Subjects) -> Self {
        Self {
            store,
            clock,
            subjects: Arc::new(RwLock::new(Arc::new(subjects))),
        }
    }

    /// Replaces what is looked at, as a reload does.
    pub fn set(&self, subjects: Subjects) {
        *self.subjects.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(subjects);
    }

    /// What is looked at.
    pub fn subjects(&self) -> Arc<Subjects> {
        Arc::clone(&self.subjects.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Raises, tells again and resolves what is to be said now.
    ///
    /// # Errors
    /// What the database says.
    pub async fn foresee(&self, broker: &Broker, notice: &Notice) -> Result<(), StoreError> {
        let now = self.clock.now();
        let subjects = self.subjects();
        let integrations = subjects.integrations.iter().map(AsRef::as_ref);
        let endings = ending::endings(integrations, &subjects.smtp);
        let mut findings: Vec<Finding> = endings
            .iter()
            .filter_map(|ending| ending::finding(ending, now))
            .collect();
        let known = Known::read(&self.store, &subjects.grants).await?;
        findings.extend(known.findings(broker, now));
        let wanted: Vec<Wanted> = findings.into_iter().map(Wanted::single).collect();
        // With a login, the end of a secret is about a first credential that is refused: `Notice::watch_clients`.
        let is_ours = |open: &Finding| {
            KINDS.contains(&open.kind) && (open.login.is_none() || open.kind == AlertKind::GrantExpiring)
        };
        notice.settle(&wanted, is_ours).await
    }
}

/// The grants with what the database knows of them.
struct Known<'g> {
    grants: Vec<(&'g GrantRef, Option<GrantRow>)>,
    /// Those that are set aside, too: they count at the provider.
    rows: Vec<GrantRow>,
    sign_ins: Vec<store::grant::sign_in::SignInRow>,
}

impl<'g> Known<'g> {
    async fn read(store: &Store, grants: &'g [GrantRef]) -> Result<Self, StoreError> {
        Ok(Self {
            grants: overview(store, grants).await?,
            rows: store::grant::list(store.readers()).await?,
            sign_ins: store::grant::sign_in::list(store.readers()).await?,
        })
    }

    fn facts<'f>(&'f self, grant: &'f GrantRef, row: &'f GrantRow, command: String) -> sign_in::Facts<'f> {
        let client: HashSet<_> = self.of_client(row).map(|row| row.id).collect();
        sign_in::Facts {
            grant,
            row,
            own: self.sign_ins.iter().filter(|known| known.grant == row.id).collect(),
            client: self
                .sign_ins
                .iter()
                .filter(|known| client.contains(&known.grant))
                .collect(),
            command,
        }
    }

    fn of_client<'f>(&'f self, of: &'f GrantRow) -> impl Iterator<Item = &'f GrantRow> {
        self.rows
            .iter()
            .filter(|row| row.key.client_id == of.key.client_id && row.key.token_endpoint == of.key.token_endpoint)
    }

    fn findings(&self, broker: &Broker, now: Timestamp) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut crowds = HashSet::new();
        for (grant, row) in &self.grants {
            let Some(row) = row else { continue };
            let facts = self.facts(grant, row, broker.command(grant));
            findings.extend(sign_in::finding(&facts, now).or_else(|| sign_in::worn(&facts)));
            let accounts = self.of_client(row).filter(|row| row.refresh_token.is_some()).count();
            if crowds.insert(grant.integration.name.clone()) {
                findings.extend(sign_in::crowded(grant, accounts));
            }
        }
        findings
    }
}

/// Puts the first end that is foreseen in the place of the one that the provider stated: for `status`.
///
/// # Errors
/// What the database says.
pub async fn expect_ends(
    store: &Store,
    grants: &mut [(&GrantRef, &mut GrantRow)],
    now: Timestamp,
) -> Result<(), StoreError> {
    let known = Known::read(store, &[]).await?;
    for (grant, row) in grants {
        let end = sign_in::expected(&known.facts(grant, row, String::new()), now).map(|expected| expected.end);
        row.expected_end_at = end.or(row.expected_end_at);
    }
    Ok(())
}
