//! `simulate`: what would become of messages, under one configuration or two.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use sqlx::SqliteConnection;

use super::context::{Context, Failure, NO, OK, load, with_opened};
use super::explain::{self, word};
use super::ingest::open_all;
use super::progress::Progress;
use super::{Json, print};
use crate::audit::Connectors;
use crate::config::{Config, value};
use crate::fault::chain;
use crate::files::{self, FileError, FileMessage, Opened};
use crate::issue::Verdict;
use crate::mailbox::{Mailbox, SignIn};
use crate::project::Rules;
use crate::rehearse::{Rehearsal, Tried, newest};
use crate::store::message::revise::{self, Stored};
use crate::store::{mailbox as mailboxes, reading};

/// Messages that are looked at on a server where `--limit` says nothing.
const SERVER_LIMIT: usize = 20;
/// What is compared under two configurations.
const COMPARED: [&str; 8] = [
    "class",
    "verdict",
    "reason",
    "project",
    "issue",
    "body",
    "elided",
    "signature",
];

/// What to try.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true).args(["files", "since", "mailbox"])))]
pub struct Simulate {
    /// Files (.eml, mbox), Maildir folders, folders of .eml files; or `-` for one message on standard input
    #[arg(value_name = "FILE", conflicts_with = "since")]
    files: Vec<PathBuf>,
    /// The messages that came in since then, such as 30d, from their kept bytes
    #[arg(long, value_name = "TIME", value_parser = since, conflicts_with = "mailbox")]
    since: Option<Duration>,
    /// The newest mail of this mailbox on its server; with FILE the mailbox that it would come by
    #[arg(long, value_name = "NAME")]
    mailbox: Option<String>,
    /// At most so many; 20 where the server is asked
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Print only what another configuration makes different
    #[arg(long, value_name = "NEW.toml")]
    against: Option<PathBuf>,
    #[command(flatten)]
    json: Json,
}

/// A duration of the command line.
///
/// # Errors
/// What is wrong with it.
pub fn since(text: &str) -> Result<Duration, String> {
    value::duration(text).ok_or_else(|| "no duration; write a number and s, m, h or d, such as 30d".to_owned())
}

/// Runs it.
///
/// # Errors
/// Any [`Failure`].
pub fn command(config: &Path, simulate: &Simulate) -> Result<u8, Failure> {
    with_opened(
        config,
        |_| open(simulate),
        async |context, given| run(context, simulate, given).await,
    )
}

/// What was opened as the user who named it.
struct Given {
    files: Vec<Opened>,
    is_pipe: bool,
    against: Option<Config>,
}

fn open(simulate: &Simulate) -> Result<Given, Failure> {
    let is_pipe = matches!(simulate.files.as_slice(), [only] if only.as_os_str() == "-");
    Ok(Given {
        files: if is_pipe {
            Vec::new()
        } else {
            open_all(&simulate.files)?
        },
        is_pipe,
        against: simulate.against.as_deref().map(load).transpose()?,
    })
}

async fn run(context: &Context, simulate: &Simulate, given: Given) -> Result<u8, Failure> {
    let connection = reading::open(&context.config.daemon.state_dir).await?;
    let mut trial = Trial {
        context,
        simulate,
        rules: context.config.rules(),
        // Where the results are on the terminal they show how far it is.
        progress: (!std::io::stdout().is_terminal()).then(|| Progress::new(None)),
        against: given.against.map(|config| (config.rules(), config)),
        connection,
        tally: BTreeMap::new(),
        has_faults: false,
    };
    match simulate.since {
        Some(since) => trial.stored(since).await?,
        None if given.is_pipe => {
            let mailbox = trial.chosen()?;
            let message = files::pipe(std::io::stdin().lock(), mailbox.max_message_size)?;
            trial.file(&mailbox, message).await?;
        }
        None if given.files.is_empty() => trial.on_server().await?,
        None => trial.files(given.files).await?,
    }
    trial.sum_up()?;
    Ok(if trial.has_faults { NO } else { OK })
}

/// How many messages files and folders hold; what cannot be taken counts as one.
fn count(opened: &mut [Opened]) -> usize {
    let checked = opened.iter_mut().map(Opened::check);
    checked.map(|checked| checked.messages + checked.faults.len()).sum()
}

