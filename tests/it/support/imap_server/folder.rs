//! Commands on folders and on the messages of the open one, and what changes in it.

use std::collections::{BTreeSet, HashMap};

use super::fetch::{self, Item};
use super::session::{Reply, Session};
use super::store::{Folder, Message};
use super::wire::Token;

/// The open folder as the client knows it.
pub(super) struct Open {
    name: String,
    is_read_only: bool,
    /// UIDs with flags, in the order of sequence numbers.
    view: Vec<(u32, BTreeSet<String>)>,
    revision: u64,
}

impl Session<'_> {
    pub(super) fn folder_command(&mut self, user: &str, name: &str, arguments: &[Token], out: &mut Vec<u8>) -> Reply {
        let is_read_only = self.open.as_ref().is_some_and(|open| open.is_read_only);
        match name {
            "UID FETCH" => self.uid_fetch(user, arguments, out),
            "UID COPY" => self.uid_copy(user, arguments).map_or_else(|no| no, Reply::Ok),
            _ if is_read_only => Reply::No("the folder is open for reading only".into()),
            "UID STORE" => self.uid_store(user, arguments, out),
            "UID MOVE" if self.offers("MOVE") => self.uid_move(user, arguments, out),
            "UID EXPUNGE" if self.offers("UIDPLUS") => self.expunge(user, arguments.first(), out),
            "EXPUNGE" => self.expunge(user, None, out),
            _ => Reply::Bad(format!("{name} is not known here")),
        }
    }

    pub(super) fn select(&mut self, user: &str, arguments: &[Token], is_read_only: bool, out: &mut Vec<u8>) -> Reply {
        self.open = None;
        let name = arguments.first().map(Token::text).unwrap_or_default();
        let mut world = self.shared.world();
        let revision = world.revision();
        let Some(folder) = world.look(user, &name) else {
            return Reply::No("[NONEXISTENT] there is no such folder".into());
        };
        out.extend(described(folder).as_bytes());
        self.open = Some(Open {
            name,
            is_read_only,
            view: view_of(folder),
            revision,
        });
        let mode = if is_read_only { "READ-ONLY" } else { "READ-WRITE" };
        Reply::Ok(format!("[{mode}] opened"))
    }

    pub(super) fn create(&mut self, user: &str, arguments: &[Token]) -> Reply {
        let name = arguments.first().map(Token::text).unwrap_or_default();
        let mut world = self.shared.world();
        if world.look(user, &name).is_some() {
            return Reply::No("[ALREADYEXISTS] there is one".into());
        }
        world.folder(user, &name);
        Reply::Ok("made".into())
    }

    fn uid_fetch(&mut self, user: &str, arguments: &[Token], out: &mut Vec<u8>) -> Reply {
        let Some((set, items)) = arguments.split_first() else {
            return Reply::Bad("of which messages?".into());
        };
        let names = items
            .iter()
            .filter(|token| !matches!(token, Token::Open | Token::Close))
            .map(Token::text);
        let Some(mut items) = names.map(|name| Item::of(&name)).collect::<Option<Vec<Item>>>() else {
            return Reply::Bad("that cannot be fetched here".into());
        };
        if items.contains(&Item::EmailId) && !self.offers("OBJECTID") {
            return Reply::Bad("there is no EMAILID here".into());
        }
        if !items.contains(&Item::Uid) {
            items.insert(0, Item::Uid);
        }
        let Some(open) = &self.open else {
            return Reply::Bad("no folder".into());
        };
        let mut world = self.shared.world();
        let marks = !open.is_read_only && items.iter().any(Item::marks_seen);
        let Some(folder) = (if marks {
            world.find(user, &open.name)
        } else {
            world.look(user, &open.name)
        }) else {
            return Reply::No("the folder is gone".into());
        };
        let set = set.text();
        let last = folder.messages.last().map_or(0, |message| message.uid);
        // The view is of the same messages in the same order, since it was brought up to date just now.
        for (index, message) in folder.messages.iter_mut().enumerate() {
            if fetch::set_has(&set, message.uid, last) {
                if marks {
                    message.flags.insert("\\Seen".into());
                }
                fetch::response(index + 1, message, &items, out);
            }
        }
        Reply::Ok("FETCH done".into())
    }

    fn uid_store(&mut self, user: &str, arguments: &[Token], out: &mut Vec<u8>) -> Reply {
        let [set, verb, flags @ ..] = arguments else {
            return Reply::Bad("what of which messages?".into());
        };
        let verb = verb.text().to_uppercase();
        let flags: BTreeSet<String> = flags
            .iter()
            .filter(|token| !matches!(token, Token::Open | Token::Close))
            .map(Token::text)
            .collect();
        for uid in self.chosen(user, &set.text()) {
            let Some(open) = &mut self.open else { break };
            let mut world = self.shared.world();
            let Some(folder) = world.find(user, &open.name) else {
                break;
            };
            match verb.trim_end_matches(".SILENT") {
                "+FLAGS" => folder.mark(uid, &flags, true),
                "-FLAGS" => folder.mark(uid, &flags, false),
                _ => return Reply::Bad("that cannot be stored here".into()),
            }
            if verb.ends_with(".SILENT") {
                let now = folder.messages.iter().find(|message| message.uid == uid);
                if let (Some(message), Some(seen)) = (now, open.view.iter_mut().find(|(known, _)| *known == uid)) {
                    seen.1.clone_from(&message.flags);
                }
            }
        }
        self.sync(out);
        Reply::Ok("STORE done".into())
    }

    /// Copies messages; gives the text for OK, or the reply that says why not.
    fn uid_copy(&mut self, user: &str, arguments: &[Token]) -> Result<String, Reply> {
        let [set, target] = arguments else {
            return Err(Reply::Bad("which messages, and where to?".into()));
        };
        let (chosen, target) = (self.chosen(user, &set.text()), target.text());
        let copies: Vec<Message> = match &self.open {
            Some(open) => {
                let mut world = self.shared.world();
                let folder = world.look(user, &open.name);
                let messages = folder.map(|folder| folder.messages.clone()).unwrap_or_default();
                messages
                    .into_iter()
                    .filter(|message| chosen.contains(&message.uid))
                    .collect()
            }
            None => Vec::new(),
        };
        let mut world = self.shared.world();
        let Some(folder) = world.find(user, &target) else {
            return Err(Reply::No("[TRYCREATE] there is no such folder".into()));
        };
        let given: Vec<String> = copies
            .into_iter()
            .map(|message| folder.take(message).to_string())
            .collect();
        if given.is_empty() || !self.shared.offers("UIDPLUS") {
            return Ok("copied".into());
        }
        let taken: Vec<String> = chosen.iter().map(u32::to_string).collect();
        Ok(format!(
            "[COPYUID {} {} {}] copied",
            folder.uidvalidity,
            taken.join(","),
            given.join(",")
        ))
    }

    fn uid_move(&mut self, user: &str, arguments: &[Token], out: &mut Vec<u8>) -> Reply {
        let chosen = self.chosen(user, &arguments.first().map(Token::text).unwrap_or_default());
        let text = match self.uid_copy(user, arguments) {
            Ok(text) => text,
            Err(reply) => return reply,
        };
        if text.starts_with('[') {
            out.extend(format!("* OK {text}\r\n").as_bytes());
        }
        self.take_away(user, |message| chosen.contains(&message.uid));
        self.sync(out);
        Reply::Ok("moved".into())
    }

    fn expunge(&mut self, user: &str, set: Option<&Token>, out: &mut Vec<u8>) -> Reply {
        let chosen = self.chosen(user, &set.map_or_else(|| "1:*".to_owned(), Token::text));
        self.take_away(user, |message| {
            message.has("\\Deleted") && chosen.contains(&message.uid)
        });
        self.sync(out);
        Reply::Ok("expunged".into())
    }

    fn take_away(&mut self, user: &str, goes: impl Fn(&Message) -> bool) {
        let Some(open) = &self.open else { return };
        if let Some(folder) = self.shared.world().find(user, &open.name) {
            folder.messages.retain(|message| !goes(message));
        }
    }

    /// The UIDs of a set that are in the open folder.
    fn chosen(&self, user: &str, set: &str) -> Vec<u32> {
        let Some(open) = &self.open else { return Vec::new() };
        let mut world = self.shared.world();
        let Some(folder) = world.look(user, &open.name) else {
            return Vec::new();
        };
        let last = folder.messages.last().map_or(0, |message| message.uid);
        folder
            .messages
            .iter()
            .map(|message| message.uid)
            .filter(|uid| fetch::set_has(set, *uid, last))
            .collect()
    }

    /// Tells what changed in the open folder since the client last heard of it.
    pub(super) fn sync(&mut self, out: &mut Vec<u8>) {
        let (Some(open), Some(user)) = (&mut self.open, &self.user) else {
            return;
        };
        let mut world = self.shared.world();
        let revision = world.revision();
        if open.revision == revision {
            return;
        }
        open.revision = revision;
        let messages = world
            .look(user, &open.name)
            .map(|folder| &folder.messages[..])
            .unwrap_or_default();
        tell_changes(&open.view, messages, out);
        open.view = messages
            .iter()
            .map(|message| (message.uid, message.flags.clone()))
            .collect();
    }
}

