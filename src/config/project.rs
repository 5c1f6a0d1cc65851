//! `[[project]]` and `[[route]]`: where issues go, and by which rules.
//! It applies no rule; `issue` does.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::DeValue;

use super::Lookup;
use super::walk::{Section, unknown_word};
use crate::compose::template::{Letters, Template};
use crate::mail::Class;
use crate::project::{
    Acknowledge, AddressPattern, ClassPolicy, ClosedIssue, Glob, Handler, NonParticipant, Permission, Project, Route,
    RouteTarget, SameMessage, Trim, UnknownSender,
};

pub(super) const KEYS: [&str; 16] = [
    "key",
    "name",
    "handler",
    "classes",
    "trim",
    "separators",
    "unknown_sender",
    "allow",
    "block",
    "non_participant",
    "closed_issue",
    "same_message",
    "acknowledge",
    "watchers_from_cc",
    "smtp",
    "from",
];

pub(super) const ROUTE_KEYS: [&str; 7] = ["to", "from", "subject", "mailbox", "header", "project", "action"];

/// Key of the project that there is when none is configured.
pub(super) const DEFAULT_KEY: &str = "MAIL";

const PERMISSIONS: [(&str, Permission); 5] = [
    ("open", Permission::Open),
    ("comment", Permission::Comment),
    ("event", Permission::Event),
    ("hold", Permission::Hold),
    ("ignore", Permission::Ignore),
];

/// The project that there is when none is configured.
pub(super) fn default_project() -> Project {
    Project::with_defaults(DEFAULT_KEY, "Mail")
}

/// A project; `None` where something is wrong with it, all of which is then reported.
pub(super) fn build(section: &Section<'_>, lookup: &Lookup<'_>) -> Option<Project> {
    let key = key(section);
    let default = default_project();
    let handlers = [
        ("create-or-comment", Handler::CreateOrComment),
        ("create", Handler::Create),
        ("comment", Handler::Comment),
    ];
    let trims = [("reply", Trim::Reply), ("none", Trim::None)];
    let unknown = [
        ("accept", UnknownSender::Accept),
        ("hold", UnknownSender::Hold),
        ("ignore", UnknownSender::Ignore),
    ];
    let others = [
        ("linked-issue", NonParticipant::LinkedIssue),
        ("comment", NonParticipant::Comment),
        ("hold", NonParticipant::Hold),
    ];
    let closed = [
        ("reopen", ClosedIssue::Reopen),
        ("comment", ClosedIssue::Comment),
        ("linked-issue", ClosedIssue::LinkedIssue),
    ];
    let same = [("once", SameMessage::Once), ("each", SameMessage::Each)];
    let project = Project {
        name: section.text("name").or_else(|| key.clone()).unwrap_or_default(),
        handler: section.word("handler", &handlers).unwrap_or(default.handler),
        classes: classes(section),
        trim: section.word("trim", &trims).unwrap_or(default.trim),
        separators: section.texts("separators").unwrap_or_default(),
        unknown_sender: section
            .word("unknown_sender", &unknown)
            .unwrap_or(default.unknown_sender),
        allow: patterns(section, "allow"),
        block: patterns(section, "block"),
        non_participant: section
            .word("non_participant", &others)
            .unwrap_or(default.non_participant),
        closed_issue: section.word("closed_issue", &closed).unwrap_or(default.closed_issue),
        same_message: section.word("same_message", &same).unwrap_or(default.same_message),
        acknowledge: acknowledge(section, lookup),
        watchers_from_cc: section.flag("watchers_from_cc").unwrap_or(default.watchers_from_cc),
        smtp: lookup.smtp(section),
        from: section.sender("from"),
        key: key?,
    };
    Some(project)
}

/// Whether a text can be the key of a project, `[A-Z][A-Z0-9]{1,9}`.
fn is_key(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|c| c.is_ascii_uppercase())
        && letters.all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
        && (2..=10).contains(&text.len())
}

fn key(section: &Section<'_>) -> Option<String> {
    let key = section.required("key", "write one such as key = \"SUP\"")?;
    if is_key(&key) {
        return Some(key);
    }
    section.wrong(
        "key",
        "is no key; write 2 to 10 capital letters and digits, a letter first, such as \"SUP\"",
    );
    None
}

fn classes(section: &Section<'_>) -> ClassPolicy {
    let mut policy = ClassPolicy::default();
    let Some(table) = section.child("classes") else {
        return policy;
    };
    for name in table.keys() {
        let permission = table.word(name, &PERMISSIONS);
        let Some(class) = Class::parse(name) else {
            let why = unknown_word(name, Class::ALL.iter().map(|class| class.as_str()));
            table.fault(name, &format!("class {name} {why}"));
            continue;
        };
        if let Some(permission) = permission {
            policy.set(class, permission);
        }
    }
    policy
}

