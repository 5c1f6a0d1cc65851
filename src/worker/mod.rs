//! One folder of one mailbox for ever: token > connect > catch up > wait; backoff by error.
//! It never decides what a message becomes: `intake` does.

mod batch;
mod catch_up;
pub mod condition;
mod error;
mod pace;
mod pipeline;
mod pop3;
pub mod pulse;
mod settle;
mod sign_in;
mod stop;
mod streak;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

pub use batch::Share;
pub use error::WorkerError;

use self::catch_up::Look;
use self::condition::Board;
use self::error::{Consequence, Urgency, consequence, is_fatal};
use self::pop3::Memory;
use self::pulse::Pulse;
use self::streak::Streak;
use crate::alert::{AlertKind, Finding};
use crate::broker::{Broker, known_key};
use crate::fault::chain;
use crate::foresight::Foresight;
use crate::grant::GrantRef;
use crate::imap::{Connector, ImapError, Session, Woken};
use crate::intake::{Intake, Origin};
use crate::mailbox::{Mailbox, MailboxId, MailboxState, Protocol, SignIn, Uid, Watch};
use crate::metrics::{Histogram, Stopwatch};
use crate::notice::Notice;
use crate::store::message::death;
use crate::store::space::Space;
use crate::store::{self, Store, StoreError};
use crate::time::{Clock, jitter};

/// Time between looks at whether a parked mailbox may go on: its grant was renewed.
const GRANT_LOOK: Duration = Duration::from_secs(2);
/// Every so often all UIDs are looked at, not only the newest: servers have let UIDNEXT go back.
const FULL_LOOK: Duration = Duration::from_hours(1);

/// What all workers share.
#[derive(Clone)]
pub struct Peers {
    /// The database.
    pub store: Store,
    /// The wall clock.
    pub clock: Clock,
    /// Where messages are taken.
    pub intake: Intake,
    /// Where access tokens come from.
    pub broker: Arc<Broker>,
    /// How IMAP servers are reached.
    pub connector: Connector,
    /// How POP3 servers are reached.
    pub pop3: crate::pop3::Connector,
    /// Where findings are told.
    pub notice: Notice,
    /// Room on the disk.
    pub space: Space,
    /// How long mail takes.
    pub ingest: Arc<Histogram>,
    /// What will end.
    pub foresight: Foresight,
    /// How many mailboxes catch up at once.
    pub share: Share,
}

/// The worker of one folder.
pub struct Worker {
    mailbox: Arc<Mailbox>,
    id: MailboxId,
    folder: String,
    board: Board,
    pulse: Pulse,
    store: Store,
    clock: Clock,
    intake: Intake,
    broker: Arc<Broker>,
    connector: Connector,
    pop3: crate::pop3::Connector,
    notice: Notice,
    gate: Space,
    share: Share,
    stopwatch: Stopwatch,
    /// Mail was taken since the last failure: on a bad line that is worth another try soon.
    has_progressed: AtomicBool,
    /// The server announced IDLE and refused it: it is polled.
    idle_refused: AtomicBool,
    /// The server refused what is to be done after the commit: that is not over with the session.
    settle_refused: AtomicBool,
    suspects: tokio::sync::OnceCell<Arc<HashSet<String>>>,
}

impl Worker {
    /// The worker of a folder of a mailbox.
    pub fn new(
        (mailbox, id): (Arc<Mailbox>, MailboxId),
        folder: &str,
        board: Board,
        pulse: Pulse,
        peers: Peers,
    ) -> Self {
        Self {
            mailbox,
            id,
            folder: folder.to_owned(),
            board,
            pulse,
            store: peers.store,
            clock: peers.clock,
            intake: peers.intake,
            broker: peers.broker,
            connector: peers.connector,
            pop3: peers.pop3,
            notice: peers.notice,
            gate: peers.space,
            share: peers.share,
            stopwatch: Stopwatch::new(peers.ingest),
            has_progressed: AtomicBool::new(false),
            idle_refused: AtomicBool::new(false),
            settle_refused: AtomicBool::new(false),
            suspects: tokio::sync::OnceCell::new(),
        }
    }

