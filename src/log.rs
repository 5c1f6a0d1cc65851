//! What the daemon says: one line a fact, to the journal with native fields, else to stderr as `key=value`.
//! It never prints what a panic carries, and never lets another crate speak below a warning.

mod tap;

use std::borrow::Cow;
use std::fmt::Debug;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use chrono::{DateTime, SecondsFormat, Utc};
use tokio::sync::mpsc;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::{dynamic_filter_fn, filter_fn};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use self::tap::{Tap, Valve};
use crate::telling::Heard;

/// The name in front of our lines: `journalctl -t mailintake`.
const IDENTIFIER: &str = "mailintake";

/// The log of this process. All clones share one level.
#[derive(Debug, Clone)]
pub struct Handle {
    level: Arc<RwLock<Level>>,
    valve: Valve,
    heard: Arc<Mutex<Option<mpsc::Receiver<Heard>>>>,
}

impl Handle {
    /// Lets events flow to who queues them for webhooks, or not.
    pub fn let_hear(&self, is_wanted: bool) {
        self.valve.set(is_wanted);
    }

    /// The events that flow; the first who asks gets them.
    pub fn heard(&self) -> Option<mpsc::Receiver<Heard>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Changes how much is said, from the next event on.
    pub fn set_level(&self, level: Level) {
        *self.level.write().unwrap_or_else(PoisonError::into_inner) = level;
    }

    fn level(&self) -> Level {
        *self.level.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sets up the log of this process, once: the journal where stderr leads there, else stderr. Panics are logged too.
///
/// # Errors
/// Where the process has a log already.
pub fn init(level: Level) -> Result<Handle, TryInitError> {
    let (tap, valve, heard) = Tap::new();
    let handle = Handle {
        level: Arc::new(RwLock::new(level)),
        valve,
        heard: Arc::new(Mutex::new(Some(heard))),
    };
    let asked = handle.clone();
    // A dynamic filter, since one that answers per callsite would be cached and the level could not change.
    let filter = dynamic_filter_fn(move |metadata, _| is_shown(metadata, asked.level()));
    tracing_subscriber::registry()
        .with(output().with_filter(filter))
        .with(tap.with_filter(filter_fn(tap::is_heard)))
        .try_init()?;
    // Crates that speak through `log` are spared the work of making what nobody hears.
    ::log::set_max_level(::log::LevelFilter::Warn);
    std::panic::set_hook(Box::new(report_panic));
    Ok(handle)
}

/// Where lines go. A journal that cannot be opened leaves stderr, which leads to it as well, without fields.
fn output() -> Box<dyn Layer<Registry> + Send + Sync> {
    if !leads_to_journal() {
        return Box::new(Text { put: to_stderr });
    }
    match tracing_journald::layer() {
        Ok(layer) => Box::new(
            layer
                .with_field_prefix(None)
                .with_syslog_identifier(IDENTIFIER.to_owned())
                .with_priority_mappings(priorities()),
        ),
        Err(_) => Box::new(Text { put: to_stderr }),
    }
}

/// The journal's priorities as `journalctl -p` users know them; the crate's own would make every mail a notice.
fn priorities() -> PriorityMappings {
    PriorityMappings {
        error: Priority::Error,
        warn: Priority::Warning,
        info: Priority::Informational,
        debug: Priority::Debug,
        trace: Priority::Debug,
    }
}

/// Whether our stderr is the stream that systemd connected to the journal: `$JOURNAL_STREAM` is inherited by
/// children whose stderr is something else (systemd.exec(5)).
pub fn leads_to_journal() -> bool {
    let (Ok(stream), Ok(stat)) = (
        std::env::var("JOURNAL_STREAM"),
        nix::sys::stat::fstat(std::io::stderr()),
    ) else {
        return false;
    };
    stream == format!("{}:{}", stat.st_dev, stat.st_ino)
}

/// Whether an event or span is of interest at this level.
///
/// Our spans always are: an error says its mailbox also where nothing but errors is shown. Other crates warn at most,
/// whatever is asked for: below that they print what travels over the wire.
fn is_shown(metadata: &Metadata<'_>, level: Level) -> bool {
    let is_ours = metadata.target().split("::").next() == Some(env!("CARGO_CRATE_NAME"));
    match (is_ours, metadata.is_span()) {
        (true, true) => *metadata.level() <= Level::DEBUG,
        (true, false) => *metadata.level() <= level,
        (false, true | false) => *metadata.level() <= level.min(Level::WARN),
    }
}

/// Logs a panic by its place. What it carries may hold a piece of a mail (`byte index 3 is not a char boundary; it is
/// inside …`), so it is said only where it is a literal of the source.
fn report_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let place = panic
        .location()
        .map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let literal = panic.payload().downcast_ref::<&'static str>();
    let words = literal.map_or_else(String::new, |literal| format!(": {literal}"));
    tracing::error!("panicked at {place}{words}");
}

/// Writes one line at once, so that lines of two threads never mix.
fn to_stderr(line: &str) {
    // Where stderr is gone nobody is left to be told.
    drop(std::io::stderr().lock().write_all(line.as_bytes()));
}

/// The layer that writes lines of text.
struct Text<P> {
    put: P,
}

/// Fields in the order in which they were given, each name once.
#[derive(Default)]
struct Fields(Vec<(&'static str, String)>);

impl Fields {
    fn put(&mut self, name: &'static str, value: String) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| *known == name)?;
        Some(self.0.remove(at).1)
    }

    /// Adds what another one knows beside.
    fn complete(&mut self, other: &Self) {
        for (name, value) in &other.0 {
            if !self.0.iter().any(|(known, _)| known == name) {
                self.0.push((name, value.clone()));
            }
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field.name(), format!("{value:?}"));
    }
}

impl<S, P> Layer<S> for Text<P>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    P: Fn(&str) + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        // The innermost span first: what is nearer to the event is meant.
        for span in context.event_span(event).into_iter().flat_map(|span| span.scope()) {
            if let Some(outer) = span.extensions().get::<Fields>() {
                fields.complete(outer);
            }
        }
        (self.put)(&line(now(), event.metadata(), fields));
    }
}

/// The present, to the millisecond.
#[expect(
    clippy::disallowed_methods,
    reason = "a line states when it was written, also where a test moves the Clock"
)]
fn now() -> DateTime<Utc> {
    Utc::now()
}