struct Trial<'t> {
    context: &'t Context,
    simulate: &'t Simulate,
    rules: Rules,
    progress: Option<Progress>,
    against: Option<(Rules, Config)>,
    connection: SqliteConnection,
    /// How many messages come to each verdict, with this configuration and with the other.
    tally: BTreeMap<String, (usize, usize)>,
    /// Whether something that was named cannot be read.
    has_faults: bool,
}

impl Trial<'_> {
    /// The mailbox that was named, else the first.
    fn chosen(&self) -> Result<Arc<Mailbox>, Failure> {
        match &self.simulate.mailbox {
            Some(name) => self.context.mailbox(Some(name)),
            None => self.first(),
        }
    }

    fn first(&self) -> Result<Arc<Mailbox>, Failure> {
        let first = self.context.config.mailboxes.first().cloned();
        first.ok_or_else(|| Failure::Usage("no mailbox is configured".to_owned()))
    }

    async fn files(&mut self, mut opened: Vec<Opened>) -> Result<(), Failure> {
        let mailbox = self.chosen()?;
        let mut left = self.simulate.limit.unwrap_or(usize::MAX);
        if self.progress.as_ref().is_some_and(Progress::is_shown) {
            self.expect(count(&mut opened).min(left));
        }
        for source in opened {
            let messages = match source.messages(mailbox.max_message_size) {
                Ok(messages) => messages.take(left),
                Err(fault) => {
                    self.cannot(&fault);
                    continue;
                }
            };
            for message in messages {
                left = left.saturating_sub(1);
                match message {
                    Ok(message) => self.file(&mailbox, message).await?,
                    Err(fault) => self.cannot(&fault),
                }
            }
        }
        Ok(())
    }

    /// Says that something cannot be tried; the rest is.
    fn cannot(&mut self, fault: &FileError) {
        print::complaint(&chain(fault));
        self.has_faults = true;
    }

    /// So many messages are to be shown.
    fn expect(&mut self, count: usize) {
        if let Some(progress) = &mut self.progress {
            progress.expect(count);
        }
    }

    async fn file(&mut self, mailbox: &Arc<Mailbox>, message: FileMessage) -> Result<(), Failure> {
        let tried = Tried {
            file: message.file,
            index: message.index,
            mailbox: Arc::clone(mailbox),
            mailbox_id: mailboxes::find_on(&mut self.connection, &mailbox.address).await?,
            is_taken_for_new: false,
            raw: message.raw,
        };
        self.show(tried).await
    }

    /// Mail from a server or the ledger may have its row already, and is judged without it.
    async fn show_raw(&mut self, mailbox: Arc<Mailbox>, raw: crate::mailbox::RawMessage) -> Result<(), Failure> {
        let tried = Tried {
            file: raw.place.remote_id(),
            index: 0,
            mailbox_id: mailboxes::find_on(&mut self.connection, &mailbox.address).await?,
            mailbox,
            is_taken_for_new: true,
            raw,
        };
        self.show(tried).await
    }

    async fn stored(&mut self, since: Duration) -> Result<(), Failure> {
        let store = self.context.store().await?;
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let from = crate::time::Timestamp(self.context.clock.now().0.saturating_sub(seconds));
        let ids = revise::ids_since(store.readers(), from).await?;
        let limit = self.simulate.limit.unwrap_or(usize::MAX);
        self.expect(ids.len().min(limit));
        for id in ids.into_iter().take(limit) {
            // Its retention may end meanwhile.
            let Some(Stored { raw, address, .. }) = revise::stored(store.readers(), id).await? else {
                continue;
            };
            let mailbox = by_address(&self.context.config, &address).map_or_else(|| self.first(), Ok)?;
            self.show_raw(mailbox, raw).await?;
        }
        Ok(())
    }

    async fn on_server(&mut self) -> Result<(), Failure> {
        let mailbox = self.chosen()?;
        let connectors = Connectors::new(&self.context.config.trust);
        let broker = match &mailbox.sign_in {
            SignIn::Password(_) => None,
            SignIn::Token(_) => Some(self.context.broker(&self.context.store().await?).await?),
        };
        let limit = self.simulate.limit.unwrap_or(SERVER_LIMIT);
        let found = newest(&mailbox, &connectors, broker.as_ref(), limit)
            .await
            .map_err(|error| Failure::Failed(format!("{}: {}", mailbox.name, chain(&error))))?;
        self.expect(found.len());
        for raw in found {
            self.show_raw(Arc::clone(&mailbox), raw).await?;
        }
        Ok(())
    }

    async fn show(&mut self, tried: Tried) -> Result<(), Failure> {
        if let Some(progress) = &mut self.progress {
            progress.add(1);
        }
        let Some((rules, config)) = &self.against else {
            let value = rehearse(&mut self.connection, &self.rules, self.context, tried).await?;
            return self.print(&value);
        };
        let mut other = tried.clone();
        other.mailbox = by_address(config, &tried.mailbox.address).ok_or_else(|| {
            Failure::Usage(format!(
                "{} has no mailbox {}",
                config.path.display(),
                tried.mailbox.address
            ))
        })?;
        let before = rehearse(&mut self.connection, &self.rules, self.context, tried).await?;
        let after = rehearse(&mut self.connection, rules, self.context, other).await?;
        let differing: Vec<&str> = COMPARED
            .into_iter()
            .filter(|field| before.get(field) != after.get(field))
            .collect();
        self.tally.entry(word(before.get("verdict"))).or_default().0 += 1;
        self.tally.entry(word(after.get("verdict"))).or_default().1 += 1;
        if differing.is_empty() {
            return Ok(());
        }
        self.print_difference(&before, &after, &differing)
    }

    fn print(&self, value: &Value) -> Result<(), Failure> {
        if self.simulate.json.json {
            return print::json_line(&value.to_string());
        }
        let explanation = value.get("explain").map(explain::text).unwrap_or_default();
        print::line(&format!("{}\n{}\n", headline(value), indented(&explanation)))?;
        print::line("")
    }

    /// How many messages come to each verdict, where two configurations were compared for a person.
    fn sum_up(&self) -> Result<(), Failure> {
        if self.against.is_none() || self.simulate.json.json {
            return Ok(());
        }
        let rows = Verdict::ALL.iter().map(|verdict| {
            let (before, after) = self.tally.get(verdict.as_str()).copied().unwrap_or_default();
            vec![verdict.as_str().to_owned(), before.to_string(), after.to_string()]
        });
        print::line(&print::table(&["verdict", "now", "then"], rows.collect()))
    }

    fn print_difference(&self, before: &Value, after: &Value, differing: &[&str]) -> Result<(), Failure> {
        if self.simulate.json.json {
            let value = json!({
                "file": before.get("file"), "index": before.get("index"), "message_id": before.get("message_id"),
                "subject": before.get("subject"), "differs": differing, "before": before, "after": after,
            });
            return print::json_line(&value.to_string());
        }
        let mut lines = vec![subject_line(before)];
        for field in differing {
            let (before, after) = (word(before.get(field)), word(after.get(field)));
            lines.push(format!("  {field}: {before} -> {after}"));
        }
        print::line(&lines.join("\n"))
    }
}

