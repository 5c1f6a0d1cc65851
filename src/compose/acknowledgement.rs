//! The automatic reply to a new issue (RFC 3834): whether a mail may get one, and what it says.
//! When in doubt there is none: an answer that is missing is noticed by nobody, a loop by everybody.

use super::sign::Token;
use super::template::{Template, Values};
use super::{Address, Answered, Composed, Draft, Sender, answer_subject, encode, write};
use crate::mail::sender::{Trust, suppresses_answer};
use crate::mail::{Classification, Mail};
use crate::mailbox::Mailbox;
use crate::project::{Acknowledge, Project, Rules};
use crate::time::Timestamp;

/// Time within which one sender gets one automatic reply of a project.
pub const WINDOW: std::time::Duration = std::time::Duration::from_hours(1);
/// Automatic replies for one mailbox within [`WINDOW`]: more than people write, less than a loop does.
pub const BUDGET: i64 = 200;
/// New issues of one sender within [`WINDOW`] from which on it looks like a machine that answers us.
pub const LOOKS_LIKE_LOOP: i64 = 4;

/// What the decision rests on.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'f> {
    /// The mail.
    pub mail: &'f Mail,
    /// What kind of sender wrote it.
    pub classification: &'f Classification,
    /// How far the sender is proven.
    pub trust: Trust,
    /// The mailbox that it came by.
    pub mailbox: &'f Mailbox,
    /// The rules in force.
    pub rules: &'f Rules,
}

/// Whom to answer, or why nobody is.
///
/// # Errors
/// The reason, in kebab-case.
pub fn recipient(facts: &Facts<'_>) -> Result<Address, &'static str> {
    let mail = facts.mail;
    if let Some(why) = suppresses_answer(mail, facts.classification) {
        return Err(why);
    }
    if facts.trust == Trust::Failed {
        return Err("sender-spoofed");
    }
    if mail.headers_named("From").count() != 1 {
        return Err("several-authors");
    }
    // From and not Reply-To: who writes that may name anybody.
    let address = mail.from_address().and_then(Address::parse).ok_or("address-unusable")?;
    if facts.rules.own.contains(&address.as_str().to_lowercase()) {
        return Err("own-address");
    }
    if !is_addressed(facts) {
        return Err("not-addressed");
    }
    Ok(address)
}

/// Whether an address of ours stands in To or Cc (RFC 3834 §2, RFC 5230 §4.5): one of the configuration, one that a
/// route names, with a tag after `+` or without, or the one that the mail was delivered to.
fn is_addressed(facts: &Facts<'_>) -> bool {
    let mail = facts.mail;
    let people = mail.to.iter().chain(&mail.cc);
    people.filter_map(|person| person.address.as_deref()).any(|address| {
        let address = address.to_lowercase();
        let plain = untagged(&address);
        let is_own =
            |address: &str| facts.rules.own.contains(address) || facts.mailbox.address.eq_ignore_ascii_case(address);
        let is_routed = || {
            let mut globs = facts.rules.routes.iter().filter_map(|route| route.to.as_ref());
            globs.any(|glob| glob.as_str() != "*" && glob.matches(&address))
        };
        let is_delivered = || {
            mail.delivered_to
                .iter()
                .any(|known| known.eq_ignore_ascii_case(&address))
        };
        is_own(&address) || is_own(&plain) || is_routed() || is_delivered()
    })
}

/// `a@b` of `a+tag@b`.
fn untagged(address: &str) -> String {
    match address.split_once('@') {
        Some((local, domain)) => {
            let local = local.split('+').next().unwrap_or(local);
            format!("{local}@{domain}")
        }
        None => address.to_owned(),
    }
}

/// The automatic reply; `None` where the project has none, or its sender is unusable.
pub fn compose(
    (project, mailbox): (&Project, &Mailbox),
    (mail, to): (&Mail, &Address),
    token: &Token,
    at: Timestamp,
) -> Option<Composed> {
    let standard;
    let template = match &project.acknowledge {
        Acknowledge::Off => return None,
        Acknowledge::Standard => {
            standard = Template::standard();
            &standard
        }
        Acknowledge::Template(letters) => letters.of(mail.header("Content-Language")),
    };
    let from = Sender::parse(project.from.as_deref().unwrap_or(&mailbox.address))?;
    let key = token.key();
    let subject = encode::clean(&mail.subject, super::SUBJECT_LIMIT).replace(&format!("[{key}]"), "");
    let (subject, text) = template.fill(&Values {
        key: &key,
        subject: &answer_subject(&subject),
        project: &project.name,
    });
    Some(write(&Draft {
        from: &from,
        to,
        subject: &subject,
        answered: Answered {
            message_id: mail.message_id.as_deref(),
            references: &mail.references,
        },
        is_automatic: true,
        token,
        text: &format!("{}\n\n{}\n", text.trim_end(), token.line()),
        at,
    }))
}
