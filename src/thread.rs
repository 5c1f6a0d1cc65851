//! Which issue a message belongs to: what it carries, and how far that proves anything. Pure.

use crate::compose::sign::Token;
use crate::mail::sender::canonical_subject;
use crate::mail::{Mail, parse};

/// The row of an issue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IssueId(pub i64);

/// Ids of a message that are looked up at the most: clients collect hundreds.
const CARRIER_LIMIT: usize = 100;
/// Marks that are looked at: an honest mail has one.
const MARK_LIMIT: usize = 5;

/// What a message carries that may name an issue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carrier {
    /// The message that a report is about.
    Report(String),
    /// In-Reply-To (RFC 5322 §3.6.4).
    InReplyTo(String),
    /// An entry of References.
    Reference(String),
    /// The mark of a mail of ours. As read it may be forged: it counts once it is verified.
    Signed(Token),
    /// `[SUP-1]` in the subject.
    SubjectKey {
        /// The project's key.
        project: String,
        /// The issue's number.
        number: i64,
    },
}

/// How hard a carrier is to make up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proof {
    /// Anybody can guess it.
    GuessableKey,
    /// A Message-ID that only those know who have the mail.
    KnownId,
    /// A mark that only we can make, and only those know who have the mail.
    Signature,
}

impl Carrier {
    /// The word for it in `explain`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Report(_) => "report",
            Self::InReplyTo(_) => "in-reply-to",
            Self::Reference(_) => "references",
            Self::Signed(_) => "mark",
            Self::SubjectKey { .. } => "subject-key",
        }
    }

    /// What it proves.
    pub fn proof(&self) -> Proof {
        match self {
            Self::Report(_) | Self::InReplyTo(_) | Self::Reference(_) => Proof::KnownId,
            Self::Signed(_) => Proof::Signature,
            Self::SubjectKey { .. } => Proof::GuessableKey,
        }
    }
}

impl Proof {
    /// The word for it in `explain`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GuessableKey => "guessable-key",
            Self::KnownId => "known-id",
            Self::Signature => "signature",
        }
    }
}

/// All that a message carries, the most trusted first: the reported message, In-Reply-To, marks of ours there and in
/// the text, References from the newest to the oldest, keys in the subject.
///
/// In-Reply-To comes before References because Apple Mail overwrites those, and clients recycle them. Marks are not
/// looked for in References for the same reason.
pub fn carriers(mail: &Mail) -> Vec<Carrier> {
    let reported = mail
        .report
        .iter()
        .filter_map(|report| report.original_message_id.as_deref());
    let mut found: Vec<Carrier> = reported.map(|id| Carrier::Report(parse::carrier_key(id))).collect();
    found.extend(
        mail.in_reply_to
            .iter()
            .map(|id| Carrier::InReplyTo(parse::carrier_key(id))),
    );
    found.extend(marks(mail).into_iter().map(Carrier::Signed));
    for id in mail.references.iter().rev() {
        let key = parse::carrier_key(id);
        if !found.contains(&Carrier::InReplyTo(key.clone())) {
            found.push(Carrier::Reference(key));
        }
    }
    found.truncate(CARRIER_LIMIT);
    found.extend(subject_keys(&mail.subject));
    found
}

/// The marks of mails of ours: in the ids of what is reported or answered, in a header that came back, and the first
/// one in the text, each once.
fn marks(mail: &Mail) -> Vec<Token> {
    let reported = mail
        .report
        .iter()
        .filter_map(|report| report.original_message_id.as_deref());
    let ids = reported.chain(mail.in_reply_to.iter().map(String::as_str));
    // Of a report only: who forwards a mail as a file does not answer it.
    let returned = mail
        .attachments
        .iter()
        .filter(|part| part.media_type.starts_with("message/") || part.media_type == "text/rfc822-headers")
        .filter(|_| mail.report.is_some())
        .filter_map(|part| Token::of_bytes(&part.bytes));
    let mut marks: Vec<Token> = Vec::new();
    let found = ids.filter_map(Token::of_id).chain(returned);
    for mark in found.chain(Token::of_text(&mail.text.plain)) {
        if marks.len() < MARK_LIMIT && !marks.contains(&mark) {
            marks.push(mark);
        }
    }
    marks
}

/// The issue keys in square brackets in a subject, such as `[SUP-1]`, at most five.
fn subject_keys(subject: &str) -> Vec<Carrier> {
    subject
        .split('[')
        .skip(1)
        .filter_map(|rest| rest.split(']').next())
        .filter_map(parse_key)
        .map(|(project, number)| Carrier::SubjectKey {
            project: project.to_owned(),
            number,
        })
        .take(5)
        .collect()
}

/// The parts of an issue key such as `SUP-1`.
pub fn parse_key(text: &str) -> Option<(&str, i64)> {
    let (project, number) = text.trim().split_once('-')?;
    let is_project = (2..=10).contains(&project.len())
        && project.starts_with(|c: char| c.is_ascii_uppercase())
        && project.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit());
    let is_number = !number.starts_with('0') && number.chars().all(|c| c.is_ascii_digit());
    if !is_project || !is_number {
        return None;
    }
    Some((project, number.parse().ok()?))
}

/// An issue that a carrier names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The issue; where it was merged, the one that it was merged into.
    pub issue: IssueId,
    /// Its key.
    pub key: String,
    /// Its project.
    pub project: String,
    /// Its summary.
    pub summary: String,
    /// Whether it is closed.
    pub is_closed: bool,
    /// Whether the sender takes part in it.
    pub is_participant: bool,
    /// What named it.
    pub carrier: Carrier,
}

