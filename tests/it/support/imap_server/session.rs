//! A client's connection from the greeting to its end, command by command.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::TcpStream;
use std::time::Duration;

use super::fault::Action;
use super::fetch::{self, Item};
use super::store::{Folder, Message};
use super::wire::{Heard, Peer, Token};
use super::{Security, Shared};

/// How often a waiting client's folder is looked at.
const GLANCE: Duration = Duration::from_millis(10);

/// How a command ends.
pub(super) enum Reply {
    Ok(String),
    No(String),
    Bad(String),
    /// All has been said, and TLS begins.
    Protect,
    /// The client said goodbye.
    End,
}

/// What happens after an answer.
enum Flow {
    GoOn,
    Stop,
}

/// The open folder as the client knows it.
struct Open {
    name: String,
    is_read_only: bool,
    /// UIDs with flags, in the order of sequence numbers.
    view: Vec<(u32, BTreeSet<String>)>,
    revision: u64,
}

/// A connection.
pub(super) struct Session<'s> {
    pub(super) shared: &'s Shared,
    pub(super) peer: Peer,
    user: Option<String>,
    open: Option<Open>,
}

/// Serves a client until it goes.
pub(super) fn serve(shared: &Shared, stream: TcpStream) {
    stream.set_nodelay(true).unwrap_or_default();
    let mut session = Session { shared, peer: Peer::new(stream), user: None, open: None };
    // A client that hangs up is none of our faults.
    session.run().unwrap_or_default();
}