fn tell_changes(view: &[(u32, BTreeSet<String>)], messages: &[Message], out: &mut Vec<u8>) {
    let now: HashMap<u32, &BTreeSet<String>> = messages.iter().map(|message| (message.uid, &message.flags)).collect();
    let mut number = 1;
    for (uid, flags) in view {
        match now.get(uid) {
            None => out.extend(format!("* {number} EXPUNGE\r\n").as_bytes()),
            Some(current) => {
                if *current != flags {
                    let current = fetch::listed(current);
                    out.extend(format!("* {number} FETCH (UID {uid} FLAGS ({current}))\r\n").as_bytes());
                }
                number += 1;
            }
        }
    }
    if messages.len() + 1 > number {
        out.extend(format!("* {} EXISTS\r\n", messages.len()).as_bytes());
    }
}

fn view_of(folder: &Folder) -> Vec<(u32, BTreeSet<String>)> {
    folder
        .messages
        .iter()
        .map(|message| (message.uid, message.flags.clone()))
        .collect()
}

fn described(folder: &Folder) -> String {
    let mut lines = vec![format!(
        "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)\r\n\
         * OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft \\*)] flags\r\n\
         * {} EXISTS\r\n* 0 RECENT\r\n",
        folder.messages.len()
    )];
    if folder.tells_uidvalidity {
        lines.push(format!("* OK [UIDVALIDITY {}] generation\r\n", folder.uidvalidity));
    }
    if folder.tells_uidnext {
        lines.push(format!("* OK [UIDNEXT {}] next\r\n", folder.uidnext));
    }
    lines.concat()
}
