//! The schema, brought up to date one migration after the other. It never goes back.

use std::borrow::Cow;
use std::path::Path;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{SqlSafeStr, SqliteConnection};

use super::StoreError;

/// The migrations in their order; one that has been released is never edited.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "mailbox", include_str!("../../migrations/0001_mailbox.sql")),
    (2, "issue", include_str!("../../migrations/0002_issue.sql")),
    (3, "message", include_str!("../../migrations/0003_message.sql")),
    (4, "grant", include_str!("../../migrations/0004_grant.sql")),
    (5, "alert", include_str!("../../migrations/0005_alert.sql")),
    (6, "view", include_str!("../../migrations/0006_view.sql")),
    (7, "issue key", include_str!("../../migrations/0007_issue_key.sql")),
    (8, "search", include_str!("../../migrations/0008_search.sql")),
    (9, "merge", include_str!("../../migrations/0009_merge.sql")),
    (10, "outgoing", include_str!("../../migrations/0010_outgoing.sql")),
    (
        11,
        "refused client",
        include_str!("../../migrations/0011_refused_client.sql"),
    ),
    (12, "foresight", include_str!("../../migrations/0012_foresight.sql")),
    (
        13,
        "token key rotation",
        include_str!("../../migrations/0013_token_key_rotation.sql"),
    ),
    (14, "large mail", include_str!("../../migrations/0014_large.sql")),
    (
        15,
        "original part",
        include_str!("../../migrations/0015_original_part.sql"),
    ),
];

/// The number of the newest one.
pub(super) fn newest() -> i64 {
    MIGRATIONS.last().map_or(0, |&(version, ..)| version)
}

/// Applies what is missing.
///
/// # Errors
/// [`StoreError::Newer`] if the database knows migrations that this program does not;
/// [`StoreError::Migrate`] for anything else.
pub(super) async fn run(connection: &mut SqliteConnection, path: &Path) -> Result<(), StoreError> {
    let migrations = MIGRATIONS
        .iter()
        .map(|&(version, description, statements)| {
            Migration::new(
                version,
                Cow::Borrowed(description),
                MigrationType::Simple,
                statements.into_sql_str(),
                false,
            )
        })
        .collect();
    let migrator = Migrator {
        migrations: Cow::Owned(migrations),
        ..Migrator::DEFAULT
    };
    migrator
        .run_direct(None, connection, false)
        .await
        .map_err(|error| refused(error, path))
}

fn refused(error: MigrateError, path: &Path) -> StoreError {
    let path = path.to_owned();
    if matches!(
        error,
        MigrateError::VersionMissing(_) | MigrateError::VersionMismatch(_)
    ) {
        return StoreError::Newer { path };
    }
    if let MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) = error {
        return match StoreError::from(source) {
            StoreError::Failed(source) => StoreError::Open { path, source },
            other => other,
        };
    }
    StoreError::Migrate { path, source: error }
}
