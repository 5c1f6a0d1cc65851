//! `[[mailbox]]`: one watched account, with what protocol and provider fill in.
//! It connects to nothing.

use std::time::Duration;

use toml::de::DeValue;

use super::Lookup;
use super::pair;
use super::preset::{self, Service};
use super::value;
use super::walk::{Section, unknown_word};
use crate::grant::{GrantRef, Provider};
use crate::mailbox::{After, Mailbox, Protocol, Sasl, Server, SignIn, Start, Tls, Watch};

pub(super) const KEYS: [&str; 20] = [
    "address",
    "name",
    "login",
    "integration",
    "password",
    "sasl_user",
    "sasl",
    "protocol",
    "host",
    "port",
    "tls",
    "ca_file",
    "folders",
    "watch",
    "poll_interval",
    "start",
    "project",
    "after",
    "max_message_size",
    "authserv_id",
];

pub(super) const PROTOCOLS: [(&str, Protocol); 2] = [("imap", Protocol::Imap), ("pop3", Protocol::Pop3)];

const TLS: [(&str, Tls); 3] = [
    ("implicit", Tls::Implicit),
    ("starttls", Tls::StartTls),
    ("none", Tls::None),
];

pub(super) const SASL: [(&str, Sasl); 5] = [
    ("auto", Sasl::Auto),
    ("xoauth2", Sasl::XOAuth2),
    ("oauthbearer", Sasl::OAuthBearer),
    ("plain", Sasl::Plain),
    ("login", Sasl::Login),
];

const WATCHES: [(&str, Watch); 2] = [("idle", Watch::Idle), ("poll", Watch::Poll)];

const STARTS: [(&str, Start); 3] = [("new", Start::New), ("unseen", Start::Unseen), ("all", Start::All)];

const AFTERS: [&str; 3] = ["keep", "seen", "delete"];

/// Time between polls, in seconds: servers lock out who asks more often than each second.
const POLL_RANGE: std::ops::RangeInclusive<u64> = 1..=86400;
/// Time between polls where the server cannot tell of new mail.
const POLL_DEFAULT: Duration = Duration::from_mins(1);
/// Time between safety polls under IDLE, which some servers stop serving without a word.
const SAFETY_POLL_DEFAULT: Duration = Duration::from_mins(5);
/// Largest message, in bytes: a mail is held in memory while it is read, and an SQLite value ends at 1 GB.
const SIZE_RANGE: std::ops::RangeInclusive<u64> = 1024..=512 << 20;
/// Largest message by default; what most servers accept.
const SIZE_DEFAULT: u64 = 25 << 20;

/// A mailbox; `None` where something is wrong with it, all of which is then reported.
pub(super) fn build(section: &Section<'_>, lookup: &Lookup<'_>) -> Option<Mailbox> {
    let address = section.required_address("address", "write the mail address of the mailbox");
    let name = section.text("name").or_else(|| address.clone());
    let login = section.text("login").or_else(|| address.clone());
    let sign_in = sign_in(section, lookup, login.as_deref());
    let provider = provider(sign_in.as_ref());
    let server = server(section, provider, sign_in.as_ref());
    let protocol = server.as_ref().map_or(Protocol::Imap, |server| server.protocol);
    let watch = watch(section, protocol);
    let folders = folders(section);
    let after = after(section, &folders);
    if protocol == Protocol::Pop3 {
        refuse_under_pop3(section, after.as_ref());
    }
    let mailbox = Mailbox {
        sasl_user: section.text("sasl_user").or_else(|| address.clone())?,
        address: address?,
        name: name?,
        login: login?,
        sasl: sasl(section),
        poll_interval: section.duration("poll_interval", &POLL_RANGE).unwrap_or(match watch {
            Watch::Idle => SAFETY_POLL_DEFAULT,
            Watch::Poll => POLL_DEFAULT,
        }),
        watch,
        folders,
        start: start(section).unwrap_or(Start::New),
        project: lookup.project(section)?,
        after: after.unwrap_or(After::Keep),
        max_message_size: section
            .size_bytes("max_message_size", &SIZE_RANGE)
            .unwrap_or(SIZE_DEFAULT),
        authserv_id: authserv_id(section, provider),
        server: server?,
        sign_in: sign_in?,
    };
    warn_of_gmail_delay(section, &mailbox);
    Some(mailbox)
}

fn provider(sign_in: Option<&SignIn>) -> Option<Provider> {
    match sign_in {
        Some(SignIn::Token(grant)) => Some(grant.integration.provider),
        Some(SignIn::Password(_)) | None => None,
    }
}

/// By password or by integration, by one of them.
fn sign_in(section: &Section<'_>, lookup: &Lookup<'_>, login: Option<&str>) -> Option<SignIn> {
    match (section.has("password"), section.has("integration")) {
        (true, true) => {
            section.fault("password", "password and integration exclude each other; take one out");
            None
        }
        (false, false) => {
            section.missing(
                "integration",
                "write integration = \"NAME\", or password = { file = \"…\" }",
            );
            None
        }
        (true, false) => {
            if section.has("sasl_user") {
                section.wrong("sasl_user", "is for an integration; with a password use login");
            }
            section.secret("password").map(SignIn::Password)
        }
        (false, true) => {
            let integration = lookup.integration(section)?;
            let login = login?.to_owned();
            pair::mailbox(section, &integration, &login);
            Some(SignIn::Token(GrantRef { integration, login }))
        }
    }
}