/// One event as one line: time, level, message, fields. Control characters are escaped, so that nothing that a server
/// sent can end the line or paint the terminal.
fn line(at: DateTime<Utc>, metadata: &Metadata<'_>, mut fields: Fields) -> String {
    let mut line = at.to_rfc3339_opts(SecondsFormat::Millis, true);
    line.push_str(match *metadata.level() {
        Level::ERROR => " ERROR ",
        Level::WARN => " WARN  ",
        Level::INFO => " INFO  ",
        Level::DEBUG => " DEBUG ",
        Level::TRACE => " TRACE ",
    });
    let message = fields.take("message").unwrap_or_default();
    // Of an event that came through the `log` crate the target is a field.
    let target = fields
        .take("log.target")
        .unwrap_or_else(|| metadata.target().to_owned());
    if !target.starts_with(env!("CARGO_CRATE_NAME")) {
        line.push_str(&target);
        line.push_str(": ");
    }
    line.push_str(&escaped(&message));
    for (name, value) in fields.0.iter().filter(|(name, _)| !name.starts_with("log.")) {
        line.push(' ');
        line.push_str(name);
        line.push('=');
        line.push_str(&quoted(value));
    }
    line.push('\n');
    line
}

/// A value as it stands after `=`: in quotes where it would not end at the next space.
fn quoted(value: &str) -> Cow<'_, str> {
    let is_plain = |c: char| {
        !c.is_whitespace() && !is_unprintable(c) && !matches!(c, '"' | '\\' | ',' | '=' | '{' | '}' | '[' | ']')
    };
    if !value.is_empty() && value.chars().all(is_plain) {
        return Cow::Borrowed(value);
    }
    let inner = value.replace('\\', "\\\\").replace('"', "\\\"");
    Cow::Owned(format!("\"{}\"", escaped(&inner)))
}

/// A text with each unprintable character as Rust writes it: `\n`, `\u{1b}`.
fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unprintable(c) {
            clean.extend(c.escape_default());
        } else {
            clean.push(c);
        }
    }
    Cow::Owned(clean)
}

