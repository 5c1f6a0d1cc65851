//! A client's connection from the greeting to its end, command by command.

use std::io;
use std::net::TcpStream;
use std::time::Duration;

use super::fault::Action;
use super::folder::Open;
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

/// A connection.
pub(super) struct Session<'s> {
    pub(super) shared: &'s Shared,
    pub(super) peer: Peer,
    pub(super) user: Option<String>,
    pub(super) open: Option<Open>,
}

/// Serves a client until it goes.
pub(super) fn serve(shared: &Shared, stream: TcpStream) {
    stream.set_nodelay(true).unwrap_or_default();
    let mut session = Session {
        shared,
        peer: Peer::new(stream),
        user: None,
        open: None,
    };
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
        if let Flow::Stop = self
            .misbehave("*", fault.as_ref())?
            .map_or_else(|| self.emit(greeting, fault), Ok)?
        {
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

    fn idle(&mut self, tag: &str, fault: Option<Action>) -> io::Result<Flow> {
        if !self.offers("IDLE") || self.user.is_none() {
            return self.finish(
                tag,
                "IDLE",
                Reply::Bad("IDLE is not known here".into()),
                (Vec::new(), fault),
            );
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
                Heard::Line(_) => {
                    return self.finish(tag, "IDLE", Reply::Bad("DONE was meant".into()), (Vec::new(), None));
                }
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

/// A command for the log: what signs in is cut off.
fn loggable(name: &str, arguments: &[Token]) -> String {
    let shown = match name {
        "LOGIN" | "AUTHENTICATE" => arguments.get(..1),
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
