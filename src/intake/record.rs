//! One prepared message into rows, inside the transaction of its batch: duplicate? > thread > decide > rows.
//! It never commits.

use serde_json::json;
use sqlx::SqliteConnection;

use super::act::{act, remember};
use super::prepare::{Prepared, Readable};
use crate::issue::{Decision, Facts, Reason, Routed, Sender, Verdict, decide};
use crate::mailbox::{After, Mailbox, MailboxId};
use crate::project::{Project, RouteTarget, Rules, SameMessage, UnknownSender};
use crate::store::message::known::{self, Identities, Known};
use crate::store::message::{self, MessageId, NewMessage, ServerAction};
use crate::store::{StoreError, issue, thread as threads};
use crate::thread::{Considered, IssueId, Thread, judge};
use crate::time::Timestamp;

/// What stays the same for a batch.
pub(super) struct Context<'c> {
    pub(super) mailbox: &'c Mailbox,
    pub(super) id: MailboxId,
    pub(super) rules: &'c Rules,
    pub(super) now: Timestamp,
}

/// What became of one message.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its row; `None` where the place had one already.
    pub message: Option<MessageId>,
    /// The verdict.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// Key of the issue.
    pub issue: Option<String>,
    /// The comment's row.
    pub comment: Option<i64>,
    /// Whether something is now owed on the server.
    pub is_owed: bool,
}

/// What a message is to be written down as.
struct Entry<'e> {
    verdict: Verdict,
    reason: Reason,
    issue: Option<(IssueId, String)>,
    comment: Option<i64>,
    original: Option<MessageId>,
    trace: Option<String>,
    readable: Option<&'e Readable>,
}

/// Writes one message.
///
/// # Errors
/// What the database says.
pub(super) async fn record(
    connection: &mut SqliteConnection,
    context: &Context<'_>,
    prepared: &Prepared,
) -> Result<Outcome, StoreError> {
    let readable = prepared.content.as_ref().ok().map(AsRef::as_ref);
    if let Some(known) = find_known(connection, context, prepared, readable).await? {
        return record_duplicate(connection, context, prepared, (known, readable)).await;
    }
    let entry = match &prepared.content {
        Ok(readable) => take(connection, context, prepared, readable).await?,
        Err(reason) => Entry {
            verdict: Verdict::Quarantined,
            reason: *reason,
            issue: None,
            comment: None,
            original: None,
            trace: None,
            readable: None,
        },
    };
    write(connection, context, prepared, entry).await
}

async fn find_known(
    connection: &mut SqliteConnection,
    context: &Context<'_>,
    prepared: &Prepared,
    readable: Option<&Readable>,
) -> Result<Option<Known>, StoreError> {
    let identities = Identities {
        place: &prepared.raw.place,
        server_id: prepared.raw.server_id.as_deref(),
        sha256: &prepared.sha256,
        fingerprint: readable.and_then(|readable| readable.fingerprint.as_ref()),
    };
    known::find(connection, context.id, &identities).await
}

async fn record_duplicate(
    connection: &mut SqliteConnection,
    context: &Context<'_>,
    prepared: &Prepared,
    (known, readable): (Known, Option<&Readable>),
) -> Result<Outcome, StoreError> {
    if known.reason == Reason::SamePlace {
        return Ok(Outcome {
            message: None,
            verdict: Verdict::Duplicate,
            reason: known.reason,
            issue: None,
            comment: None,
            is_owed: false,
        });
    }
    let entry = Entry {
        verdict: Verdict::Duplicate,
        reason: known.reason,
        issue: known.issue.map(|id| (id, String::new())),
        comment: None,
        original: Some(known.message),
        trace: None,
        readable,
    };
    write(connection, context, prepared, entry).await
}

