//! How the server can be told to misbehave.

use std::sync::Arc;
use std::time::Duration;

/// What a change of an answer does with its bytes.
pub type Change = Arc<dyn Fn(Vec<u8>) -> Vec<u8> + Send + Sync>;

/// What is done instead of the right thing.
#[derive(Clone)]
pub enum Action {
    /// `NO` with these words; nothing is done.
    No(String),
    /// `BAD` with these words; nothing is done.
    Bad(String),
    /// `* BYE` with these words, and the end of the connection; nothing is done.
    Bye(String),
    /// The end of the connection; nothing is done.
    HangUp,
    /// No answer any more, and the connection stays.
    Silence,
    /// The command is carried out, and the connection ends after so many bytes of the answer.
    HangUpAfter(usize),
    /// The command is carried out, and no more than so many bytes of the answer come.
    SilenceAfter(usize),
    /// The command is carried out, and the answer comes late.
    Delay(Duration),
    /// The command is carried out, and these bytes come before the answer.
    Before(Vec<u8>),
    /// The command is carried out, and the answer is changed.
    Change(Change),
    /// These bytes, and then the filling for ever.
    Flood(Vec<u8>, Vec<u8>),
}

impl Action {
    /// The answer with each `from` replaced by `to`.
    pub fn replace(from: &str, to: &str) -> Self {
        let (from, to) = (from.as_bytes().to_vec(), to.as_bytes().to_vec());
        Self::Change(Arc::new(move |answer| replaced(&answer, &from, &to)))
    }
}

/// A misbehaviour at a command, or at GREETING, TLS (the handshake), STARTTLS, DONE, PUSH (each line during IDLE).
#[derive(Clone)]
pub struct Fault {
    command: String,
    action: Action,
    user: Option<String>,
    skipped: usize,
    left: Option<usize>,
}

impl Fault {
    /// At the next command of this name, once.
    pub fn at(command: &str, action: Action) -> Self {
        Self {
            command: command.to_owned(),
            action,
            user: None,
            skipped: 0,
            left: Some(1),
        }
    }

    /// So many times.
    pub fn times(self, times: usize) -> Self {
        Self {
            left: Some(times),
            ..self
        }
    }

    /// Until the faults are cleared.
    pub fn always(self) -> Self {
        Self { left: None, ..self }
    }

    /// Only after so many commands of the name went well.
    pub fn after(self, skipped: usize) -> Self {
        Self { skipped, ..self }
    }

    /// Only for this user, once signed in.
    pub fn of(self, user: &str) -> Self {
        Self {
            user: Some(user.to_owned()),
            ..self
        }
    }

    pub(in super::super) fn action(self) -> Action {
        self.action
    }

    /// Whether it applies now; counts the command.
    pub(in super::super) fn applies(&mut self, command: &str, user: &str) -> bool {
        let is_meant = self.command == command && self.user.as_deref().is_none_or(|meant| meant == user);
        if is_meant && self.skipped > 0 {
            self.skipped -= 1;
            return false;
        }
        is_meant
    }

    /// Counts a use.
    pub(in super::super) fn is_used_up(&mut self) -> bool {
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(1);
        }
        self.left == Some(0)
    }
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut result = Vec::new();
    let mut rest = bytes;
    while let Some((first, others)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(from) {
            result.extend_from_slice(to);
            rest = after;
        } else {
            result.push(*first);
            rest = others;
        }
    }
    result
}
