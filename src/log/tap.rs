//! Hands the events that webhooks want and that no transaction gave rise to from the log to who queues them.
//! It never waits, and never takes what is not our own.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use crate::telling::{HEARD, HEARD_LIMIT, Heard};

/// The layer.
pub(super) struct Tap {
    send: mpsc::Sender<Heard>,
    valve: Valve,
}

/// Whether anything flows, and what was lost. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Valve {
    is_open: Arc<AtomicBool>,
    lost: Arc<AtomicU64>,
}

impl Valve {
    /// Lets it flow, or not.
    pub(super) fn set(&self, is_open: bool) {
        self.is_open.store(is_open, Ordering::Relaxed);
    }
}

impl Tap {
    /// A tap with its end, which is closed at first.
    pub(super) fn new() -> (Self, Valve, mpsc::Receiver<Heard>) {
        let (send, receive) = mpsc::channel(HEARD_LIMIT);
        let valve = Valve::default();
        let tap = Self {
            send,
            valve: valve.clone(),
        };
        (tap, valve, receive)
    }
}

/// Whether a span or event may be of interest: the answer is kept for each place in the source.
pub(super) fn is_heard(metadata: &Metadata<'_>) -> bool {
    let is_ours = metadata.target().split("::").next() == Some(env!("CARGO_CRATE_NAME"));
    is_ours && (metadata.is_span() || metadata.fields().field("event").is_some())
}

/// Fields as JSON, under the names that they have in the journal's line off the journal.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, format!("{value:?}").into());
    }
}

impl<S> Layer<S> for Tap
where
    S: Subscriber + for<'s> LookupSpan<'s>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().replace(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if !self.valve.is_open.load(Ordering::Relaxed) {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let name = fields.0.remove("event");
        let Some(event_name) = HEARD
            .into_iter()
            .find(|known| name.as_ref().is_some_and(|name| name == known))
        else {
            return;
        };
        for span in context.event_span(event).into_iter().flat_map(|span| span.scope()) {
            if let Some(Fields(outer)) = span.extensions().get::<Fields>() {
                for (name, value) in outer {
                    fields.0.entry(name.clone()).or_insert_with(|| value.clone());
                }
            }
        }
        let lost = self.valve.lost.swap(0, Ordering::Relaxed);
        let heard = Heard {
            event: event_name,
            fields: fields.0,
            lost,
        };
        if self.send.try_send(heard).is_err() {
            self.valve.lost.fetch_add(lost + 1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing::{info, info_span};
    use tracing_subscriber::filter::filter_fn;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn events_without_a_transaction_are_heard_with_their_fields() {
        let (tap, valve, mut heard) = Tap::new();
        let subscriber = tracing_subscriber::registry().with(tap.with_filter(filter_fn(is_heard)));
        tracing::subscriber::with_default(subscriber, || {
            let _mailbox = info_span!("mailbox", mailbox = "support").entered();
            info!(event = "mailbox.connected", "before anybody listens");
            valve.set(true);
            info!(event = "mailbox.connected", elapsed_ms = 7, "connected");
            info!(event = "issue.created", "queued with its reason");
            info!("no event");
        });
        let one = heard.try_recv().unwrap();
        assert_eq!(one.event, "mailbox.connected");
        assert_eq!(
            Value::Object(one.fields),
            serde_json::json!({"message": "connected", "elapsed_ms": 7, "mailbox": "support"})
        );
        assert!(heard.try_recv().is_err());
    }

    #[test]
    fn a_full_channel_holds_nobody_up_and_says_what_was_lost() {
        let (tap, valve, mut heard) = Tap::new();
        valve.set(true);
        let subscriber = tracing_subscriber::registry().with(tap.with_filter(filter_fn(is_heard)));
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..HEARD_LIMIT + 3 {
                info!(event = "token.refreshed", "refreshed");
            }
            while heard.try_recv().is_ok() {}
            info!(event = "token.refreshed", "refreshed");
        });
        assert_eq!(heard.try_recv().unwrap().lost, 3);
    }
}
