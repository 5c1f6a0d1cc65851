//! The database: one writer, a pool of readers, and the statements by noun below.
//! It never talks to the network, and no statement lives outside of this folder.

pub mod alert;
pub mod attachment;
pub mod authorization;
pub mod backup;
pub mod client;
pub mod discovery;
pub mod erase;
mod error;
mod frame;
pub mod grant;
pub mod issue;
pub mod lease;
pub mod lock;
pub mod mailbox;
pub mod maintenance;
pub mod merge;
pub mod message;
pub mod metric;
pub mod migrate;
mod origin;
pub mod original;
pub mod outgoing;
pub mod reading;
pub mod restore;
pub mod retention;
pub mod search;
pub mod space;
pub mod thread;
pub mod token_key;
pub mod view;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Connection, SqlitePool};
use tokio::sync::{Mutex, OwnedMutexGuard};

pub use self::error::StoreError;

/// Name of the database in the state directory.
pub const FILE_NAME: &str = "mailintake.db";

/// Time that a statement waits for another process that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections for reading: commands, the listener and the workers' look-ups.
const READERS: u32 = 3;
/// Pages of the write-ahead log after which it is folded back, at 4 KiB each.
const CHECKPOINT_PAGES: &str = "4000";

/// The database. Clones share its connections.
#[derive(Clone)]
pub struct Store {
    path: PathBuf,
    /// Device and number of the file, by which it is seen that it was taken away.
    file: Option<(u64, u64)>,
    writer: Arc<Mutex<Writer>>,
    readers: SqlitePool,
}

/// The writing connection, and what must be done before it is used again.
struct Writer {
    connection: Option<SqliteConnection>,
    /// A transaction is open; it ends with its owner.
    is_open: bool,
    /// What `PRAGMA synchronous` was set to last.
    durability: Durability,
}

/// Whether a commit waits until the disk has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Durability {
    /// `synchronous=FULL`: survives a power cut.
    Full,
    /// `synchronous=NORMAL`: survives the death of the process; a power cut may undo it.
    Normal,
}

impl Store {
    /// Opens the database of a state directory, makes it if it is not there, and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError::Open`], [`StoreError::Foreign`], [`StoreError::Corrupt`], [`StoreError::Newer`], [`StoreError::Migrate`].
    pub async fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let path = state_dir.join(FILE_NAME);
        let _migrating = lock::migration(state_dir).await?;
        origin::check(&path).await?;
        let mut connection = connect(&path).await?;
        migrate::run(&mut connection, &path).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .min_connections(0)
            .connect_lazy_with(
                SqliteConnectOptions::new()
                    .filename(&path)
                    .read_only(true)
                    .busy_timeout(BUSY_TIMEOUT)
                    .pragma("cache_size", "-1000")
                    .pragma("cell_size_check", "on"),
            );
        Ok(Self {
            file: identity(&path),
            path,
            writer: Arc::new(Mutex::new(Writer {
                connection: Some(connection),
                is_open: false,
                durability: Durability::Full,
            })),
            readers,
        })
    }

    /// Opens the database of a state directory if there is one.
    ///
    /// # Errors
    /// [`StoreError::Missing`] where there is none, else as [`Store::open`].
    pub async fn open_existing(state_dir: &Path) -> Result<Self, StoreError> {
        let path = state_dir.join(FILE_NAME);
        if !path.exists() {
            return Err(StoreError::Missing { path });
        }
        Self::open(state_dir).await
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The readers, for statements that change nothing.
    pub fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// Begins a transaction that is on disk once it is committed (`BEGIN IMMEDIATE`, `synchronous=FULL`).
    ///
    /// # Errors
    /// [`StoreError::Busy`] if another process writes for too long; else what the disk says.
    pub async fn write(&self) -> Result<Write, StoreError> {
        self.begin(Durability::Full).await
    }

    /// Begins a transaction whose loss in a power cut costs a repeated step, never a message.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub async fn write_lightly(&self) -> Result<Write, StoreError> {
        self.begin(Durability::Normal).await
    }

    async fn begin(&self, durability: Durability) -> Result<Write, StoreError> {
        let mut writer = Arc::clone(&self.writer).lock_owned().await;
        // What was committed to a file without a name would be gone, and the mail deleted on its server.
        if identity(&self.path) != self.file {
            return Err(StoreError::Removed {
                path: self.path.clone(),
            });
        }
        let mut connection = if let Some(connection) = writer.connection.take() {
            connection
        } else {
            writer.durability = Durability::Full;
            connect(&self.path).await?
        };
        if writer.durability != durability {
            let pragma = match durability {
                Durability::Full => "PRAGMA synchronous = FULL",
                Durability::Normal => "PRAGMA synchronous = NORMAL",
            };
            execute(&mut connection, pragma).await?;
            writer.durability = durability;
        }
        let begun = execute(&mut connection, "BEGIN IMMEDIATE").await;
        writer.connection = Some(connection);
        begun?;
        writer.is_open = true;
        Ok(Write { writer })
    }

    /// Runs a statement that cannot stand in a transaction.
    async fn outside_transaction(&self, statement: &'static str) -> Result<(), StoreError> {
        let mut write = self.write_lightly().await?;
        execute(write.connection()?, "ROLLBACK").await?;
        write.writer.is_open = false;
        execute(write.connection()?, statement).await
    }

    /// Folds the write-ahead log back and closes all connections.
    pub async fn close(self) {
        self.readers.close().await;
        if let Some(connection) = self.writer.lock().await.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(error = %crate::fault::chain(&error), "could not close the database cleanly");
        }
    }
}

