//! A comment as a mail to the reporter: the words, the mark, and what they answer, quoted.
//! It never quotes more than a reader needs.

use super::encode::clean;
use super::sign::Token;
use super::{Address, Answered, Composed, Draft, Sender, answer_subject, write};
use crate::time::Timestamp;

/// Most quoted lines: what was said is in the mailbox of whom we answer.
const QUOTE_LINES: usize = 40;
/// Longest quoted line, in characters.
const QUOTE_LINE: usize = 500;

/// What is quoted.
#[derive(Debug, Clone, Copy)]
pub struct Quoted<'q> {
    /// Who wrote it.
    pub author: &'q str,
    /// When.
    pub at: Timestamp,
    /// The text.
    pub text: &'q str,
}

/// A comment to be mailed.
#[derive(Debug, Clone, Copy)]
pub struct Reply<'r> {
    /// From.
    pub from: &'r Sender,
    /// To.
    pub to: &'r Address,
    /// The subject of the issue.
    pub summary: &'r str,
    /// The comment.
    pub text: &'r str,
    /// The mail that it answers.
    pub answered: Answered<'r>,
    /// What that said.
    pub quoted: Option<Quoted<'r>>,
}

/// Writes it.
pub fn compose(reply: &Reply<'_>, token: &Token, at: Timestamp) -> Composed {
    let tag = format!("[{}]", token.key());
    let subject = answer_subject(reply.summary);
    let subject = if subject.contains(&tag) {
        subject
    } else {
        format!("{subject} {tag}")
    };
    // Above the quote, and not below a signature's dashes: clients leave those out of their answers.
    let mut text = format!("{}\n\n{}\n", reply.text.trim_end(), token.line());
    if let Some(quoted) = &reply.quoted {
        text.push_str(&quote(quoted));
    }
    write(&Draft {
        from: reply.from,
        to: reply.to,
        subject: &subject,
        answered: reply.answered,
        is_automatic: false,
        token,
        text: &text,
        at,
    })
}

fn quote(quoted: &Quoted<'_>) -> String {
    let lines: Vec<&str> = quoted.text.trim().lines().collect();
    if lines.is_empty() {
        return String::new();
    }
    let date = chrono::DateTime::<chrono::Utc>::from_timestamp(quoted.at.0, 0).unwrap_or_default();
    let date = date.format("%a, %-d %b %Y at %H:%M UTC");
    let mut text = format!("\nOn {date}, {} wrote:\n", clean(quoted.author, 100));
    for line in lines.iter().take(QUOTE_LINES) {
        let line: String = line.chars().filter(|c| !c.is_control()).take(QUOTE_LINE).collect();
        text.push_str(if line.starts_with('>') { ">" } else { "> " });
        text.push_str(line.trim_end());
        text.push('\n');
    }
    if lines.len() > QUOTE_LINES {
        text.push_str("> […]\n");
    }
    text
}
