//! `issue …`: the outcome.

mod change;
mod export;
mod file;
mod send;

use std::fs::File;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};

use super::Json;
use super::context::{Database, Failure, OK};
use super::output::Output;
use super::print;
use crate::store::search;
use crate::store::view::issue::{
    self as view, AttachmentView, CommentView, Filter, IssueDetail, IssueView, PersonView,
};
use crate::thread::parse_key;

/// The commands about issues.
#[derive(Debug, Subcommand)]
pub enum Issue {
    /// List the newest issues, the last one at the end
    List(List),
    /// Show an issue with its comments
    Show {
        /// The issue, such as SUP-1
        key: String,
        /// As JSON
        #[command(flatten)]
        json: Json,
    },
    /// Find issues by words in them and their comments, the best first
    Search {
        /// All of them must be found; `word*` for a beginning, "two words" for a phrase
        #[arg(required = true)]
        words: Vec<String>,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: u32,
        /// As JSON
        #[command(flatten)]
        json: Json,
    },
    /// Print issues as JSON, one a line, or their messages as a mailbox file
    Export {
        /// The issues; all where none is given
        keys: Vec<String>,
        /// The issues with all that belongs to them, or the original bytes of their messages (mboxrd)
        #[arg(long, value_enum)]
        format: export::Format,
    },
    /// Close an issue
    Close {
        /// The issue, such as SUP-1
        key: String,
    },
    /// Open a closed issue again
    Reopen {
        /// The issue, such as SUP-1
        key: String,
    },
    /// Add a comment; nobody is sent anything unless --send is given
    Comment {
        /// The issue, such as SUP-1
        key: String,
        /// The text; else standard input is read
        #[arg(conflicts_with = "file")]
        text: Option<String>,
        /// A file that holds the text
        #[arg(long, value_name = "F")]
        file: Option<PathBuf>,
        /// Mail it to the reporter, too, as an answer to their last mail
        #[arg(long)]
        send: bool,
    },
    /// Print the bytes of an attachment
    Attachment {
        /// The attachment, as `issue show` numbers it
        id: i64,
        /// A new file to write to instead
        #[arg(long, value_name = "PATH")]
        output: Option<PathBuf>,
    },
    /// Close an issue and add its text to another one, where replies go from then on
    Merge {
        /// The issue that is closed
        key: String,
        /// The issue that goes on
        into: String,
    },
    /// Remove what an issue holds, for privacy, and close it; the ledger stays
    Erase {
        /// The issue, such as SUP-1
        key: String,
    },
}

/// The file that a command names.
#[derive(Debug)]
pub enum Opened {
    /// None.
    Nothing,
    /// One to read.
    Text(File),
    /// One to write.
    Output(Output),
}

impl Issue {
    /// Opens the file that the command names, if it does.
    ///
    /// # Errors
    /// [`Failure::Failed`] if it cannot be opened, or is there and would be overwritten.
    pub fn open_file(&self, state_dir: &Path) -> Result<Opened, Failure> {
        match self {
            Self::Comment { file: Some(path), .. } => file::open(path).map(Opened::Text),
            Self::Attachment { output: Some(path), .. } => Output::create(path, state_dir).map(Opened::Output),
            Self::Comment { file: None, .. }
            | Self::Attachment { output: None, .. }
            | Self::List(_)
            | Self::Show { .. }
            | Self::Search { .. }
            | Self::Export { .. }
            | Self::Close { .. }
            | Self::Reopen { .. }
            | Self::Merge { .. }
            | Self::Erase { .. } => Ok(Opened::Nothing),
        }
    }
}

