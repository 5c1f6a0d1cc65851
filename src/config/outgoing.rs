//! `[[smtp]]`, `[[webhook]]`, `[alerts]` and `[retention]`: what goes out, to whom, and how long things are kept.
//! It sends nothing.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::mailbox::{SASL, host, refuse_wrong_sasl};
use super::preset::{self, Service};
use super::secret::ANY_DURATION;
use super::value;
use super::walk::{Section, unknown_word};
use super::{Config, Lookup};
use crate::grant::{GrantRef, Integration};
use crate::mailbox::{Sasl, Tls};
use crate::outgoing::{Alerts, EVENTS, Receivers, Retention, Smtp, SmtpSignIn, Webhook};
use crate::project::Glob;

pub(super) const SMTP_KEYS: [&str; 12] = [
    "name",
    "host",
    "port",
    "tls",
    "from",
    "username",
    "password",
    "password_expires",
    "integration",
    "login",
    "ca_file",
    "sasl",
];
pub(super) const WEBHOOK_KEYS: [&str; 3] = ["url", "secret", "events"];
pub(super) const ALERTS_KEYS: [&str; 3] = ["email", "command", "remind_after"];
pub(super) const RETENTION_KEYS: [&str; 1] = ["raw_messages"];

impl Config {
    /// All that is told of what happens.
    pub fn receivers(&self) -> Receivers {
        Receivers {
            smtp: self.smtp.clone(),
            webhooks: self.webhooks.clone(),
            alerts: self.alerts.clone(),
        }
    }
}

/// When an open alert is told again unless somebody says otherwise, in hours.
const REMIND_HOURS: [u64; 3] = [1, 6, 24];
/// How long original bytes are kept unless somebody says otherwise.
const RAW_DEFAULT: Duration = Duration::from_hours(90 * 24);

/// An smtp server; `None` where something is wrong with it, all of which is then reported.
pub(super) fn build_smtp(section: &Section<'_>, lookup: &Lookup<'_>) -> Option<Smtp> {
    let integration = lookup.integration(section);
    let preset = integration.as_deref();
    let is_half = section.has("integration") && integration.is_none();
    let host = match preset.and_then(preset_host) {
        Some(preset) if !section.has("host") => Some(preset.to_owned()),
        None if is_half && !section.has("host") => None,
        Some(_) | None => host(section),
    };
    let (tls, port) = protection(section, preset);
    let from = section.sender("from");
    let sign_in = sign_in(section, integration.clone());
    let sasl = section.word("sasl", &SASL).unwrap_or(Sasl::Auto);
    refuse_wrong_sasl(section, sasl);
    let ca_file = section.ca_file("ca_file");
    let host = host?;
    Some(Smtp {
        name: section.text("name").unwrap_or_else(|| host.clone()),
        host,
        port,
        tls,
        ca_file,
        from,
        sign_in: sign_in?,
        sasl,
    })
}

/// The name of an smtp server before it is built, for those that refer to it.
pub(super) fn smtp_name(section: &Section<'_>) -> Option<String> {
    section
        .quiet("name")
        .or_else(|| section.quiet("host"))
        .map(str::to_owned)
}

fn preset_host(integration: &Integration) -> Option<&'static str> {
    let tenant = integration.tenant.as_deref().unwrap_or_default();
    preset::host(integration.provider, tenant, Service::Smtp)
}

/// TLS from the first byte where that is said, where the port is 465, or where the provider has nothing else.
fn protection(section: &Section<'_>, integration: Option<&Integration>) -> (Tls, u16) {
    let words = [("starttls", Tls::StartTls), ("implicit", Tls::Implicit)];
    let port = section.port("port", 587);
    let is_implicit = match port {
        Some(port) => port == 465,
        None => integration.is_some_and(|integration| preset::has_implicit_smtp(integration.provider)),
    };
    let default = if is_implicit { Tls::Implicit } else { Tls::StartTls };
    let tls = section.word("tls", &words).unwrap_or(default);
    let usual = if tls == Tls::Implicit { 465 } else { 587 };
    (tls, port.unwrap_or(usual))
}

