//! `audit`: the servers against the ledger.

use std::sync::Arc;

use serde_json::{Value, json};

use super::context::{Context, Failure, NO, OK};
use super::print;
use super::progress::Progress;
use crate::audit::{AuditError, Audited, Bench, Connectors, Missing, Step, audit};
use crate::fault::chain;
use crate::mailbox::{Mailbox, Uid};

/// Compares the named mailboxes, or all.
///
/// # Errors
/// Any [`Failure`].
pub async fn run(context: &Context, names: &[String], json: bool) -> Result<u8, Failure> {
    let mailboxes = context.mailboxes(names)?;
    let store = context.store().await?;
    let broker = context.broker(&store).await?;
    let connectors = Connectors::new(&context.config.trust);
    let bench = Bench {
        store: &store,
        broker: &broker,
        connectors: &connectors,
    };
    let mut progress = Progress::new(None);
    let mut told = |step| match step {
        Step::Listed(count) => progress.expect(count),
        Step::Compared(count) => progress.add(count),
    };
    let mut results = Vec::new();
    for mailbox in mailboxes {
        let audited = audit(&mailbox, &bench, &mut told).await;
        results.push((mailbox, audited));
    }
    drop(progress);
    if json {
        print::json(
            &results
                .iter()
                .map(|(mailbox, result)| value(mailbox, result))
                .collect::<Vec<_>>(),
        )?;
    } else {
        for (mailbox, result) in &results {
            print::line(&text(mailbox, result))?;
        }
    }
    let is_clean = results
        .iter()
        .all(|(_, result)| matches!(result, Ok(audited) if audited.missing.is_empty()));
    Ok(if is_clean { OK } else { NO })
}

fn text(mailbox: &Arc<Mailbox>, result: &Result<Audited, AuditError>) -> String {
    match result {
        Err(error) => format!("{}: {}", mailbox.name, chain(error)),
        Ok(audited) if audited.missing.is_empty() => {
            format!(
                "{}: all {} messages on the server are in the ledger",
                mailbox.name, audited.on_server
            )
        }
        Ok(audited) => {
            let rows = audited.missing.iter().map(|missing| {
                vec![
                    missing.folder.clone(),
                    id(missing),
                    print::or_dash(
                        missing
                            .received_at
                            .map(|at| print::local_time(&at.rfc3339()))
                            .as_deref(),
                    ),
                    print::or_dash(missing.message_id.as_deref()),
                ]
            });
            format!(
                "{}: {} of {} messages on the server have no final row in the ledger; the daemon takes them when it runs\n{}",
                mailbox.name,
                audited.missing.len(),
                audited.on_server,
                print::table(&["folder", "uid", "received", "message-id"], rows.collect())
            )
        }
    }
}

/// Its UID or UIDL.
fn id(missing: &Missing) -> String {
    let uid = missing.uid.map(|uid| uid.get().to_string());
    uid.or_else(|| missing.uidl.clone()).unwrap_or_default()
}

fn value(mailbox: &Arc<Mailbox>, result: &Result<Audited, AuditError>) -> Value {
    match result {
        Err(error) => json!({ "mailbox": mailbox.name, "error": chain(error) }),
        Ok(audited) => json!({
            "mailbox": mailbox.name,
            "on_server": audited.on_server,
            "missing": audited.missing.iter().map(|missing| json!({
                "folder": missing.folder,
                "uid": missing.uid.map(Uid::get),
                "uidl": missing.uidl,
                "message_id": missing.message_id,
                "received_at": missing.received_at.map(crate::time::Timestamp::rfc3339),
            })).collect::<Vec<_>>(),
        }),
    }
}
