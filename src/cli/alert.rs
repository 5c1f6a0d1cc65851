//! `alert …`: what a person must know or do.

use clap::Subcommand;

use super::Json;
use super::context::{Database, Failure, OK};
use super::print;
use crate::store::alert::{self, AlertRow};

/// The commands about alerts.
#[derive(Debug, Subcommand)]
pub enum Alert {
    /// List open alerts with their remedies
    List(Json),
    /// Take note of an alert: it is not told again
    Acknowledge {
        /// The alert
        id: i64,
    },
}

/// Runs one of them.
///
/// # Errors
/// Any [`Failure`].
pub async fn run(database: &Database, command: Alert) -> Result<u8, Failure> {
    match command {
        Alert::List(Json { json }) => list(database, json).await,
        Alert::Acknowledge { id } => acknowledge(database, id).await,
    }
}

async fn list(database: &Database, json: bool) -> Result<u8, Failure> {
    let store = database.store().await?;
    let alerts = alert::open(store.readers()).await?;
    if json {
        print::json(&alerts.iter().map(AlertRow::value).collect::<Vec<_>>())?;
    } else if alerts.is_empty() {
        print::aside("no alerts");
    } else {
        print::line(&text(&alerts))?;
    }
    Ok(OK)
}

/// The alerts for people: what, since when, and what to do.
pub fn text(alerts: &[AlertRow]) -> String {
    let one = |row: &AlertRow| {
        let (finding, problem) = (&row.finding, &row.finding.problem);
        let noted = if row.is_acknowledged { ", acknowledged" } else { "" };
        format!(
            "{} {} {}: {} since {}{noted}\n   {} [{}]\n   {}",
            row.id,
            finding.severity().as_str(),
            finding.kind.as_str(),
            finding.subject,
            print::local_time(&row.since.rfc3339()),
            problem.summary,
            problem.code,
            problem.remedy
        )
    };
    alerts.iter().map(one).collect::<Vec<_>>().join("\n")
}

async fn acknowledge(database: &Database, id: i64) -> Result<u8, Failure> {
    let store = database.store().await?;
    let mut write = store.write().await?;
    let is_open = alert::acknowledge(write.connection()?, id, database.clock.now()).await?;
    write.commit().await?;
    if !is_open {
        return Err(Failure::NotFound(format!(
            "there is no open alert {id}; `mailintake alert list` shows all"
        )));
    }
    Ok(OK)
}
