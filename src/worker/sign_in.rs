//! A worker's way to a session: credential > connect, and once more with a newer token where the server refused one.
//! It never renews by itself: the broker does.

use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::streak::Streak;
use super::{Worker, WorkerError};
use crate::fault::chain;
use crate::imap::Session;
use crate::mailbox::{Credential, MailboxState, SignIn};

impl Worker {
    /// Connects and signs in; a refused token is renewed once. `None` if the daemon stops meanwhile.
    pub(super) async fn sign_in(
        &self,
        streak: &Streak,
        stop: &CancellationToken,
    ) -> Result<Option<Session>, WorkerError> {
        if streak.failures == 0 {
            self.board.set(&self.folder, MailboxState::Connecting, None).await;
        }
        tokio::select! {
            session = self.connect() => session.map(Some),
            () = stop.cancelled() => Ok(None),
        }
    }

    async fn connect(&self) -> Result<Session, WorkerError> {
        let (credential, generation) = self.credential().await?;
        let refused = match self.connector.connect(&self.mailbox, &credential).await {
            Err(error) if error.is_credential_refused() => error,
            other => return Ok(other?),
        };
        let Some(credential) = self.renewed(generation, &chain(&refused)).await? else {
            return Err(refused.into());
        };
        Ok(self.connector.connect(&self.mailbox, &credential).await?)
    }

    /// A newer token in the place of one that the server refused; `None` where there is none to be had: it is a
    /// password, or was renewed for that reason just now, so that it is not to blame.
    pub(super) async fn renewed(
        &self,
        generation: Option<i64>,
        refused: &str,
    ) -> Result<Option<Credential>, WorkerError> {
        let (SignIn::Token(grant), Some(generation)) = (&self.mailbox.sign_in, generation) else {
            return Ok(None);
        };
        debug!(
            error = refused,
            "the server refused the access token; it is renewed once"
        );
        if !self.broker.reject(grant, generation).await? {
            return Ok(None);
        }
        Ok(Some(self.credential().await?.0))
    }

    pub(super) async fn credential(&self) -> Result<(Credential, Option<i64>), WorkerError> {
        match &self.mailbox.sign_in {
            SignIn::Password(secret) => Ok((Credential::Password(secret.value.clone()), None)),
            SignIn::Token(grant) => {
                let token = self.broker.access_token(grant).await?;
                Ok((Credential::Token(token.secret), Some(token.generation)))
            }
        }
    }
}
