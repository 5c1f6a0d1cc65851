//! What sections name: other sections, by their names, whether or not those could be built.
//! A reference to a section that has faults of its own is no second fault.

use std::collections::HashMap;
use std::sync::Arc;

use super::outgoing;
use super::preset::{Service, Uses};
use super::project::DEFAULT_KEY;
use super::value;
use super::walk::Section;
use crate::grant::Integration;
use crate::project::Glob;

/// The sections that may be repeated.
pub(super) struct Sections<'a> {
    pub(super) integrations: Vec<Section<'a>>,
    pub(super) mailboxes: Vec<Section<'a>>,
    pub(super) projects: Vec<Section<'a>>,
    pub(super) routes: Vec<Section<'a>>,
    pub(super) smtp: Vec<Section<'a>>,
    pub(super) webhooks: Vec<Section<'a>>,
}

impl Sections<'_> {
    /// Which services the mailboxes and smtp servers of an integration use.
    pub(super) fn uses_of(&self, integration: &str) -> Uses {
        let mut uses = Uses::default();
        for mailbox in &self.mailboxes {
            if mailbox.quiet("integration") == Some(integration) {
                uses.add(match mailbox.quiet("protocol") {
                    Some("pop3") => Service::Pop3,
                    Some(_) | None => Service::Imap,
                });
            }
        }
        if self
            .smtp
            .iter()
            .any(|smtp| smtp.quiet("integration") == Some(integration))
        {
            uses.add(Service::Smtp);
        }
        uses
    }

    /// Reports each name and address that is there twice.
    pub(super) fn refuse_twins(&self) {
        twins(&self.integrations, "name", |section| {
            section.quiet("name").map(str::to_owned)
        });
        twins(&self.mailboxes, "address", |section| {
            section.quiet("address").map(str::to_owned)
        });
        twins(&self.mailboxes, "name", mailbox_name);
        twins(&self.projects, "key", |section| section.quiet("key").map(str::to_owned));
        twins(&self.smtp, "name", outgoing::smtp_name);
    }
}

fn mailbox_name(section: &Section<'_>) -> Option<String> {
    let name = section.quiet("name").or_else(|| section.quiet("address"));
    name.map(str::to_owned)
}

/// Names are compared without regard to case: NAME on the command line would be a trap otherwise.
fn twins(sections: &[Section<'_>], key: &str, name: impl Fn(&Section<'_>) -> Option<String>) {
    let mut seen: HashMap<String, &Section<'_>> = HashMap::new();
    for section in sections {
        let Some(own) = name(section) else { continue };
        let Some(first) = seen.get(&own.to_lowercase()) else {
            seen.insert(own.to_lowercase(), section);
            continue;
        };
        // Two mailboxes of one address that have no names are reported once, by their address.
        if !section.has(key) && !first.has(key) && key == "name" && section.has("address") {
            continue;
        }
        let why = format!(
            "{key} = \"{own}\" is there already, in line {}; use another",
            first.line_of(key)
        );
        section.fault(key, &why);
    }
}

/// Finds what a section refers to.
pub(super) struct Lookup<'l> {
    pub(super) sections: &'l Sections<'l>,
    /// Those that could be built.
    pub(super) integrations: &'l [Arc<Integration>],
}

impl Lookup<'_> {
    /// The integration that a section names; reports a name that is nowhere.
    pub(super) fn integration(&self, section: &Section<'_>) -> Option<Arc<Integration>> {
        let name = section.text("integration")?;
        let declared = names(&self.sections.integrations, "name");
        if !declared.contains(&name.as_str()) {
            section.nowhere("integration", &nowhere("integration", &name, &declared));
        }
        self.integrations
            .iter()
            .find(|integration| integration.name == name)
            .cloned()
    }

    /// The project that a section names; the only one where it names none.
    pub(super) fn project(&self, section: &Section<'_>) -> Option<String> {
        let mut declared = names(&self.sections.projects, "key");
        if self.sections.projects.is_empty() {
            declared.push(DEFAULT_KEY);
        }
        if section.has("project") {
            let key = section.text("project")?;
            if !declared.contains(&key.as_str()) {
                section.nowhere("project", &nowhere("project", &key, &declared));
            }
            return Some(key);
        }
        if let [only] = declared.as_slice() {
            return Some((*only).to_owned());
        }
        if declared.len() > 1 {
            section.missing(
                "project",
                &format!("there are several, write one of {}", declared.join(", ")),
            );
        }
        None
    }

    /// The smtp server that a project names; reports a name that is nowhere.
    pub(super) fn smtp(&self, section: &Section<'_>) -> Option<String> {
        let name = section.text("smtp")?;
        let declared: Vec<String> = self.sections.smtp.iter().filter_map(outgoing::smtp_name).collect();
        // A server of a preset's host has no name before it is built.
        let has_nameless = declared.len() < self.sections.smtp.len();
        if !declared.contains(&name) && !has_nameless {
            let declared: Vec<&str> = declared.iter().map(String::as_str).collect();
            section.nowhere("smtp", &nowhere("smtp", &name, &declared));
        }
        Some(name)
    }

    pub(super) fn has_smtp(&self) -> bool {
        !self.sections.smtp.is_empty()
    }

    /// Whether a pattern fits the name or address of a mailbox.
    pub(super) fn has_mailbox(&self, pattern: &Glob) -> bool {
        self.sections.mailboxes.iter().any(|mailbox| {
            let texts = [mailbox.quiet("name"), mailbox.quiet("address")];
            texts.into_iter().flatten().any(|text| pattern.matches(text))
        })
    }
}

fn names<'a>(sections: &[Section<'a>], key: &str) -> Vec<&'a str> {
    sections.iter().filter_map(|section| section.quiet(key)).collect()
}

fn nowhere(kind: &str, name: &str, declared: &[&str]) -> String {
    let advice = match value::nearest(name, declared.iter().copied()) {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None if declared.is_empty() => format!("add a [[{kind}]] section"),
        None => format!("there is {}", declared.join(", ")),
    };
    format!("names no [[{kind}]]; {advice}")
}
