//! Bytes of a message into what it says: headers, people, text, attachments, reports.
//! Pure: no clock, socket or database; total: hostile bytes give a `Mail` or an error, never a panic.

mod authentication;
pub mod body;
mod bounce;
mod charset;
pub mod classify;
mod filename;
mod flowed;
mod header;
mod html;
mod identifier;
mod mark;
mod nesting;
mod parameter;
pub mod parse;
mod part;
pub mod reply;
mod report;
mod responder;
pub mod sender;
pub mod skeleton;
mod subject;
pub mod transfer;
mod word;

/// Somebody who stands in a header.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Person {
    /// The display name, decoded.
    pub name: Option<String>,
    /// The address as written.
    pub address: Option<String>,
}

/// A message, decoded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mail {
    /// Message-ID without angle brackets.
    pub message_id: Option<String>,
    /// In-Reply-To, ids without angle brackets.
    pub in_reply_to: Vec<String>,
    /// References, oldest first, at most 100 (the newest are kept).
    pub references: Vec<String>,
    /// Date, in unix seconds.
    pub date: Option<i64>,
    /// The first address in From.
    pub from: Option<Person>,
    /// Sender.
    pub sender: Option<Person>,
    /// Reply-To.
    pub reply_to: Vec<Person>,
    /// To.
    pub to: Vec<Person>,
    /// Cc.
    pub cc: Vec<Person>,
    /// Where it was delivered to, in header order: Delivered-To, X-Original-To, Envelope-To.
    pub delivered_to: Vec<String>,
    /// Subject, decoded, folds and control characters replaced by spaces.
    pub subject: String,
    /// All headers of the message itself in their order: name as written, value unfolded and decoded.
    pub headers: Vec<(String, String)>,
    /// The readable text.
    pub text: Text,
    /// What is attached or inline.
    pub attachments: Vec<Attachment>,
    /// A report about another message, where it is one.
    pub report: Option<Report>,
    /// METHOD of a calendar part (RFC 5546), in upper case.
    pub calendar_method: Option<String>,
    /// What was over a limit and cut, or could not be read as stated: kebab-case.
    pub notes: Vec<&'static str>,
}

impl Mail {
    /// The first value of a header, by name without regard to case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// All values of a header, by name without regard to case.
    pub fn headers_named<'m>(&'m self, name: &'m str) -> impl Iterator<Item = &'m str> {
        self.headers
            .iter()
            .filter(move |(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The address in From, where there is one.
    pub fn from_address(&self) -> Option<&str> {
        self.from.as_ref().and_then(|person| person.address.as_deref())
    }
}

/// The readable text of a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text {
    /// As plain text with LF line ends: of the plain part, else of the HTML part.
    pub plain: String,
    /// The HTML part, decoded, where there is one.
    pub html: Option<String>,
    /// Whether `plain` was made from `html`.
    pub is_from_html: bool,
}

/// A part that is no readable text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// A safe label: no path, no control or bidirectional characters, at most 150 bytes; never a file to open.
    pub filename: Option<String>,
    /// Media type in lower case, such as `application/pdf`.
    pub media_type: String,
    /// Whether it is shown in the text: an image that the HTML refers to, or Content-Disposition inline.
    pub is_inline: bool,
    /// Content-ID without angle brackets.
    pub content_id: Option<String>,
    /// Its bytes, decoded.
    pub bytes: Vec<u8>,
    /// Where they stand in the message; `None` where only the parser knows how they are encoded.
    pub encoded: Option<Encoded>,
}

/// Where the contents of a part stand in the bytes that were parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoded {
    /// The first byte.
    pub start: u64,
    /// The byte after the last.
    pub end: u64,
    /// How they are encoded.
    pub encoding: transfer::Encoding,
}

/// A report about another message (RFC 3464, RFC 8098, RFC 5965).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What it reports.
    pub kind: ReportKind,
    /// Message-ID of the message that it is about, without angle brackets.
    pub original_message_id: Option<String>,
    /// Recipient, action and status, one line each recipient, for the event on the issue.
    pub detail: String,
}

/// What a report reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportKind {
    /// A delivery that failed, was delayed or went well.
    Delivery,
    /// A message that was displayed, deleted or the like.
    Disposition,
    /// A complaint about abuse.
    Feedback,
}

/// What kind of sender wrote a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// A person.
    Human,
    /// A mailing list.
    List,
    /// A newsletter.
    Bulk,
    /// A machine: monitoring, forms, trackers.
    AutoGenerated,
    /// A machine that answers for an absent person.
    AutoReply,
    /// A mail system that could not deliver, or did.
    Bounce,
    /// A mail program that tells that a message was read.
    Receipt,
    /// An answer to an invitation, or an invitation.
    Calendar,
    /// We ourselves.
    Own,
}

impl Class {
    /// All classes.
    pub const ALL: [Self; 9] = [
        Self::Human,
        Self::List,
        Self::Bulk,
        Self::AutoGenerated,
        Self::AutoReply,
        Self::Bounce,
        Self::Receipt,
        Self::Calendar,
        Self::Own,
    ];

    /// The word for it in JSON, SQL and the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::List => "list",
            Self::Bulk => "bulk",
            Self::AutoGenerated => "auto-generated",
            Self::AutoReply => "auto-reply",
            Self::Bounce => "bounce",
            Self::Receipt => "receipt",
            Self::Calendar => "calendar",
            Self::Own => "own",
        }
    }

    /// The class of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == word)
    }
}

/// A class, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classification {
    /// The class.
    pub class: Class,
    /// Kebab-case name of the rule that decided.
    pub rule: &'static str,
    /// The header or fact that it saw, at most 200 characters.
    pub evidence: String,
    /// Every rule that was tested, in order, and whether it fitted.
    pub tested: Vec<(&'static str, bool)>,
}

/// The new words of a reply, and what was kept apart. Nothing is lost: all parts together are the whole text.
#[derive(Debug, Clone, PartialEq)]
pub struct Extract {
    /// What the person wrote.
    pub body: String,
    /// Quoted text and attribution lines, in order.
    pub elided: Option<String>,
    /// The signature.
    pub signature: Option<String>,
    /// Kebab-case names of the rules that cut.
    pub rules: Vec<&'static str>,
    /// From 0 to 1; below 0.5 the whole text is shown.
    pub confidence: f64,
}
