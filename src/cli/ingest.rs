//! `ingest`: messages from files, or from a mail system's pipe.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use super::Json;
use super::context::{Context, Failure, OK, TRY_AGAIN, with_opened};
use super::print;
use super::progress::Progress;
use crate::fault::chain;
use crate::files::{self, FileMessage, Messages, Opened};
use crate::intake::{Intake, IntakeError, Origin, Outcome};
use crate::issue::Verdict;
use crate::mailbox::{Mailbox, RawMessage};
use crate::notice::Notice;
use crate::store::space::Space;
use crate::store::view::message;
use crate::store::{Store, StoreError, mailbox as mailboxes};
use crate::telling::Teller;

/// Most messages of a batch.
const BATCH_MESSAGES: usize = 100;
/// Bytes after which a batch is taken.
const BATCH_BYTES: usize = 4 << 20;
/// Faults that are told one by one.
const TOLD_FAULTS: usize = 20;

/// What to take.
#[derive(Debug, Args)]
pub struct Ingest {
    /// The mailbox whose mail it is; may be left out where there is one
    #[arg(long, value_name = "NAME")]
    mailbox: Option<String>,
    /// Files (.eml, mbox), Maildir folders, folders of .eml files; or `-` for one message on standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    json: Json,
}

/// Whether these arguments are those of a mail system's pipe, which knows no exit code but 0 and 75.
pub fn is_pipe(arguments: impl IntoIterator<Item = OsString>) -> bool {
    let mut arguments = arguments.into_iter().skip(1);
    arguments.any(|argument| argument == "ingest") && arguments.any(|argument| argument == "-")
}

/// Runs it. With `-` whatever fails is to be tried again, so that the mail system keeps the mail.
///
/// # Errors
/// Any [`Failure`], but none with `-`.
pub fn command(config: &Path, ingest: &Ingest) -> Result<u8, Failure> {
    let is_pipe = ingest.files.iter().any(|file| file.as_os_str() == "-");
    let done = with_opened(
        config,
        |_| open(ingest),
        async |context, opened| run(context, ingest, opened).await,
    );
    match done {
        Err(failure) if is_pipe => {
            print::complaint(&failure.to_string());
            Ok(TRY_AGAIN)
        }
        other => other,
    }
}

/// What is taken from.
enum Given {
    Pipe,
    Files(Vec<Opened>),
}

fn open(ingest: &Ingest) -> Result<Given, Failure> {
    match ingest.files.as_slice() {
        [only] if only.as_os_str() == "-" => Ok(Given::Pipe),
        several if several.iter().any(|file| file.as_os_str() == "-") => Err(Failure::Usage(
            "standard input (-) cannot be taken together with files".to_owned(),
        )),
        files => Ok(Given::Files(open_all(files)?)),
    }
}

/// Opens all files; one that cannot be opened is named.
///
/// # Errors
/// [`Failure::File`].
pub fn open_all(files: &[PathBuf]) -> Result<Vec<Opened>, Failure> {
    files
        .iter()
        .map(|file| files::open(file).map_err(Failure::File))
        .collect()
}

async fn run(context: &Context, ingest: &Ingest, given: Given) -> Result<u8, Failure> {
    let mailbox = context.mailbox(ingest.mailbox.as_deref())?;
    let limit = mailbox.max_message_size;
    let is_pipe = matches!(given, Given::Pipe);
    let (sources, total) = match given {
        Given::Pipe => {
            let message = files::pipe(std::io::stdin().lock(), limit)?;
            (vec![Box::new(std::iter::once(Ok(message))) as Messages], 1)
        }
        Given::Files(opened) => sources(opened, limit)?,
    };
    let mut taking = Taking::start(context, mailbox).await?;
    let mut progress = Progress::new(Some(total));
    for message in sources.into_iter().flatten() {
        taking.add(message?).await?;
        progress.add(1);
    }
    taking.flush().await?;
    drop(progress);
    if ingest.json.json {
        print::json(&taking.rows)?;
    } else if !is_pipe {
        print::line(&summary(&taking.verdicts))?;
    }
    Ok(OK)
}

/// Looks at all files before anything is taken of one; gives their messages, and how many there are.
fn sources(mut opened: Vec<Opened>, limit: u64) -> Result<(Vec<Messages>, usize), Failure> {
    let checked: Vec<_> = opened.iter_mut().map(Opened::check).collect();
    let count = checked.iter().map(|checked| checked.messages).sum();
    let faults: Vec<_> = checked.into_iter().flat_map(|checked| checked.faults).collect();
    if !faults.is_empty() {
        for fault in faults.iter().take(TOLD_FAULTS) {
            print::complaint(&chain(fault));
        }
        return Err(Failure::Failed(format!(
            "nothing was taken: {} of what was named cannot be",
            faults.len()
        )));
    }
    let mut sources = Vec::new();
    for opened in opened {
        for link in opened.links()? {
            print::aside(&format!("{} is a link and is left out", link.display()));
        }
        sources.push(opened.messages(limit)?);
    }
    Ok((sources, count))
}

