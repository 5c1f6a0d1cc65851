//! What happens to a message by project and route, and what goes out, in words.
//! It only words the settings.

use super::{Page, tls};
use crate::config::Config;
use crate::config::value::write_duration;
use crate::mail::Class;
use crate::outgoing::{Smtp, SmtpSignIn};
use crate::project::{
    Acknowledge, ClosedIssue, Glob, Handler, NonParticipant, Permission, Project, Route, RouteTarget, SameMessage,
    Trim, UnknownSender,
};

pub(super) fn project(page: &mut Page, config: &Config, project: &Project) {
    page.title(&format!("project {}: {}", project.key, project.name));
    page.line("a message", handler(project.handler));
    for (number, line) in classes(project).iter().enumerate() {
        page.line(if number == 0 { "classes" } else { "" }, line);
    }
    let quotes = match project.trim {
        Trim::Reply => "of a reply kept apart",
        Trim::None => "kept in the text",
    };
    page.line("quoted text", quotes);
    let unknown = match project.unknown_sender {
        UnknownSender::Accept => "accepted",
        UnknownSender::Hold => "held",
        UnknownSender::Ignore => "ignored",
    };
    let known = format!(
        "{unknown}; {} allowed, {} blocked",
        project.allow.len(),
        project.block.len()
    );
    page.line("unknown senders", &known);
    let other = match project.non_participant {
        NonParticipant::LinkedIssue => "a new issue, linked",
        NonParticipant::Comment => "a comment",
        NonParticipant::Hold => "held",
    };
    page.line("reply of others", other);
    let closed = match project.closed_issue {
        ClosedIssue::Reopen => "a comment that reopens it",
        ClosedIssue::Comment => "a comment; it stays closed",
        ClosedIssue::LinkedIssue => "a new issue, linked",
    };
    page.line("reply to a closed one", closed);
    let same = match project.same_message {
        SameMessage::Once => "taken once",
        SameMessage::Each => "taken in each",
    };
    page.line("one mail, two boxes", same);
    page.line("acknowledges", &acknowledge(config, project));
    page.end();
}

fn handler(handler: Handler) -> &'static str {
    match handler {
        Handler::CreateOrComment => "opens an issue, or is a comment on the issue that it answers",
        Handler::Create => "always opens an issue",
        Handler::Comment => "is a comment on the issue that it answers, else it is held",
    }
}

pub(super) fn permission(permission: Permission) -> &'static str {
    match permission {
        Permission::Open => "open",
        Permission::Comment => "comment",
        Permission::Event => "event",
        Permission::Hold => "hold",
        Permission::Ignore => "ignore",
    }
}

/// What each class may do, a line for each permission that one has.
fn classes(project: &Project) -> Vec<String> {
    let mut lines: Vec<(&str, Vec<&str>)> = Vec::new();
    for class in Class::ALL {
        let may = permission(project.classes.of(class));
        match lines.iter_mut().find(|(permission, _)| *permission == may) {
            Some((_, classes)) => classes.push(class.as_str()),
            None => lines.push((may, vec![class.as_str()])),
        }
    }
    lines
        .into_iter()
        .map(|(permission, classes)| format!("{permission}: {}", classes.join(", ")))
        .collect()
}

fn acknowledge(config: &Config, project: &Project) -> String {
    let text = match &project.acknowledge {
        Acknowledge::Off => return "nobody".to_owned(),
        Acknowledge::Standard => "with the standard text".to_owned(),
        Acknowledge::Template(letters) => format!("with the text of {}", letters.path.display()),
    };
    let server = config.smtp_of(project).map_or("", |smtp| smtp.name.as_str());
    let from = project.from.as_deref().unwrap_or("the mailbox's address");
    format!("new issues {text}, by smtp {server}, from {from}")
}

pub(super) fn route(page: &mut Page, index: usize, route: &Route) {
    let conditions = [
        ("to", &route.to),
        ("from", &route.from),
        ("subject", &route.subject),
        ("mailbox", &route.mailbox),
    ];
    page.title(&format!("route {}", index + 1));
    for (name, glob) in conditions {
        if let Some(glob) = glob {
            page.line(name, glob.as_str());
        }
    }
    for (name, glob) in &route.header {
        page.line("header", &format!("{name}: {}", glob.as_str()));
    }
    let target = match &route.target {
        RouteTarget::Project(key) => format!("project {key}"),
        RouteTarget::Ignore => "ignored".to_owned(),
        RouteTarget::Hold => "held".to_owned(),
    };
    page.line("leads to", &target);
    page.end();
}

pub(super) fn smtp(page: &mut Page, smtp: &Smtp) {
    page.title(&format!("smtp {}", smtp.name));
    page.line("server", &format!("{}:{} ({})", smtp.host, smtp.port, tls(smtp.tls)));
    let sign_in = match &smtp.sign_in {
        SmtpSignIn::Anonymous => "not at all".to_owned(),
        SmtpSignIn::Password { username, password, .. } => {
            format!("as {username} with the password in {}", password.source.describe())
        }
        SmtpSignIn::Token { grant, sasl_user } => {
            let integration = &grant.integration.name;
            format!(
                "as {sasl_user} with the grant of {} at integration {integration}",
                grant.login
            )
        }
    };
    page.line("signs in", &sign_in);
    page.line("alert mail from", smtp.alert_sender().unwrap_or("nobody: no from"));
    page.end();
}

pub(super) fn outgoing(page: &mut Page, config: &Config) {
    for webhook in &config.webhooks {
        page.title(&format!("webhook {}", webhook.url));
        let events: Vec<&str> = webhook.events.iter().map(Glob::as_str).collect();
        page.line(
            "events",
            if events.is_empty() {
                "all".to_owned()
            } else {
                events.join(", ")
            }
            .as_str(),
        );
        page.line("signed", if webhook.secret.is_some() { "yes" } else { "no" });
        page.end();
    }
    page.title("alerts and retention");
    let told = if config.alerts.email.is_empty() {
        "nobody".to_owned()
    } else {
        config.alerts.email.join(", ")
    };
    page.line("mail to", &told);
    if !config.alerts.command.is_empty() {
        page.line("command", &config.alerts.command.join(" "));
    }
    let delays: Vec<String> = config
        .alerts
        .remind_after
        .iter()
        .map(|delay| write_duration(*delay))
        .collect();
    page.line("told again after", &delays.join(", "));
    page.line(
        "original bytes",
        &format!("kept {}", write_duration(config.retention.raw_messages)),
    );
    page.end();
}
