//! `key rotate`, beside processes that hold the old key: no token is lost, and none opens with the old key afterwards.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use mailintake::broker::keyring::{Configured, Keyring};
use mailintake::grant::Flow;
use mailintake::seal::Key;
use mailintake::secret::{Secret, SecretSource};
use mailintake::store::Store;
use secrecy::ExposeSecret;

use crate::broker::World;
use crate::support::binary::{Output, Program};
use crate::support::provider::{Fault, Rotation};

/// The program over the state directory of a world.
fn program(world: &World, token_key: &str) -> Program {
    let program = Program::bare();
    let state_dir = world.directory.path().display();
    let password = program.secret("password", "secret");
    program.write(&format!(
        "[daemon]\nstate_dir = \"{state_dir}\"\n{token_key}\n\n\
         [[mailbox]]\naddress = \"ann@example.org\"\nhost = \"127.0.0.1\"\npassword = {password}\n"
    ));
    program
}

fn rotated(program: &Program, arguments: &[&str]) -> Output {
    let done = program.run(&[&["key", "rotate"], arguments].concat());
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains("sealed the tokens of 1 grants"), "{done:?}");
    done
}

fn keys(text: &str) -> Configured {
    let secret = Secret {
        source: SecretSource::Credential("token-key".into()),
        value: text.trim().into(),
    };
    let keys = Key::from_secret(&secret).unwrap();
    Arc::new(move || keys.clone())
}

async fn is_refused(store: &Store, configured: Configured) -> bool {
    Keyring::open(store, configured).await.is_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_file_is_rotated_beside_a_process_that_holds_the_old_key() {
    let (world, broker) = World::signed_in().await;
    let path = world.directory.path().join("token.key");
    let old = std::fs::read_to_string(&path).unwrap();
    let before = broker.access_token(&world.grant).await.unwrap();
    rotated(&program(&world, ""), &[]);
    let new = std::fs::read_to_string(&path).unwrap();
    assert_eq!(new.lines().count(), 1, "the old key is still in the file");
    assert_ne!(new, old);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let after = broker.access_token(&world.grant).await.unwrap();
    assert_eq!(after.secret.expose_secret(), before.secret.expose_secret());
    assert!(broker.reject(&world.grant, after.generation).await.unwrap());
    let renewed = broker.access_token(&world.grant).await.unwrap();
    assert_ne!(renewed.secret.expose_secret(), before.secret.expose_secret());
    let other = world.process().await.access_token(&world.grant).await.unwrap();
    assert_eq!(other.secret.expose_secret(), renewed.secret.expose_secret());
    assert!(is_refused(&world.store().await, keys(&old)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_under_way_survives_a_rotation_of_the_key() {
    let (world, broker) = World::signed_in().await;
    world.provider.set(|behaviour| behaviour.rotation = Rotation::Strict);
    let token = broker.access_token(&world.grant).await.unwrap();
    for _ in 0..3 {
        world.provider.fault(Fault::Slow(Duration::from_millis(700)));
        world.clock.shift(4_000);
        let mut renewal = tokio::task::JoinSet::new();
        let (asking, grant) = (Arc::clone(&broker), world.grant.clone());
        renewal.spawn(async move { asking.access_token(&grant).await });
        let asked = world.provider.requests().len();
        tokio::time::timeout(Duration::from_secs(10), async {
            while world.provider.requests().len() == asked {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .unwrap();
        let program = program(&world, "");
        tokio::task::spawn_blocking(move || rotated(&program, &[]))
            .await
            .unwrap();
        let renewed = renewal.join_next().await.unwrap().unwrap().unwrap();
        assert_ne!(renewed.secret.expose_secret(), token.secret.expose_secret());
    }
    // Had one rotated refresh token been lost, the strict provider would have ended the grant.
    world.clock.shift(4_000);
    world.process().await.access_token(&world.grant).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_read_at_a_restart_is_bridged_until_then() {
    let (world, _) = World::signed_in().await;
    let old = std::fs::read_to_string(world.directory.path().join("token.key")).unwrap();
    let mut program = program(&world, "token_key = { env = \"TOKEN_KEY\" }");
    program.set("TOKEN_KEY", old.trim());
    let refused = program.run(&["key", "rotate"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("openssl rand -base64 32"), "{refused:?}");
    let running = world.process_with(world.store().await, keys(&old)).await;
    let mut last = String::new();
    for name in ["first", "second"] {
        last = Key::generate(name).text();
        let file = program.secret(name, &last);
        let path = file.split('"').nth(1).unwrap().to_owned();
        let done = rotated(&program, &["--new", &path]);
        assert!(done.stdout.contains("systemctl restart mailintake"), "{done:?}");
        running.access_token(&world.grant).await.unwrap();
    }
    // Processes with the old key go on until the restart; one with the new key ends that.
    let store = world.store().await;
    assert!(!is_refused(&store, keys(&old)).await);
    let restarted = world.process_with(store.clone(), keys(&last)).await;
    restarted.access_token(&world.grant).await.unwrap();
    restarted.settle_key().await.unwrap();
    assert!(is_refused(&store, keys(&old)).await);
    assert!(!is_refused(&store, keys(&last)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_cannot_be_says_why_and_changes_nothing() {
    let world = World::new(Flow::AuthorizationCode);
    let program = program(&world, "");
    let missing = program.run(&["key", "rotate"]);
    assert_eq!(missing.code, Some(74), "{missing:?}");
    drop(world.process().await);
    let path = world.directory.path().join("token.key");
    let before = std::fs::read_to_string(&path).unwrap();
    let same = path.display().to_string();
    let open = program.file("open", "x".repeat(40));
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
    let short = program.secret("short", "short").split('"').nth(1).unwrap().to_owned();
    for (new, code, word) in [
        (same.as_str(), 2, "the old one"),
        (open.to_str().unwrap(), 1, "chmod 600"),
        (short.as_str(), 1, "openssl rand"),
        ("/does/not/exist", 1, "cannot read"),
    ] {
        let refused = program.run(&["key", "rotate", "--new", new]);
        assert_eq!(refused.code, Some(code), "{refused:?}");
        assert!(refused.stderr.contains(word), "{refused:?}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
    }
}

#[test]
fn after_an_older_database_without_tokens_came_back_the_key_is_rotated_all_the_same() {
    let program = Program::bare();
    let secret = program.secret("support.password", "secret");
    program.configure(
        "",
        &format!(
            "[[mailbox]]\naddress = \"support@example.org\"\nhost = \"127.0.0.1\"\nport = 9\npassword = {secret}\n"
        ),
    );
    let one = program.file("one.eml", crate::support::scene::mail("one"));
    program.ok(&["ingest", one.to_str().unwrap()]);
    let path = program.state_dir().join("token.key");
    std::fs::write(&path, "ab".repeat(32)).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    program.ok(&["key", "rotate"]);
    let copy = program.config().parent().unwrap().join("copy.db");
    program.ok(&["backup", copy.to_str().unwrap()]);
    for _ in 0..2 {
        let before = std::fs::read_to_string(&path).unwrap();
        program.ok(&["key", "rotate"]);
        let after = std::fs::read_to_string(&path).unwrap();
        assert_eq!(after.lines().count(), 1, "{after}");
        assert_ne!(after, before);
        program.ok(&["restore", copy.to_str().unwrap()]);
    }
}
