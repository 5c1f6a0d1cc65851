//! The daemon ended at random moments while mail flows in: nothing is lost, nothing is doubled, and what was
//! done on a server was committed before. `KILL_SEED` repeats a run.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::certificate::LOOPBACK;
use crate::support::dovecot::Dovecot;
use crate::support::imap_server::ImapServer;
use crate::support::scene::{PASSWORD, SOON, Scene, address, assert_sound, mail};

/// What is done after the commit, by the name of the user.
const AFTER: [(&str, &str); 3] = [
    ("seen", "after = \"seen\""),
    ("moved", "after = { move = \"Done\" }"),
    ("deleted", "after = \"delete\""),
];
/// Mails for each user of the scripted server.
const SCRIPTED: usize = 90;
/// Mails for each user of Dovecot.
const REAL: usize = 30;
/// Fewest endings of a run.
const ENDINGS: usize = 25;

/// Xorshift (Marsaglia 2003): random enough to choose moments, and repeatable.
pub(crate) struct Moments(u64);

impl Moments {
    pub(crate) fn seeded() -> Self {
        let seed = match std::env::var("KILL_SEED") {
            Ok(text) => text.parse().unwrap(),
            Err(_) => u64::from(std::process::id()) ^ 0x9e37_79b9_7f4a_7c15,
        };
        println!("KILL_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Both servers, watched by one program.
struct Flow {
    scene: Scene,
    dovecot: Dovecot,
}

impl Flow {
    fn new() -> Self {
        let users = AFTER.map(|(user, _)| user);
        let scene = Scene::with(&users, |options| options);
        let real: Vec<String> = users.iter().map(|user| address(&format!("real-{user}"))).collect();
        let accounts: Vec<(&str, &str)> = real.iter().map(|user| (user.as_str(), PASSWORD)).collect();
        let identity = scene.authority.issue(&LOOPBACK);
        let dovecot = Dovecot::start(&scene.authority, &identity, &accounts, "");
        let mut sections = Vec::new();
        for (user, after) in AFTER {
            sections.push(scene.mailbox(user, after));
            sections.push(scene.mailbox_at(dovecot.imaps_port(), &format!("real-{user}"), after));
        }
        sections.push("[[project]]\nkey = \"SUP\"\n".to_owned());
        scene.configure(&sections.iter().map(String::as_str).collect::<Vec<_>>());
        Self { scene, dovecot }
    }

    /// Delivers all mail little by little, while `during` runs again and again until all is there.
    fn run(&self, mut during: impl FnMut()) {
        std::thread::scope(|scope| {
            let scripted = scope.spawn(|| {
                for number in 0..SCRIPTED {
                    for (user, _) in AFTER {
                        self.scene
                            .server
                            .deliver(&address(user), "INBOX", mail(&format!("{user}-{number}")));
                    }
                    std::thread::sleep(Duration::from_millis(80));
                }
            });
            let real = scope.spawn(|| self.deliver_to_dovecot());
            let mut round = 0;
            while round < ENDINGS || !scripted.is_finished() || !real.is_finished() {
                during();
                round += 1;
            }
            println!("{round} endings");
        });
    }

    fn deliver_to_dovecot(&self) {
        for number in 0..REAL {
            for (user, _) in AFTER {
                let name = format!("real-{user}");
                self.dovecot
                    .deliver(&address(&name), "INBOX", &mail(&format!("{name}-{number}")));
            }
            std::thread::sleep(Duration::from_millis(150));
        }
    }

    /// What was done on the scripted server is in the ledger.
    fn assert_committed(&self) {
        if !self.scene.program.database().exists() {
            return;
        }
        let done = done_on(&self.scene.server);
        let known = self.known();
        let early: Vec<_> = done.difference(&known).collect();
        assert!(
            early.is_empty(),
            "done on the server before it was committed: {early:?}"
        );
    }

    /// The messages in the ledger; none where the first death came before its tables.
    fn known(&self) -> BTreeSet<String> {
        let rows = self
            .scene
            .look("SELECT message_id FROM message WHERE verdict = 'issue'");
        rows.into_iter().flatten().collect()
    }

    /// Lets the daemon finish, and looks at everything.
    fn assert_complete(&self) {
        let all = AFTER.len() * (SCRIPTED + REAL);
        let mut daemon = self.scene.program.daemon();
        daemon.wait_event("daemon.started", SOON);
        self.scene.wait_rows(&mut daemon, all);
        assert_eq!(daemon.terminate(), Some(0));
        let mut expected = BTreeSet::new();
        for (user, _) in AFTER {
            expected.extend((0..SCRIPTED).map(|number| format!("{user}-{number}@customer.example")));
            expected.extend((0..REAL).map(|number| format!("real-{user}-{number}@customer.example")));
        }
        assert_eq!(self.known(), expected, "each mail is an issue");
        assert_eq!(self.scene.query("SELECT count(*) FROM issues"), [[all.to_string()]]);
        assert_eq!(done_on(&self.scene.server).len(), AFTER.len() * SCRIPTED);
        for (user, counts) in [
            ("seen", [REAL, REAL, 0]),
            ("moved", [0, 0, REAL]),
            ("deleted", [0, 0, 0]),
        ] {
            assert_eq!(
                self.dovecot_has(&address(&format!("real-{user}"))),
                counts,
                "real-{user}"
            );
        }
        assert_sound(&self.scene.program.database());
        self.scene.program.ok(&["audit"]);
    }

    /// Mails of a user of Dovecot: in INBOX, of those seen, and in the folder Done.
    fn dovecot_has(&self, user: &str) -> [usize; 3] {
        let mut stream = TcpStream::connect(("127.0.0.1", self.dovecot.imap_port())).unwrap();
        write!(
            stream,
            "a LOGIN {user} \"{PASSWORD}\"\r\nb STATUS INBOX (MESSAGES UNSEEN)\r\nc STATUS Done (MESSAGES)\r\nd LOGOUT\r\n"
        )
        .unwrap();
        let lines: Vec<String> = BufReader::new(stream).lines().map(Result::unwrap).collect();
        let number = |folder: &str, item: &str| -> usize {
            let line = lines
                .iter()
                .find(|line| line.starts_with(&format!("* STATUS {folder}")));
            let items = line.and_then(|line| line.split_once(item)).map(|(_, rest)| rest.trim());
            items
                .and_then(|rest| rest.split([' ', ')']).next())
                .map_or(0, |count| count.parse().unwrap())
        };
        let in_inbox = number("INBOX", "MESSAGES");
        [
            in_inbox,
            in_inbox - number("INBOX", "UNSEEN"),
            number("Done", "MESSAGES"),
        ]
    }
}

/// The Message-IDs of mails that were marked, moved or deleted.
fn done_on(server: &ImapServer) -> BTreeSet<String> {
    let ids = |user: &str, folder: &str, only_seen: bool| -> Vec<String> {
        let messages = server.messages(&address(user), folder);
        let wanted = messages.iter().filter(|message| !only_seen || message.has("\\Seen"));
        wanted.map(|message| id_of(&message.raw)).collect()
    };
    let moved = ids("moved", "Done", false);
    let mut done: BTreeSet<String> = moved.iter().cloned().collect();
    assert_eq!(done.len(), moved.len(), "moved twice");
    done.extend(ids("seen", "INBOX", true));
    let next = server.change(&address("deleted"), "INBOX", |folder| folder.uidnext);
    let left: BTreeSet<String> = ids("deleted", "INBOX", false).into_iter().collect();
    let delivered = (0..next - 1).map(|number| format!("deleted-{number}@customer.example"));
    done.extend(delivered.filter(|id| !left.contains(id)));
    done
}

fn id_of(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    let (_, rest) = text.split_once("Message-ID: <").unwrap();
    rest.split_once('>').unwrap().0.to_owned()
}

#[test]
fn killed_at_random_moments_it_loses_and_doubles_nothing() {
    let flow = Flow::new();
    let mut moments = Moments::seeded();
    flow.run(|| {
        let mut daemon = flow.scene.program.daemon();
        std::thread::sleep(Duration::from_millis(moments.below(600)));
        daemon.kill();
        flow.assert_committed();
    });
    flow.assert_complete();
}

#[test]
fn terminated_at_random_moments_it_ends_in_order_and_owes_nothing() {
    let flow = Flow::new();
    let mut moments = Moments::seeded();
    flow.run(|| {
        let mut daemon = flow.scene.program.daemon();
        // Before it has begun to listen for it, the signal ends it like any process.
        daemon.wait_event("daemon.started", SOON);
        std::thread::sleep(Duration::from_millis(moments.below(600)));
        let asked = Instant::now();
        assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
        assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
        flow.assert_committed();
        let owed = flow
            .scene
            .query("SELECT count(*) FROM message WHERE server_action = 'pending'");
        assert_eq!(owed, [["0"]], "{}", daemon.log());
    });
    flow.assert_complete();
}