fn sign_in(section: &Section<'_>, integration: Option<std::sync::Arc<Integration>>) -> Option<SmtpSignIn> {
    let username = section.text("username");
    if section.has("password_expires") && !section.has("password") {
        section.fault(
            "password_expires",
            "password_expires is of no use without password; take it out",
        );
    }
    match (section.has("password"), section.has("integration")) {
        (true, true) => {
            section.fault("password", "password and integration exclude each other; take one out");
            None
        }
        (true, false) => {
            if section.has("login") {
                section.wrong("login", "is for an integration; with a password use username");
            }
            let expires = section.expiry("password_expires");
            let password = section.secret("password");
            if !section.has("username") {
                section.missing("username", "password needs username = \"…\"");
            }
            Some(SmtpSignIn::Password {
                username: username?,
                password: password?,
                expires,
            })
        }
        (false, true) => {
            let login = section.required("login", "write whose grant it is, such as \"ann@example.org\"")?;
            let sasl_user = username.unwrap_or_else(|| login.clone());
            let integration = integration?;
            Some(SmtpSignIn::Token {
                grant: GrantRef { integration, login },
                sasl_user,
            })
        }
        (false, false) => {
            for key in ["username", "login"].into_iter().filter(|key| section.has(key)) {
                section.fault(
                    key,
                    &format!("{key} needs password = {{ file = \"…\" }} or integration = \"NAME\""),
                );
            }
            Some(SmtpSignIn::Anonymous)
        }
    }
}

/// A webhook; `None` where something is wrong with it, all of which is then reported.
pub(super) fn build_webhook(section: &Section<'_>) -> Option<Webhook> {
    if !section.has("url") {
        section.missing("url", "write the address to call, https://…");
    }
    let url = section.url("url");
    let secret = section.secret("secret");
    if !section.has("secret") {
        section.warn("secret is not set, so the receiver cannot tell who calls");
    }
    let events = section.texts("events").unwrap_or_default();
    let globs: Vec<Glob> = events.iter().map(|event| Glob::new(event)).collect();
    for (event, glob) in events.iter().zip(&globs) {
        if !EVENTS.iter().any(|known| glob.matches(known)) {
            let why = unknown_word(event, EVENTS.into_iter());
            section.fault("events", &format!("events: \"{event}\" {why}"));
        }
    }
    Some(Webhook {
        url: url?,
        secret,
        events: globs,
    })
}

/// `[alerts]`, which may be left out.
pub(super) fn alerts(root: &Section<'_>, smtp: &[Smtp], lookup: &Lookup<'_>) -> Alerts {
    let default: Vec<Duration> = REMIND_HOURS.iter().map(|hours| Duration::from_hours(*hours)).collect();
    let Some(section) = root.single("alerts", &ALERTS_KEYS) else {
        return Alerts {
            email: Vec::new(),
            command: Vec::new(),
            remind_after: default,
        };
    };
    Alerts {
        email: recipients(&section, smtp, lookup),
        command: command(&section),
        remind_after: remind_after(&section).unwrap_or(default),
    }
}

fn recipients(section: &Section<'_>, smtp: &[Smtp], lookup: &Lookup<'_>) -> Vec<String> {
    let email = section.texts("email").unwrap_or_default();
    for address in email.iter().filter(|address| value::address_in(address).is_none()) {
        section.fault("email", &format!("email: \"{address}\" is no mail address"));
    }
    if email.is_empty() {
        return email;
    }
    match smtp.first() {
        None if lookup.has_smtp() => {}
        None => section.nowhere("email", "needs a server that sends it; add an [[smtp]] section"),
        Some(first) if first.alert_sender().is_none() => {
            let why = format!("has no sender; add from = \"…\" to smtp \"{}\"", first.name);
            section.wrong("email", &why);
        }
        Some(_) => {}
    }
    email
}

fn command(section: &Section<'_>) -> Vec<String> {
    let command = section.texts("command").unwrap_or_default();
    let Some(program) = command.first() else {
        return command;
    };
    if !program.starts_with('/') {
        section.wrong("command", "must begin with the full path of a program");
        return command;
    }
    let is_program = std::fs::metadata(Path::new(program))
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0);
    if !is_program {
        section.warn(&format!("command: {program} is no program that can be run"));
    }
    command
}

fn remind_after(section: &Section<'_>) -> Option<Vec<Duration>> {
    let texts = section.texts("remind_after")?;
    let delays: Option<Vec<Duration>> = texts.iter().map(|text| value::duration(text)).collect();
    let Some(delays) = delays else {
        section.wrong("remind_after", "must be a list of durations such as [\"1h\", \"6h\"]");
        return None;
    };
    let is_ascending = delays.is_sorted_by(|before, after| before < after);
    if !is_ascending || delays.first().is_some_and(Duration::is_zero) {
        section.wrong(
            "remind_after",
            "must ascend from more than 0s: each delay counts from the first notice",
        );
    }
    Some(delays)
}

/// `[retention]`, which may be left out.
pub(super) fn retention(root: &Section<'_>) -> Retention {
    let section = root.single("retention", &RETENTION_KEYS);
    let raw_messages = section.and_then(|section| section.duration("raw_messages", &ANY_DURATION));
    Retention {
        raw_messages: raw_messages.unwrap_or(RAW_DEFAULT),
    }
}
