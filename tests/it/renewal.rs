//! The daemon ended by SIGKILL at any point of a renewal: it costs no grant that the provider can still honour.

use std::time::{Duration, Instant};

use crate::kill::Moments;
use crate::sign_in::{USER, authorize, program};
use crate::support::binary::{Daemon, Program, wait};
use crate::support::imap_server::{ImapServer, Options, Security};
use crate::support::provider::{Fault, Provider, Rotation};
use crate::support::scene::{alerts, query};

/// Endings of a run.
const ENDINGS: usize = 20;
/// Enough for the lease of a process that died to end, and for what follows.
const LEASE_AND_MORE: Duration = Duration::from_mins(1);

struct World {
    provider: Provider,
    program: Program,
    _server: ImapServer,
}

impl World {
    /// Signed in; each access token is renewed after a second.
    fn signed_in(rotation: Rotation) -> Self {
        let provider = Provider::start();
        provider.set(|behaviour| (behaviour.rotation, behaviour.access_ttl) = (rotation, 2));
        let known = provider.clone();
        let options = Options::new(Security::Clear)
            .user(USER, "unused")
            .token(move |user, token| known.user_of(token).as_deref() == Some(user));
        let server = ImapServer::start(options);
        let program = program(&provider, &server, "");
        let done = authorize(&program);
        assert_eq!(done.code, Some(0), "{done:?}");
        Self {
            provider,
            program,
            _server: server,
        }
    }

    fn refreshes(&self) -> usize {
        let requests = self.provider.requests();
        requests.iter().filter(|kind| *kind == "refresh_token").count()
    }

    /// Starts the daemon; gives it once its next refresh has reached the provider.
    fn asking(&self) -> Daemon {
        let before = self.refreshes();
        let mut daemon = self.program.daemon();
        daemon.wait_for("a refresh", LEASE_AND_MORE, |_| {
            (self.refreshes() > before).then_some(())
        });
        daemon
    }

    fn state(&self) -> String {
        query(&self.program.database(), "SELECT state FROM \"grant\"")
            .remove(0)
            .remove(0)
    }

    /// The grant works, and nobody was ever asked to sign in again.
    fn assert_well(&self) {
        let mut daemon = self.program.daemon();
        daemon.wait_event("token.refreshed", LEASE_AND_MORE);
        daemon.wait_event("mailbox.connected", LEASE_AND_MORE);
        assert_eq!(self.state(), "ok");
        let asked = query(
            &self.program.database(),
            "SELECT kind, code FROM alert WHERE kind = 'reauthorization-required'",
        );
        assert!(asked.is_empty(), "{asked:?}");
        assert_eq!(daemon.terminate(), Some(0));
    }
}

#[test]
fn killed_at_random_moments_of_its_renewals_it_keeps_the_grant() {
    let mut moments = Moments::seeded();
    for rotation in [Rotation::Lenient, Rotation::Absent] {
        let world = World::signed_in(rotation);
        for ending in 0..ENDINGS {
            world.provider.set(|behaviour| {
                let late = |_| Fault::Slow(Duration::from_millis(moments.below(500)));
                behaviour.faults = (0..4).map(late).collect();
            });
            let asked = world.refreshes();
            let mut daemon = world.program.daemon();
            // Some deaths come once the provider was asked, however slow the machine is.
            if ending % 7 == 0 {
                wait(LEASE_AND_MORE, || (world.refreshes() > asked).then_some(()));
            }
            std::thread::sleep(Duration::from_millis(moments.below(600)));
            daemon.kill();
        }
        world.provider.set(|behaviour| behaviour.faults.clear());
        world.assert_well();
        let log = std::fs::read_to_string(world.program.config().with_file_name("daemon.log")).unwrap();
        let saved = log.matches("token.refreshed").count();
        println!("{rotation:?}: {} refreshes, {saved} of them saved", world.refreshes());
        assert!(
            saved > 0 && world.refreshes() > saved,
            "no death met a renewal under way"
        );
    }
}

#[test]
fn killed_before_the_answer_and_after_the_commit_it_offers_a_strict_provider_what_is_good() {
    let world = World::signed_in(Rotation::Strict);
    for _ in 0..2 {
        // The provider has heard of it and done nothing yet.
        world.provider.fault(Fault::Hang);
        world.asking().kill();
        let mut daemon = world.program.daemon();
        daemon.wait_event("token.refreshed", LEASE_AND_MORE);
        daemon.kill();
    }
    world.assert_well();
}

#[test]
fn a_rotation_that_a_death_has_lost_is_told_once_and_mended_by_one_sign_in() {
    let world = World::signed_in(Rotation::Strict);
    world.provider.fault(Fault::Slow(Duration::from_millis(300)));
    let begin = Instant::now();
    world.asking().kill();
    // The provider rotates for nobody.
    std::thread::sleep(Duration::from_millis(400).saturating_sub(begin.elapsed()));
    let mut daemon = world.program.daemon();
    daemon.wait_event("alert.raised", LEASE_AND_MORE);
    assert_eq!(alerts(&world.program), ["reauthorization-required idp invalid_grant"]);
    let kept = query(
        &world.program.database(),
        "SELECT refresh_token IS NOT NULL FROM \"grant\"",
    );
    assert_eq!(kept, [["1"]], "a refresh token was thrown away");
    let done = authorize(&world.program);
    assert_eq!(done.code, Some(0), "{done:?}");
    daemon.wait_event("alert.resolved", LEASE_AND_MORE);
    assert_eq!(daemon.events("alert.raised").len(), 1, "{}", daemon.log());
    assert_eq!(world.state(), "ok");
    assert_eq!(daemon.terminate(), Some(0));
}
