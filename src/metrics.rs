//! What the daemon counts, as Prometheus reads it: from the database at the time of a look, and from this process.
//! It never shows an address but the logins and names of our own mailboxes, and never reads a table from end to end.

mod histogram;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use self::histogram::{Histogram, Stopwatch};
use self::text::Text;
use crate::broker::overview;
use crate::foresight::{Foresight, Subjects, ending};
use crate::grant::GrantState;
use crate::mailbox::MailboxState;
use crate::outgoing::SmtpSignIn;
use crate::store::{Store, StoreError, alert, metric};
use crate::time::Clock;

/// Media type of the text (Prometheus exposition format 0.0.4).
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Gathers what is counted. Clones share it.
#[derive(Clone)]
pub struct Metrics {
    store: Store,
    clock: Clock,
    foresight: Foresight,
    ingest: Arc<Histogram>,
}

impl Metrics {
    /// Shows what is configured as `foresight` has it; `ingest` is how long mail took until it was committed.
    pub fn new(store: Store, clock: Clock, foresight: Foresight, ingest: Arc<Histogram>) -> Self {
        Self {
            store,
            clock,
            foresight,
            ingest,
        }
    }

    /// All of it as text.
    ///
    /// # Errors
    /// What the database says.
    pub async fn text(&self) -> Result<String, StoreError> {
        let subjects = self.foresight.subjects();
        let mut text = Text::default();
        text.gauge("build_info", "Version of the running daemon; always 1.");
        text.sample("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
        self.mailboxes(&mut text).await?;
        self.ingest.write(&mut text);
        self.grants(&mut text, &subjects).await?;
        credentials(&mut text, &subjects);
        self.outbox(&mut text).await?;
        self.alerts(&mut text).await?;
        Ok(text.finish())
    }

    async fn mailboxes(&self, text: &mut Text) -> Result<(), StoreError> {
        let readers = self.store.readers();
        text.counter("messages_total", "Messages by what became of them.");
        for (mailbox, verdict, count) in metric::verdicts(readers).await? {
            text.sample("messages_total", &[("mailbox", &mailbox), ("verdict", &verdict)], count);
        }
        let samples = metric::mailboxes(readers).await?;
        let up = [MailboxState::Watching.as_str(), MailboxState::Fetching.as_str()];
        text.gauge("mailbox_up", "Whether the mailbox is being watched.");
        for sample in &samples {
            let is_up = up.contains(&sample.state.as_str());
            text.sample("mailbox_up", &[("mailbox", &sample.name)], i64::from(is_up));
        }
        text.gauge("backlog_messages", "Messages on the server that are not yet taken.");
        for sample in &samples {
            text.sample("backlog_messages", &[("mailbox", &sample.name)], sample.backlog);
        }
        let now = self.clock.now();
        text.gauge(
            "oldest_unprocessed_seconds",
            "Time since messages wait without a break; 0 where none does.",
        );
        for sample in &samples {
            let since = sample.backlog_since.filter(|_| sample.backlog > 0);
            let age = since.map_or(0, |since| seconds(since.until(now)));
            text.sample("oldest_unprocessed_seconds", &[("mailbox", &sample.name)], age);
        }
        Ok(())
    }

    async fn grants(&self, text: &mut Text, subjects: &Subjects) -> Result<(), StoreError> {
        let grants = overview(&self.store, &subjects.grants).await?;
        text.gauge("grant_ok", "Whether the grant gives access tokens.");
        for (grant, row) in &grants {
            let is_ok = row.as_ref().is_some_and(|row| row.state == GrantState::Ok);
            let labels = [
                ("integration", grant.integration.name.as_str()),
                ("login", &grant.login),
            ];
            text.sample("grant_ok", &labels, i64::from(is_ok));
        }
        let name = "grant_access_token_expiry_timestamp_seconds";
        text.gauge(name, "When the access token ends.");
        for (grant, row) in &grants {
            let labels = [
                ("integration", grant.integration.name.as_str()),
                ("login", &grant.login),
            ];
            if let Some(end) = row.as_ref().and_then(|row| row.access_token_expires_at) {
                text.sample(name, &labels, end.0);
            }
        }
        Ok(())
    }

    async fn outbox(&self, text: &mut Text) -> Result<(), StoreError> {
        let counts: BTreeMap<_, _> = metric::outbox(self.store.readers())
            .await?
            .into_iter()
            .map(|(state, count, oldest)| (state, (count, oldest)))
            .collect();
        text.gauge("outbox_messages", "What goes out, by state.");
        for state in ["queued", "sending", "sent", "failed", "unknown"] {
            let count = counts.get(state).map_or(0, |(count, _)| *count);
            text.sample("outbox_messages", &[("state", state)], count);
        }
        let oldest = ["queued", "sending"]
            .iter()
            .filter_map(|state| counts.get(*state))
            .map(|(_, oldest)| *oldest)
            .min();
        let age = oldest.map_or(0, |oldest| seconds(oldest.until(self.clock.now())));
        text.gauge(
            "outbox_oldest_seconds",
            "Age of the oldest that is still to go out; 0 where none is.",
        );
        text.sample("outbox_oldest_seconds", &[], age);
        Ok(())
    }

    async fn alerts(&self, text: &mut Text) -> Result<(), StoreError> {
        let mut counts: BTreeMap<(&str, &str), i64> = BTreeMap::new();
        for row in alert::open(self.store.readers()).await? {
            let labels = (row.finding.kind.as_str(), row.finding.severity().as_str());
            *counts.entry(labels).or_default() += 1;
        }
        text.gauge("alerts", "Open alerts.");
        for ((kind, severity), count) in counts {
            text.sample("alerts", &[("kind", kind), ("severity", severity)], count);
        }
        Ok(())
    }
}

fn credentials(text: &mut Text, subjects: &Subjects) {
    let name = "secret_expiry_timestamp_seconds";
    text.gauge(name, "When the client secret or certificate of an integration ends.");
    for integration in &subjects.integrations {
        if let Some(end) = ending::credential_end(integration) {
            text.sample(name, &[("integration", &integration.name)], end.0);
        }
    }
    let name = "password_expiry_timestamp_seconds";
    text.gauge(name, "When the password of an smtp server ends.");
    for smtp in &subjects.smtp {
        if let SmtpSignIn::Password { expires: Some(end), .. } = &smtp.sign_in {
            text.sample(name, &[("smtp", &smtp.name)], end.0);
        }
    }
}

fn seconds(span: std::time::Duration) -> i64 {
    i64::try_from(span.as_secs()).unwrap_or(i64::MAX)
}
