//! Keeps a worker for each folder of each configured mailbox: starts, restarts, replaces and ends them.

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, info_span};

use super::DaemonError;
use crate::alert::{AlertKind, Finding};
use crate::config::Config;
use crate::grant::Problem;
use crate::mailbox::{Mailbox, MailboxId, MailboxState};
use crate::store::{alert, mailbox};
use crate::worker::condition::Board;
use crate::worker::pulse::Pulse;
use crate::worker::{Peers, Worker, WorkerError};

/// The workers.
pub(super) struct Keeper {
    peers: Peers,
    watched: HashMap<MailboxId, Watched>,
    workers: JoinSet<Ended>,
    stop: CancellationToken,
}

/// A mailbox that is being watched.
struct Watched {
    mailbox: Arc<Mailbox>,
    board: Board,
    stop: CancellationToken,
    folders: HashMap<String, (Pulse, AbortHandle)>,
}

impl Watched {
    /// Tells its workers to end; they have nothing more to say.
    fn end(&self) {
        self.board.close();
        self.stop.cancel();
    }
}

/// The end of a worker.
struct Ended {
    id: MailboxId,
    folder: String,
    /// What it was told to do: workers of a mailbox that was replaced are none of ours any more.
    stop: CancellationToken,
    result: Result<(), WorkerError>,
}

impl Keeper {
    pub(super) fn new(peers: Peers, stop: CancellationToken) -> Self {
        Self {
            peers,
            watched: HashMap::new(),
            workers: JoinSet::new(),
            stop,
        }
    }

    /// Watches what the configuration has: mailboxes that did not change and are well keep their connection.
    pub(super) async fn follow(&mut self, config: &Config) -> Result<(), DaemonError> {
        let ids = self.write_down(config).await?;
        self.peers.notice.watch(hosts(config));
        self.watched.retain(|id, watched| {
            let is_kept = ids.iter().any(|(kept, _)| kept == id);
            if !is_kept {
                watched.end();
            }
            is_kept
        });
        for (id, mailbox) in ids {
            if let Some(watched) = self.watched.get(&id) {
                let is_well = matches!(watched.board.state(), MailboxState::Watching | MailboxState::Fetching);
                if watched.mailbox == mailbox && is_well {
                    continue;
                }
                watched.end();
            }
            self.watch(id, mailbox);
        }
        self.forget_alerts(config).await
    }

    /// Brings the rows of the mailboxes up to date; returns them.
    async fn write_down(&self, config: &Config) -> Result<Vec<(MailboxId, Arc<Mailbox>)>, DaemonError> {
        let now = self.peers.clock.now();
        let mut write = self.peers.store.write().await?;
        let mut ids = Vec::new();
        for mailbox in &config.mailboxes {
            let connection = write.connection()?;
            let id = mailbox::ensure(connection, &mailbox.address, &mailbox.name, &mailbox.project, now).await?;
            ids.push((id, Arc::clone(mailbox)));
        }
        let kept: Vec<MailboxId> = ids.iter().map(|(id, _)| *id).collect();
        mailbox::retire_others(write.connection()?, &kept).await?;
        write.commit().await?;
        Ok(ids)
    }

    /// Alerts about what the configuration no longer has are over.
    async fn forget_alerts(&self, config: &Config) -> Result<(), DaemonError> {
        let state_dir = config.daemon.state_dir.display().to_string();
        let hosts = hosts(config);
        for row in alert::open(self.peers.store.readers()).await? {
            let subject = row.finding.subject.as_str();
            let is_known = subject == state_dir
                // Of several mailboxes at one server; the alert is settled with theirs.
                || hosts.values().any(|host| host == subject)
                || is_settled(row.finding.kind)
                || config.mailboxes.iter().any(|mailbox| mailbox.name == subject)
                || config
                    .integrations
                    .iter()
                    .any(|integration| integration.name == subject)
                || config.smtp.iter().any(|smtp| smtp.name == subject);
            if !is_known {
                let login = row.finding.login.as_deref();
                self.peers.notice.resolve(row.finding.kind, subject, login).await;
            }
        }
        Ok(())
    }