/// Which issues are listed.
#[derive(Debug, Args)]
pub struct List {
    /// Only of this project
    #[arg(long, value_name = "KEY")]
    project: Option<String>,
    /// Only in this state
    #[arg(long)]
    state: Option<State>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
    #[command(flatten)]
    json: Json,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum State {
    Open,
    Closed,
}

/// Runs one of them.
///
/// # Errors
/// Any [`Failure`].
pub async fn run(database: &Database, command: &Issue, opened: Opened) -> Result<u8, Failure> {
    match command {
        Issue::List(list) => self::list(database, list).await,
        Issue::Show { key, json } => show(database, key, json.json).await,
        Issue::Search { words, limit, json } => {
            let store = database.store().await?;
            let found = search::issues(store.readers(), &words.join(" "), *limit).await?;
            print_list(&found, json.json)
        }
        Issue::Export { keys, format } => export::run(database, keys, *format).await,
        Issue::Close { key } => change::close(database, key).await,
        Issue::Reopen { key } => change::reopen(database, key).await,
        Issue::Comment {
            key,
            text,
            file: _,
            send,
        } => {
            let text = match text {
                Some(text) => text.clone(),
                None => file::text(match opened {
                    Opened::Text(file) => Some(file),
                    Opened::Nothing | Opened::Output(_) => None,
                })?,
            };
            change::comment(database, key, &text, *send).await
        }
        Issue::Attachment { id, output: _ } => {
            let output = match opened {
                Opened::Output(output) => Some(output),
                Opened::Nothing | Opened::Text(_) => None,
            };
            file::attachment(database, *id, output).await
        }
        Issue::Merge { key, into } => change::merge(database, key, into).await,
        Issue::Erase { key } => change::erase(database, key).await,
    }
}

async fn list(database: &Database, list: &List) -> Result<u8, Failure> {
    let store = database.store().await?;
    let filter = Filter {
        project: list.project.clone(),
        state: list.state.map(|state| match state {
            State::Open => "open".to_owned(),
            State::Closed => "closed".to_owned(),
        }),
        limit: i64::from(list.limit),
    };
    let issues = view::list(store.readers(), &filter).await?;
    print_list(&issues, list.json.json)
}

fn print_list(issues: &[IssueView], json: bool) -> Result<u8, Failure> {
    if json {
        print::json(&issues)?;
    } else if issues.is_empty() {
        print::aside("no issues");
    } else {
        let rows = issues.iter().map(row).collect();
        print::line(&print::table(
            &["key", "state", "updated", "comments", "reporter", "summary"],
            rows,
        ))?;
    }
    Ok(OK)
}

fn row(issue: &IssueView) -> Vec<String> {
    vec![
        issue.key.clone(),
        issue.state.clone(),
        print::local_time(&issue.updated_at),
        issue.comment_count.to_string(),
        print::or_dash(issue.reporter.address.as_deref()),
        issue.summary.clone(),
    ]
}

async fn show(database: &Database, key: &str, json: bool) -> Result<u8, Failure> {
    let parsed = parse_key(key).ok_or_else(|| not_found(key))?;
    let store = database.store().await?;
    let found = view::show(store.readers(), parsed).await?;
    let issue = found.ok_or_else(|| not_found(key))?;
    if json {
        print::json(&issue)?;
    } else {
        print::line(&text(&issue))?;
    }
    Ok(OK)
}

fn not_found(key: &str) -> Failure {
    Failure::NotFound(format!("there is no issue {key}; `mailintake issue list` shows all"))
}

fn text(detail: &IssueDetail) -> String {
    let issue = &detail.issue;
    let mut parts = vec![format!("{}  {}  ({})", issue.key, issue.summary, issue.state)];
    parts.push(format!(
        "from {}, created {}, updated {}",
        who(&issue.reporter),
        print::local_time(&issue.created_at),
        print::local_time(&issue.updated_at)
    ));
    for link in &detail.links {
        parts.push(format!("{}: {}", link.kind, link.key));
    }
    parts.push(String::new());
    parts.push(detail.description.trim_end().to_owned());
    parts.extend(hidden(detail.description_elided.as_deref()));
    parts.extend(detail.attachments.iter().map(attached));
    for comment in &detail.comments {
        parts.extend(comment_text(comment));
    }
    for event in &detail.events {
        let detail = event.detail.as_deref().unwrap_or_default();
        parts.push(format!("\n-- {} {} {detail}", print::local_time(&event.at), event.kind));
    }
    parts.join("\n")
}

fn comment_text(comment: &CommentView) -> Vec<String> {
    let mut parts = vec![format!(
        "\n-- {} {} ({})",
        print::local_time(&comment.created_at),
        who(&comment.author),
        comment.trust
    )];
    parts.push(comment.body.trim_end().to_owned());
    parts.extend(hidden(comment.elided.as_deref()));
    parts.extend(comment.attachments.iter().map(attached));
    parts
}

fn hidden(elided: Option<&str>) -> Option<String> {
    elided.map(|text| {
        format!(
            "[{} quoted lines are kept apart; --json shows them]",
            text.lines().count()
        )
    })
}

fn attached(attachment: &AttachmentView) -> String {
    format!(
        "[attachment {}: {}, {}, {} bytes]",
        attachment.id,
        attachment.filename.as_deref().unwrap_or("without a name"),
        attachment.media_type,
        attachment.size
    )
}

fn who(person: &PersonView) -> String {
    match (&person.name, &person.address) {
        (Some(name), Some(address)) => format!("{name} <{address}>"),
        (None, Some(word)) | (Some(word), None) => word.clone(),
        (None, None) => "nobody".to_owned(),
    }
}
