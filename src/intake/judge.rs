//! What is to become of a message, from what the database knows of its thread and sender. It reads, and never writes:
//! the intake acts on the answer, a rehearsal shows it.

use serde_json::{Value, json};
use sqlx::SqliteConnection;

use super::prepare::{Prepared, Readable};
use crate::issue::{Decision, Facts, Routed, Sender, accept, decide};
use crate::mailbox::{Mailbox, MailboxId};
use crate::project::{Project, Route, RouteTarget, Rules, SameMessage, UnknownSender};
use crate::store::message::MessageId;
use crate::store::message::known::{self, Identities, Known};
use crate::store::{StoreError, thread as threads};
use crate::thread::{Considered, Thread, judge};
use crate::time::Timestamp;

/// What stays the same for a batch.
pub(crate) struct Context<'c> {
    /// The settings of the mailbox.
    pub(crate) mailbox: &'c Mailbox,
    /// Its row.
    pub(crate) id: MailboxId,
    /// The rules in force.
    pub(crate) rules: &'c Rules,
    /// The present.
    pub(crate) now: Timestamp,
    /// Where a message is looked at again that has its row.
    pub(crate) again: Option<Again>,
}

/// A message that is looked at again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Again {
    /// Its row.
    pub(crate) row: MessageId,
    /// Whether a person accepts it, whatever held it.
    pub(crate) is_released: bool,
}

/// What is to become of a message, and what that rests on.
pub(crate) struct Judged<'c> {
    /// The project whose rules hold.
    pub(crate) project: &'c Project,
    /// The issue that it belongs to.
    pub(crate) thread: Option<Thread>,
    /// The outcome.
    pub(crate) fate: Fate,
    considered: Vec<Considered>,
    sender: Sender,
    /// The routes that were tested, and whether each fits.
    routes: Vec<(&'c Route, bool)>,
}

/// The outcome.
pub(crate) enum Fate {
    /// It is known from another mailbox of the project.
    Known(Known),
    /// It is new.
    Decided(Decision),
}

/// The row by which a message is known in its own mailbox.
///
/// # Errors
/// What the database says.
pub(crate) async fn find_known(
    connection: &mut SqliteConnection,
    context: &Context<'_>,
    prepared: &Prepared,
) -> Result<Option<Known>, StoreError> {
    known::find(connection, context.id, &identities(prepared)).await
}

/// By what a message may be known.
pub(crate) fn identities(prepared: &Prepared) -> Identities<'_> {
    let readable = prepared.content.as_ref().ok();
    Identities {
        place: &prepared.raw.place,
        server_id: prepared.raw.server_id.as_deref(),
        sha256: &prepared.sha256,
        fingerprint: readable.and_then(|readable| readable.fingerprint.as_ref()),
    }
}

/// Decides on a message that is new to its mailbox.
///
/// # Errors
/// What the database says.
pub(crate) async fn consider<'c>(
    connection: &mut SqliteConnection,
    context: &Context<'c>,
    prepared: &Prepared,
    readable: &Readable,
) -> Result<Judged<'c>, StoreError> {
    let from = readable.mail.from_address();
    let candidates = threads::by_carriers(connection, &readable.carriers, from).await?;
    let (thread, considered) = judge(&readable.mail.subject, &candidates);
    let project = project(context, readable, thread.as_ref());
    let sender = judge_sender(connection, project, from).await?;
    let elsewhere = find_elsewhere(connection, context, prepared, (project, readable)).await?;
    let decided = decision(context, (prepared, readable), (project, sender, thread.as_ref()));
    Ok(Judged {
        project,
        thread,
        fate: elsewhere.map_or(Fate::Decided(decided), Fate::Known),
        considered,
        sender,
        routes: context.rules.routes_tested(&readable.mail, context.mailbox),
    })
}

fn decision(
    context: &Context<'_>,
    (prepared, readable): (&Prepared, &Readable),
    (project, sender, thread): (&Project, Sender, Option<&Thread>),
) -> Decision {
    let facts = Facts {
        routed: routed(readable),
        project,
        class: readable.classification.class,
        sender,
        thread,
        is_stub: prepared.raw.is_stub,
    };
    match context.again {
        Some(Again { is_released: true, .. }) => accept(&facts),
        Some(Again { is_released: false, .. }) | None => decide(&facts),
    }
}

async fn find_elsewhere(
    connection: &mut SqliteConnection,
    context: &Context<'_>,
    prepared: &Prepared,
    (project, readable): (&Project, &Readable),
) -> Result<Option<Known>, StoreError> {
    let is_asked = project.same_message == SameMessage::Once && !prepared.is_new;
    if !is_asked || readable.message_key.is_none() || context.again.is_some() {
        return Ok(None);
    }
    let identity = (&prepared.sha256, readable.fingerprint.as_ref());
    known::find_elsewhere(connection, context.id, &project.key, identity).await
}

