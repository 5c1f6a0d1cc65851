//! What becomes of a message: the one place where the rules of a project are applied. Pure.

use crate::mail::Class;
use crate::project::{ClosedIssue, Handler, NonParticipant, Permission, Project, UnknownSender};
use crate::thread::{Carrier, IssueId, Thread};

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the words are those of the contract")]
pub enum Verdict {
    Issue,
    Comment,
    Event,
    Duplicate,
    Ignored,
    Held,
    Quarantined,
    Vanished,
}

impl Verdict {
    /// All verdicts.
    pub const ALL: [Self; 8] = [
        Self::Issue,
        Self::Comment,
        Self::Event,
        Self::Duplicate,
        Self::Ignored,
        Self::Held,
        Self::Quarantined,
        Self::Vanished,
    ];

    /// The word for it in JSON and SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Issue => "issue",
            Self::Comment => "comment",
            Self::Event => "event",
            Self::Duplicate => "duplicate",
            Self::Ignored => "ignored",
            Self::Held => "held",
            Self::Quarantined => "quarantined",
            Self::Vanished => "vanished",
        }
    }

    /// The verdict of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.as_str() == word)
    }
}

/// Why a verdict fell: stable codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is its code")]
pub enum Reason {
    NewMail,
    OverSizeLimit,
    ReplyToMessage,
    ReplyToReference,
    ReplyToMark,
    SubjectKey,
    ReportOnMessage,
    NonParticipant,
    RecycledThread,
    ClosedIssue,
    UnknownSender,
    SenderBlocked,
    RouteIgnore,
    RouteHold,
    ClassHeld,
    ClassIgnored,
    OwnMail,
    NoIssueForComment,
    NoIssueForEvent,
    SamePlace,
    SameServerId,
    SameBytes,
    SameContent,
    SameMessageElsewhere,
    BeforeStart,
    Unreadable,
    ParserPanicked,
    ParserKilled,
    CannotBeStored,
    GoneBeforeRead,
    Discarded,
}

impl Reason {
    /// Its code in JSON, SQL and the journal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NewMail => "new-mail",
            Self::OverSizeLimit => "over-size-limit",
            Self::ReplyToMessage => "reply-to-message",
            Self::ReplyToReference => "reply-to-reference",
            Self::ReplyToMark => "reply-to-mark",
            Self::SubjectKey => "subject-key",
            Self::ReportOnMessage => "report-on-message",
            Self::NonParticipant => "non-participant",
            Self::RecycledThread => "recycled-thread",
            Self::ClosedIssue => "closed-issue",
            Self::UnknownSender => "unknown-sender",
            Self::SenderBlocked => "sender-blocked",
            Self::RouteIgnore => "route-ignore",
            Self::RouteHold => "route-hold",
            Self::ClassHeld => "class-held",
            Self::ClassIgnored => "class-ignored",
            Self::OwnMail => "own-mail",
            Self::NoIssueForComment => "no-issue-for-comment",
            Self::NoIssueForEvent => "no-issue-for-event",
            Self::SamePlace => "same-place",
            Self::SameServerId => "same-server-id",
            Self::SameBytes => "same-bytes",
            Self::SameContent => "same-content",
            Self::SameMessageElsewhere => "same-message-elsewhere",
            Self::BeforeStart => "before-start",
            Self::Unreadable => "unreadable",
            Self::ParserPanicked => "parser-panicked",
            Self::ParserKilled => "parser-killed",
            Self::CannotBeStored => "cannot-be-stored",
            Self::GoneBeforeRead => "gone-before-read",
            Self::Discarded => "discarded",
        }
    }
}

/// What a route says of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Routed {
    /// It goes to a project.
    ToProject,
    /// It is ignored.
    Ignore,
    /// It waits for a person.
    Hold,
}

/// What is known of the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// Whether the project blocks the address.
    pub is_blocked: bool,
    /// Whether the project allows the address, or it takes part in any of the project's issues.
    pub is_known: bool,
}

/// All that the decision rests on.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'f> {
    /// Where routes lead.
    pub routed: Routed,
    /// The project: of the issue that it belongs to, else where routes lead.
    pub project: &'f Project,
    /// What kind of sender wrote it.
    pub class: Class,
    /// Who.
    pub sender: Sender,
    /// The issue that it belongs to.
    pub thread: Option<&'f Thread>,
    /// Whether only the header was fetched.
    pub is_stub: bool,
}

/// What is to be done with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A new issue, perhaps linked with another.
    Open {
        /// The issue that it is linked with.
        linked: Option<IssueId>,
    },
    /// A comment.
    Comment {
        /// The issue.
        issue: IssueId,
        /// Whether the issue is open again.
        reopens: bool,
    },
    /// An event.
    Event {
        /// The issue.
        issue: IssueId,
    },
    /// It waits for a person.
    Hold,
    /// Nothing.
    Ignore,
}

