//! What happens, told to those who asked for it: each event becomes rows of the outbox, in the transaction that is
//! its reason. It never sends anything, and queues nothing that nobody wants.

mod letter;
mod postman;

use std::sync::{Arc, PoisonError, RwLock};

use rand::Rng as _;
use serde_json::{Map, Value, json};
use sqlx::SqliteConnection;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::fault::chain;
use crate::issue::Verdict;
use crate::outgoing::{Channel, OutgoingKind, Receivers};
use crate::store::alert::AlertRow;
use crate::store::message::MessageId;
use crate::store::outgoing::{self as rows, NewOutgoing};
use crate::store::view::told;
use crate::store::{Store, StoreError};
use crate::thread::IssueId;
use crate::time::{Clock, Timestamp};

/// Events of the journal that no transaction gave rise to; all others are queued with their reason.
pub const HEARD: [&str; 8] = [
    "daemon.started",
    "mailbox.connected",
    "mailbox.disconnected",
    "token.refreshed",
    "token.refresh_failed",
    "config.reloaded",
    "config.refused",
    "server_action.done",
];
/// Events of the journal that may wait to be queued; one more is lost, and said so.
pub const HEARD_LIMIT: usize = 512;
/// Most of them in one transaction.
const BATCH: usize = 64;

/// A line of the journal that is an event.
#[derive(Debug, Clone)]
pub struct Heard {
    /// One of [`HEARD`].
    pub event: &'static str,
    /// Its fields, its message and those of its spans.
    pub fields: Map<String, Value>,
    /// Events that were lost since the one before: there was no room for them.
    pub lost: u64,
}

/// What became of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It is new.
    Raised,
    /// It is still open.
    Reminded,
    /// It is over.
    Resolved,
}

impl Turn {
    /// Its event.
    pub fn event(self) -> &'static str {
        match self {
            Self::Raised => "alert.raised",
            Self::Reminded => "alert.reminded",
            Self::Resolved => "alert.resolved",
        }
    }
}

/// Queues what is told. Clones share the receivers.
#[derive(Debug, Clone, Default)]
pub struct Teller {
    receivers: Arc<RwLock<Arc<Receivers>>>,
}

/// Something that happened, with the lane that keeps its order.
struct Event<'e> {
    name: &'e str,
    data: Value,
    lane: &'e str,
    issue: Option<IssueId>,
    at: Timestamp,
}

impl Event<'_> {
    /// The body of a webhook call and the input of a command: the same bytes at every try, to everybody.
    fn body(&self, id: &str) -> String {
        json!({"id": id, "event": self.name, "at": self.at.rfc3339(), "data": self.data}).to_string()
    }
}

impl Teller {
    /// Tells these.
    pub fn new(receivers: Receivers) -> Self {
        let teller = Self::default();
        teller.set(receivers);
        teller
    }

    /// Tells others from now on, as after a reload.
    pub fn set(&self, receivers: Receivers) {
        *self.receivers.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(receivers);
    }

    fn receivers(&self) -> Arc<Receivers> {
        Arc::clone(&self.receivers.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells what became of a message: it was ingested, and with it came an issue or a comment.
    ///
    /// # Errors
    /// What the database says.
    pub async fn ingested(
        &self,
        connection: &mut SqliteConnection,
        (message, verdict, comment): (MessageId, Verdict, Option<i64>),
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let receivers = self.receivers();
        let follow_up = match verdict {
            Verdict::Issue => "issue.created",
            Verdict::Comment => "comment.added",
            Verdict::Event
            | Verdict::Duplicate
            | Verdict::Ignored
            | Verdict::Held
            | Verdict::Quarantined
            | Verdict::Vanished => "message.ingested",
        };
        if !receivers.want("message.ingested") && !receivers.want(follow_up) {
            return Ok(());
        }
        let Some((issue, view)) = told::message(connection, message).await? else {
            return Ok(());
        };
        let lane = view.issue.clone().unwrap_or_default();
        let event = Event {
            name: "message.ingested",
            data: data(&view)?,
            lane: &lane,
            issue,
            at: now,
        };
        call(connection, &receivers, &event).await?;
        match (verdict, issue, comment) {
            (Verdict::Issue, Some(issue), _) => self.opened(connection, issue, now).await,
            (Verdict::Comment, _, Some(comment)) => self.commented(connection, comment, now).await,
            (_, _, _) => Ok(()),
        }
    }

    async fn opened(
        &self,
        connection: &mut SqliteConnection,
        issue: IssueId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let receivers = self.receivers();
        if !receivers.want("issue.created") {
            return Ok(());
        }
        let Some(view) = told::issue(connection, issue).await? else {
            return Ok(());
        };
        let event = Event {
            name: "issue.created",
            data: data(&view)?,
            lane: &view.key,
            issue: Some(issue),
            at: now,
        };
        call(connection, &receivers, &event).await
    }

    /// Tells of a comment.
    ///
    /// # Errors
    /// What the database says.
    pub async fn commented(
        &self,
        connection: &mut SqliteConnection,
        comment: i64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let receivers = self.receivers();
        if !receivers.want("comment.added") {
            return Ok(());
        }
        let Some((issue, key, view)) = told::comment(connection, comment).await? else {
            return Ok(());
        };
        let mut data = data(&view)?;
        if let Value::Object(fields) = &mut data {
            fields.insert("issue".to_owned(), Value::from(key.as_str()));
        }
        let event = Event {
            name: "comment.added",
            data,
            lane: &key,
            issue: Some(issue),
            at: now,
        };
        call(connection, &receivers, &event).await
    }

    /// Tells of an alert: webhooks, the command, and each address by a mail of its own.
    ///
    /// # Errors
    /// What the database says.
    pub async fn alert(
        &self,
        connection: &mut SqliteConnection,
        (turn, alert): (Turn, &AlertRow),
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let receivers = self.receivers();
        let lane = format!("alert-{}", alert.id);
        let event = Event {
            name: turn.event(),
            data: alert.value(),
            lane: &lane,
            issue: None,
            at: now,
        };
        call(connection, &receivers, &event).await?;
        if !receivers.alerts.command.is_empty() {
            let id = new_id();
            let row = NewOutgoing {
                channel: Channel::Command,
                kind: OutgoingKind::Alert,
                target: "",
                lane: &lane,
                once: &id,
                issue: None,
                payload: &event.body(&id),
            };
            rows::queue(connection, &row, now).await?;
        }
        write_letters(connection, &receivers, (turn, alert), now).await
    }

    /// Queues what the journal says until the daemon stops, and what it said until then.
    pub async fn listen(
        self,
        (store, clock): (Store, Clock),
        mut heard: mpsc::Receiver<Heard>,
        stop: CancellationToken,
    ) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let is_open = tokio::select! {
                () = stop.cancelled() => false,
                count = heard.recv_many(&mut batch, BATCH) => count > 0,
            };
            while batch.len() < BATCH
                && let Ok(next) = heard.try_recv()
            {
                batch.push(next);
            }
            if let Err(error) = self.queue_heard(&store, &batch, clock.now()).await {
                warn!(error = %chain(&error), "{} events could not be queued for webhooks", batch.len());
            }
            batch.clear();
            if !is_open && heard.is_empty() {
                break;
            }
        }
        // A task of the daemon that ends early ends the daemon.
        stop.cancelled().await;
    }

