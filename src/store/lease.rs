//! The lease of a grant: who may talk to the token endpoint about it, and until when.
//! It never outlives its time or the boot of the machine.

use sqlx::sqlite::SqliteConnection;

use super::StoreError;
use super::grant::{GrantId, GrantRow};
use crate::time::Timestamp;

/// Takes the lease of a grant until an instant, if nobody else holds it and the row is still as it was read:
/// who was quicker may have renewed it and given the lease back. A lease ends at its time, with the boot of
/// its owner, and when the clock was set back so far that it cannot be true.
///
/// # Errors
/// What the database says.
pub async fn take(
    connection: &mut SqliteConnection,
    row: &GrantRow,
    owner: &LeaseOwner,
    (now, until): (Timestamp, Timestamp),
) -> Result<bool, StoreError> {
    let taken = sqlx::query(
        "UPDATE \"grant\" SET lease_owner = ?1, lease_until = ?2
         WHERE id = ?3 AND generation = ?6 AND failures = ?7 AND next_refresh_at IS ?8
           AND (lease_owner IS NULL OR lease_owner = ?1 OR lease_until <= ?4 OR lease_until > ?2
                OR lease_owner NOT LIKE '%@' || ?5)",
    )
    .bind(owner.text())
    .bind(until.0)
    .bind(row.id.0)
    .bind(now.0)
    .bind(&owner.boot)
    .bind(row.generation)
    .bind(row.failures)
    .bind(row.next_refresh_at.map(|at| at.0))
    .execute(connection)
    .await?;
    Ok(taken.rows_affected() == 1)
}

/// Gives the lease back without a result.
///
/// # Errors
/// What the database says.
pub async fn release(connection: &mut SqliteConnection, id: GrantId, owner: &LeaseOwner) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE \"grant\" SET lease_owner = NULL, lease_until = NULL
         WHERE id = ? AND lease_owner = ?",
    )
    .bind(id.0)
    .bind(owner.text())
    .execute(connection)
    .await?;
    Ok(())
}

/// Who holds a lease.
#[derive(Debug, Clone)]
pub struct LeaseOwner {
    /// Process and a random number.
    pub process: String,
    /// The boot of the machine: a lease of another boot is nobody's.
    pub boot: String,
}

impl LeaseOwner {
    fn text(&self) -> String {
        format!("{}@{}", self.process, self.boot)
    }
}