/// Control characters, line separators, and the marks that turn the direction of what follows (UAX #9).
fn is_unprintable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tracing::{debug, error, info, info_span, warn};

    use super::*;

    /// What is said while `act` runs, a line an event, without the time.
    fn said(level: Level, act: impl FnOnce(&Handle)) -> Vec<String> {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let text = Text {
            put: move |line: &str| sink.lock().unwrap().push(line.split_once(' ').unwrap().1.to_owned()),
        };
        let handle = Handle {
            level: Arc::new(RwLock::new(level)),
            valve: Valve::default(),
            heard: Arc::default(),
        };
        let asked = handle.clone();
        let filter = dynamic_filter_fn(move |metadata, _| is_shown(metadata, asked.level()));
        let subscriber = tracing_subscriber::registry().with(text.with_filter(filter));
        tracing::subscriber::with_default(subscriber, || act(&handle));
        let lines = lines.lock().unwrap();
        assert!(
            lines
                .iter()
                .all(|line| line.ends_with('\n') && line.lines().count() == 1)
        );
        lines.iter().map(|line| line.trim_end().to_owned()).collect()
    }

    #[test]
    fn a_fact_is_one_line_with_its_fields_and_those_of_its_spans() {
        let lines = said(Level::INFO, |_| {
            let _mailbox = info_span!("mailbox", mailbox = "support").entered();
            let _ingest = info_span!("ingest", mail_uid = 17).entered();
            info!(event = "message.ingested", mailbox = "support", verdict = %"issue", "message 17 became an issue");
        });
        assert_eq!(
            lines,
            ["INFO  message 17 became an issue event=message.ingested mailbox=support verdict=issue mail_uid=17"]
        );
    }

    #[test]
    fn the_nearest_span_says_what_is_meant() {
        let lines = said(Level::INFO, |_| {
            let outer = info_span!("outer", mailbox = "a", step = tracing::field::Empty);
            outer.record("step", "login");
            let _outer = outer.entered();
            let _inner = info_span!("inner", mailbox = "b").entered();
            warn!(attempt = 2, reason = None::<&str>, "could not connect");
        });
        assert_eq!(lines, ["WARN  could not connect attempt=2 mailbox=b step=login"]);
    }

    #[test]
    fn nothing_that_a_server_sent_can_end_the_line() {
        let lines = said(Level::INFO, |_| {
            let reply = "NO \"gone\"\r\nA1 \u{1b}[31mOK\\ \u{202e}";
            error!(error = reply, empty = "", "the server said {reply}");
        });
        assert_eq!(
            lines,
            ["ERROR the server said NO \"gone\"\\r\\nA1 \\u{1b}[31mOK\\ \\u{202e} \
                 error=\"NO \\\"gone\\\"\\r\\nA1 \\u{1b}[31mOK\\\\ \\u{202e}\" empty=\"\""]
        );
    }

    #[test]
    fn the_level_changes_while_running_and_spans_outlast_it() {
        let lines = said(Level::ERROR, |handle| {
            for round in 0..2 {
                let _span = info_span!("mailbox", mailbox = "support").entered();
                info!(round, "news");
                error!(round, "failure");
                handle.set_level(Level::INFO);
            }
            debug!("detail");
        });
        assert_eq!(
            lines,
            [
                "ERROR failure round=0 mailbox=support",
                "INFO  news round=1 mailbox=support",
                "ERROR failure round=1 mailbox=support"
            ]
        );
    }

    #[test]
    fn other_crates_warn_at_most() {
        let lines = said(Level::DEBUG, |handle| {
            info!(target: "async_imap::client", "A1 LOGIN");
            debug!(target: "mailintake_helper", "no module of ours");
            warn!(target: "sqlx::query", "slow statement");
            handle.set_level(Level::ERROR);
            warn!(target: "sqlx::query", "slow statement");
        });
        assert_eq!(lines, ["WARN  sqlx::query: slow statement"]);
    }

    #[test]
    fn values_end_where_a_reader_expects() {
        for (value, written) in [
            ("SUP-1", "SUP-1"),
            ("ann@contoso.example", "ann@contoso.example"),
            ("Größe", "Größe"),
            ("two words", "\"two words\""),
            ("a,b", "\"a,b\""),
            ("[UNAVAILABLE]", "\"[UNAVAILABLE]\""),
            ("", "\"\""),
        ] {
            assert_eq!(quoted(value), written, "{value:?}");
        }
    }
}
