//! What is done to messages once they are committed: by UID only, never a bare EXPUNGE, which would take
//! along what others marked. Done twice it does no harm.

use super::error::{ImapError, Step};
use super::{Session, name};
use crate::mailbox::{After, Uid};

impl Session {
    /// Does what `after` says to these messages of the open folder; those that are gone are skipped by the server.
    ///
    /// # Errors
    /// [`ImapError::No`] if the server refuses; else as any command.
    pub async fn settle(&mut self, uids: &[Uid], after: &After) -> Result<(), ImapError> {
        for set in name::sets(uids) {
            match after {
                After::Keep => {}
                After::Seen => self.mark(&set, "\\Seen").await?,
                After::Flag(flag) => self.mark(&set, name::keyword(flag)?).await?,
                After::Delete => self.delete(&set).await?,
                After::Move(folder) => self.move_to(&set, folder).await?,
            }
        }
        Ok(())
    }

    async fn mark(&mut self, set: &str, flag: &str) -> Result<(), ImapError> {
        let command = format!("UID STORE {set} +FLAGS.SILENT ({flag})");
        self.command(Step::Settle, &command, |_| {}).await
    }

    /// Without UIDPLUS (RFC 4315) the messages are only marked: the next client that expunges removes them.
    async fn delete(&mut self, set: &str) -> Result<(), ImapError> {
        self.mark(set, "\\Deleted").await?;
        if self.has("UIDPLUS") || self.has("IMAP4REV2") {
            self.command(Step::Settle, &format!("UID EXPUNGE {set}"), |_| {})
                .await?;
        }
        Ok(())
    }

    /// A missing target is made once.
    async fn move_to(&mut self, set: &str, folder: &str) -> Result<(), ImapError> {
        let target = name::folder(folder)?;
        let moved = self.try_move(set, &target).await;
        let Err(ImapError::No { refusal, .. }) = &moved else {
            return moved;
        };
        if !refusal.is(&["TRYCREATE", "NONEXISTENT"]) {
            return moved;
        }
        self.command(Step::Settle, &format!("CREATE {target}"), |_| {}).await?;
        self.try_move(set, &target).await
    }

    /// By MOVE (RFC 6851) where there is one, else by copy and delete.
    async fn try_move(&mut self, set: &str, target: &str) -> Result<(), ImapError> {
        if self.has("MOVE") || self.has("IMAP4REV2") {
            return self
                .command(Step::Settle, &format!("UID MOVE {set} {target}"), |_| {})
                .await;
        }
        self.command(Step::Settle, &format!("UID COPY {set} {target}"), |_| {})
            .await?;
        self.delete(set).await
    }
}
