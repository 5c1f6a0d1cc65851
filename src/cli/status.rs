//! `status`: mailboxes, grants, alerts; for people, as JSON, and as one line for monitoring.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::context::{self, Context, Failure, NO, OK};
use super::{alert, print};
use crate::alert::Severity;
use crate::config::Config;
use crate::foresight;
use crate::grant::{GrantRef, GrantState, Problem};
use crate::mailbox::{Mailbox, MailboxState, SignIn};
use crate::store::alert::AlertRow;
use crate::store::grant::GrantRow;
use crate::store::mailbox::{self, DaemonRow, MailboxRow};
use crate::store::{Store, StoreError, lock};
use crate::time::Clock;

/// Exit codes of monitoring plug-ins.
const CRITICAL: u8 = 2;
const UNKNOWN: u8 = 3;

/// What there is to know.
struct Facts {
    is_running: bool,
    daemon: Option<DaemonRow>,
    mailboxes: Vec<(Arc<Mailbox>, Option<MailboxRow>)>,
    grants: Vec<(GrantRef, Vec<String>, Option<GrantRow>)>,
    alerts: Vec<AlertRow>,
    /// Deliveries by state.
    outbox: Vec<(String, i64)>,
}

/// Runs the command.
///
/// # Errors
/// Any [`Failure`]; with `check` every failure is the answer "unknown".
pub fn command(config: &Path, check: bool, json: bool) -> Result<u8, Failure> {
    let ran = context::with_config(config, async |context| run(context, check, json).await);
    match ran {
        Err(failure) if check => {
            print::line(&format!(
                "UNKNOWN - {}",
                failure.to_string().replace('\n', "; ").replace('|', "/")
            ))?;
            Ok(UNKNOWN)
        }
        other => other,
    }
}

async fn run(context: &Context, check: bool, json: bool) -> Result<u8, Failure> {
    let facts = gather(context).await?;
    if check {
        let (code, line) = one_line(&facts);
        print::line(&line)?;
        return Ok(code);
    }
    if json {
        print::json(&value(&facts))?;
    } else {
        print::line(&text(&facts))?;
    }
    Ok(OK)
}

