//! What is told of a batch that was taken: a line in the journal for each message, and what a person must know.
//! It never names a subject or a sender.

use tracing::info;

use super::{Origin, Outcome};
use crate::alert::{AlertKind, Finding};
use crate::grant::Problem;
use crate::issue::Verdict;
use crate::mailbox::{Place, Uid};

pub(super) fn tell_one(place: &Place, outcome: &Outcome) {
    let mail_uid = place.uid().map(Uid::get);
    let verdict = outcome.verdict.as_str();
    let issue = outcome.issue.as_deref();
    info!(
        event = "message.ingested",
        mail_uid,
        verdict,
        reason = outcome.reason.as_str(),
        issue,
        "message {} became {verdict}",
        outcome.message.map_or(0, |row| row.0)
    );
    match (outcome.verdict, issue) {
        (Verdict::Issue, Some(key)) => info!(event = "issue.created", mail_uid, issue, "issue {key} was created"),
        (Verdict::Comment, Some(key)) => info!(event = "comment.added", mail_uid, issue, "{key} got a comment"),
        (_, Some(_) | None) => {}
    }
}

pub(super) fn quarantined(origin: &Origin, place: &Place, outcome: &Outcome) -> Finding {
    let id = outcome.message.map_or(0, |row| row.0);
    Finding {
        kind: AlertKind::MessageQuarantined,
        subject: origin.mailbox.name.clone(),
        login: None,
        problem: Problem {
            code: outcome.reason.as_str().to_owned(),
            summary: format!(
                "message {id} ({}) could not be read; its bytes are kept",
                place.remote_id()
            ),
            remedy: format!(
                "Look at it with `mailintake message raw {id}`; the other mail goes on. \
                 `mailintake message list --verdict quarantined` lists all of them"
            ),
        },
    }
}

/// Whose mails look like a loop is not said: the journal has no addresses but ours.
pub(super) fn suppressed(origin: &Origin) -> Finding {
    Finding {
        kind: AlertKind::LoopSuppressed,
        subject: origin.mailbox.name.clone(),
        login: None,
        problem: Problem {
            code: "acknowledgements".to_owned(),
            summary: "more new issues came than people write, so automatic replies are held back; all mail is taken"
                .to_owned(),
            remedy: "Look at `mailintake issue list` for a sender that answers our automatic replies, and name it in \
                     block; it ends by itself an hour after the last such mail"
                .to_owned(),
        },
    }
}
