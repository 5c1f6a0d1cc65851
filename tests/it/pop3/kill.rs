//! The daemon ended at random moments while it takes and deletes: nothing is lost or doubled, and what is gone from
//! the server was committed before. `KILL_SEED` repeats a run.

use std::collections::BTreeSet;
use std::time::Duration;

use super::stage::Stage;
use crate::support::pop3_server::{Action, Fault};
use crate::support::scene::{SOON, address, assert_sound, mail};

/// Mails of a run.
const MAILS: usize = 200;
/// Fewest endings of a run.
const ENDINGS: usize = 20;

/// Xorshift (Marsaglia 2003): random enough to choose moments, and repeatable.
struct Moments(u64);

impl Moments {
    fn seeded() -> Self {
        let seed = match std::env::var("KILL_SEED") {
            Ok(text) => text.parse().unwrap(),
            Err(_) => u64::from(std::process::id()) ^ 0x9e37_79b9_7f4a_7c15,
        };
        println!("KILL_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn names() -> impl Iterator<Item = String> {
    (0..MAILS).map(|number| format!("m{number}"))
}

fn assert_committed(stage: &Stage) {
    let rows = stage
        .scene
        .look("SELECT message_id FROM messages WHERE verdict = 'issue'");
    // Nobody writes any more: the daemon is dead, and the server may only yet hear a QUIT that was sent.
    let known: BTreeSet<String> = rows.into_iter().flatten().collect();
    let on_server: BTreeSet<String> = on_server(stage);
    let delivered = DELIVERED.load(std::sync::atomic::Ordering::SeqCst);
    let early: Vec<String> = names()
        .take(delivered)
        .map(|name| format!("{name}@customer.example"))
        .filter(|id| !on_server.contains(id) && !known.contains(id))
        .collect();
    assert!(early.is_empty(), "deleted before it was committed: {early:?}");
}

/// How many mails are on the server or were.
static DELIVERED: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

fn on_server(stage: &Stage) -> BTreeSet<String> {
    let mails = stage.server.messages(&address("support"));
    let id = |raw: &[u8]| {
        let text = String::from_utf8_lossy(raw).into_owned();
        let (_, rest) = text.split_once("Message-ID: <").unwrap();
        rest.split_once('>').unwrap().0.to_owned()
    };
    mails.iter().map(|mail| id(&mail.raw)).collect()
}

#[test]
fn killed_at_random_moments_it_loses_and_doubles_nothing() {
    let stage = Stage::support("after = \"delete\"");
    let mut moments = Moments::seeded();
    let mut waiting = names();
    let mut round = 0;
    loop {
        let more: Vec<String> = waiting.by_ref().take(MAILS / ENDINGS).collect();
        if more.is_empty() && round >= ENDINGS {
            break;
        }
        for name in more {
            stage.deliver(&mail(&name));
            DELIVERED.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
        if round % 3 == 0 {
            stage.server.fault(Fault::at("QUIT", Action::HangUp));
        }
        let mut daemon = stage.scene.program.daemon();
        std::thread::sleep(Duration::from_millis(moments.below(700)));
        daemon.kill();
        assert_committed(&stage);
        round += 1;
    }
    stage.server.clear_faults();
    let mut daemon = stage.scene.program.daemon();
    daemon.wait_event("daemon.started", SOON);
    stage.scene.wait_rows(&mut daemon, MAILS);
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
    assert_eq!(stage.scene.query("SELECT count(*) FROM issues"), [[MAILS.to_string()]]);
    assert_eq!(stage.left(), [] as [&str; 0]);
    assert_sound(&stage.scene.program.database());
    stage.scene.program.ok(&["audit"]);
}