/// Messages on their way into the database.
struct Taking {
    store: Store,
    intake: Intake,
    origin: Origin,
    space: Space,
    batch: Vec<FileMessage>,
    batch_bytes: usize,
    rows: Vec<Value>,
    verdicts: BTreeMap<&'static str, usize>,
}

impl Taking {
    async fn start(context: &Context, mailbox: Arc<Mailbox>) -> Result<Self, Failure> {
        let store = context.make_store().await?;
        let clock = context.clock.clone();
        let id = ensure(&store, &mailbox, context).await?;
        let notice = Notice::new(store.clone(), clock.clone()).telling(Teller::new(context.config.receivers()));
        Ok(Self {
            intake: Intake::beside(store.clone(), clock, notice, context.config.rules()),
            origin: Origin {
                mailbox,
                id,
                suspects: Arc::new(HashSet::new()),
            },
            store,
            space: Space::of(&context.config.daemon.state_dir),
            batch: Vec::new(),
            batch_bytes: 0,
            rows: Vec::new(),
            verdicts: BTreeMap::new(),
        })
    }

    async fn add(&mut self, message: FileMessage) -> Result<(), Failure> {
        self.batch_bytes += message.raw.bytes.len();
        self.batch.push(message);
        if self.batch.len() >= BATCH_MESSAGES || self.batch_bytes >= BATCH_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.space.check(self.batch_bytes as u64)?;
        self.batch_bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        let (names, raw): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|message| ((message.file, message.index), message.raw))
            .unzip();
        let outcomes = self.take(raw).await?;
        for ((file, index), outcome) in names.into_iter().zip(outcomes) {
            let issue = self.issue(&outcome).await?;
            *self.verdicts.entry(outcome.verdict.as_str()).or_default() += 1;
            self.rows.push(json!({
                "file": file, "index": index, "message": outcome.message.map(|row| row.0),
                "verdict": outcome.verdict.as_str(), "reason": outcome.reason.as_str(), "issue": issue,
            }));
        }
        Ok(())
    }

    /// The issue that it went to; of a duplicate that of its original, as the ledger has it.
    async fn issue(&self, outcome: &Outcome) -> Result<Option<String>, Failure> {
        match (outcome.verdict, outcome.message) {
            (Verdict::Duplicate, Some(row)) => {
                let message = message::show(self.store.readers(), row.0).await?;
                Ok(message.and_then(|message| message.issue))
            }
            (Verdict::Duplicate, None)
            | (
                Verdict::Issue
                | Verdict::Comment
                | Verdict::Event
                | Verdict::Ignored
                | Verdict::Held
                | Verdict::Quarantined
                | Verdict::Vanished,
                _,
            ) => Ok(outcome.issue.clone()),
        }
    }

    /// Takes a batch; once more where it is not known whether it holds, for then it is recognized.
    async fn take(&self, raw: Vec<RawMessage>) -> Result<Vec<Outcome>, Failure> {
        let taken = match self.intake.take(&self.origin, raw.clone()).await {
            Err(IntakeError::Store(StoreError::Unknown(_))) => self.intake.take(&self.origin, raw).await,
            other => other,
        };
        let taken = taken.map_err(intake_failed)?;
        Ok(taken.into_iter().map(|(_, outcome)| outcome).collect())
    }
}

async fn ensure(store: &Store, mailbox: &Mailbox, context: &Context) -> Result<crate::mailbox::MailboxId, StoreError> {
    let mut write = store.write().await?;
    let now = context.clock.now();
    let id = mailboxes::ensure(
        write.connection()?,
        &mailbox.address,
        &mailbox.name,
        &mailbox.project,
        now,
    )
    .await?;
    write.commit().await?;
    Ok(id)
}

/// What a command says where the intake failed.
pub fn intake_failed(error: IntakeError) -> Failure {
    match error {
        IntakeError::Store(error) => Failure::Store(error),
        IntakeError::StateDirectory(_)
        | IntakeError::Compress(_)
        | IntakeError::Overtaken(_)
        | IntakeError::Stopped => Failure::Failed(chain(&error)),
    }
}

/// Such as `3 messages: 2 issue, 1 comment`.
fn summary(verdicts: &BTreeMap<&'static str, usize>) -> String {
    let count: usize = verdicts.values().sum();
    let each: Vec<_> = verdicts
        .iter()
        .map(|(verdict, count)| format!("{count} {verdict}"))
        .collect();
    let noun = if count == 1 { "message" } else { "messages" };
    match count {
        0 => format!("0 {noun}"),
        _ => format!("{count} {noun}: {}", each.join(", ")),
    }
}
