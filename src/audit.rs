//! The server's UIDs against the ledger: which messages have no final row. It changes nothing anywhere.

use std::sync::Arc;

use crate::broker::{Broker, TokenError};
use crate::imap::{Connector, Credential, ImapError};
use crate::mailbox::{Mailbox, MailboxId, SignIn, Uid};
use crate::store::{Store, StoreError, mailbox, message};
use crate::time::Timestamp;

/// A message on the server that has no final row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The folder.
    pub folder: String,
    /// Its UID.
    pub uid: Uid,
    /// Its Message-ID, without angle brackets.
    pub message_id: Option<String>,
    /// When the server received it.
    pub received_at: Option<Timestamp>,
}

/// What the comparison of a mailbox found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audited {
    /// Messages on the server.
    pub on_server: usize,
    /// Those without a final row.
    pub missing: Vec<Missing>,
}

/// Why a mailbox could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The server, or the way to it.
    #[error("cannot list the mailbox")]
    Imap(#[from] ImapError),
    /// No access token is to be had.
    #[error("no access token")]
    Token(#[from] TokenError),
    /// Nobody has signed in yet: there is no database.
    #[error("nobody has signed in yet; use `mailintake authorize`")]
    NoTokens,
    /// The database.
    #[error("cannot read the ledger")]
    Store(#[from] StoreError),
}

/// The credential of a mailbox: its password, or an access token from the broker.
///
/// # Errors
/// [`TokenError`].
pub async fn credential(mailbox: &Mailbox, broker: &Broker) -> Result<Credential, TokenError> {
    match &mailbox.sign_in {
        SignIn::Password(secret) => Ok(Credential::Password(secret.value.clone())),
        SignIn::Token(grant) => Ok(Credential::Token(broker.access_token(grant).await?.secret)),
    }
}

/// Compares one mailbox.
///
/// # Errors
/// [`AuditError`].
pub async fn audit(
    mailbox: &Arc<Mailbox>,
    store: &Store,
    broker: &Broker,
    connector: &Connector,
) -> Result<Audited, AuditError> {
    let id = mailbox::find(store.readers(), &mailbox.address).await?;
    let credential = credential(mailbox, broker).await?;
    let mut session = connector.connect(mailbox, &credential).await?;
    let mut audited = Audited {
        on_server: 0,
        missing: Vec::new(),
    };
    for folder in &mailbox.folders {
        let selected = session.examine(folder).await?;
        let listed = session.list(Uid::MIN).await?;
        let known = match id {
            Some(id) => known(store, id, folder, selected.uidvalidity).await?,
            None => std::collections::HashSet::new(),
        };
        audited.on_server += listed.len();
        let missing: Vec<_> = listed
            .into_iter()
            .filter(|listed| !known.contains(&listed.uid))
            .collect();
        let uids: Vec<Uid> = missing.iter().map(|listed| listed.uid).collect();
        let ids: std::collections::HashMap<_, _> = session.headers(&uids).await?.into_iter().collect();
        audited.missing.extend(missing.into_iter().map(|listed| Missing {
            folder: folder.clone(),
            message_id: ids.get(&listed.uid).cloned().flatten(),
            uid: listed.uid,
            received_at: listed.received_at,
        }));
    }
    session.logout().await;
    Ok(audited)
}

async fn known(
    store: &Store,
    id: MailboxId,
    folder: &str,
    uidvalidity: crate::mailbox::UidValidity,
) -> Result<std::collections::HashSet<Uid>, StoreError> {
    message::known_uids(store.readers(), id, folder, uidvalidity).await
}