    /// Works until it is stopped.
    ///
    /// # Errors
    /// Only what no worker can go on from: a damaged database.
    pub async fn run(self, stop: CancellationToken) -> Result<(), WorkerError> {
        let mut streak = Streak::default();
        let mut memory = Memory::default();
        while !stop.is_cancelled() {
            self.pulse.beat();
            let session = match self.mailbox.server.protocol {
                Protocol::Imap => self.session(&mut streak, &stop).await,
                Protocol::Pop3 => self.visits(&mut memory, &mut streak, &stop).await,
            };
            match session {
                Ok(()) | Err(WorkerError::Stopped) => break,
                Err(error) if is_fatal(&error) => return Err(error),
                Err(error) => self.fail(&error, &mut streak, &stop).await,
            }
        }
        Ok(())
    }

    /// One connection, until the daemon stops.
    async fn session(&self, streak: &mut Streak, stop: &CancellationToken) -> Result<(), WorkerError> {
        let Some(mut session) = self.sign_in(streak, stop).await? else {
            return Ok(());
        };
        let mut from: Option<Uid> = None;
        let mut looked_at_all = Instant::now();
        loop {
            let selected = stop::unless_stopped(session.select(&self.folder), stop).await?;
            if looked_at_all.elapsed() > FULL_LOOK {
                (from, looked_at_all) = (None, Instant::now());
            }
            let (mut wake, mut is_again) = (Wake::Mail, false);
            while wake == Wake::Mail {
                self.pulse.beat();
                let look = Look {
                    selected: &selected,
                    from,
                    is_again,
                };
                from = self.catch_up(&mut session, look, stop).await?;
                is_again = true;
                if !stop.is_cancelled() {
                    self.caught_up(streak).await;
                }
                wake = self.wait(&mut session, stop).await?;
            }
            if wake == Wake::Stopped {
                session.logout().await;
                return Ok(());
            }
        }
    }

    /// Everything is taken: what was wrong is over.
    async fn caught_up(&self, streak: &mut Streak) {
        self.board.set(&self.folder, MailboxState::Watching, None).await;
        self.board.checked().await;
        if streak.well_since.is_some() {
            return;
        }
        streak.well_since = Some(Instant::now());
        for kind in MAILBOX_ALERTS {
            if kind == AlertKind::ConfigurationRefused && self.settle_refused.load(Ordering::Relaxed) {
                continue;
            }
            self.notice.resolve(kind, &self.mailbox.name, None).await;
        }
        self.notice.resolve(AlertKind::DiskLow, &self.state_dir(), None).await;
    }

    fn state_dir(&self) -> String {
        let directory = self.store.path().parent().unwrap_or_else(|| self.store.path());
        directory.display().to_string()
    }

    async fn wait(&self, session: &mut Session, stop: &CancellationToken) -> Result<Wake, WorkerError> {
        if stop.is_cancelled() {
            return Ok(Wake::Stopped);
        }
        let rest = self.mailbox.poll_interval;
        self.pulse.rest(rest);
        let may_idle = self.mailbox.watch == Watch::Idle && !self.idle_refused.load(Ordering::Relaxed);
        if may_idle && session.can_idle() {
            return match session.idle(rest, stop).await {
                Ok(Woken::Mail) => Ok(Wake::Mail),
                Ok(Woken::Timeout) => Ok(Wake::Look),
                Ok(Woken::Cancelled) => Ok(Wake::Stopped),
                Err(error) => {
                    if matches!(error, ImapError::IdleUnsupported) {
                        self.idle_refused.store(true, Ordering::Relaxed);
                    }
                    Err(error.into())
                }
            };
        }
        tokio::select! {
            () = stop.cancelled() => Ok(Wake::Stopped),
            () = tokio::time::sleep(rest) => Ok(Wake::Look),
        }
    }

