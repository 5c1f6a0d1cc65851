//! A client's connection from the greeting to its end, command by command.

use std::collections::BTreeSet;
use std::io;
use std::net::TcpStream;

use openssl::base64::{decode_block, encode_block};

use super::wire::Peer;
use super::{Action, Mail, Security, Shared};

/// What is said to a token that does not fit.
const CHALLENGE: &str = r#"{"status":"401","schemes":"bearer","scope":"https://mail.example/"}"#;

enum Flow {
    GoOn,
    Protect,
    Stop,
}

struct Session<'s> {
    shared: &'s Shared,
    peer: Peer,
    /// Who said USER.
    named: String,
    user: Option<String>,
    /// What was there at the sign-in.
    mails: Vec<Mail>,
    deleted: BTreeSet<usize>,
}

/// Serves a client until it goes.
pub(super) fn serve(shared: &Shared, stream: TcpStream) {
    stream.set_nodelay(true).unwrap_or_default();
    let mut session = Session {
        shared,
        peer: Peer::new(stream),
        named: String::new(),
        user: None,
        mails: Vec::new(),
        deleted: BTreeSet::new(),
    };
    // A client that hangs up is none of our faults.
    session.run().unwrap_or_default();
}

impl Session<'_> {
    fn run(&mut self) -> io::Result<()> {
        if let Security::Implicit(identity) = &self.shared.options.security {
            self.peer.protect(&identity.acceptor())?;
        }
        let fault = self.fault("GREETING");
        if let Flow::Stop = self.emit(b"+OK ready\r\n".to_vec(), fault)? {
            return Ok(());
        }
        while !self.shared.is_stopping() {
            let line = String::from_utf8_lossy(&self.peer.line()?).trim_end().to_owned();
            match self.serve_line(&line)? {
                Flow::GoOn => {}
                Flow::Protect => {
                    if let Security::StartTls(identity) = &self.shared.options.security {
                        self.peer.protect(&identity.acceptor())?;
                    }
                }
                Flow::Stop => break,
            }
        }
        Ok(())
    }

    fn serve_line(&mut self, line: &str) -> io::Result<Flow> {
        let (verb, argument) = line.split_once(' ').unwrap_or((line, ""));
        let verb = verb.to_uppercase();
        let loggable = if verb == "PASS" { "PASS" } else { line };
        self.shared.world().log.push(loggable.to_owned());
        // `RETR 1` is a command of its own to whoever wants faults at one message.
        let fault = self.fault(line).or_else(|| self.fault(&verb));
        match fault {
            Some(Action::No(words)) => return self.emit(format!("-ERR {words}\r\n").into_bytes(), None),
            Some(Action::HangUp) => return Ok(Flow::Stop),
            _ => {}
        }
        let mut flow = Flow::GoOn;
        let answer = match verb.as_str() {
            "STLS" => {
                flow = Flow::Protect;
                "+OK begin\r\n".into()
            }
            "QUIT" => {
                self.quit();
                flow = Flow::Stop;
                "+OK bye\r\n".into()
            }
            "AUTH" => self.authenticate(argument)?,
            _ => self.answer(&verb, argument),
        };
        match self.emit(answer, fault)? {
            Flow::Stop => Ok(Flow::Stop),
            Flow::GoOn | Flow::Protect => Ok(flow),
        }
    }

    fn fault(&self, command: &str) -> Option<Action> {
        let user = self.user.as_deref().unwrap_or_default();
        self.shared.world().fault_at(command, user)
    }

    /// Sends an answer, with what a fault does to it.
    fn emit(&mut self, answer: Vec<u8>, fault: Option<Action>) -> io::Result<Flow> {
        match fault {
            Some(Action::No(words) | Action::Bad(words)) => {
                self.peer.send(format!("-ERR {words}\r\n").as_bytes())?;
                return Ok(Flow::GoOn);
            }
            Some(Action::Bye(words)) => {
                self.peer.send(format!("-ERR {words}\r\n").as_bytes())?;
                return Ok(Flow::Stop);
            }
            Some(Action::HangUp) => return Ok(Flow::Stop),
            Some(Action::Silence) => {
                self.peer.sink();
                return Ok(Flow::Stop);
            }
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
            Some(Action::Flood(first, filling)) => {
                self.peer.send(&first)?;
                while !self.shared.is_stopping() {
                    self.peer.send(&filling)?;
                }
                return Ok(Flow::Stop);
            }
            None => self.peer.send(&answer)?,
        }
        Ok(Flow::GoOn)
    }

    fn may_sign_in(&self) -> bool {
        self.peer.is_protected() || matches!(self.shared.options.security, Security::Clear)
    }

    fn answer(&mut self, verb: &str, argument: &str) -> Vec<u8> {
        let known = match verb {
            "CAPA" => !self.shared.options.capabilities.is_empty(),
            "USER" | "PASS" => self.may_sign_in(),
            "LIST" | "RETR" | "DELE" | "RSET" | "NOOP" => self.user.is_some(),
            // Without CAPA the commands are there all the same.
            "UIDL" | "TOP" => self.user.is_some() && self.shared.offers(verb),
            _ => false,
        };
        if !known {
            return b"-ERR what?\r\n".to_vec();
        }
        let number = argument
            .split(' ')
            .next()
            .and_then(|word| word.parse().ok())
            .unwrap_or(0);
        match verb {
            "CAPA" => listed(self.shared.options.capabilities.iter().cloned()),
            "USER" => {
                argument.clone_into(&mut self.named);
                b"+OK\r\n".to_vec()
            }
            "PASS" => {
                let name = self.named.clone();
                self.by_password(&name, argument)
            }
            "LIST" => listed(self.present().map(|(number, mail)| {
                let size = mail.stated.unwrap_or(mail.raw.len() as u64);
                format!("{number} {size}")
            })),
            "UIDL" => listed(self.present().map(|(number, mail)| format!("{number} {}", mail.uidl))),
            "RETR" => self.text(number, usize::MAX),
            "TOP" => self.text(number, 0),
            "DELE" if self.mail(number).is_some() => {
                self.deleted.insert(number);
                b"+OK\r\n".to_vec()
            }
            "RSET" => {
                self.deleted.clear();
                b"+OK\r\n".to_vec()
            }
            "NOOP" => b"+OK\r\n".to_vec(),
            _ => b"-ERR no such message\r\n".to_vec(),
        }
    }

    fn present(&self) -> impl Iterator<Item = (usize, &Mail)> {
        let all = self.mails.iter().enumerate().map(|(index, mail)| (index + 1, mail));
        all.filter(|(number, _)| !self.deleted.contains(number))
    }

    fn mail(&self, number: usize) -> Option<&Mail> {
        self.present().find(|(at, _)| *at == number).map(|(_, mail)| mail)
    }

    fn text(&self, number: usize, lines: usize) -> Vec<u8> {
        let Some(mail) = self.mail(number) else {
            return b"-ERR no such message\r\n".to_vec();
        };
        let raw = if lines == 0 {
            let end = mail.raw.windows(4).position(|at| at == b"\r\n\r\n");
            &mail.raw[..end.map_or(mail.raw.len(), |at| at + 4)]
        } else {
            &mail.raw
        };
        let mut out = b"+OK\r\n".to_vec();
        for byte in raw {
            if *byte == b'.' && out.ends_with(b"\r\n") {
                out.push(b'.');
            }
            out.push(*byte);
        }
        if !out.ends_with(b"\r\n") {
            out.extend(b"\r\n");
        }
        out.extend(b".\r\n");
        out
    }

    fn by_password(&mut self, user: &str, password: &str) -> Vec<u8> {
        let mut users = self.shared.options.users.iter();
        if users.any(|(name, right)| name == user && right == password) {
            return self.enter(user);
        }
        b"-ERR [AUTH] Username and password not accepted.\r\n".to_vec()
    }

    fn enter(&mut self, user: &str) -> Vec<u8> {
        let mails = self.shared.world().mailboxes.get(user).cloned();
        self.mails = mails.unwrap_or_default();
        self.user = Some(user.to_owned());
        b"+OK signed in\r\n".to_vec()
    }

    /// In two lines; with the first answer in the command it behaves as Exchange Online does.
    fn authenticate(&mut self, argument: &str) -> io::Result<Vec<u8>> {
        if argument.contains(' ') {
            return Ok(b"-ERR Protocol error. Connection is closed. 10\r\n".to_vec());
        }
        let mut offered = self.shared.options.capabilities.iter();
        let is_offered = offered.any(|line| line.starts_with("SASL") && line.contains(argument));
        if !self.may_sign_in() || !is_offered {
            return Ok(b"-ERR no such mechanism\r\n".to_vec());
        }
        self.peer.send(b"+ \r\n")?;
        let said = self.peer.line()?;
        let said = decode_block(String::from_utf8_lossy(&said).trim_end()).unwrap_or_default();
        let said = String::from_utf8_lossy(&said).into_owned();
        if argument == "PLAIN" {
            let parts: Vec<&str> = said.split('\0').collect();
            return Ok(self.by_password(parts[1], parts[2]));
        }
        let user = said.split('\x01').next().unwrap_or_default();
        let user = user
            .trim_start_matches("user=")
            .trim_start_matches("n,a=")
            .trim_end_matches(',');
        let (_, token) = said.split_once("auth=Bearer ").unwrap_or_default();
        let token = token.trim_end_matches('\x01');
        if (self.shared.options.token)(user, token) {
            return Ok(self.enter(user));
        }
        self.peer
            .send(format!("+ {}\r\n", encode_block(CHALLENGE.as_bytes())).as_bytes())?;
        let answer = self.peer.line()?;
        let answer = String::from_utf8_lossy(&answer).trim_end().to_owned();
        self.shared.world().log.push(format!("answered {answer:?}"));
        Ok(b"-ERR Authentication failure: unknown user name or bad password.\r\n".to_vec())
    }

    fn quit(&mut self) {
        let Some(user) = &self.user else { return };
        let mut world = self.shared.world();
        let mails = world.mailboxes.entry(user.clone()).or_default();
        for number in &self.deleted {
            let gone = &self.mails[number - 1];
            if let Some(at) = mails.iter().position(|mail| mail == gone) {
                mails.remove(at);
            }
        }
    }
}

fn listed(lines: impl Iterator<Item = String>) -> Vec<u8> {
    let mut out = "+OK\r\n".to_owned();
    for line in lines {
        out += &line;
        out += "\r\n";
    }
    (out + ".\r\n").into_bytes()
}
