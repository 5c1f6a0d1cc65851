//! The automatic reply to a new issue: decided and queued in the transaction that opens it.
//! It never changes what becomes of a message.

use sqlx::SqliteConnection;

use super::judge::Context;
use super::prepare::{Prepared, Readable};
use crate::compose::acknowledgement::{self, BUDGET, LOOKS_LIKE_LOOP, WINDOW};
use crate::compose::{Address, Composed};
use crate::mailbox::{OtherSource, Place};
use crate::outgoing::{Channel, OutgoingKind};
use crate::project::{Acknowledge, Project};
use crate::store::message::MessageId;
use crate::store::outgoing::{self, NewOutgoing, sent, signing_key};
use crate::store::{StoreError, mailbox};
use crate::thread::{IssueId, parse_key};
use crate::time::Timestamp;

/// Whether a new issue is acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// To this address.
    To(Address),
    /// Not; the reason in kebab-case.
    Not(&'static str),
    /// Not, since it looks like a loop.
    Suppressed(&'static str),
}

impl Answer {
    /// The words for it in `explain`.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::To(_) => "yes",
            Self::Not(why) | Self::Suppressed(why) => why,
        }
    }
}

/// Decides, once the issue is there.
///
/// # Errors
/// What the database says.
pub(super) async fn decide(
    connection: &mut SqliteConnection,
    context: &Context<'_>,
    (prepared, readable): (&Prepared, &Readable),
    project: &Project,
) -> Result<Answer, StoreError> {
    if project.acknowledge == Acknowledge::Off {
        return Ok(Answer::Not("off"));
    }
    if !is_live(connection, context, prepared, readable).await? {
        return Ok(Answer::Not("not-new"));
    }
    let facts = acknowledgement::Facts {
        mail: &readable.mail,
        classification: &readable.classification,
        trust: readable.trust,
        mailbox: context.mailbox,
        rules: context.rules,
    };
    let to = match acknowledgement::recipient(&facts) {
        Ok(to) => to,
        Err(why) => return Ok(Answer::Not(why)),
    };
    let since = Timestamp(
        context
            .now
            .0
            .saturating_sub(i64::try_from(WINDOW.as_secs()).unwrap_or(0)),
    );
    let told = sent::answers(connection, (to.as_str(), &project.key), context.id, since).await?;
    Ok(if told.issues >= LOOKS_LIKE_LOOP && told.to_sender > 0 {
        Answer::Suppressed("sender-too-often")
    } else if told.to_sender > 0 {
        Answer::Not("told-already")
    } else if told.for_mailbox >= BUDGET {
        Answer::Suppressed("mailbox-too-often")
    } else {
        Answer::To(to)
    })
}

/// Whether a message has just come: not with the first listing of its folder, and not from an archive. What a mail
/// system hands over by the pipe is new by nature.
async fn is_live(
    connection: &mut SqliteConnection,
    context: &Context<'_>,
    prepared: &Prepared,
    readable: &Readable,
) -> Result<bool, StoreError> {
    let place = &prepared.raw.place;
    let listing = match place {
        Place::Other {
            source: OtherSource::File,
            ..
        } => return Ok(false),
        Place::Other {
            source: OtherSource::Pipe,
            ..
        } => return Ok(true),
        Place::Imap { folder, .. } => mailbox::first_listing(connection, context.id, Some(folder)).await?,
        Place::Other {
            source: OtherSource::Pop3,
            ..
        } => mailbox::first_listing(connection, context.id, None).await?,
    };
    let Some(listing) = listing else { return Ok(false) };
    Ok(match place {
        Place::Imap { uid, .. } => i64::from(uid.get()) > listing.first_uid,
        // Numbers of POP3 mean nothing later: what arrived before the first look is older than that, or of its second.
        Place::Other { .. } => {
            let received_at = prepared.raw.received_at.map(|at| at.0).or(readable.mail.date);
            received_at.is_some_and(|at| at > listing.listed_at.0)
        }
    })
}

/// Queues it, and remembers its Message-ID so that answers find the issue.
///
/// # Errors
/// What the database says.
pub(super) async fn queue(
    connection: &mut SqliteConnection,
    context: &Context<'_>,
    (readable, project, to): (&Readable, &Project, &Address),
    (row, issue, key): (MessageId, IssueId, &str),
) -> Result<(), StoreError> {
    let Some(target) = project.smtp.as_ref().or(context.rules.smtp.as_ref()) else {
        return Ok(());
    };
    let keys = signing_key::signing(connection, context.now).await?;
    let token = parse_key(key).and_then(|parsed| keys.sign(parsed, rand::random()));
    let composed: Option<Composed> = token.and_then(|token| {
        let settings = (project, context.mailbox);
        acknowledgement::compose(settings, (&readable.mail, to), &token, context.now)
    });
    let Some(composed) = composed else {
        tracing::warn!(issue = key, "the sender of {} cannot be used in a mail", project.key);
        return Ok(());
    };
    let new = NewOutgoing {
        channel: Channel::Mail,
        kind: OutgoingKind::Acknowledgement,
        target,
        lane: "",
        once: &format!("acknowledgement:{}", row.0),
        issue: Some(issue),
        payload: &serde_json::json!(composed.payload).to_string(),
    };
    let Some(outgoing) = outgoing::queue(connection, &new, context.now).await? else {
        return Ok(());
    };
    let sent = sent::NewSent {
        message_id: &composed.message_id,
        outgoing,
        issue,
        recipient: to.as_str(),
        mailbox: Some(context.id),
    };
    sent::record(connection, &sent, context.now).await
}