/// The project whose rules hold: of the issue that the message belongs to, else where the routes lead.
fn project<'c>(context: &Context<'c>, readable: &Readable, thread: Option<&Thread>) -> &'c Project {
    static FALLBACK: std::sync::OnceLock<Project> = std::sync::OnceLock::new();
    let routed = match &readable.route {
        Some(RouteTarget::Project(key)) => key,
        Some(RouteTarget::Ignore | RouteTarget::Hold) | None => &context.mailbox.project,
    };
    thread
        .and_then(|thread| context.rules.project(&thread.project))
        .or_else(|| context.rules.project(routed))
        .map_or_else(
            || FALLBACK.get_or_init(|| Project::with_defaults("MAIL", "Mail")),
            AsRef::as_ref,
        )
}

fn routed(readable: &Readable) -> Routed {
    match readable.route {
        Some(RouteTarget::Ignore) => Routed::Ignore,
        Some(RouteTarget::Hold) => Routed::Hold,
        Some(RouteTarget::Project(_)) | None => Routed::ToProject,
    }
}

async fn judge_sender(
    connection: &mut SqliteConnection,
    project: &Project,
    address: Option<&str>,
) -> Result<Sender, StoreError> {
    let address = address.unwrap_or_default();
    let is_blocked = project.block.iter().any(|pattern| pattern.matches(address));
    let is_known = project.unknown_sender == UnknownSender::Accept
        || project.allow.iter().any(|pattern| pattern.matches(address))
        || threads::is_known_sender(connection, &project.key, address).await?;
    Ok(Sender { is_blocked, is_known })
}

impl Judged<'_> {
    /// Decides as if the message were known nowhere.
    pub(crate) fn take_for_new(&mut self, context: &Context<'_>, message: (&Prepared, &Readable)) {
        let decided = decision(context, message, (self.project, self.sender, self.thread.as_ref()));
        self.fate = Fate::Decided(decided);
    }

    /// Why it was decided so, as `explain` shows it. Of the rules of the classes only those are kept that
    /// fitted: the others are known by their order.
    pub(crate) fn trace(&self, readable: &Readable) -> Value {
        let classification = &readable.classification;
        let fitted: Vec<_> = classification
            .tested
            .iter()
            .filter(|(_, fits)| *fits)
            .map(|(rule, _)| rule)
            .collect();
        let thread: Vec<_> = self.considered.iter().map(candidate).collect();
        let decision = match &self.fate {
            Fate::Known(known) => json!({ "verdict": "duplicate", "reason": known.reason.as_str() }),
            Fate::Decided(decision) => json!({
                "verdict": decision.action.verdict().as_str(), "reason": decision.reason.as_str(),
            }),
        };
        json!({
            "class": {
                "value": classification.class.as_str(), "rule": classification.rule,
                "evidence": classification.evidence, "fitted": fitted,
            },
            "thread": thread,
            "trim": { "rules": readable.extract.rules, "confidence": readable.extract.confidence },
            "policy": self.policy(readable),
            "decision": decision,
        })
    }

    /// What the rules of the project made of it, in the order in which they are asked.
    fn policy(&self, readable: &Readable) -> Value {
        let class = readable.classification.class;
        let permission = self.project.classes.of(class);
        let tested = self.routes.iter();
        let tested = tested.map(|(route, fits)| json!({ "route": route.to_string(), "fits": fits }));
        json!({
            "routes": tested.collect::<Vec<_>>(),
            "route": route_name(readable),
            "project": self.project.key,
            "blocked": self.sender.is_blocked,
            "class": format!("{} {}", class.as_str(), permission.as_str()),
            "known_sender": self.sender.is_known,
            "thread": self.thread.as_ref().map(|thread| &thread.key),
            "participant": self.thread.as_ref().map(|thread| thread.is_participant),
            "closed": self.thread.as_ref().map(|thread| thread.is_closed),
        })
    }
}

fn route_name(readable: &Readable) -> Option<String> {
    readable.route.as_ref().map(|target| match target {
        RouteTarget::Project(key) => key.clone(),
        RouteTarget::Ignore => "ignore".to_owned(),
        RouteTarget::Hold => "hold".to_owned(),
    })
}

fn candidate(considered: &Considered) -> Value {
    json!({
        "issue": considered.issue, "carrier": considered.carrier, "proof": considered.proof,
        "accepted": considered.accepted, "why": considered.why,
    })
}
