//! `issue …`: the outcome.

use clap::{Args, Subcommand, ValueEnum};

use super::Json;
use super::context::{Database, Failure, OK};
use super::print;
use crate::store::view::issue::{
    self as view, AttachmentView, CommentView, Filter, IssueDetail, IssueView, PersonView,
};
use crate::thread::parse_key;

/// The commands about issues.
#[derive(Debug, Subcommand)]
pub enum Issue {
    /// List issues, the newest first
    List(List),
    /// Show an issue with its comments
    Show {
        /// The issue, such as SUP-1
        key: String,
        /// As JSON
        #[command(flatten)]
        json: Json,
    },
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
pub async fn run(database: &Database, command: Issue) -> Result<u8, Failure> {
    match command {
        Issue::List(list) => self::list(database, list).await,
        Issue::Show { key, json } => show(database, &key, json.json).await,
    }
}

async fn list(database: &Database, list: List) -> Result<u8, Failure> {
    let store = database.store().await?;
    let filter = Filter {
        project: list.project,
        state: list.state.map(|state| match state {
            State::Open => "open".to_owned(),
            State::Closed => "closed".to_owned(),
        }),
        limit: i64::from(list.limit),
    };
    let issues = view::list(store.readers(), &filter).await?;
    if list.json.json {
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
    let not_found = || Failure::NotFound(format!("there is no issue {key}; `mailintake issue list` shows all"));
    let parsed = parse_key(key).ok_or_else(not_found)?;
    let store = database.store().await?;
    let issue = view::show(store.readers(), parsed).await?.ok_or_else(not_found)?;
    if json {
        print::json(&issue)?;
    } else {
        print::line(&text(&issue))?;
    }
    Ok(OK)
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