fn server(section: &Section<'_>, provider: Option<Provider>, sign_in: Option<&SignIn>) -> Option<Server> {
    let protocol = section.word("protocol", &PROTOCOLS).unwrap_or(Protocol::Imap);
    let tls = section.word("tls", &TLS);
    let usual = usual_port(protocol, tls.unwrap_or(Tls::Implicit));
    let port = section.port("port", usual);
    let tenant = match sign_in {
        Some(SignIn::Token(grant)) => grant.integration.tenant.as_deref().unwrap_or_default(),
        Some(SignIn::Password(_)) | None => "",
    };
    let service = match protocol {
        Protocol::Imap => Service::Imap,
        Protocol::Pop3 => Service::Pop3,
    };
    let preset = provider.and_then(|provider| preset::host(provider, tenant, service));
    let host = match preset {
        Some(preset) if !section.has("host") => Some(preset.to_owned()),
        // A broken integration may have had a preset.
        None if !section.has("host") && section.has("integration") && sign_in.is_none() => None,
        Some(_) | None => host(section),
    };
    let ca_file = section.ca_file("ca_file");
    let tls = tls.unwrap_or(Tls::Implicit);
    warn_of_mixed_port(section, tls, port);
    let host = host?;
    if tls == Tls::None && !value::is_loopback(&host) {
        let why = "would send password and mail in clear; it is for loopback only, use implicit or starttls";
        section.wrong("tls", why);
    }
    Some(Server {
        protocol,
        host,
        port: port.unwrap_or(usual),
        tls,
        ca_file,
    })
}

/// A host name or address, and nothing else; a name with other letters than ASCII as DNS knows it.
pub(super) fn host(section: &Section<'_>) -> Option<String> {
    let written = section.required("host", "write the name of the server")?;
    let bare = written.trim_matches(['[', ']']);
    if bare.parse::<std::net::IpAddr>().is_ok() {
        return Some(bare.to_owned());
    }
    match url::Host::parse(&written) {
        Ok(host) if !written.contains(['/', ' ', '%']) => Some(host.to_string()),
        Ok(_) | Err(_) => {
            section.wrong("host", "is no host name; write it alone, such as \"imap.example.org\"");
            None
        }
    }
}

fn usual_port(protocol: Protocol, tls: Tls) -> u16 {
    match (protocol, tls) {
        (Protocol::Imap, Tls::Implicit) => 993,
        (Protocol::Imap, Tls::StartTls | Tls::None) => 143,
        (Protocol::Pop3, Tls::Implicit) => 995,
        (Protocol::Pop3, Tls::StartTls | Tls::None) => 110,
    }
}

fn warn_of_mixed_port(section: &Section<'_>, tls: Tls, port: Option<u16>) {
    match (tls, port) {
        (Tls::Implicit, Some(port @ (143 | 110))) => {
            section.warn(&format!(
                "port {port} is usually for tls = \"starttls\", and implicit is set"
            ));
        }
        (Tls::StartTls | Tls::None, Some(port @ (993 | 995))) => {
            section.warn(&format!(
                "port {port} is usually for tls = \"implicit\", and that is not set"
            ));
        }
        (Tls::Implicit | Tls::StartTls | Tls::None, _) => {}
    }
}

fn sasl(section: &Section<'_>) -> Sasl {
    let sasl = section.word("sasl", &SASL).unwrap_or(Sasl::Auto);
    refuse_wrong_sasl(section, sasl);
    sasl
}

/// Tokens and passwords have mechanisms of their own.
pub(super) fn refuse_wrong_sasl(section: &Section<'_>, sasl: Sasl) {
    match sasl {
        Sasl::XOAuth2 | Sasl::OAuthBearer if section.has("password") => {
            section.wrong("sasl", "is for an integration; with a password use plain or login");
        }
        Sasl::Plain | Sasl::Login if section.has("integration") => {
            section.wrong(
                "sasl",
                "is for a password; with an integration use xoauth2 or oauthbearer",
            );
        }
        Sasl::Auto | Sasl::XOAuth2 | Sasl::OAuthBearer | Sasl::Plain | Sasl::Login => {}
    }
}

fn watch(section: &Section<'_>, protocol: Protocol) -> Watch {
    let watch = section.word("watch", &WATCHES);
    match protocol {
        Protocol::Imap => watch.unwrap_or(Watch::Idle),
        Protocol::Pop3 => {
            if watch == Some(Watch::Idle) {
                section.wrong("watch", "does not exist in POP3; use poll");
            }
            Watch::Poll
        }
    }
}