    fn watch(&mut self, id: MailboxId, mailbox: Arc<Mailbox>) {
        let (store, clock) = (self.peers.store.clone(), self.peers.clock.clone());
        let mut watched = Watched {
            board: Board::new(id, &mailbox.folders, store, clock),
            stop: self.stop.child_token(),
            folders: HashMap::new(),
            mailbox,
        };
        for folder in watched.mailbox.folders.clone() {
            self.start(id, &mut watched, folder);
        }
        self.watched.insert(id, watched);
    }

    fn start(&mut self, id: MailboxId, watched: &mut Watched, folder: String) {
        let pulse = Pulse::default();
        let mailbox = Arc::clone(&watched.mailbox);
        let span = info_span!("mailbox", mailbox = %mailbox.name);
        let worker = Worker::new(
            (mailbox, id),
            &folder,
            watched.board.clone(),
            pulse.clone(),
            self.peers.clone(),
        );
        let (stop, name) = (watched.stop.clone(), folder.clone());
        let work = async move {
            let result = AssertUnwindSafe(worker.run(stop.clone())).catch_unwind().await;
            Ended {
                id,
                folder: name,
                stop,
                // A panic was logged where it happened; the worker is started anew.
                result: result.unwrap_or(Ok(())),
            }
        };
        let handle = self.workers.spawn(work.instrument(span));
        watched.folders.insert(folder, (pulse, handle));
    }

    /// Starts anew what ended without being told to, or is stuck.
    pub(super) async fn look_after(&mut self) -> Result<(), DaemonError> {
        while let Some(ended) = self.workers.try_join_next() {
            // An aborted worker is started anew below.
            let Ok(ended) = ended else { continue };
            if let Err(WorkerError::Store(fault)) = ended.result {
                return Err(DaemonError::Store(fault));
            }
            if let Err(WorkerError::Intake(fault)) = ended.result {
                return Err(super::build::intake_failed(fault, self.peers.store.path()));
            }
            if !ended.stop.is_cancelled() {
                error!(folder = ended.folder, "a worker ended; it is started anew");
                self.restart(ended.id, &ended.folder);
            }
        }
        for (id, name, folder) in self.stalled() {
            error!(mailbox = name, folder, "a worker is stuck; it is started anew");
            self.peers.notice.raise(&stalled(&name, &folder)).await;
            self.restart(id, &folder);
        }
        Ok(())
    }

    fn stalled(&self) -> Vec<(MailboxId, String, String)> {
        let mut stalled = Vec::new();
        for (id, watched) in &self.watched {
            for (folder, (pulse, _)) in &watched.folders {
                if pulse.is_overdue() {
                    stalled.push((*id, watched.mailbox.name.clone(), folder.clone()));
                }
            }
        }
        stalled
    }

    fn restart(&mut self, id: MailboxId, folder: &str) {
        let Some(mut watched) = self.watched.remove(&id) else {
            return;
        };
        if let Some((_, handle)) = watched.folders.remove(folder) {
            handle.abort();
        }
        self.start(id, &mut watched, folder.to_owned());
        self.watched.insert(id, watched);
    }

    /// The states of all mailboxes.
    pub(super) fn states(&self) -> Vec<MailboxState> {
        self.watched.values().map(|watched| watched.board.state()).collect()
    }

    /// Waits until all workers have ended, once they were told to.
    pub(super) async fn end(&mut self) {
        while self.workers.join_next().await.is_some() {}
    }
}

/// Whether what is no longer configured is resolved by whoever settles alerts of this kind.
fn is_settled(kind: AlertKind) -> bool {
    kind.is_told_by_date() || matches!(kind, AlertKind::GrantExpiring | AlertKind::MailboxUnreachable)
}

/// The server of each mailbox, as `host:port`.
fn hosts(config: &Config) -> BTreeMap<String, String> {
    let host = |mailbox: &Arc<Mailbox>| {
        let server = &mailbox.server;
        (mailbox.name.clone(), format!("{}:{}", server.host, server.port))
    };
    config.mailboxes.iter().map(host).collect()
}

fn stalled(mailbox: &str, folder: &str) -> Finding {
    Finding {
        kind: AlertKind::MailboxStalled,
        subject: mailbox.to_owned(),
        login: None,
        problem: Problem {
            code: "mailbox-stalled".into(),
            summary: format!("the worker of the folder {folder} was stuck and was started anew"),
            remedy: "If this comes again, send the journal of this mailbox to the maintainers".into(),
        },
    }
}
