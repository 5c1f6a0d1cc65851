//! What is told of alerts in the journal.
//! It never decides whether it is told.

use tracing::{error, info};

use crate::alert::Finding;
use crate::store::alert;

/// A remedy as a sentence of its own.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// The integration that an alert is about, where it is about a grant.
fn integration(finding: &Finding) -> Option<&str> {
    finding.login.as_ref().map(|_| finding.subject.as_str())
}

pub(super) fn tell_raised(finding: &Finding, mailbox: Option<&str>) {
    tell_open("alert.raised", "", finding, mailbox);
}

pub(super) fn tell_reminded(row: &alert::AlertRow, mailbox: Option<&str>) {
    let since = format!("still, since {}: ", row.since.rfc3339());
    tell_open("alert.reminded", &since, &row.finding, mailbox);
}

/// `mailbox`: whose alert it is, where it is told outside of the mailbox's own work.
fn tell_open(event: &str, since: &str, finding: &Finding, mailbox: Option<&str>) {
    let problem = &finding.problem;
    error!(
        event,
        mailbox,
        integration = integration(finding),
        alert = finding.kind.as_str(),
        severity = finding.severity().as_str(),
        subject = finding.subject,
        provider_code = problem.code,
        message_id = finding.kind.catalog_id(),
        "{since}{}: {}. {}",
        finding.subject,
        problem.summary,
        sentence(&problem.remedy)
    );
}

pub(super) fn tell_resolved(finding: &Finding, mailbox: Option<&str>) {
    info!(
        event = "alert.resolved",
        mailbox,
        integration = integration(finding),
        alert = finding.kind.as_str(),
        subject = finding.subject,
        provider_code = finding.problem.code,
        "over: {}: {}",
        finding.subject,
        finding.problem.summary
    );
}