/// Whether two names are of one folder: INBOX alone has no case (RFC 9051 §5.1).
fn is_same_folder(one: &str, other: &str) -> bool {
    let is_inbox = |name: &str| name.eq_ignore_ascii_case("INBOX");
    one == other || (is_inbox(one) && is_inbox(other))
}

fn folders(section: &Section<'_>) -> Vec<String> {
    let Some(folders) = section.texts("folders") else {
        return vec!["INBOX".to_owned()];
    };
    if folders.is_empty() {
        section.wrong("folders", "is empty; name a folder, or leave the key out for INBOX");
    }
    if folders.iter().any(|folder| folder.chars().any(char::is_control)) {
        section.wrong("folders", "has a control character in a name");
    }
    for (index, folder) in folders.iter().enumerate() {
        if folders.iter().take(index).any(|before| is_same_folder(before, folder)) {
            section.wrong("folders", &format!("names {folder} twice"));
        }
    }
    folders
}

fn start(section: &Section<'_>) -> Option<Start> {
    let (date, word) = match section.value("start")?.get_ref() {
        DeValue::Datetime(date) => (value::instant(date), None),
        DeValue::String(text) => (value::instant_of_text(text), Some(text.as_ref())),
        _ => (None, None),
    };
    let known = word.and_then(|word| STARTS.iter().find(|(known, _)| *known == word));
    let start = known.map(|(_, start)| *start).or(date.map(Start::Since));
    if start.is_none() {
        section.wrong(
            "start",
            "is not known; write new, unseen, all or a date such as 2026-11-02",
        );
    }
    start
}

fn after(section: &Section<'_>, folders: &[String]) -> Option<After> {
    let word = match section.value("after")?.get_ref() {
        DeValue::Table(_) => return after_table(section, folders),
        DeValue::String(word) => word,
        _ => {
            section.wrong(
                "after",
                "must be keep, seen, delete, { flag = \"…\" } or { move = \"…\" }",
            );
            return None;
        }
    };
    match word.as_ref() {
        "keep" => Some(After::Keep),
        "seen" => Some(After::Seen),
        "delete" => Some(After::Delete),
        other => {
            let forms = AFTERS.into_iter().chain(["{ flag = \"…\" }", "{ move = \"…\" }"]);
            section.wrong("after", &unknown_word(other, forms));
            None
        }
    }
}

fn after_table(section: &Section<'_>, folders: &[String]) -> Option<After> {
    let table = section.child("after")?.allow(&["flag", "move"]);
    match (table.text("flag"), table.text("move")) {
        (Some(flag), None) => {
            // RFC 9051 §9: a keyword is an atom, and a name with a backslash is the server's.
            let is_atom = |b: u8| b.is_ascii_graphic() && !b"(){%*\"\\]".contains(&b);
            if !flag.bytes().all(is_atom) {
                let why = "is no keyword; write one such as \"$Ingested\" (for \\Seen write after = \"seen\")";
                table.wrong("flag", why);
            }
            Some(After::Flag(flag))
        }
        (None, Some(target)) => {
            if folders.iter().any(|folder| is_same_folder(folder, &target)) {
                table.wrong(
                    "move",
                    "is a folder that is watched, so that each mail would come again; use another",
                );
            }
            Some(After::Move(target))
        }
        (Some(_), Some(_)) => {
            section.wrong("after", "has both flag and move; take one out");
            None
        }
        (None, None) => {
            if !table.has("flag") && !table.has("move") {
                section.wrong(
                    "after",
                    "must be keep, seen, delete, { flag = \"…\" } or { move = \"…\" }",
                );
            }
            None
        }
    }
}

/// POP3 knows one folder, no flags and no moves (RFC 1939).
fn refuse_under_pop3(section: &Section<'_>, after: Option<&After>) {
    if section.has("folders") {
        section.wrong(
            "folders",
            "does not exist in POP3; take it out, or use protocol = \"imap\"",
        );
    }
    if section.quiet("start") == Some("unseen") {
        section.wrong("start", "does not exist in POP3; use new, all or a date");
    }
    match after {
        Some(After::Seen | After::Flag(_) | After::Move(_)) => {
            section.wrong("after", "does not exist in POP3; use keep or delete");
        }
        Some(After::Keep | After::Delete) | None => {}
    }
}

/// Gmail's LOGIN-DELAY, which the worker keeps to whatever is written.
const GMAIL_POP3_DELAY: Duration = Duration::from_mins(5);

fn warn_of_gmail_delay(section: &Section<'_>, mailbox: &Mailbox) {
    let is_short = section.has("poll_interval") && mailbox.poll_interval < GMAIL_POP3_DELAY;
    if is_short && mailbox.server.protocol == Protocol::Pop3 && mailbox.server.host == "pop.gmail.com" {
        section.warn("poll_interval is under the 5 minutes that Gmail wants between POP3 sign-ins; they are kept to");
    }
}

fn authserv_id(section: &Section<'_>, provider: Option<Provider>) -> Vec<String> {
    let preset = provider.and_then(preset::authserv_id);
    section
        .texts("authserv_id")
        .unwrap_or_else(|| preset.map(str::to_owned).into_iter().collect())
}
