//! What is owed on the server once messages are committed: marking, moving, deleting.
//! It never touches a message that is not in the ledger.

use std::sync::atomic::Ordering;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::stop::grace;
use super::{Worker, WorkerError};
use crate::alert::{AlertKind, Finding};
use crate::fault::{Remedy, chain};
use crate::imap::{ImapError, Selected, Session};
use crate::mailbox::{After, Uid};
use crate::store::message;

impl Worker {
    /// What a former session, or a former process, still owed.
    pub(super) async fn settle_owed(
        &self,
        session: &mut Session,
        selected: &Selected,
        stop: &CancellationToken,
    ) -> Result<(), WorkerError> {
        let place = (self.folder.as_str(), selected.uidvalidity);
        let owed = message::owed(self.store.readers(), self.id, place).await?;
        if self.settle(session, &owed, stop).await? {
            self.note_settled(selected, &owed).await?;
        }
        Ok(())
    }

    /// Does what `after` says to messages that are committed; whether that is done, and to be noted. A server that
    /// refuses does not stop the intake; what a stop leaves undone is still owed to the next process.
    pub(super) async fn settle(
        &self,
        session: &mut Session,
        owed: &[Uid],
        stop: &CancellationToken,
    ) -> Result<bool, WorkerError> {
        if owed.is_empty() {
            return Ok(false);
        }
        let settled = tokio::select! {
            settled = session.settle(owed, &self.mailbox.after) => settled,
            () = grace(stop) => return Err(WorkerError::Stopped),
        };
        if let Err(error) = settled {
            self.not_settled(error).await?;
            return Ok(false);
        }
        Ok(true)
    }

    /// Notes that something was done on the server.
    pub(super) async fn note_settled(&self, selected: &Selected, owed: &[Uid]) -> Result<(), WorkerError> {
        let mut write = self.store.write_lightly().await?;
        let place = (self.folder.as_str(), selected.uidvalidity);
        message::set_settled(write.connection()?, self.id, place, owed).await?;
        write.commit().await?;
        self.settle_refused.store(false, Ordering::Relaxed);
        let count = owed.len();
        info!(
            event = "server_action.done",
            count,
            "{} on the server",
            describe(&self.mailbox.after)
        );
        self.notice
            .resolve(AlertKind::ConfigurationRefused, &self.mailbox.name, None)
            .await;
        Ok(())
    }

    async fn not_settled(&self, error: ImapError) -> Result<(), WorkerError> {
        if matches!(error.remedy(), Remedy::Retry { .. }) {
            return Err(error.into());
        }
        self.settle_refused.store(true, Ordering::Relaxed);
        warn!(error = %chain(&error), "the server refused what is to be done after the commit; it is tried again later");
        self.notice
            .raise(&Finding {
                kind: AlertKind::ConfigurationRefused,
                subject: self.mailbox.name.clone(),
                login: None,
                problem: error.problem(),
            })
            .await;
        Ok(())
    }
}

fn describe(after: &After) -> String {
    match after {
        After::Keep => "nothing done".into(),
        After::Seen => "marked seen".into(),
        After::Delete => "deleted".into(),
        After::Flag(flag) => format!("marked {flag}"),
        After::Move(folder) => format!("moved to {folder}"),
    }
}