    async fn fail(&self, error: &WorkerError, streak: &mut Streak, stop: &CancellationToken) {
        let by_password = matches!(self.mailbox.sign_in, SignIn::Password(_));
        if self.has_progressed.swap(false, Ordering::Relaxed) {
            *streak = Streak::default();
        }
        streak.count(consequence(error, 1, by_password, 1.0).state);
        let usual = consequence(error, streak.failures, by_password, jitter());
        let consequence = self.lasting(error, streak.failures).await.unwrap_or(usual);
        warn!(
            attempt = streak.failures,
            delay_ms = u64::try_from(consequence.wait.as_millis()).unwrap_or(u64::MAX),
            error = %chain(error),
            "{}; next try in {} s",
            consequence.problem.summary,
            consequence.wait.as_secs().max(1)
        );
        let problem = Some(consequence.problem.clone());
        self.board.set(&self.folder, consequence.state, problem).await;
        self.alert(&consequence, streak.is_lasting()).await;
        self.pause(&consequence, stop).await;
    }

    async fn alert(&self, consequence: &Consequence, is_lasting: bool) {
        let Some((kind, urgency)) = consequence.alert else {
            return;
        };
        if urgency == Urgency::Lasting && !is_lasting {
            self.notice.suspect(&self.mailbox.name, &consequence.problem);
            return;
        }
        let subject = if kind == AlertKind::DiskLow {
            self.state_dir()
        } else {
            self.mailbox.name.clone()
        };
        let finding = Finding {
            kind,
            subject,
            login: None,
            problem: consequence.problem.clone(),
        };
        self.notice.raise(&finding).await;
        if kind != AlertKind::MailboxUnreachable && kind != AlertKind::DiskLow {
            // What refuses us is there.
            let name = &self.mailbox.name;
            self.notice.resolve(AlertKind::MailboxUnreachable, name, None).await;
        }
    }

    async fn pause(&self, consequence: &Consequence, stop: &CancellationToken) {
        self.pulse.rest(consequence.wait);
        let elapsed = tokio::time::sleep(consequence.wait);
        tokio::select! {
            () = stop.cancelled() => {}
            () = elapsed => {}
            () = self.grant_changed(consequence.waits_for_grant) => debug!("the grant changed"),
        }
    }

    /// Ends when the grant gets a new generation, as by `authorize` in another process.
    async fn grant_changed(&self, waits: bool) {
        let SignIn::Token(grant) = &self.mailbox.sign_in else {
            return std::future::pending().await;
        };
        if !waits {
            return std::future::pending().await;
        }
        let before = self.generation(grant).await;
        loop {
            tokio::time::sleep(GRANT_LOOK).await;
            let now = self.generation(grant).await;
            if now.is_some() && now != before {
                return;
            }
        }
    }

    /// How often the tokens of a grant have changed; `None` while that cannot be known.
    async fn generation(&self, grant: &GrantRef) -> Option<i64> {
        let key = known_key(&self.store, grant).await.ok()??;
        store::grant::generation(self.store.readers(), &key).await.ok()
    }

    async fn origin(&self) -> Result<Origin, WorkerError> {
        let load =
            async || -> Result<_, StoreError> { Ok(Arc::new(death::suspects(self.store.readers(), self.id).await?)) };
        let suspects = self.suspects.get_or_try_init(load).await?;
        Ok(Origin {
            mailbox: Arc::clone(&self.mailbox),
            id: self.id,
            suspects: Arc::clone(suspects),
        })
    }
}

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wake {
    Mail,
    Look,
    Stopped,
}

/// What is over once a mailbox has been caught up with; a renumbering, too, whose process died before its end.
const MAILBOX_ALERTS: [AlertKind; 7] = [
    AlertKind::CredentialsRefused,
    AlertKind::ConfigurationRefused,
    AlertKind::AdminActionRequired,
    AlertKind::ReauthorizationRequired,
    AlertKind::MailboxUnreachable,
    AlertKind::MailboxStalled,
    AlertKind::UidvalidityChanged,
];