/// A transaction that writes; dropped without [`Write::commit`], nothing of it holds.
pub struct Write {
    writer: OwnedMutexGuard<Writer>,
}

/// A transaction that is given up ends at once: left open until the next one begins, it would keep every
/// other process from writing. Closing the connection rolls it back.
impl Drop for Write {
    fn drop(&mut self) {
        if std::mem::take(&mut self.writer.is_open) {
            self.writer.connection = None;
        }
    }
}

impl Write {
    /// The connection, for the statements of this transaction.
    ///
    /// # Errors
    /// [`StoreError::Failed`] if the connection was lost.
    pub fn connection(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        self.writer
            .connection
            .as_mut()
            .ok_or_else(|| StoreError::Failed(sqlx::Error::WorkerCrashed))
    }

    /// Makes it hold.
    ///
    /// # Errors
    /// [`StoreError::Full`] if the disk is full and nothing of it holds; [`StoreError::Unknown`] where the
    /// outcome cannot be known: the connection is opened anew, and the caller looks its keys up again.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        self.writer.is_open = false;
        let committed = match self.writer.connection.as_mut() {
            Some(connection) => execute(connection, "COMMIT").await,
            None => Err(StoreError::Failed(sqlx::Error::WorkerCrashed)),
        };
        match committed {
            Ok(()) => Ok(()),
            Err(StoreError::Full(source)) => {
                self.writer.is_open = true;
                Err(StoreError::Full(source))
            }
            Err(error) => {
                self.writer.connection = None;
                Err(unknown(error))
            }
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

fn unknown(error: StoreError) -> StoreError {
    match error {
        StoreError::Busy(source) | StoreError::Failed(source) => StoreError::Unknown(source),
        other => other,
    }
}

async fn execute(connection: &mut SqliteConnection, statement: &'static str) -> Result<(), StoreError> {
    sqlx::query(statement).execute(connection).await?;
    Ok(())
}

async fn connect(path: &Path) -> Result<SqliteConnection, StoreError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .auto_vacuum(SqliteAutoVacuum::Incremental)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("cache_size", "-4000")
        .pragma("temp_store", "memory")
        .pragma("journal_size_limit", "67108864")
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        // What is deleted or moved leaves no copy in a page: erasing needs that. `fast` costs no more writing.
        .pragma("secure_delete", "fast")
        .pragma("trusted_schema", "off")
        .pragma("cell_size_check", "on");
    SqliteConnection::connect_with(&options)
        .await
        .map_err(|source| match StoreError::from(source) {
            StoreError::Failed(source) => StoreError::Open {
                path: path.to_owned(),
                source,
            },
            other => other,
        })
}
