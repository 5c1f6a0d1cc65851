//! Which messages of a batch are new for certain: neither the ledger nor the batch before them has anything of theirs.
//! It never says that one is known: that is looked up one by one.

use std::collections::HashSet;

use sqlx::SqliteConnection;

use super::judge::identities;
use super::prepare::Prepared;
use crate::mailbox::MailboxId;
use crate::store::StoreError;
use crate::store::message::known::{self, Identities};

/// What is known of a batch.
pub(super) struct Novelty {
    /// Those of which the ledger has something.
    met: HashSet<usize>,
    /// The identities of those that were asked about.
    seen: HashSet<Vec<u8>>,
}

impl Novelty {
    /// Looks a batch up, within its transaction.
    ///
    /// # Errors
    /// What the database says.
    pub(super) async fn look(
        connection: &mut SqliteConnection,
        mailbox: MailboxId,
        batch: &[Prepared],
    ) -> Result<Self, StoreError> {
        let batch: Vec<Identities<'_>> = batch.iter().map(identities).collect();
        Ok(Self {
            met: known::any(connection, mailbox, &batch).await?,
            seen: HashSet::with_capacity(batch.len() * 3),
        })
    }

    /// Whether a message is new for certain; asked in the order of the batch.
    pub(super) fn is_new(&mut self, index: usize, prepared: &Prepared) -> bool {
        let one = identities(prepared);
        let place = one.place.remote_id();
        let own = [
            Some(one.sha256.as_slice()),
            one.fingerprint.map(<[u8; 32]>::as_slice),
            one.server_id.map(str::as_bytes),
            Some(place.as_bytes()),
        ];
        // Each is looked at, so that the next message meets all of them.
        let own = own.into_iter().flatten();
        let met_before = own.filter(|identity| !self.seen.insert(identity.to_vec())).count();
        met_before == 0 && !self.met.contains(&index)
    }
}
