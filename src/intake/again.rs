//! Messages that are looked at again: quarantined, released, or read by a newer extractor. From the bytes that
//! were kept, by the same path as any message.

use std::sync::Arc;

use super::act::shown;
use super::judge::{Again, Context};
use super::prepare::{self, Prepared};
use super::{Intake, IntakeError, Origin, Outcome, record};
use crate::alert::AlertKind;
use crate::issue::{Reason, Verdict};
use crate::store::message::MessageId;
use crate::store::message::revise::{self, Shown, Stored};

impl Intake {
    /// Takes a message that has its row: reads it again and decides anew; with `is_released` as if nothing held it.
    ///
    /// # Errors
    /// [`IntakeError`]; then it is as it was. [`IntakeError::Overtaken`] where it is not any more what it was.
    pub async fn take_again(&self, origin: &Origin, stored: Stored, is_released: bool) -> Result<Outcome, IntakeError> {
        let (row, verdict) = (stored.id, stored.verdict);
        let rules = self.rules();
        let mut prepared = self.prepare_again(origin, stored).await?;
        self.recognize(std::slice::from_mut(&mut prepared), &rules).await?;
        let context = Context {
            mailbox: &origin.mailbox,
            id: origin.id,
            rules: &rules,
            now: self.clock.now(),
            again: Some(Again { row, is_released }),
        };
        let mut write = self.store.write().await?;
        if revise::verdict(write.connection()?, row).await? != verdict {
            return Err(IntakeError::Overtaken(row));
        }
        let outcome = record::record(write.connection()?, &context, &prepared).await?;
        self.queue_told(write.connection()?, &outcome, context.now).await?;
        write.commit().await?;
        self.resolve_quarantine(origin).await?;
        Ok(outcome)
    }

    /// Makes a held or quarantined message ignored.
    ///
    /// # Errors
    /// [`IntakeError::Store`]; [`IntakeError::Overtaken`] where it is neither.
    pub async fn discard(&self, origin: &Origin, row: MessageId) -> Result<(), IntakeError> {
        let mut write = self.store.write().await?;
        if !revise::discard(write.connection()?, row).await? {
            return Err(IntakeError::Overtaken(row));
        }
        write.commit().await?;
        self.resolve_quarantine(origin).await
    }

    /// Reads the text of a message again; returns whether the issue or comment changed, or why it cannot be read.
    ///
    /// # Errors
    /// [`IntakeError`].
    pub async fn reextract(&self, origin: &Origin, stored: Stored) -> Result<Result<bool, Reason>, IntakeError> {
        let row = stored.id;
        let readable = match self.prepare_again(origin, stored).await?.content {
            Ok(readable) => readable,
            Err(reason) => return Ok(Err(reason)),
        };
        let (body, elided, signature) = shown(&readable);
        let shown = Shown {
            body,
            elided,
            signature,
        };
        let mut write = self.store.write().await?;
        let has_changed = revise::retext(write.connection()?, row, shown, &readable.extract).await?;
        write.commit().await?;
        Ok(Ok(has_changed))
    }

    /// Reads a message. One that was quarantined may have killed a process before: a child tries it first.
    async fn prepare_again(&self, origin: &Origin, stored: Stored) -> Result<Prepared, IntakeError> {
        let raw = stored.raw;
        let is_suspect = stored.verdict == Some(Verdict::Quarantined);
        if is_suspect && !self.probe.survives(raw.parsed()).await {
            return prepare::set_aside(raw, Reason::ParserKilled).map_err(IntakeError::Compress);
        }
        let (mailbox, rules) = (Arc::clone(&origin.mailbox), self.rules());
        tokio::task::spawn_blocking(move || prepare::prepare(raw, &mailbox, &rules))
            .await
            .map_err(|_| IntakeError::Stopped)?
            .map_err(IntakeError::Compress)
    }

    async fn resolve_quarantine(&self, origin: &Origin) -> Result<(), IntakeError> {
        if !revise::has_quarantined(self.store.readers(), origin.id).await? {
            let mailbox = origin.mailbox.name.as_str();
            self.notice.resolve(AlertKind::MessageQuarantined, mailbox, None).await;
        }
        Ok(())
    }
}
