//! One prepared message into rows, inside the transaction of its batch: duplicate? > thread > decide > rows.
//! It never commits.

use sqlx::SqliteConnection;

use super::act::{act, remember};
use super::answer::{self, Answer};
use super::judge::{Again, Context, Fate, consider, find_known};
use super::prepare::{Prepared, Readable};
use crate::issue::{Action, Reason, Verdict};
use crate::mailbox::{After, Mailbox, Source};
use crate::project::Project;
use crate::store::attachment::NewAttachment;
use crate::store::message::known::Known;
use crate::store::message::{self, MessageId, NewMessage, ServerAction, revise};
use crate::store::{StoreError, attachment, issue};
use crate::thread::IssueId;

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
    /// Whether it got no automatic reply because too many were sent.
    pub is_suppressed: bool,
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
    /// The project of a new issue, and whether it acknowledges it.
    answer: Option<(&'e Project, Answer)>,
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
    // A message that is looked at again is known by itself.
    if context.again.is_none()
        && !prepared.is_new
        && let Some(known) = find_known(connection, context, prepared).await?
    {
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
            answer: None,
        },
    };
    write(connection, context, prepared, entry).await
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
            is_suppressed: false,
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
        answer: None,
    };
    write(connection, context, prepared, entry).await
}

/// Decides on a message that is new to its mailbox, and writes its issue, comment or event.
async fn take<'e>(
    connection: &mut SqliteConnection,
    context: &Context<'e>,
    prepared: &Prepared,
    readable: &'e Readable,
) -> Result<Entry<'e>, StoreError> {
    let judged = consider(connection, context, prepared, readable).await?;
    let decision = match judged.fate {
        Fate::Known(known) => {
            return Ok(Entry {
                verdict: Verdict::Duplicate,
                reason: known.reason,
                issue: known.issue.map(|id| (id, String::new())),
                comment: None,
                original: Some(known.message),
                trace: None,
                readable: Some(readable),
                answer: None,
            });
        }
        Fate::Decided(decision) => decision,
    };
    let what = (judged.project, &decision, judged.thread.as_ref());
    let (issue, comment) = act(connection, context, readable, what).await?;
    let is_filed = matches!(decision.action, Action::Open { .. } | Action::Comment { .. });
    if let (Some((issue, _)), true) = (&issue, is_filed) {
        for attached in &prepared.attachments {
            attachment::insert(connection, *issue, comment, attached).await?;
        }
    }
    let answer = match decision.action {
        Action::Open { .. } => {
            let message = (prepared, readable);
            let answer = answer::decide(connection, context, message, judged.project).await?;
            Some((judged.project, answer))
        }
        Action::Comment { .. } | Action::Event { .. } | Action::Hold | Action::Ignore => None,
    };
    let mut trace = judged.trace(readable);
    let policy = trace.pointer_mut("/policy").and_then(serde_json::Value::as_object_mut);
    if let (Some((_, answer)), Some(policy)) = (&answer, policy) {
        policy.insert("acknowledged".to_owned(), answer.as_str().into());
    }
    Ok(Entry {
        verdict: decision.action.verdict(),
        reason: decision.reason,
        issue,
        comment,
        original: None,
        trace: Some(trace.to_string()),
        readable: Some(readable),
        answer,
    })
}

async fn write(
    connection: &mut SqliteConnection,
    context: &Context<'_>,
    prepared: &Prepared,
    entry: Entry<'_>,
) -> Result<Outcome, StoreError> {
    let is_owed = is_owed(context.mailbox, prepared, &entry);
    let row = NewMessage {
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
    };
    let row = if let Some(Again { row: known, .. }) = context.again {
        revise::rewrite(connection, known, &row).await?;
        known
    } else {
        let original = (entry.verdict != Verdict::Duplicate).then_some(&prepared.original);
        if original.is_some() && !matches!(entry.verdict, Verdict::Issue | Verdict::Comment) {
            keep_contents(connection, prepared).await?;
        }
        message::insert(connection, &row, original, context.now).await?
    };
    tie(connection, context, &entry, row).await?;
    Ok(Outcome {
        message: Some(row),
        verdict: entry.verdict,
        reason: entry.reason,
        issue: entry.issue.map(|(_, key)| key).filter(|key| !key.is_empty()),
        comment: entry.comment,
        is_owed,
        is_suppressed: matches!(entry.answer, Some((_, Answer::Suppressed(_)))),
    })
}

/// Keeps the attachments without which the original bytes stand, where no issue has them.
async fn keep_contents(connection: &mut SqliteConnection, prepared: &Prepared) -> Result<(), StoreError> {
    let holes = &prepared.original.holes;
    let is_left_out = |attachment: &&NewAttachment| holes.iter().any(|hole| hole.sha256 == attachment.sha256);
    attachment::insert_contents(connection, prepared.attachments.iter().filter(is_left_out)).await
}

/// Tells the event which message it came by, and answers for the issue that it opened.
async fn tie(
    connection: &mut SqliteConnection,
    context: &Context<'_>,
    entry: &Entry<'_>,
    row: MessageId,
) -> Result<(), StoreError> {
    if let (Some((project, Answer::To(to))), Some((issue, key)), Some(readable)) =
        (&entry.answer, &entry.issue, entry.readable)
    {
        answer::queue(connection, context, (readable, project, to), (row, *issue, key)).await?;
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
    matches!(prepared.raw.place.source(), Source::Imap | Source::Pop3)
        && mailbox.after != After::Keep
        && !prepared.raw.is_stub
        && entry.verdict != Verdict::Quarantined
}