impl Action {
    /// The verdict that it leaves in the ledger.
    pub fn verdict(self) -> Verdict {
        match self {
            Self::Open { .. } => Verdict::Issue,
            Self::Comment { .. } => Verdict::Comment,
            Self::Event { .. } => Verdict::Event,
            Self::Hold => Verdict::Held,
            Self::Ignore => Verdict::Ignored,
        }
    }
}

/// An action, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// What is to be done.
    pub action: Action,
    /// Why.
    pub reason: Reason,
}

/// What becomes of a message: routes first, then the sender, then what its class may do, then its thread.
pub fn decide(facts: &Facts<'_>) -> Decision {
    let decided = |action, reason| Decision { action, reason };
    match facts.routed {
        Routed::Ignore => return decided(Action::Ignore, Reason::RouteIgnore),
        Routed::Hold => return decided(Action::Hold, Reason::RouteHold),
        Routed::ToProject => {}
    }
    if facts.sender.is_blocked {
        return decided(Action::Ignore, Reason::SenderBlocked);
    }
    let permission = facts.project.classes.of(facts.class);
    match permission {
        Permission::Ignore if facts.class == Class::Own => return decided(Action::Ignore, Reason::OwnMail),
        Permission::Ignore => return decided(Action::Ignore, Reason::ClassIgnored),
        Permission::Hold => return decided(Action::Hold, Reason::ClassHeld),
        Permission::Event => return decide_event(facts.thread),
        Permission::Open | Permission::Comment => {}
    }
    if !facts.sender.is_known {
        match facts.project.unknown_sender {
            UnknownSender::Hold => return decided(Action::Hold, Reason::UnknownSender),
            UnknownSender::Ignore => return decided(Action::Ignore, Reason::UnknownSender),
            UnknownSender::Accept => {}
        }
    }
    let may_open = permission == Permission::Open && facts.project.handler != Handler::Comment;
    match facts.thread.filter(|_| facts.project.handler != Handler::Create) {
        Some(thread) => decide_reply(facts, thread, may_open),
        None => decide_new(facts.is_stub, may_open),
    }
}

/// What becomes of a held message that a person accepts: as if neither a route nor its class, its sender or a
/// stranger's part in the thread had held it.
pub fn accept(facts: &Facts<'_>) -> Decision {
    let mut project = facts.project.clone();
    if project.non_participant == NonParticipant::Hold {
        project.non_participant = NonParticipant::Comment;
    }
    let facts = Facts {
        project: &project,
        ..*facts
    };
    match facts.thread.filter(|_| project.handler != Handler::Create) {
        Some(thread) => decide_reply(&facts, thread, true),
        None => decide_new(facts.is_stub, true),
    }
}

fn decide_event(thread: Option<&Thread>) -> Decision {
    match thread {
        Some(thread) => Decision {
            action: Action::Event { issue: thread.issue },
            reason: Reason::ReportOnMessage,
        },
        None => Decision {
            action: Action::Ignore,
            reason: Reason::NoIssueForEvent,
        },
    }
}

fn decide_new(is_stub: bool, may_open: bool) -> Decision {
    match (may_open, is_stub) {
        (false, _) => Decision {
            action: Action::Ignore,
            reason: Reason::NoIssueForComment,
        },
        (true, true) => Decision {
            action: Action::Open { linked: None },
            reason: Reason::OverSizeLimit,
        },
        (true, false) => Decision {
            action: Action::Open { linked: None },
            reason: Reason::NewMail,
        },
    }
}

fn decide_reply(facts: &Facts<'_>, thread: &Thread, may_open: bool) -> Decision {
    let linked = |reason| Decision {
        action: if may_open {
            Action::Open {
                linked: Some(thread.issue),
            }
        } else {
            Action::Ignore
        },
        reason,
    };
    if thread.is_recycled {
        return linked(Reason::RecycledThread);
    }
    if !thread.is_participant {
        match facts.project.non_participant {
            NonParticipant::LinkedIssue => return linked(Reason::NonParticipant),
            NonParticipant::Hold => {
                return Decision {
                    action: Action::Hold,
                    reason: Reason::NonParticipant,
                };
            }
            NonParticipant::Comment => {}
        }
    }
    let may_reopen = may_reopen(facts.class);
    if thread.is_closed && may_reopen && may_open && facts.project.closed_issue == ClosedIssue::LinkedIssue {
        return linked(Reason::ClosedIssue);
    }
    Decision {
        action: Action::Comment {
            issue: thread.issue,
            reopens: thread.is_closed && may_reopen && facts.project.closed_issue == ClosedIssue::Reopen,
        },
        reason: match thread.carrier {
            Carrier::Report(_) => Reason::ReportOnMessage,
            Carrier::InReplyTo(_) => Reason::ReplyToMessage,
            Carrier::Reference(_) => Reason::ReplyToReference,
            Carrier::Signed(_) => Reason::ReplyToMark,
            Carrier::SubjectKey { .. } => Reason::SubjectKey,
        },
    }
}

