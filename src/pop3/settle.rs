//! Deleting what is committed, and the end of a session. What is deleted is gone once QUIT is answered, and not
//! before (RFC 1939 §6).

use super::Session;
use super::error::{Pop3Error, Step};
use super::refusal::Refusal;

impl Session {
    /// Marks messages for deletion; returns those that the server refused, with its words.
    ///
    /// # Errors
    /// What ends the session.
    pub async fn delete(&mut self, numbers: &[u32]) -> Result<Vec<(u32, Refusal)>, Pop3Error> {
        let commands: Vec<String> = numbers.iter().map(|number| format!("DELE {number}")).collect();
        if self.offer.has_pipelining && !commands.is_empty() {
            self.wire.send(Step::Settle, &commands.join("\r\n")).await?;
        }
        let mut refused = Vec::new();
        for (number, command) in numbers.iter().zip(&commands) {
            if !self.offer.has_pipelining {
                self.wire.send(Step::Settle, command).await?;
            }
            if let Err(refusal) = self.wire.status(Step::Settle).await? {
                refused.push((*number, refusal));
            }
        }
        Ok(refused)
    }

    /// Ends the session, which carries out the deletions.
    ///
    /// # Errors
    /// [`Pop3Error::Refused`] if some of them were not; else nothing is known of them.
    pub async fn quit(mut self) -> Result<(), Pop3Error> {
        self.wire.command(Step::Settle, "QUIT").await.map(drop)
    }

    /// Ends the session without a trace: what was read counts as unread again, where a server keeps count.
    pub async fn leave(mut self) {
        let goodbye = async {
            self.wire.ask(Step::Settle, "RSET").await.map(drop)?;
            self.wire.ask(Step::Settle, "QUIT").await.map(drop)
        };
        let goodbye = tokio::time::timeout(std::time::Duration::from_secs(2), goodbye);
        if !matches!(goodbye.await, Ok(Ok(()))) {
            tracing::debug!("the server did not take the goodbye");
        }
    }
}
