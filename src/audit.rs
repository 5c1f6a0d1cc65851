//! The server's UIDs against the ledger: which messages have no final row. It changes nothing anywhere.

mod maildrop;

use std::sync::Arc;

use crate::broker::{Broker, TokenError};
use crate::imap::{self, ImapError};
use crate::mailbox::{Credential, Mailbox, MailboxId, Protocol, SignIn, Uid};
use crate::pop3::{self, Pop3Error};
use crate::store::{Store, StoreError, mailbox, message};
use crate::time::Timestamp;
use crate::tls::Trust;

/// A message on the server that has no final row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The folder.
    pub folder: String,
    /// Its UID; only of IMAP.
    pub uid: Option<Uid>,
    /// Its UIDL, or what stands for it; only of POP3.
    pub uidl: Option<String>,
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
    /// The POP3 server, or the way to it.
    #[error("cannot list the mailbox")]
    Pop3(#[from] Pop3Error),
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

/// How servers are reached.
#[derive(Clone)]
pub struct Connectors {
    /// IMAP servers.
    pub imap: imap::Connector,
    /// POP3 servers.
    pub pop3: pop3::Connector,
}

impl Connectors {
    /// Connectors that trust these roots.
    pub fn new(trust: &Trust) -> Self {
        Self {
            imap: imap::Connector::new(trust.clone()),
            pop3: pop3::Connector::new(trust.clone()),
        }
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
    connectors: &Connectors,
) -> Result<Audited, AuditError> {
    let id = mailbox::find(store.readers(), &mailbox.address).await?;
    let credential = credential(mailbox, broker).await?;
    if mailbox.server.protocol == Protocol::Pop3 {
        let session = connectors.pop3.connect(mailbox, &credential).await?;
        return maildrop::audit(mailbox, session, store, id).await;
    }
    let mut session = connectors.imap.connect(mailbox, &credential).await?;
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
            uid: Some(listed.uid),
            uidl: None,
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