/// Addresses, domains and globs.
fn patterns(section: &Section<'_>, key: &str) -> Vec<AddressPattern> {
    let texts = section.texts(key).unwrap_or_default();
    for text in &texts {
        if text.chars().any(|c| c.is_whitespace() || matches!(c, '<' | '>' | ',')) {
            let why = "must hold one address, domain or glob in each text, such as \"*@example.org\"";
            section.wrong(key, why);
        }
    }
    texts.iter().map(|text| AddressPattern::new(text)).collect()
}

fn acknowledge(section: &Section<'_>, lookup: &Lookup<'_>) -> Acknowledge {
    let Some(value) = section.value("acknowledge") else {
        return Acknowledge::Off;
    };
    let acknowledge = match value.get_ref() {
        DeValue::Boolean(false) => return Acknowledge::Off,
        DeValue::Boolean(true) => Acknowledge::Standard,
        DeValue::Table(_) => template(section).map_or(Acknowledge::Off, Acknowledge::Template),
        _ => {
            section.wrong("acknowledge", "must be true, false or { template = \"file\" }");
            return Acknowledge::Off;
        }
    };
    if !lookup.has_smtp() {
        section.nowhere("acknowledge", "needs a server that sends it; add an [[smtp]] section");
    }
    acknowledge
}

fn template(section: &Section<'_>) -> Option<Arc<Letters>> {
    let table = section.child("acknowledge")?.allow(&["template"]);
    if !table.has("template") {
        section.wrong("acknowledge", "must be true, false or { template = \"file\" }");
    }
    let path = table.path("template")?;
    let text = letter(&table, &path)?;
    let languages = languages(&path).into_iter().filter_map(|(language, path)| {
        let text = letter(&table, &path)?;
        Some((language, text))
    });
    Some(Arc::new(Letters {
        languages: languages.collect(),
        text,
        path,
    }))
}

/// A text, checked; every fault names file and line.
fn letter(table: &Section<'_>, path: &Path) -> Option<Template> {
    let name = path.display();
    let read = match std::fs::read_to_string(path) {
        Ok(text) => Template::parse(&text).map_err(|fault| format!("{name}:{}: {}", fault.line, fault.why)),
        Err(error) => Err(format!("cannot read {name}: {error}")),
    };
    read.map_err(|why| table.fault("template", &format!("template: {why}")))
        .ok()
}

/// The files beside a text that end with a dot and a language of two or three letters (ISO 639), in their order.
fn languages(path: &Path) -> Vec<(String, PathBuf)> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Vec::new();
    };
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let language = |entry: std::fs::DirEntry| {
        let found = entry
            .file_name()
            .to_str()?
            .strip_prefix(name)?
            .strip_prefix('.')?
            .to_owned();
        let is_language = (2..=3).contains(&found.len()) && found.bytes().all(|b| b.is_ascii_lowercase());
        (is_language && found != "bak" && found != "old").then(|| (found, entry.path()))
    };
    let mut found: Vec<_> = entries.filter_map(language).collect();
    found.sort();
    found
}

/// A route; `None` where something is wrong with it, all of which is then reported.
pub(super) fn build_route(section: &Section<'_>, lookup: &Lookup<'_>) -> Option<Route> {
    let glob = |key| section.text(key).map(|text| Glob::new(&text));
    let header = headers(section);
    let conditions = ["to", "from", "subject", "mailbox", "header"];
    if header.is_empty() && !conditions.iter().any(|key| *key != "header" && section.has(key)) {
        let why = format!("it would match every message; give one of {}", conditions.join(", "));
        section.missing("to", &why);
    }
    let mailbox = glob("mailbox");
    if mailbox.as_ref().is_some_and(|glob| !lookup.has_mailbox(glob)) {
        section.nowhere("mailbox", "matches no name or address of a [[mailbox]]");
    }
    Some(Route {
        to: glob("to"),
        from: glob("from"),
        subject: glob("subject"),
        mailbox,
        header: header
            .iter()
            .map(|(name, text)| (name.clone(), Glob::new(text)))
            .collect(),
        target: target(section, lookup)?,
    })
}

/// Headers by name; a name is of the characters of RFC 5322 §2.2.
fn headers(section: &Section<'_>) -> Vec<(String, String)> {
    let headers = section.child_of_texts("header").unwrap_or_default();
    for (name, _) in &headers {
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic() && b != b':') {
            let why = format!("header: \"{name}\" is no name of a header; write one such as \"List-Id\"");
            section.fault("header", &why);
        }
    }
    headers
}

fn target(section: &Section<'_>, lookup: &Lookup<'_>) -> Option<RouteTarget> {
    let actions = [("ignore", true), ("hold", false)];
    match (section.has("project"), section.has("action")) {
        (true, true) => {
            section.fault("action", "project and action exclude each other; take one out");
            None
        }
        (false, false) => {
            section.missing("project", "write project = \"KEY\", or action = \"ignore\" or \"hold\"");
            None
        }
        (true, false) => lookup.project(section).map(RouteTarget::Project),
        (false, true) => section.word("action", &actions).map(|is_ignored| {
            if is_ignored {
                RouteTarget::Ignore
            } else {
                RouteTarget::Hold
            }
        }),
    }
}