/// Only people reopen: machines answer closed issues for ever.
fn may_reopen(class: Class) -> bool {
    match class {
        Class::Human | Class::List => true,
        Class::Bulk
        | Class::AutoGenerated
        | Class::AutoReply
        | Class::Bounce
        | Class::Receipt
        | Class::Calendar
        | Class::Own => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project() -> Project {
        Project::with_defaults("SUP", "Support")
    }

    fn thread(is_closed: bool, is_participant: bool) -> Thread {
        Thread {
            issue: IssueId(7),
            key: "SUP-7".into(),
            project: "SUP".into(),
            is_closed,
            is_participant,
            carrier: Carrier::InReplyTo("a@x".into()),
            is_recycled: false,
        }
    }

    fn verdict(project: &Project, class: Class, thread: Option<&Thread>) -> (Action, Reason) {
        let decision = decide(&Facts {
            routed: Routed::ToProject,
            project,
            class,
            sender: Sender {
                is_blocked: false,
                is_known: false,
            },
            thread,
            is_stub: false,
        });
        (decision.action, decision.reason)
    }

    const NEW: Action = Action::Open { linked: None };
    const LINKED: Action = Action::Open {
        linked: Some(IssueId(7)),
    };

    fn comment(reopens: bool) -> Action {
        Action::Comment {
            issue: IssueId(7),
            reopens,
        }
    }

    #[test]
    fn each_class_does_what_it_may_by_default() {
        let event = Action::Event { issue: IssueId(7) };
        let thread = thread(true, true);
        for (class, alone, in_thread) in [
            (Class::Human, NEW, comment(true)),
            (Class::List, NEW, comment(true)),
            (Class::AutoGenerated, NEW, comment(false)),
            (Class::Calendar, NEW, comment(false)),
            (Class::Bulk, Action::Hold, Action::Hold),
            (Class::AutoReply, Action::Ignore, comment(false)),
            (Class::Bounce, Action::Ignore, event),
            (Class::Receipt, Action::Ignore, event),
            (Class::Own, Action::Ignore, Action::Ignore),
        ] {
            assert_eq!(verdict(&project(), class, None).0, alone, "{class:?}");
            assert_eq!(verdict(&project(), class, Some(&thread)).0, in_thread, "{class:?}");
        }
    }

    #[test]
    fn a_reply_by_a_stranger_follows_the_policy() {
        let stranger = thread(false, false);
        for (policy, action) in [
            (NonParticipant::LinkedIssue, LINKED),
            (NonParticipant::Comment, comment(false)),
            (NonParticipant::Hold, Action::Hold),
        ] {
            let project = Project {
                non_participant: policy,
                ..project()
            };
            assert_eq!(verdict(&project, Class::Human, Some(&stranger)).0, action, "{policy:?}");
        }
        assert_eq!(
            verdict(&project(), Class::AutoReply, Some(&stranger)),
            (Action::Ignore, Reason::NonParticipant)
        );
    }

    #[test]
    fn a_reply_to_a_closed_issue_follows_the_policy() {
        let closed = thread(true, true);
        for (policy, action) in [
            (ClosedIssue::Reopen, comment(true)),
            (ClosedIssue::Comment, comment(false)),
            (ClosedIssue::LinkedIssue, LINKED),
        ] {
            let project = Project {
                closed_issue: policy,
                ..project()
            };
            assert_eq!(verdict(&project, Class::Human, Some(&closed)).0, action, "{policy:?}");
            assert_eq!(
                verdict(&project, Class::AutoReply, Some(&closed)).0,
                comment(false),
                "{policy:?}"
            );
        }
    }

    #[test]
    fn the_handler_decides_what_a_reply_may_be() {
        let open = thread(false, true);
        let create = Project {
            handler: Handler::Create,
            ..project()
        };
        assert_eq!(verdict(&create, Class::Human, Some(&open)).0, NEW);
        let only = Project {
            handler: Handler::Comment,
            ..project()
        };
        assert_eq!(verdict(&only, Class::Human, Some(&open)).0, comment(false));
        assert_eq!(
            verdict(&only, Class::Human, None),
            (Action::Ignore, Reason::NoIssueForComment)
        );
    }

    #[test]
    fn unknown_senders_follow_the_policy() {
        for (policy, action) in [
            (UnknownSender::Accept, NEW),
            (UnknownSender::Hold, Action::Hold),
            (UnknownSender::Ignore, Action::Ignore),
        ] {
            let project = Project {
                unknown_sender: policy,
                ..project()
            };
            assert_eq!(verdict(&project, Class::Human, None).0, action, "{policy:?}");
        }
    }

    #[test]
    fn codes_are_kebab_case() {
        assert_eq!(Verdict::parse("held"), Some(Verdict::Held));
        assert_eq!(Verdict::parse("x"), None);
        assert_eq!(Reason::SameMessageElsewhere.as_str(), "same-message-elsewhere");
    }
}