/// Decides on a message that is new to its mailbox, and writes its issue, comment or event.
async fn take<'e>(
    connection: &mut SqliteConnection,
    context: &Context<'_>,
    prepared: &Prepared,
    readable: &'e Readable,
) -> Result<Entry<'e>, StoreError> {
    let sender = readable.mail.from_address();
    let candidates = threads::by_carriers(connection, &readable.carriers, sender).await?;
    let (thread, considered) = judge(&readable.mail.subject, &candidates);
    let project = project(context, readable, thread.as_ref());
    if project.same_message == SameMessage::Once && readable.message_key.is_some() {
        let identity = (&prepared.sha256, readable.fingerprint.as_ref());
        if let Some(known) = known::find_elsewhere(connection, context.id, &project.key, identity).await? {
            return Ok(Entry {
                verdict: Verdict::Duplicate,
                reason: known.reason,
                issue: known.issue.map(|id| (id, String::new())),
                comment: None,
                original: Some(known.message),
                trace: None,
                readable: Some(readable),
            });
        }
    }
    let decision = decide(&Facts {
        routed: routed(readable),
        project,
        class: readable.classification.class,
        sender: judge_sender(connection, project, sender).await?,
        thread: thread.as_ref(),
        is_stub: prepared.raw.is_stub,
    });
    let (issue, comment) = act(connection, context, readable, (project, &decision, thread.as_ref())).await?;
    Ok(Entry {
        verdict: decision.action.verdict(),
        reason: decision.reason,
        issue,
        comment,
        original: None,
        trace: Some(trace(readable, &considered, decision)),
        readable: Some(readable),
    })
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

async fn write(
    connection: &mut SqliteConnection,
    context: &Context<'_>,
    prepared: &Prepared,
    entry: Entry<'_>,
) -> Result<Outcome, StoreError> {
    let is_owed = is_owed(context.mailbox, prepared, &entry);
    let row = message::insert(
        connection,
        &NewMessage {
            mailbox: context.id,
            place: &prepared.raw.place,
            server_id: prepared.raw.server_id.as_deref(),
            message_id: entry.readable.and_then(|readable| readable.mail.message_id.as_deref()),
            sha256: Some(&prepared.sha256),
            fingerprint: entry.readable.and_then(|readable| readable.fingerprint.as_ref()),
            size: prepared.size,
            class: entry.readable.map(|readable| readable.classification.class),
            verdict: entry.verdict,
            reason: entry.reason,
            issue: entry.issue.as_ref().map(|(id, _)| *id),
            comment: entry.comment,
            original: entry.original,
            received_at: prepared.raw.received_at,
            server_action: if is_owed {
                ServerAction::Pending
            } else {
                ServerAction::None
            },
            trace: entry.trace.as_deref(),
        },
        context.now,
    )
    .await?;
    if entry.verdict != Verdict::Duplicate {
        message::insert_original(connection, row, &prepared.compressed).await?;
    }
    tie(connection, context, &entry, row).await?;
    Ok(Outcome {
        message: Some(row),
        verdict: entry.verdict,
        reason: entry.reason,
        issue: entry.issue.map(|(_, key)| key).filter(|key| !key.is_empty()),
        comment: entry.comment,
        is_owed,
    })
}

/// Tells the comment or event which message it came by.
async fn tie(
    connection: &mut SqliteConnection,
    context: &Context<'_>,
    entry: &Entry<'_>,
    row: MessageId,
) -> Result<(), StoreError> {
    if let Some(comment) = entry.comment {
        issue::set_comment_message(connection, comment, row).await?;
    }
    if entry.verdict == Verdict::Event
        && let (Some((issue, _)), Some(readable)) = (&entry.issue, entry.readable)
    {
        let report = readable.mail.report.as_ref();
        let event = issue::NewEvent {
            issue: *issue,
            kind: readable.classification.class.as_str(),
            message: Some(row),
            detail: report.map(|report| report.detail.as_str()),
        };
        issue::event(connection, &event, context.now).await?;
        // Answers to a bounce or receipt are about the same matter.
        remember(connection, readable, *issue).await?;
    }
    Ok(())
}

/// Whether the server action is owed. A message whose header alone was read, or that could not be read,
/// stays on the server as it is: there it is whole.
fn is_owed(mailbox: &Mailbox, prepared: &Prepared, entry: &Entry<'_>) -> bool {
    prepared.raw.place.uid().is_some()
        && mailbox.after != After::Keep
        && !prepared.raw.is_stub
        && entry.verdict != Verdict::Quarantined
}

fn trace(readable: &Readable, considered: &[Considered], decision: Decision) -> String {
    let classification = &readable.classification;
    let thread: Vec<_> = considered
        .iter()
        .map(|candidate| {
            json!({
                "issue": candidate.issue, "carrier": candidate.carrier, "proof": candidate.proof,
                "accepted": candidate.accepted, "why": candidate.why,
            })
        })
        .collect();
    json!({
        "class": {
            "value": classification.class.as_str(), "rule": classification.rule,
            "evidence": classification.evidence,
        },
        "thread": thread,
        "trim": { "rules": readable.extract.rules, "confidence": readable.extract.confidence },
        "decision": { "verdict": decision.action.verdict().as_str(), "reason": decision.reason.as_str() },
    })
    .to_string()
}
