//! What a decision writes: an issue, a comment, their people and thread.

use sqlx::SqliteConnection;

use super::judge::Context;
use super::prepare::Readable;
use crate::issue::{Action, Decision};
use crate::mail::Person;
use crate::project::Project;
use crate::store::{StoreError, issue, thread as threads};
use crate::thread::{IssueId, Proof, Thread};

/// Below this the extractor is unsure, and the whole text is shown.
const TRUSTED_CONFIDENCE: f64 = 0.5;
/// Longest summary, in characters.
const SUMMARY_LIMIT: usize = 500;

/// The issue with its key, and the row of the comment.
pub(super) type Written = (Option<(IssueId, String)>, Option<i64>);

/// Does what was decided.
///
/// # Errors
/// What the database says.
pub(super) async fn act(
    connection: &mut SqliteConnection,
    context: &Context<'_>,
    readable: &Readable,
    (project, decision, thread): (&Project, &Decision, Option<&Thread>),
) -> Result<Written, StoreError> {
    let key = |issue: IssueId| (issue, thread.map(|thread| thread.key.clone()).unwrap_or_default());
    match decision.action {
        Action::Open { linked } => {
            let opened = open(connection, context, readable, project).await?;
            if let Some(other) = linked {
                issue::link(connection, opened.0, other, "related").await?;
            }
            Ok((Some(opened), None))
        }
        Action::Comment { issue, reopens } => {
            let joins = thread.is_some_and(|thread| thread.carrier.proof() >= Proof::KnownId);
            let comment = comment(connection, context, readable, (issue, joins)).await?;
            if reopens {
                issue::reopen(connection, issue).await?;
                let event = issue::NewEvent {
                    issue,
                    kind: "reopened",
                    message: None,
                    detail: Some("by a reply"),
                };
                issue::event(connection, &event, context.now).await?;
            }
            Ok((Some(key(issue)), Some(comment)))
        }
        Action::Event { issue } => Ok((Some(key(issue)), None)),
        Action::Hold | Action::Ignore => Ok((None, None)),
    }
}

async fn open(
    connection: &mut SqliteConnection,
    context: &Context<'_>,
    readable: &Readable,
    project: &Project,
) -> Result<(IssueId, String), StoreError> {
    let (body, elided, signature) = shown(readable);
    let reporter = readable.mail.from.clone().unwrap_or_default();
    let opened = issue::open(
        connection,
        &issue::NewIssue {
            project: &project.key,
            summary: &summary(&readable.mail.subject),
            description: body,
            elided,
            signature,
            reporter: &reporter,
            people: &people(context, readable, project.watchers_from_cc),
            message_id: readable.message_key.as_deref(),
        },
        context.now,
    )
    .await?;
    Ok(opened)
}

async fn comment(
    connection: &mut SqliteConnection,
    context: &Context<'_>,
    readable: &Readable,
    (issue, joins): (IssueId, bool),
) -> Result<i64, StoreError> {
    let (body, elided, signature) = shown(readable);
    let author = readable.mail.from.clone().unwrap_or_default();
    let people = if joins {
        people(context, readable, false)
    } else {
        vec![(author.clone(), false)]
    };
    let comment = issue::NewComment {
        issue,
        author: &author,
        trust: readable.trust.as_str(),
        body,
        elided,
        signature,
        people: &people,
        message_id: readable.message_key.as_deref(),
    };
    issue::comment(connection, &comment, context.now).await
}

/// Who stands in From, To and Cc, but for ourselves, and whether they watch.
fn people(context: &Context<'_>, readable: &Readable, cc_watches: bool) -> Vec<(Person, bool)> {
    let mail = &readable.mail;
    let is_other = |person: &&Person| {
        let address = person.address.as_deref().unwrap_or_default().to_lowercase();
        !context.rules.own.contains(&address)
    };
    let plain = mail
        .from
        .iter()
        .chain(&mail.to)
        .filter(is_other)
        .map(|person| (person, false));
    let cc = mail.cc.iter().filter(is_other).map(|person| (person, cc_watches));
    plain
        .chain(cc)
        .map(|(person, watches)| (person.clone(), watches))
        .collect()
}

/// Adds a mail to the thread of an issue, by its Message-ID.
///
/// # Errors
/// What the database says.
pub(super) async fn remember(
    connection: &mut SqliteConnection,
    readable: &Readable,
    issue: IssueId,
) -> Result<(), StoreError> {
    match &readable.message_key {
        Some(key) => threads::add_carrier(connection, key, issue).await,
        None => Ok(()),
    }
}

/// The text, the quoted part and the signature as they are shown.
pub(crate) fn shown(readable: &Readable) -> (&str, Option<&str>, Option<&str>) {
    let extract = &readable.extract;
    if extract.confidence < TRUSTED_CONFIDENCE {
        return (&readable.mail.text.plain, None, None);
    }
    (&extract.body, extract.elided.as_deref(), extract.signature.as_deref())
}

fn summary(subject: &str) -> String {
    let subject = subject.trim();
    if subject.is_empty() {
        return "(no subject)".to_owned();
    }
    crate::fault::printable(subject, SUMMARY_LIMIT)
}
