//! The server's UIDs against the ledger: which messages have no final row. It changes nothing anywhere.

mod maildrop;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::broker::{Broker, TokenError};
use crate::imap::{self, ImapError, Session};
use crate::mailbox::{Credential, Listed, Mailbox, MailboxId, Protocol, SignIn, Uid};
use crate::pop3::{self, Pop3Error};
use crate::store::{Store, StoreError, mailbox, message};
use crate::time::Timestamp;
use crate::tls::Trust;

/// Message-IDs looked up by one command.
const HEADERS_AT_ONCE: usize = 500;

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

/// How far a comparison is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// So many messages are on the server.
    Listed(usize),
    /// So many more are compared.
    Compared(usize),
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

/// What a comparison works with.
pub struct Bench<'b> {
    /// The ledger.
    pub store: &'b Store,
    /// Where access tokens come from.
    pub broker: &'b Broker,
    /// How the servers are reached.
    pub connectors: &'b Connectors,
}

/// Compares one mailbox. Of what takes long is told how many messages come to be compared, and that more of them
/// have been.
///
/// # Errors
/// [`AuditError`].
pub async fn audit(
    mailbox: &Arc<Mailbox>,
    bench: &Bench<'_>,
    told: &mut dyn FnMut(Step),
) -> Result<Audited, AuditError> {
    let Bench {
        store,
        broker,
        connectors,
    } = bench;
    let id = mailbox::find(store.readers(), &mailbox.address).await?;
    let credential = credential(mailbox, broker).await?;
    if mailbox.server.protocol == Protocol::Pop3 {
        let session = connectors.pop3.connect(mailbox, &credential).await?;
        return maildrop::audit(mailbox, session, (store, id), told).await;
    }
    let mut session = connectors.imap.connect(mailbox, &credential).await?;
    let mut audited = Audited {
        on_server: 0,
        missing: Vec::new(),
    };
    for folder in &mailbox.folders {
        let selected = session.examine(folder).await?;
        let listed = session.list(Uid::MIN).await?;
        told(Step::Listed(listed.len()));
        let known = match id {
            Some(id) => known(store, id, folder, selected.uidvalidity).await?,
            None => HashSet::new(),
        };
        audited.on_server += listed.len();
        let missing = listed.iter().filter(|listed| !known.contains(&listed.uid));
        let missing: Vec<Listed> = missing.cloned().collect();
        told(Step::Compared(listed.len() - missing.len()));
        for chunk in missing.chunks(HEADERS_AT_ONCE) {
            audited.missing.extend(describe(&mut session, folder, chunk).await?);
            told(Step::Compared(chunk.len()));
        }
    }
    session.logout().await;
    Ok(audited)
}

/// Messages that have no row, with their Message-IDs.
async fn describe(session: &mut Session, folder: &str, missing: &[Listed]) -> Result<Vec<Missing>, ImapError> {
    let uids: Vec<Uid> = missing.iter().map(|listed| listed.uid).collect();
    let ids: HashMap<_, _> = session.headers(&uids).await?.into_iter().collect();
    let describe = |listed: &Listed| Missing {
        folder: folder.to_owned(),
        message_id: ids.get(&listed.uid).cloned().flatten(),
        uid: Some(listed.uid),
        uidl: None,
        received_at: listed.received_at,
    };
    Ok(missing.iter().map(describe).collect())
}

async fn known(
    store: &Store,
    id: MailboxId,
    folder: &str,
    uidvalidity: crate::mailbox::UidValidity,
) -> Result<HashSet<Uid>, StoreError> {
    message::known_uids(store.readers(), id, folder, uidvalidity).await
}
