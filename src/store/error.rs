//! Why the database did not do what it was asked, and what that asks for.
//! It never decides whether to try again.

use std::path::PathBuf;
use std::str::FromStr;

use crate::fault::Remedy;

/// Why the database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no database yet.
    #[error("there is no database at {path}; it is made when the daemon first runs")]
    Missing {
        /// Where it was expected.
        path: PathBuf,
    },
    /// It could not be opened.
    #[error("cannot open the database {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// The file is another program's.
    #[error("{path} is no database of mailintake: restore a backup, or name another state_dir; nothing was changed")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Another file, or none, stands where the database was opened.
    #[error(
        "the database {path} was removed or replaced while it was in use; nothing more is taken or marked on a server"
    )]
    Removed {
        /// The file.
        path: PathBuf,
    },
    /// Its schema is that of a newer version of this program.
    #[error("the database {path} was made by a newer mailintake; install that version again, or restore a backup")]
    Newer {
        /// The file.
        path: PathBuf,
    },
    /// Its schema could not be brought up to date.
    #[error("cannot bring the database {path} up to date")]
    Migrate {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    /// The disk is full.
    #[error("the disk is full")]
    Full(#[source] sqlx::Error),
    /// So little room is left that nothing more is taken in.
    #[error("only {free} bytes are free on the disk of {path}")]
    Low {
        /// The state directory.
        path: PathBuf,
        /// What is free.
        free: u64,
    },
    /// The database is damaged, or no database.
    #[error("the database is damaged; restore a backup, the server still has the mail")]
    Corrupt(#[source] sqlx::Error),
    /// Another process holds it too long.
    #[error("the database is busy")]
    Busy(#[source] sqlx::Error),
    /// The commit returned an error: whether it holds is unknown, so keys must be looked up again.
    #[error("the outcome of a commit is unknown")]
    Unknown(#[source] sqlx::Error),
    /// A row says what cannot be.
    #[error("the table {table} has an impossible value in {column}")]
    Inconsistent {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
    },
    /// Anything else that SQLite or the disk says.
    #[error("the database failed")]
    Failed(#[source] sqlx::Error),
    /// A file beside the database could not be used.
    #[error("cannot use {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl StoreError {
    /// Whether it is for want of room on the disk.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full(_) | Self::Low { .. })
    }

    /// What it asks for.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Full(_) | Self::Low { .. } | Self::Busy(_) | Self::Unknown(_) => Remedy::RETRY,
            Self::Missing { .. }
            | Self::Open { .. }
            | Self::Foreign { .. }
            | Self::Removed { .. }
            | Self::Newer { .. }
            | Self::Migrate { .. }
            | Self::Corrupt(_)
            | Self::Inconsistent { .. }
            | Self::Failed(_)
            | Self::File { .. } => Remedy::Abort,
        }
    }
}

/// Primary result codes of SQLite (<https://www.sqlite.org/rescode.html>).
const SQLITE_BUSY: i64 = 5;
const SQLITE_LOCKED: i64 = 6;
const SQLITE_CORRUPT: i64 = 11;
const SQLITE_FULL: i64 = 13;
const SQLITE_NOTADB: i64 = 26;

/// Whether the file is none of SQLite's.
pub(super) fn is_no_database(error: &sqlx::Error) -> bool {
    primary_code(error) == Some(SQLITE_NOTADB)
}

fn primary_code(error: &sqlx::Error) -> Option<i64> {
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .and_then(|code| i64::from_str(&code).ok())
        .map(|extended| extended & 0xff)
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match primary_code(&error) {
            Some(SQLITE_FULL) => Self::Full(error),
            Some(SQLITE_CORRUPT | SQLITE_NOTADB) => Self::Corrupt(error),
            Some(SQLITE_BUSY | SQLITE_LOCKED) => Self::Busy(error),
            Some(_) | None => Self::Failed(error),
        }
    }
}
