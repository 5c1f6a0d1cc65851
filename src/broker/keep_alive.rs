//! Grants that nothing uses at present are renewed now and then, since providers end what lies idle: Microsoft
//! after 90 days, Google after six months. It never touches a grant of a client that is not configured.

use std::sync::Arc;
use std::time::Duration;

use super::Broker;
use crate::grant::{GrantKey, GrantRef, GrantState, Integration};
use crate::store::grant::GrantRow;
use crate::store::{self, StoreError};
use crate::time::Timestamp;

/// Age of the last renewal from which an idle grant is renewed: with a look each day, once in seven.
const IDLE: Duration = Duration::from_hours(6 * 24);

impl Broker {
    /// Renews the grants that no mailbox of the configuration uses, as those of one that was taken out for a
    /// while, where that is due. Gives their number.
    ///
    /// # Errors
    /// What the database says; what a provider says is in the grant's row.
    pub async fn keep_alive(
        &self,
        integrations: &[Arc<Integration>],
        in_use: &[GrantRef],
    ) -> Result<usize, StoreError> {
        let inner = &self.inner;
        let mut renewed = 0;
        for row in store::grant::list(inner.store.readers()).await? {
            if !is_idle(&row, inner.clock.now()) {
                continue;
            }
            let Some(grant) = self.owner(&row, integrations).await else {
                continue;
            };
            let is_used = |used: &GrantRef| {
                used.integration.name == grant.integration.name && used.login.to_lowercase() == row.key.login
            };
            if !in_use.iter().any(is_used) && self.access_token(&grant).await.is_ok() {
                renewed += 1;
            }
        }
        Ok(renewed)
    }

    /// The grant of a row, if its client and token endpoint are those of an integration.
    async fn owner(&self, row: &GrantRow, integrations: &[Arc<Integration>]) -> Option<GrantRef> {
        for integration in integrations {
            if integration.client_id != row.key.client_id || !integration.flow.needs_person() {
                continue;
            }
            let Ok(endpoints) = self.inner.directory.endpoints(integration).await else {
                continue;
            };
            if GrantKey::new(&integration.client_id, &endpoints.token, &row.key.login) == row.key {
                return Some(GrantRef {
                    integration: Arc::clone(integration),
                    login: row.key.login.clone(),
                });
            }
        }
        None
    }
}

fn is_idle(row: &GrantRow, now: Timestamp) -> bool {
    let is_well = match row.state {
        GrantState::Ok | GrantState::Degraded => true,
        GrantState::Pending | GrantState::NeedsAuthorization | GrantState::NeedsAdmin | GrantState::Misconfigured => {
            false
        }
    };
    is_well && row.refresh_token.is_some() && row.refreshed_at.is_none_or(|at| at.until(now) >= IDLE)
}