impl Session<'_> {
    fn run(&mut self) -> io::Result<()> {
        if let Security::Implicit(identity) = &self.shared.options.security
            && let Flow::Stop = self.handshake(identity)?
        {
            return Ok(());
        }
        let greeting = format!("* OK [CAPABILITY {}] ready\r\n", self.capabilities()).into_bytes();
        let fault = self.fault("GREETING");
        if let Flow::Stop = self.misbehave("*", fault.as_ref())?.map_or_else(|| self.emit(greeting, fault), Ok)? {
            return Ok(());
        }
        while !self.shared.is_stopping() {
            let command = self.peer.command()?;
            if let Flow::Stop = self.serve_command(&command)? {
                break;
            }
        }
        Ok(())
    }

    fn handshake(&mut self, identity: &super::Identity) -> io::Result<Flow> {
        let fault = self.fault("TLS");
        if let Some(flow) = self.misbehave("*", fault.as_ref())? {
            return Ok(flow);
        }
        self.peer.protect(&identity.acceptor())?;
        Ok(Flow::GoOn)
    }

    fn serve_command(&mut self, command: &[Token]) -> io::Result<Flow> {
        let (tag, name, arguments) = match command {
            [tag, Token::Atom(uid), Token::Atom(verb), arguments @ ..] if uid.eq_ignore_ascii_case("UID") => {
                (tag.text(), format!("UID {}", verb.to_uppercase()), arguments)
            }
            [tag, Token::Atom(verb), arguments @ ..] => (tag.text(), verb.to_uppercase(), arguments),
            _ => {
                self.peer.send(b"* BAD that is no command\r\n")?;
                return Ok(Flow::GoOn);
            }
        };
        self.shared.world().log.push(loggable(&name, arguments));
        let fault = self.fault(&name);
        if let Some(flow) = self.misbehave(&tag, fault.as_ref())? {
            return Ok(flow);
        }
        if name == "IDLE" {
            return self.idle(&tag, fault);
        }
        let mut out = Vec::new();
        let reply = self.carry_out(&name, arguments, &mut out)?;
        self.finish(&tag, &name, reply, (out, fault))
    }

    fn finish(
        &mut self,
        tag: &str,
        name: &str,
        reply: Reply,
        (mut out, fault): (Vec<u8>, Option<Action>),
    ) -> io::Result<Flow> {
        let line = match &reply {
            Reply::Ok(text) => format!("{tag} OK {text}\r\n"),
            Reply::No(text) => format!("{tag} NO {text}\r\n"),
            Reply::Bad(text) => format!("{tag} BAD {text}\r\n"),
            Reply::Protect => format!("{tag} OK begin TLS\r\n"),
            Reply::End => format!("* BYE goodbye\r\n{tag} OK {name}\r\n"),
        };
        out.extend(line.as_bytes());
        if let Flow::Stop = self.emit(out, fault)? {
            return Ok(Flow::Stop);
        }
        match (reply, &self.shared.options.security) {
            (Reply::End, _) => Ok(Flow::Stop),
            (Reply::Protect, Security::StartTls(identity)) => self.handshake(identity),
            _ => Ok(Flow::GoOn),
        }
    }

    fn fault(&self, command: &str) -> Option<Action> {
        let user = self.user.as_deref().unwrap_or_default();
        Some(self.shared.world().fault_at(command, user)?.action())
    }

    /// Does what is done instead of the command; `None` if the command is to be carried out.
    fn misbehave(&mut self, tag: &str, fault: Option<&Action>) -> io::Result<Option<Flow>> {
        let said = match fault {
            Some(Action::No(text)) => format!("{tag} NO {text}\r\n"),
            Some(Action::Bad(text)) => format!("{tag} BAD {text}\r\n"),
            Some(Action::Bye(text)) => {
                self.peer.send(format!("* BYE {text}\r\n").as_bytes())?;
                return Ok(Some(Flow::Stop));
            }
            Some(Action::HangUp) => return Ok(Some(Flow::Stop)),
            Some(Action::Silence) => {
                self.peer.sink();
                return Ok(Some(Flow::Stop));
            }
            Some(Action::Flood(first, filling)) => {
                self.peer.send(first)?;
                while !self.shared.is_stopping() {
                    self.peer.send(filling)?;
                }
                return Ok(Some(Flow::Stop));
            }
            _ => return Ok(None),
        };
        self.peer.send(said.as_bytes())?;
        Ok(Some(Flow::GoOn))
    }

    /// Sends an answer, with what a fault does to it.
    fn emit(&mut self, answer: Vec<u8>, fault: Option<Action>) -> io::Result<Flow> {
        match fault {
            Some(Action::HangUpAfter(count)) => {
                self.peer.send(answer.get(..count).unwrap_or(&answer))?;
                return Ok(Flow::Stop);
            }
            Some(Action::SilenceAfter(count)) => {
                self.peer.send(answer.get(..count).unwrap_or(&answer))?;
                self.peer.sink();
                return Ok(Flow::Stop);
            }
            Some(Action::Delay(time)) => {
                std::thread::sleep(time);
                self.peer.send(&answer)?;
            }
            Some(Action::Before(mut bytes)) => {
                bytes.extend(answer);
                self.peer.send(&bytes)?;
            }
            Some(Action::Change(change)) => self.peer.send(&change(answer))?,
            _ => self.peer.send(&answer)?,
        }
        Ok(Flow::GoOn)
    }

    fn carry_out(&mut self, name: &str, arguments: &[Token], out: &mut Vec<u8>) -> io::Result<Reply> {
        let done = |text: &str| Reply::Ok(format!("{text} done"));
        Ok(match name {
            "CAPABILITY" => {
                out.extend(format!("* CAPABILITY {}\r\n", self.capabilities()).as_bytes());
                done(name)
            }
            "ID" if self.offers("ID") => {
                out.extend(b"* ID (\"name\" \"loopback\")\r\n");
                done(name)
            }
            "LOGOUT" => Reply::End,
            "STARTTLS" if self.may_protect() => Reply::Protect,
            "LOGIN" if self.user.is_none() => self.login(arguments),
            "AUTHENTICATE" if self.user.is_none() => self.authenticate(arguments)?,
            "NOOP" | "CHECK" => {
                self.sync(out);
                done(name)
            }
            _ => match self.user.clone() {
                Some(user) => self.signed_in_command(&user, name, arguments, out),
                None => Reply::Bad(format!("{name} is not for now")),
            },
        })
    }

    fn signed_in_command(&mut self, user: &str, name: &str, arguments: &[Token], out: &mut Vec<u8>) -> Reply {
        match name {
            "SELECT" | "EXAMINE" => self.select(user, arguments, name == "EXAMINE", out),
            "CREATE" => self.create(user, arguments),
            "LIST" => {
                for folder in self.shared.world().folder_names(user) {
                    out.extend(format!("* LIST () \"/\" \"{folder}\"\r\n").as_bytes());
                }
                Reply::Ok("LIST done".into())
            }
            "ENABLE" if self.offers("ENABLE") => Reply::Ok("ENABLE done".into()),
            "CLOSE" | "UNSELECT" => {
                self.open = None;
                Reply::Ok(format!("{name} done"))
            }
            _ if self.open.is_some() => {
                self.sync(out);
                self.folder_command(user, name, arguments, out)
            }
            _ => Reply::Bad(format!("{name} is not for now")),
        }
    }

    fn folder_command(&mut self, user: &str, name: &str, arguments: &[Token], out: &mut Vec<u8>) -> Reply {
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

    fn capabilities(&self) -> String {
        let offered = &self.shared.options.capabilities;
        let is_locked = self.may_protect();
        let mut told: Vec<&str> = offered
            .iter()
            .map(String::as_str)
            .filter(|capability| !(is_locked && capability.starts_with("AUTH=")))
            .collect();
        if is_locked {
            told.extend(["STARTTLS", "LOGINDISABLED"]);
        }
        told.join(" ")
    }

    pub(super) fn offers(&self, capability: &str) -> bool {
        self.shared.offers(capability)
    }

    fn may_protect(&self) -> bool {
        matches!(self.shared.options.security, Security::StartTls(_)) && !self.peer.is_protected()
    }

    pub(super) fn may_sign_in(&self) -> bool {
        !self.may_protect()
    }

    pub(super) fn signed_in(&mut self, user: &str) -> Reply {
        self.user = Some(user.to_owned());
        Reply::Ok(format!("[CAPABILITY {}] signed in", self.capabilities()))
    }

    fn select(&mut self, user: &str, arguments: &[Token], is_read_only: bool, out: &mut Vec<u8>) -> Reply {
        self.open = None;
        let name = arguments.first().map(Token::text).unwrap_or_default();
        let mut world = self.shared.world();
        let revision = world.revision();
        let Some(folder) = world.look(user, &name) else {
            return Reply::No("[NONEXISTENT] there is no such folder".into());
        };
        out.extend(described(folder).as_bytes());
        self.open = Some(Open { name, is_read_only, view: view_of(folder), revision });
        let mode = if is_read_only { "READ-ONLY" } else { "READ-WRITE" };
        Reply::Ok(format!("[{mode}] opened"))
    }

    fn create(&mut self, user: &str, arguments: &[Token]) -> Reply {
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
        let names = items.iter().filter(|token| !matches!(token, Token::Open | Token::Close)).map(Token::text);
        let Some(mut items) = names.map(|name| Item::of(&name)).collect::<Option<Vec<Item>>>() else {
            return Reply::Bad("that cannot be fetched here".into());
        };
        if items.contains(&Item::EmailId) && !self.offers("OBJECTID") {
            return Reply::Bad("there is no EMAILID here".into());
        }
        if !items.contains(&Item::Uid) {
            items.insert(0, Item::Uid);
        }
        let Some(open) = &self.open else { return Reply::Bad("no folder".into()) };
        let mut world = self.shared.world();
        let marks = !open.is_read_only && items.iter().any(Item::marks_seen);
        let Some(folder) = (if marks { world.find(user, &open.name) } else { world.look(user, &open.name) }) else {
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
        let flags: BTreeSet<String> =
            flags.iter().filter(|token| !matches!(token, Token::Open | Token::Close)).map(Token::text).collect();
        for uid in self.chosen(user, &set.text()) {
            let Some(open) = &mut self.open else { break };
            let mut world = self.shared.world();
            let Some(folder) = world.find(user, &open.name) else { break };
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
                messages.into_iter().filter(|message| chosen.contains(&message.uid)).collect()
            }
            None => Vec::new(),
        };
        let mut world = self.shared.world();
        let Some(folder) = world.find(user, &target) else {
            return Err(Reply::No("[TRYCREATE] there is no such folder".into()));
        };
        let given: Vec<String> = copies.into_iter().map(|message| folder.take(message).to_string()).collect();
        if given.is_empty() || !self.shared.offers("UIDPLUS") {
            return Ok("copied".into());
        }
        let taken: Vec<String> = chosen.iter().map(u32::to_string).collect();
        Ok(format!("[COPYUID {} {} {}] copied", folder.uidvalidity, taken.join(","), given.join(",")))
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
        self.take_away(user, |message| message.has("\\Deleted") && chosen.contains(&message.uid));
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
        let Some(folder) = world.look(user, &open.name) else { return Vec::new() };
        let last = folder.messages.last().map_or(0, |message| message.uid);
        folder.messages.iter().map(|message| message.uid).filter(|uid| fetch::set_has(set, *uid, last)).collect()
    }

    /// Tells what changed in the open folder since the client last heard of it.
    fn sync(&mut self, out: &mut Vec<u8>) {
        let (Some(open), Some(user)) = (&mut self.open, &self.user) else { return };
        let mut world = self.shared.world();
        let revision = world.revision();
        if open.revision == revision {
            return;
        }
        open.revision = revision;
        let messages = world.look(user, &open.name).map(|folder| &folder.messages[..]).unwrap_or_default();
        tell_changes(&open.view, messages, out);
        open.view = messages.iter().map(|message| (message.uid, message.flags.clone())).collect();
    }

    fn idle(&mut self, tag: &str, fault: Option<Action>) -> io::Result<Flow> {
        if !self.offers("IDLE") || self.user.is_none() {
            return self.finish(tag, "IDLE", Reply::Bad("IDLE is not known here".into()), (Vec::new(), fault));
        }
        let mut out = Vec::new();
        self.sync(&mut out);
        out.extend(b"+ idling\r\n");
        if let Flow::Stop = self.emit(out, fault)? {
            return Ok(Flow::Stop);
        }
        loop {
            match self.peer.line_within(GLANCE)? {
                Heard::Line(line) if line.eq_ignore_ascii_case(b"DONE") => break,
                Heard::Line(_) => return self.finish(tag, "IDLE", Reply::Bad("DONE was meant".into()), (Vec::new(), None)),
                Heard::Nothing => {}
            }
            if let Flow::Stop = self.push()? {
                return Ok(Flow::Stop);
            }
        }
        self.shared.world().log.push("DONE".into());
        let fault = self.fault("DONE");
        match self.misbehave(tag, fault.as_ref())? {
            Some(flow) => Ok(flow),
            None => self.finish(tag, "IDLE", Reply::Ok("IDLE done".into()), (Vec::new(), fault)),
        }
    }

    fn push(&mut self) -> io::Result<Flow> {
        let mut out = Vec::new();
        self.sync(&mut out);
        // A fault may speak up without anything new: it applies at each glance.
        let fault = self.fault("PUSH");
        if let Some(flow) = self.misbehave("*", fault.as_ref())? {
            return Ok(flow);
        }
        if out.is_empty() && fault.is_none() {
            return Ok(Flow::GoOn);
        }
        self.emit(out, fault)
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
    folder.messages.iter().map(|message| (message.uid, message.flags.clone())).collect()
}

fn described(folder: &Folder) -> String {
    let mut text = format!(
        "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)\r\n\
         * OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft \\*)] flags\r\n\
         * {} EXISTS\r\n* 0 RECENT\r\n",
        folder.messages.len()
    );
    if folder.tells_uidvalidity {
        text += &format!("* OK [UIDVALIDITY {}] generation\r\n", folder.uidvalidity);
    }
    if folder.tells_uidnext {
        text += &format!("* OK [UIDNEXT {}] next\r\n", folder.uidnext);
    }
    text
}

/// A command for the log: what signs in is cut off.
fn loggable(name: &str, arguments: &[Token]) -> String {
    let shown = match name {
        "LOGIN" => arguments.get(..1),
        "AUTHENTICATE" => arguments.get(..1),
        _ => Some(arguments),
    };
    let mut line = name.to_owned();
    let mut after_open = false;
    for token in shown.unwrap_or_default() {
        if !after_open && *token != Token::Close {
            line.push(' ');
        }
        line.push_str(&token.text());
        after_open = *token == Token::Open;
    }
    line
}
