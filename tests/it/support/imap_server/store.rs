//! What the server keeps: users, folders, messages with flags, and what was asked of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpStream;

use super::fault::Fault;

/// When the first message of a folder arrived, in seconds since 1970; each next one a minute later.
const FIRST_ARRIVAL: i64 = 1_793_610_000;

/// A message as the server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its UID.
    pub uid: u32,
    /// `\Seen` and others.
    pub flags: BTreeSet<String>,
    /// When it arrived, in seconds since 1970.
    pub arrived_at: i64,
    /// The size that is stated, where it is a lie.
    pub stated_size: Option<u64>,
    /// The identifier that it keeps wherever it is moved.
    pub email_id: String,
    /// Its bytes.
    pub raw: Vec<u8>,
}

impl Message {
    /// Whether it is marked so.
    pub fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|set| set.eq_ignore_ascii_case(flag))
    }
}

/// A folder.
#[derive(Debug, Clone)]
pub struct Folder {
    /// The generation of its UIDs.
    pub uidvalidity: u32,
    /// The UID that the next message gets.
    pub uidnext: u32,
    /// By UID.
    pub messages: Vec<Message>,
    /// Whether SELECT tells the next UID; some servers do not.
    pub tells_uidnext: bool,
    /// Whether SELECT tells the generation.
    pub tells_uidvalidity: bool,
}

impl Folder {
    fn new(uidvalidity: u32) -> Self {
        Self {
            uidvalidity,
            uidnext: 1,
            messages: Vec::new(),
            tells_uidnext: true,
            tells_uidvalidity: true,
        }
    }

    /// Adds a new message; gives its UID.
    pub fn add(&mut self, raw: Vec<u8>) -> u32 {
        self.take(Message {
            uid: 0,
            flags: BTreeSet::new(),
            arrived_at: FIRST_ARRIVAL + 60 * i64::from(self.uidnext - 1),
            stated_size: None,
            email_id: format!("M{}-{}", self.uidvalidity, self.uidnext),
            raw,
        })
    }

    /// Adds a message of another folder under a new UID.
    pub(super) fn take(&mut self, message: Message) -> u32 {
        let uid = self.uidnext;
        self.uidnext += 1;
        self.messages.push(Message { uid, ..message });
        uid
    }

    /// Adds flags to a message, or takes them away.
    pub(super) fn mark(&mut self, uid: u32, flags: &BTreeSet<String>, adds: bool) {
        for message in self.messages.iter_mut().filter(|message| message.uid == uid) {
            if adds {
                message.flags.extend(flags.iter().cloned());
            } else {
                message.flags.retain(|set| !flags.contains(set));
            }
        }
    }

    /// Takes the next generation.
    pub(super) fn begin_anew(&mut self, uidvalidity: u32) {
        self.uidvalidity = uidvalidity;
        self.uidnext = 1;
        for message in &mut self.messages {
            message.uid = self.uidnext;
            self.uidnext += 1;
        }
    }
}

/// All that the server keeps.
pub(super) struct World {
    users: BTreeMap<String, BTreeMap<String, Folder>>,
    /// In the order in which they apply.
    pub(super) faults: Vec<Fault>,
    pub(super) log: Vec<String>,
    pub(super) connections: BTreeMap<u64, TcpStream>,
    next_connection: u64,
    next_uidvalidity: u32,
    /// Grows with each change.
    revision: u64,
}

impl World {
    pub(super) fn new<'n>(users: impl Iterator<Item = &'n str>) -> Self {
        let mut world = Self {
            users: BTreeMap::new(),
            faults: Vec::new(),
            log: Vec::new(),
            connections: BTreeMap::new(),
            next_connection: 0,
            next_uidvalidity: 1_700_000_001,
            revision: 0,
        };
        for user in users {
            world.folder(user, "INBOX");
        }
        world
    }

    pub(super) fn connected(&mut self, stream: TcpStream) -> u64 {
        self.next_connection += 1;
        self.connections.insert(self.next_connection, stream);
        self.next_connection
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// A folder to change, made if it is missing.
    pub(super) fn folder(&mut self, user: &str, name: &str) -> &mut Folder {
        self.revision += 1;
        let uidvalidity = self.next_uidvalidity;
        let folders = self.users.entry(user.to_owned()).or_default();
        folders.entry(canonical(name)).or_insert_with(|| {
            self.next_uidvalidity += 1;
            Folder::new(uidvalidity)
        })
    }

    /// A folder to change, if it is there.
    pub(super) fn find(&mut self, user: &str, name: &str) -> Option<&mut Folder> {
        self.revision += 1;
        self.look(user, name)
    }

    /// A folder to look at, if it is there.
    pub(super) fn look(&mut self, user: &str, name: &str) -> Option<&mut Folder> {
        self.users.get_mut(user)?.get_mut(&canonical(name))
    }

    pub(super) fn remove_folder(&mut self, user: &str, name: &str) {
        self.revision += 1;
        if let Some(folders) = self.users.get_mut(user) {
            folders.remove(&canonical(name));
        }
    }

    pub(super) fn folder_names(&self, user: &str) -> Vec<String> {
        self.users
            .get(user)
            .map(|folders| folders.keys().cloned().collect())
            .unwrap_or_default()
    }

    /// The fault that now applies to a command of a user, if any; it is used up by one.
    pub(super) fn fault_at(&mut self, command: &str, user: &str) -> Option<Fault> {
        let index = self.faults.iter_mut().position(|fault| fault.applies(command, user))?;
        let fault = self.faults.get_mut(index)?;
        let now = fault.clone();
        if fault.is_used_up() {
            self.faults.remove(index);
        }
        Some(now)
    }
}

/// INBOX is the same in any case (RFC 9051 §5.1).
fn canonical(name: &str) -> String {
    if name.eq_ignore_ascii_case("INBOX") {
        "INBOX".to_owned()
    } else {
        name.to_owned()
    }
}