async fn rehearse(
    connection: &mut SqliteConnection,
    rules: &Rules,
    context: &Context,
    tried: Tried,
) -> Result<Value, Failure> {
    let mut rehearsal = Rehearsal {
        connection,
        rules,
        now: context.clock.now(),
    };
    rehearsal.rehearse(tried).await.map_err(|error| match error {
        crate::rehearse::RehearsalError::Store(error) => Failure::Store(error),
        crate::rehearse::RehearsalError::Memory(_) => Failure::Failed(chain(&error)),
    })
}

/// The mailbox of an address.
pub fn by_address(config: &Config, address: &str) -> Option<Arc<Mailbox>> {
    let mut mailboxes = config.mailboxes.iter();
    mailboxes
        .find(|mailbox| mailbox.address.eq_ignore_ascii_case(address))
        .cloned()
}

fn subject_line(value: &Value) -> String {
    let number = value.get("index").and_then(Value::as_u64).filter(|index| *index > 0);
    let number = number.map_or_else(String::new, |index| format!("#{index}"));
    format!(
        "{}{number}  {}  from {}",
        word(value.get("file")),
        word(value.get("subject")),
        word(value.pointer("/from/address"))
    )
}

fn headline(value: &Value) -> String {
    let issue = value.get("issue").filter(|issue| !issue.is_null());
    format!(
        "{}\n  {} {} in project {}",
        subject_line(value),
        word(value.get("verdict")),
        issue.map_or_else(String::new, |issue| format!("on {}", word(Some(issue)))),
        word(value.get("project"))
    )
}

fn indented(text: &str) -> String {
    text.lines()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}