/// The issue that a message belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thread {
    /// The issue.
    pub issue: IssueId,
    /// Its key.
    pub key: String,
    /// Its project.
    pub project: String,
    /// Whether it is closed.
    pub is_closed: bool,
    /// Whether the sender takes part in it.
    pub is_participant: bool,
    /// What named it.
    pub carrier: Carrier,
    /// Whether it is only related: a stranger recycled an old thread for another matter.
    pub is_recycled: bool,
}

/// A candidate, whether it was taken, and why: for `explain`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Considered {
    /// Key of the issue.
    pub issue: String,
    /// What named it.
    pub carrier: &'static str,
    /// What that proves.
    pub proof: &'static str,
    /// Whether it was taken.
    pub accepted: bool,
    /// Why.
    pub why: &'static str,
}

/// The issue that a message with this subject belongs to, out of the candidates in the order of their
/// carriers, and what was thought of each.
pub fn judge(subject: &str, candidates: &[Candidate]) -> (Option<Thread>, Vec<Considered>) {
    let subject = canonical_subject(subject);
    let mut thread: Option<Thread> = None;
    let mut considered = Vec::new();
    for candidate in candidates {
        let is_recycled = is_recycled(&subject, candidate);
        let (accepted, why) = match &thread {
            Some(found) if found.issue == candidate.issue => (false, "already found"),
            Some(_) => (false, "a better carrier names another issue"),
            None => (
                true,
                if is_recycled {
                    "another subject by a stranger: related only"
                } else {
                    reason(candidate)
                },
            ),
        };
        if accepted {
            thread = Some(Thread {
                issue: candidate.issue,
                key: candidate.key.clone(),
                project: candidate.project.clone(),
                is_closed: candidate.is_closed,
                is_participant: candidate.is_participant,
                carrier: candidate.carrier.clone(),
                is_recycled,
            });
        }
        considered.push(Considered {
            issue: candidate.key.clone(),
            carrier: candidate.carrier.as_str(),
            proof: candidate.carrier.proof().as_str(),
            accepted,
            why,
        });
    }
    (thread, considered)
}

/// References alone say little: people answer an old mail to write to the same address about something
/// else. The subject, or a sender who takes part, must agree.
fn is_recycled(subject: &str, candidate: &Candidate) -> bool {
    matches!(candidate.carrier, Carrier::Reference(_))
        && !candidate.is_participant
        && canonical_subject(&candidate.summary) != subject
}

fn reason(candidate: &Candidate) -> &'static str {
    if candidate.is_participant {
        "the sender takes part"
    } else {
        "the sender does not take part"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(number: i64, carrier: Carrier, is_participant: bool) -> Candidate {
        Candidate {
            issue: IssueId(number),
            key: format!("SUP-{number}"),
            project: "SUP".into(),
            summary: "Router down".into(),
            is_closed: false,
            is_participant,
            carrier,
        }
    }

    #[test]
    fn keys_are_found_in_brackets_only() {
        for (subject, keys) in [
            ("About [SUP-1] again", vec![("SUP", 1)]),
            ("Re: [SUP-12] [BIL-3]", vec![("SUP", 12), ("BIL", 3)]),
            ("SUP-1", vec![]),
            ("[sup-1] [S-1] [SUP-01] [SUP-] [SUP-1a] [SUP1]", vec![]),
            ("[SUP-99999999999999999999]", vec![]),
            ("[[SUP-7]]", vec![("SUP", 7)]),
        ] {
            let found: Vec<_> = subject_keys(subject)
                .into_iter()
                .map(|carrier| match carrier {
                    Carrier::SubjectKey { project, number } => (project, number),
                    other => panic!("{other:?}"),
                })
                .collect();
            let keys: Vec<_> = keys.into_iter().map(|(p, n)| (p.to_owned(), n)).collect();
            assert_eq!(found, keys, "{subject}");
        }
    }

    #[test]
    fn in_reply_to_comes_before_references_newest_first() {
        let mail = Mail {
            in_reply_to: vec!["c@X".into()],
            references: vec!["a@x".into(), "b@x".into(), "c@x".into()],
            subject: "Re: [SUP-4] it".into(),
            ..Mail::default()
        };
        assert_eq!(
            carriers(&mail),
            [
                Carrier::InReplyTo("c@x".into()),
                Carrier::Reference("b@x".into()),
                Carrier::Reference("a@x".into()),
                Carrier::SubjectKey {
                    project: "SUP".into(),
                    number: 4
                },
            ]
        );
    }

    #[test]
    fn the_first_carrier_wins() {
        let (thread, considered) = judge(
            "x",
            &[
                candidate(1, Carrier::InReplyTo("a".into()), true),
                candidate(2, Carrier::Reference("b".into()), true),
            ],
        );
        assert_eq!(thread.unwrap().issue, IssueId(1));
        assert_eq!(considered.iter().map(|c| c.accepted).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn a_stranger_with_another_subject_is_only_related() {
        for (subject, is_participant, carrier, is_recycled) in [
            ("Re: Router down", false, Carrier::Reference("a".into()), false),
            ("Invoice", false, Carrier::Reference("a".into()), true),
            ("Invoice", true, Carrier::Reference("a".into()), false),
            ("Invoice", false, Carrier::InReplyTo("a".into()), false),
        ] {
            let (thread, _) = judge(subject, &[candidate(1, carrier, is_participant)]);
            assert_eq!(thread.unwrap().is_recycled, is_recycled, "{subject} {is_participant}");
        }
    }
}