    async fn queue_heard(&self, store: &Store, heard: &[Heard], now: Timestamp) -> Result<(), StoreError> {
        let lost: u64 = heard.iter().map(|heard| heard.lost).sum();
        if lost > 0 {
            warn!("{lost} events came too fast to be queued for webhooks; they are in the journal alone");
        }
        let receivers = self.receivers();
        let wanted: Vec<&Heard> = heard.iter().filter(|heard| receivers.want(heard.event)).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let mut write = store.write_lightly().await?;
        for heard in wanted {
            let event = Event {
                name: heard.event,
                data: Value::Object(heard.fields.clone()),
                lane: "",
                issue: None,
                at: now,
            };
            call(write.connection()?, &receivers, &event).await?;
        }
        write.commit().await
    }
}

/// Queues an event for each webhook that wants it, under one id: where two addresses lead to one receiver, it sees so.
async fn call(connection: &mut SqliteConnection, receivers: &Receivers, event: &Event<'_>) -> Result<(), StoreError> {
    if !receivers.want(event.name) {
        return Ok(());
    }
    let id = new_id();
    let body = event.body(&id);
    let kind = if event.name.starts_with("alert.") {
        OutgoingKind::Alert
    } else {
        OutgoingKind::Event
    };
    for webhook in receivers.webhooks.iter().filter(|webhook| webhook.wants(event.name)) {
        let row = NewOutgoing {
            channel: Channel::Webhook,
            kind,
            target: &webhook.url,
            lane: event.lane,
            once: &format!("{id} {}", webhook.url),
            issue: event.issue,
            payload: &body,
        };
        rows::queue(connection, &row, event.at).await?;
    }
    Ok(())
}

/// One mail an address, so that one that is refused holds up no other.
async fn write_letters(
    connection: &mut SqliteConnection,
    receivers: &Receivers,
    (turn, alert): (Turn, &AlertRow),
    now: Timestamp,
) -> Result<(), StoreError> {
    let Some(smtp) = postman::choose(&receivers.smtp, turn, alert) else {
        return Ok(());
    };
    for address in &receivers.alerts.email {
        let payload = match letter::compose((turn, alert), smtp, (&receivers.alerts.email, address), now) {
            Ok(payload) => serde_json::to_string(&payload).map_err(|_| unwritable())?,
            Err(error) => {
                warn!(error = %chain(&error), "an alert cannot be mailed");
                continue;
            }
        };
        let row = NewOutgoing {
            channel: Channel::Mail,
            kind: OutgoingKind::Alert,
            target: &smtp.name,
            lane: &format!("alert-{} {address}", alert.id),
            once: &new_id(),
            issue: None,
            payload: &payload,
        };
        rows::queue(connection, &row, now).await?;
    }
    Ok(())
}

/// A new id of an event. Standard Webhooks signs `id.timestamp.body`, so there is no dot in it.
fn new_id() -> String {
    format!("evt_{:032x}", rand::rng().random::<u128>())
}

fn data(view: &impl serde::Serialize) -> Result<Value, StoreError> {
    serde_json::to_value(view).map_err(|_| unwritable())
}

fn unwritable() -> StoreError {
    StoreError::Inconsistent {
        table: "outgoing",
        column: "payload",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outgoing::EVENTS;

    #[test]
    fn what_is_heard_is_an_event_and_has_no_transaction() {
        let queued = ["message.ingested", "issue.created", "comment.added"];
        for event in EVENTS {
            let is_queued = queued.contains(&event) || event.starts_with("alert.");
            assert_eq!(HEARD.contains(&event), !is_queued, "{event}");
        }
    }

    #[test]
    fn an_id_is_new_each_time_and_cannot_be_taken_for_two() {
        let (one, two) = (new_id(), new_id());
        assert_ne!(one, two);
        assert!(one.len() == 36 && !one.contains('.'), "{one}");
    }
}