async fn gather(context: &Context) -> Result<Facts, Failure> {
    let config = &context.config;
    let mut facts = Facts {
        is_running: lock::is_daemon_running(&config.daemon.state_dir),
        daemon: None,
        mailboxes: config
            .mailboxes
            .iter()
            .map(|mailbox| (Arc::clone(mailbox), None))
            .collect(),
        grants: grants(config),
        alerts: Vec::new(),
        outbox: Vec::new(),
    };
    match Store::open_existing(&config.daemon.state_dir).await {
        Ok(store) => read(&mut facts, &store).await?,
        Err(StoreError::Missing { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(facts)
}

async fn read(facts: &mut Facts, store: &Store) -> Result<(), StoreError> {
    let readers = store.readers();
    facts.daemon = mailbox::daemon(readers).await?;
    for row in mailbox::list(readers).await? {
        for (mailbox, found) in &mut facts.mailboxes {
            if mailbox.address.to_lowercase() == row.address {
                *found = Some(row.clone());
            }
        }
    }
    let rows = crate::store::grant::list(readers).await?;
    for (grant, _, found) in &mut facts.grants {
        let key = crate::broker::known_key(store, grant).await?;
        *found = rows.iter().find(|row| Some(&row.key) == key.as_ref()).cloned();
    }
    let mut known: Vec<_> = facts
        .grants
        .iter_mut()
        .filter_map(|(grant, _, row)| row.as_mut().map(|row| (&*grant, row)))
        .collect();
    foresight::expect_ends(store, &mut known, Clock::system().now()).await?;
    facts.alerts = crate::store::alert::open(readers).await?;
    facts.outbox = crate::store::outgoing::counts(readers).await?;
    Ok(())
}

/// The grants, each once, with the names of the mailboxes that sign in with it; that of an smtp server may have none.
fn grants(config: &Config) -> Vec<(GrantRef, Vec<String>, Option<GrantRow>)> {
    let mut grants: Vec<(GrantRef, Vec<String>, Option<GrantRow>)> = Vec::new();
    for mailbox in &config.mailboxes {
        let SignIn::Token(grant) = &mailbox.sign_in else {
            continue;
        };
        match grants.iter_mut().find(|(known, _, _)| is_same(known, grant)) {
            Some((_, names, _)) => names.push(mailbox.name.clone()),
            None => grants.push((grant.clone(), vec![mailbox.name.clone()], None)),
        }
    }
    for (grant, _) in config.grants() {
        if !grants.iter().any(|(known, _, _)| is_same(known, &grant)) {
            grants.push((grant, Vec::new(), None));
        }
    }
    grants
}

fn is_same(one: &GrantRef, other: &GrantRef) -> bool {
    one.integration.name == other.integration.name && one.login.eq_ignore_ascii_case(&other.login)
}

/// A mailbox's state: of a daemon that does not run, `stopped`.
fn state(facts: &Facts, row: Option<&MailboxRow>) -> String {
    match row {
        Some(row) if facts.is_running => row.state.clone(),
        Some(_) | None => MailboxState::Stopped.as_str().to_owned(),
    }
}

fn error(problem: Option<&Problem>) -> Value {
    problem.map_or(
        Value::Null,
        |problem| json!({ "code": problem.code, "summary": problem.summary, "remedy": problem.remedy }),
    )
}

fn value(facts: &Facts) -> Value {
    let daemon = facts.daemon.filter(|_| facts.is_running);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "daemon": {
            "running": facts.is_running,
            "pid": daemon.map(|daemon| daemon.pid),
            "since": daemon.map(|daemon| daemon.started_at.rfc3339()),
        },
        "mailboxes": facts.mailboxes.iter().map(|(m, row)| mailbox_value(facts, m, row.as_ref())).collect::<Vec<_>>(),
        "grants": facts.grants.iter().map(|(g, names, row)| grant_value(g, names, row.as_ref())).collect::<Vec<_>>(),
        "alerts": facts.alerts.iter().map(AlertRow::value).collect::<Vec<_>>(),
        "outbox": facts.outbox.iter().map(|(state, count)| (state.clone(), json!(count))).collect::<Map<_, _>>(),
    })
}

fn mailbox_value(facts: &Facts, mailbox: &Mailbox, row: Option<&MailboxRow>) -> Value {
    let time = |at: Option<crate::time::Timestamp>| at.map(crate::time::Timestamp::rfc3339);
    let problem = row.and_then(|row| row.error.as_ref()).filter(|_| facts.is_running);
    json!({
        "name": mailbox.name,
        "address": mailbox.address,
        "project": mailbox.project,
        "state": state(facts, row),
        "since": time(row.map(|row| row.since)),
        "last_check_at": time(row.and_then(|row| row.last_check_at)),
        "last_message_at": time(row.and_then(|row| row.last_message_at)),
        "ingested": row.map_or(0, |row| row.ingested),
        "backlog": row.map_or(0, |row| row.backlog),
        "held": row.map_or(0, |row| row.held),
        "quarantined": row.map_or(0, |row| row.quarantined),
        "error": error(problem),
    })
}

fn grant_value(grant: &GrantRef, mailboxes: &[String], row: Option<&GrantRow>) -> Value {
    let time = |at: Option<crate::time::Timestamp>| at.map(crate::time::Timestamp::rfc3339);
    json!({
        "integration": grant.integration.name,
        "login": grant.login,
        "mailboxes": mailboxes,
        "state": row.map_or(GrantState::Pending, |row| row.state).as_str(),
        "access_token_expires_at": time(row.and_then(|row| row.access_token_expires_at)),
        "refreshed_at": time(row.and_then(|row| row.refreshed_at)),
        "next_refresh_at": time(row.and_then(|row| row.next_refresh_at)),
        "refresh_token_issued_at": time(row.and_then(|row| row.refresh_token_issued_at)),
        "expected_end_at": time(row.and_then(|row| row.expected_end_at)),
        "error": error(row.and_then(|row| row.problem.as_ref())),
    })
}

fn text(facts: &Facts) -> String {
    let mut parts = vec![match facts.daemon.filter(|_| facts.is_running) {
        Some(daemon) => format!(
            "mailintake {} runs since {} (pid {})",
            env!("CARGO_PKG_VERSION"),
            print::local_time(&daemon.started_at.rfc3339()),
            daemon.pid
        ),
        None => "the daemon does not run; `systemctl start mailintake` starts it".to_owned(),
    }];
    parts.push(format!("\n{}", mailbox_table(facts)));
    if !facts.grants.is_empty() {
        parts.push(format!("\n{}", grant_table(facts)));
    }
    parts.extend(outbox_line(&facts.outbox));
    if !facts.alerts.is_empty() {
        parts.push(format!("\n{}", alert::text(&facts.alerts)));
    }
    parts.join("\n")
}

/// Such as `outbox: 2 queued, 41 sent`; `None` while nothing was ever to be sent.
fn outbox_line(outbox: &[(String, i64)]) -> Option<String> {
    let counted = outbox.iter().filter(|(_, count)| *count > 0);
    let parts: Vec<String> = counted.map(|(state, count)| format!("{count} {state}")).collect();
    (!parts.is_empty()).then(|| format!("\noutbox: {}", parts.join(", ")))
}

fn mailbox_table(facts: &Facts) -> String {
    let rows = facts.mailboxes.iter().map(|(mailbox, row)| {
        let row = row.as_ref();
        let last = row
            .and_then(|row| row.last_message_at)
            .map(|at| print::local_time(&at.rfc3339()));
        let problem = row.and_then(|row| row.error.as_ref()).filter(|_| facts.is_running);
        vec![
            mailbox.name.clone(),
            mailbox.address.clone(),
            mailbox.project.clone(),
            state(facts, row),
            row.map_or(0, |row| row.ingested).to_string(),
            row.map_or(0, |row| row.backlog).to_string(),
            print::or_dash(last.as_deref()),
            print::or_dash(problem.map(|problem| problem.summary.as_str())),
        ]
    });
    let head = [
        "mailbox",
        "address",
        "project",
        "state",
        "ingested",
        "backlog",
        "last message",
        "error",
    ];
    print::table(&head, rows.collect())
}

fn grant_table(facts: &Facts) -> String {
    let rows = facts.grants.iter().map(|(grant, mailboxes, row)| {
        let row = row.as_ref();
        let at = |at: Option<crate::time::Timestamp>| {
            print::or_dash(at.map(|at| print::local_time(&at.rfc3339())).as_deref())
        };
        vec![
            grant.integration.name.clone(),
            grant.login.clone(),
            row.map_or(GrantState::Pending, |row| row.state).as_str().to_owned(),
            at(row.and_then(|row| row.access_token_expires_at)),
            at(row.and_then(|row| row.next_refresh_at)),
            mailboxes.join(", "),
        ]
    });
    let head = [
        "integration",
        "login",
        "grant",
        "token expires",
        "next renewal",
        "mailboxes",
    ];
    print::table(&head, rows.collect())
}

/// One line with perfdata: worse of what the daemon, the mailboxes and the alerts say.
fn one_line(facts: &Facts) -> (u8, String) {
    let states: Vec<String> = facts
        .mailboxes
        .iter()
        .map(|(_, row)| state(facts, row.as_ref()))
        .collect();
    let watching = states
        .iter()
        .filter(|state| ["watching", "fetching"].contains(&state.as_str()))
        .count();
    let has_critical = facts
        .alerts
        .iter()
        .any(|row| row.finding.severity() == Severity::Critical);
    let parked = ["needs-authorization", "needs-admin", "misconfigured"];
    let is_parked = states.iter().any(|state| parked.contains(&state.as_str()));
    let (code, word) = if !facts.is_running || has_critical || is_parked {
        (CRITICAL, "CRITICAL")
    } else if !facts.alerts.is_empty() || watching < states.len() {
        (NO, "WARNING")
    } else {
        (OK, "OK")
    };
    let said = match facts.alerts.first() {
        _ if !facts.is_running => "the daemon does not run".to_owned(),
        Some(row) => format!("{}: {}", row.finding.subject, row.finding.problem.summary),
        None => format!("{watching} of {} mailboxes watched", states.len()),
    };
    let sum = |of: fn(&MailboxRow) -> i64| {
        facts
            .mailboxes
            .iter()
            .filter_map(|(_, row)| row.as_ref())
            .map(of)
            .sum::<i64>()
    };
    let perfdata = format!(
        "mailboxes={} watching={watching} backlog={} held={} quarantined={} alerts={}",
        states.len(),
        sum(|row| row.backlog),
        sum(|row| row.held),
        sum(|row| row.quarantined),
        facts.alerts.len()
    );
    (
        code,
        format!("{word} - {} | {perfdata}", said.replace(['\n', '|'], " ")),
    )
}
