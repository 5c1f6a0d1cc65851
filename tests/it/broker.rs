//! The broker against a provider on loopback: one renewal at a time, nothing lost, outages apart from refusals.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mailintake::authorize::{Answer, Authorizer};
use mailintake::broker::keyring::{Configured, Keyring};
use mailintake::broker::{self, Broker, TokenError};
use mailintake::fault::Remedy;
use mailintake::grant::{
    AssertionAlgorithm, ClientAuthentication, EndpointSource, Flow, GrantRef, GrantState, Integration,
    Provider as Preset,
};
use mailintake::oauth::http::Http;
use mailintake::seal::Key;
use mailintake::secret::{Secret, SecretSource};
use mailintake::store::grant::GrantRow;
use mailintake::store::{self, Store};
use mailintake::time::Clock;
use mailintake::tls::Trust;
use secrecy::ExposeSecret;

use crate::support::provider::{CLIENT_ID, CLIENT_SECRET, Fault, Provider, Rotation};

pub(crate) fn secret(text: &str) -> Secret {
    Secret {
        source: SecretSource::Env("TEST".into()),
        value: text.into(),
    }
}

pub(crate) fn integration(provider: &Provider, flow: Flow) -> Integration {
    Integration {
        name: "idp".into(),
        description: None,
        provider: Preset::Custom,
        tenant: None,
        flow,
        client_id: CLIENT_ID.into(),
        client_authentication: ClientAuthentication::Post,
        client_secret: Some(secret(CLIENT_SECRET)),
        next_client_secret: None,
        client_secret_expires: None,
        certificate: None,
        next_certificate: None,
        service_account: None,
        publishing_status: None,
        endpoints: EndpointSource::Issuer(provider.issuer().to_owned()),
        scopes: vec!["openid".into(), "offline_access".into(), "mail".into()],
        authorization_parameters: BTreeMap::new(),
        assertion_algorithm: AssertionAlgorithm::Ps256,
        ca_file: None,
    }
}

/// The keys of a key file, made if it is missing.
pub(crate) fn key_file(path: &Path) -> Configured {
    let path = path.to_owned();
    Arc::new(move || Key::load_or_create(&path).unwrap())
}

/// A state directory with a provider, and the parts of processes that share it.
pub(crate) struct World {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) provider: Provider,
    pub(crate) clock: Clock,
    pub(crate) grant: GrantRef,
}

impl World {
    pub(crate) fn new(flow: Flow) -> Self {
        let provider = Provider::start();
        let grant = GrantRef {
            integration: Arc::new(integration(&provider, flow)),
            login: "Ann@example.org".into(),
        };
        Self {
            directory: tempfile::tempdir().unwrap(),
            provider,
            clock: Clock::system(),
            grant,
        }
    }

    /// A world in which somebody has signed in.
    pub(crate) async fn signed_in() -> (Self, Arc<Broker>) {
        let world = Self::new(Flow::AuthorizationCode);
        let broker = world.process().await;
        world.sign_in(&broker).await;
        (world, broker)
    }

    pub(crate) async fn store(&self) -> Store {
        Store::open(self.directory.path()).await.unwrap()
    }

    /// The broker of another process.
    pub(crate) async fn process(&self) -> Arc<Broker> {
        let store = self.store().await;
        self.process_with(store, key_file(&self.directory.path().join("token.key")))
            .await
    }

    /// The broker of a process whose configuration has these keys.
    pub(crate) async fn process_with(&self, store: Store, configured: Configured) -> Arc<Broker> {
        let keyring = Keyring::open(&store, configured).await.unwrap();
        let http = Http::new(Trust::load(None, []).unwrap(), self.clock.clone());
        Arc::new(Broker::new(store, keyring, http, self.clock.clone()))
    }

    pub(crate) async fn sign_in(&self, broker: &Arc<Broker>) {
        let authorizer = Authorizer::new(Arc::clone(broker));
        let begun = authorizer
            .begin(&self.grant, "http://127.0.0.1:1/oauth/callback/idp")
            .await
            .unwrap();
        let back = Provider::sign_in(begun.url.as_str());
        let answer = Answer::from_paste(&back).unwrap();
        authorizer
            .finish(std::slice::from_ref(&self.grant), "idp", answer)
            .await
            .unwrap();
    }

    pub(crate) async fn row(&self) -> GrantRow {
        let store = self.store().await;
        let mut rows = store::grant::list(store.readers()).await.unwrap();
        assert_eq!(rows.len(), 1);
        rows.remove(0)
    }

    fn refreshes(&self) -> usize {
        self.provider
            .requests()
            .iter()
            .filter(|kind| *kind == "refresh_token")
            .count()
    }

    /// Lets the access token come into its margin.
    pub(crate) fn pass(&self, seconds: i64) {
        self.clock.shift(seconds);
        self.provider.set(|behaviour| behaviour.clock_shift += seconds);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_tasks_that_ask_at_once_cause_one_refresh() {
    let (world, broker) = World::signed_in().await;
    world.pass(3600);
    let asking = (0..50).map(|_| broker.access_token(&world.grant));
    let tokens = futures::future::try_join_all(asking).await.unwrap();
    assert_eq!(world.refreshes(), 1);
    let first = tokens[0].secret.expose_secret();
    assert!(
        tokens
            .iter()
            .all(|token| token.secret.expose_secret() == first && token.generation == 2)
    );
    assert_eq!(world.provider.user_of(first).as_deref(), Some("Ann@example.org"));
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_on_one_database_refresh_once() {
    let (world, _) = World::signed_in().await;
    world.provider.set(|behaviour| behaviour.rotation = Rotation::Strict);
    let (one, two, three) = tokio::join!(world.process(), world.process(), world.process());
    for round in 1..=30 {
        world.pass(3600);
        if round % 10 == 0 {
            world.provider.fault(Fault::Slow(Duration::from_millis(200)));
        }
        let asking = [&one, &two, &three].map(|broker| broker.access_token(&world.grant));
        let tokens = futures::future::try_join_all(asking).await.unwrap();
        assert!(tokens.iter().all(|token| token.generation == round + 1));
        assert_eq!(world.refreshes(), usize::try_from(round).unwrap());
    }
    assert_eq!(world.provider.max_in_flight(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lease_of_a_process_that_died_ends_by_itself() {
    let (world, broker) = World::signed_in().await;
    world.pass(3600);
    let store = world.store().await;
    let row = world.row().await;
    let dead = store::lease::LeaseOwner {
        process: "1-0".into(),
        boot: std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .unwrap()
            .trim()
            .into(),
    };
    let now = world.clock.now();
    let mut write = store.write().await.unwrap();
    let taking = store::lease::take(
        write.connection().unwrap(),
        &row,
        &dead,
        (now, now.plus(Duration::from_secs(1))),
    );
    assert!(taking.await.unwrap());
    write.commit().await.unwrap();
    let token = broker.access_token(&world.grant).await.unwrap();
    assert_eq!((token.generation, world.refreshes()), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_read_before_another_process_renewed_it_gives_no_lease() {
    let (world, broker) = World::signed_in().await;
    let stale = world.row().await;
    world.pass(3600);
    broker.access_token(&world.grant).await.unwrap();
    let store = world.store().await;
    let owner = store::lease::LeaseOwner {
        process: "1-0".into(),
        boot: "boot".into(),
    };
    let now = world.clock.now();
    let mut write = store.write().await.unwrap();
    let end = now.plus(Duration::from_secs(15));
    let taking = store::lease::take(write.connection().unwrap(), &stale, &owner, (now, end));
    assert!(!taking.await.unwrap());
    write.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_cannot_be_saved_are_kept_and_saved_before_they_are_used() {
    let (world, broker) = World::signed_in().await;
    world.provider.set(|behaviour| behaviour.rotation = Rotation::Strict);
    world.pass(3600);
    world.provider.fault(Fault::Slow(Duration::from_millis(500)));
    let blocking = async {
        let store = world.store().await;
        while world.refreshes() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        (store.write().await.unwrap(), store)
    };
    // Longer than a writer waits for another.
    let (refused, (write, _store)) = tokio::join!(broker.access_token(&world.grant), blocking);
    assert!(matches!(refused, Err(TokenError::Store(_))));
    write.commit().await.unwrap();
    let token = broker.access_token(&world.grant).await.unwrap();
    assert_eq!((token.generation, world.refreshes()), (2, 1));
    world.pass(3600);
    broker.access_token(&world.grant).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_never_answers_holds_nobody_for_long() {
    let (world, broker) = World::signed_in().await;
    world.pass(3600);
    world.provider.fault(Fault::Hang);
    let begun = std::time::Instant::now();
    let error = broker.access_token(&world.grant).await.unwrap_err();
    assert!((11..14).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert_eq!(error.problem().code, "timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_tries_at_once_and_an_overview_asks_nobody() {
    let (world, broker) = World::signed_in().await;
    let grants = [world.grant.clone()];
    world.pass(3600);
    world
        .provider
        .set(|behaviour| behaviour.outage = Some(Fault::page(503)));
    broker.access_token(&world.grant).await.unwrap_err();
    world.provider.set(|behaviour| behaviour.outage = None);
    broker.access_token(&world.grant).await.unwrap_err();
    let store = world.store().await;
    let rows = broker::overview(&store, &grants).await.unwrap();
    assert_eq!(rows[0].1.as_ref().unwrap().state, GrantState::Degraded);
    broker.try_now(&grants).await.unwrap();
    broker.access_token(&world.grant).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_was_given_up_keeps_no_other_process_from_writing() {
    let (world, broker) = World::signed_in().await;
    let store = world.store().await;
    drop(store.write().await.unwrap());
    world.pass(3600);
    let begun = std::time::Instant::now();
    broker.access_token(&world.grant).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5));
    let write = store.write().await.unwrap();
    write.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_does_not_cut_a_renewal_short() {
    let (world, broker) = World::signed_in().await;
    world.provider.set(|behaviour| behaviour.rotation = Rotation::Strict);
    world.pass(3600);
    world.provider.fault(Fault::Slow(Duration::from_millis(500)));
    let impatient = tokio::time::timeout(Duration::from_millis(100), broker.access_token(&world.grant));
    assert!(impatient.await.is_err());
    broker.finish().await;
    assert_eq!(world.row().await.generation, 2);
    broker.access_token(&world.grant).await.unwrap();
    assert_eq!(world.refreshes(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_between_answer_and_commit_costs_no_grant_with_a_lenient_provider() {
    let (world, broker) = World::signed_in().await;
    world.pass(3600);
    world.provider.fault(Fault::Slow(Duration::from_millis(300)));
    let impatient = tokio::time::timeout(Duration::from_millis(100), broker.access_token(&world.grant));
    assert!(impatient.await.is_err());
    // The process dies: its renewal dies with it, its lease stays.
    drop(broker);
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(world.row().await.generation, 1);
    world.pass(16);
    let broker = world.process().await;
    assert_eq!(broker.access_token(&world.grant).await.unwrap().generation, 2);
    assert_eq!(world.refreshes(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_got_lost_after_a_rotation_is_asked_for_again() {
    let (world, broker) = World::signed_in().await;
    for fault in [Fault::DropAfter, Fault::Truncate] {
        world.pass(3600);
        world.provider.fault(fault);
        let lost = broker.access_token(&world.grant).await.unwrap_err();
        assert!(matches!(lost.remedy(), Remedy::Retry { .. }), "{lost}");
        assert_eq!(world.row().await.state, GrantState::Degraded);
        world.pass(40);
        broker.access_token(&world.grant).await.unwrap();
        assert_eq!(world.row().await.state, GrantState::Ok);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_previous_refresh_token_is_tried_once() {
    let (world, broker) = World::signed_in().await;
    world.pass(3600);
    broker.access_token(&world.grant).await.unwrap();
    world.pass(3600);
    world
        .provider
        .fault(Fault::error(400, "invalid_grant", "never heard of it"));
    broker.access_token(&world.grant).await.unwrap();
    assert_eq!(world.refreshes(), 3);
    assert_eq!(world.row().await.state, GrantState::Ok);
    world.pass(3600);
    world.provider.revoke_all();
    broker.access_token(&world.grant).await.unwrap_err();
    assert_eq!(world.refreshes(), 5);
    world.pass(20 * 60);
    broker.access_token(&world.grant).await.unwrap_err();
    assert_eq!(world.refreshes(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_grant_needs_one_sign_in_and_is_not_hammered() {
    let (world, broker) = World::signed_in().await;
    broker.name_grants([(&world.grant, "support".to_owned())]);
    world.provider.revoke_all();
    world.pass(3600);
    for _ in 0..10 {
        let refused = broker.access_token(&world.grant).await.unwrap_err();
        assert_eq!(refused.remedy(), Remedy::Reauthorize);
        assert!(
            refused.problem().remedy.contains("mailintake authorize support"),
            "{:?}",
            refused.problem()
        );
    }
    assert_eq!(world.refreshes(), 1);
    let row = world.row().await;
    assert_eq!(row.state, GrantState::NeedsAuthorization);
    assert!(row.refresh_token.is_some());
    world.sign_in(&broker).await;
    let token = broker.access_token(&world.grant).await.unwrap();
    assert!(world.provider.user_of(token.secret.expose_secret()).is_some());
    let row = world.row().await;
    assert_eq!((row.state, row.problem, row.failures), (GrantState::Ok, None, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_no_refusal() {
    let (world, broker) = World::signed_in().await;
    let outages = [
        Fault::page(200),
        Fault::page(403),
        Fault::page(502),
        Fault::error(500, "server_error", ""),
        Fault::error(400, "temporarily_unavailable", ""),
        Fault::error(400, "invalid_grant", "AADSTS90033: a transient error"),
        Fault::error(503, "invalid_grant", "odd"),
        Fault::Answer {
            status: 429,
            headers: vec![("Retry-After", "77".into())],
            body: String::new(),
        },
        Fault::Drop,
    ];
    for outage in outages {
        world.pass(3600);
        let before = world.row().await.refresh_token;
        world.provider.fault(outage.clone());
        let error = broker.access_token(&world.grant).await.unwrap_err();
        assert!(
            matches!(error.remedy(), Remedy::Retry { after: Some(_) }),
            "{outage:?}: {error}"
        );
        let row = world.row().await;
        assert_eq!(row.state, GrantState::Degraded, "{outage:?}");
        assert_eq!(row.refresh_token, before, "{outage:?}");
        let wait = world.clock.now().until(row.next_refresh_at.unwrap()).as_secs();
        let expected = if format!("{outage:?}").contains("429") {
            77..=78
        } else {
            28..=37
        };
        assert!(expected.contains(&wait), "{outage:?}: {wait}");
        world.pass(80);
        broker.access_token(&world.grant).await.unwrap();
        assert_eq!(world.row().await.state, GrantState::Ok);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_an_outage_the_old_token_serves_until_its_end() {
    let (world, broker) = World::signed_in().await;
    world
        .provider
        .set(|behaviour| behaviour.outage = Some(Fault::page(503)));
    world.pass(3500);
    assert_eq!(broker.access_token(&world.grant).await.unwrap().generation, 1);
    assert_eq!(world.row().await.state, GrantState::Degraded);
    world.pass(99);
    assert!(broker.access_token(&world.grant).await.is_ok());
    world.pass(2);
    assert!(broker.access_token(&world.grant).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_lifetimes_and_kept_refresh_tokens_are_understood() {
    let (world, broker) = World::signed_in().await;
    for (expires_in, rotation, ttl, life) in [
        (Some("text"), Rotation::Lenient, 1800, 1800),
        (None, Rotation::Absent, 1800, 3600),
        (Some("number"), Rotation::Absent, 120, 120),
    ] {
        world.provider.set(|behaviour| {
            (behaviour.expires_in, behaviour.rotation, behaviour.access_ttl) = (expires_in, rotation, ttl);
        });
        world.pass(3600);
        let token = broker.access_token(&world.grant).await.unwrap();
        let left = world.clock.now().until(token.expires_at).as_secs();
        assert!((life - 2..=life).contains(&left), "{expires_in:?}: {left}");
    }
    assert_eq!(world.refreshes(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_signs_in_by_itself() {
    let mut world = World::new(Flow::ClientCredentials);
    for authentication in [ClientAuthentication::Post, ClientAuthentication::Basic] {
        let mut integration = (*world.grant.integration).clone();
        integration.client_authentication = authentication;
        world.grant.integration = Arc::new(integration);
        let broker = world.process().await;
        world.pass(3600);
        let swept = broker.refresh_due(std::slice::from_ref(&world.grant)).await;
        assert!(swept.len() == 1 && swept[0].outcome.is_ok());
        let token = broker.access_token(&world.grant).await.unwrap();
        assert!(world.provider.user_of(token.secret.expose_secret()).is_some());
        assert!(broker.refresh_due(std::slice::from_ref(&world.grant)).await.is_empty());
    }
    assert_eq!(world.provider.requests(), ["client_credentials", "client_credentials"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mended_secret_is_tried_at_once_and_a_second_slot_before_that() {
    let mut world = World::new(Flow::ClientCredentials);
    let with = |world: &mut World, first: &str, next: Option<&str>| {
        let mut integration = (*world.grant.integration).clone();
        integration.client_secret = Some(secret(first));
        integration.next_client_secret = next.map(secret);
        world.grant.integration = Arc::new(integration);
    };
    let broker = world.process().await;
    with(&mut world, "wrong", None);
    for _ in 0..3 {
        let refused = broker.access_token(&world.grant).await.unwrap_err();
        assert_eq!(refused.remedy(), Remedy::FixConfiguration);
        assert_eq!(refused.problem().code, "invalid_client");
    }
    assert_eq!(world.provider.requests().len(), 1);
    assert_eq!(world.row().await.state, GrantState::Misconfigured);
    with(&mut world, CLIENT_SECRET, None);
    broker.access_token(&world.grant).await.unwrap();
    assert_eq!(world.row().await.state, GrantState::Ok);
    with(&mut world, "wrong", Some(CLIENT_SECRET));
    world.pass(3600);
    broker.access_token(&world.grant).await.unwrap();
    assert_eq!(world.provider.requests().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_a_mail_server_refused_is_renewed_once_a_minute() {
    let (world, broker) = World::signed_in().await;
    let token = broker.access_token(&world.grant).await.unwrap();
    assert!(broker.reject(&world.grant, token.generation).await.unwrap());
    let newer = broker.access_token(&world.grant).await.unwrap();
    assert_eq!(newer.generation, token.generation + 1);
    assert!(broker.reject(&world.grant, token.generation).await.unwrap());
    assert!(!broker.reject(&world.grant, newer.generation).await.unwrap());
    assert_eq!(
        broker.access_token(&world.grant).await.unwrap().generation,
        newer.generation
    );
    assert_eq!(world.refreshes(), 1);
    world.pass(61);
    assert!(broker.reject(&world.grant, newer.generation).await.unwrap());
    world.provider.revoke_all();
    let refused = broker.access_token(&world.grant).await.unwrap_err();
    assert_eq!(refused.remedy(), Remedy::Reauthorize);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sweep_renews_ahead_and_leaves_the_rest_alone() {
    let (world, broker) = World::signed_in().await;
    let grants = [world.grant.clone()];
    assert!(broker.refresh_due(&grants).await.is_empty());
    world.pass(3300);
    assert!(world.clock.now() < world.row().await.access_token_expires_at.unwrap());
    assert_eq!(broker.refresh_due(&grants).await.len(), 1);
    assert!(broker.refresh_due(&grants).await.is_empty());
    assert_eq!(world.refreshes(), 1);
    world.pass(-100_000);
    assert_eq!(broker.refresh_due(&grants).await.len(), 1, "the clock was set back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_of_another_client_or_login_is_set_aside_and_taken_up_again() {
    let (mut world, broker) = World::signed_in().await;
    let old = world.grant.clone();
    let mut integration = (*old.integration).clone();
    integration.client_id = "another-client".into();
    world.grant.integration = Arc::new(integration);
    let refused = broker.access_token(&world.grant).await.unwrap_err();
    assert!(
        matches!(
            &refused,
            TokenError::Refused {
                state: GrantState::Pending,
                ..
            }
        ),
        "{refused}"
    );
    assert!(
        refused
            .problem()
            .remedy
            .contains("mailintake authorize Ann@example.org")
    );
    assert_eq!(broker.access_token(&old).await.unwrap().generation, 1);
    assert!(broker.refresh_due(std::slice::from_ref(&world.grant)).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_works_while_discovery_is_down() {
    let (world, broker) = World::signed_in().await;
    world.provider.set(|behaviour| behaviour.has_discovery = false);
    drop(broker);
    world.pass(2 * 24 * 3600);
    assert!(world.process().await.access_token(&world.grant).await.is_ok());
    let stranger = World::new(Flow::ClientCredentials);
    stranger.provider.set(|behaviour| behaviour.has_discovery = false);
    let error = stranger
        .process()
        .await
        .access_token(&stranger.grant)
        .await
        .unwrap_err();
    assert!(matches!(error.remedy(), Remedy::Retry { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_key_is_refused_until_no_token_needs_the_old_one() {
    let (world, broker) = World::signed_in().await;
    let store = world.store().await;
    let other = Key::from_secret(&secret("another passphrase")).unwrap();
    let other: Configured = Arc::new(move || other.clone());
    let Err(refused) = Keyring::open(&store, Arc::clone(&other)).await else {
        panic!("another key was taken");
    };
    assert_eq!(refused.remedy(), Remedy::FixConfiguration);
    assert!(
        mailintake::fault::chain(&refused).contains("mailintake revoke"),
        "{}",
        mailintake::fault::chain(&refused)
    );
    assert!(broker.revoke(&world.grant, false).await.unwrap());
    Keyring::open(&store, other).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_is_revoked_here_and_there() {
    let (world, broker) = World::signed_in().await;
    let token = broker.access_token(&world.grant).await.unwrap();
    assert!(broker.revoke(&world.grant, true).await.unwrap());
    assert!(!broker.revoke(&world.grant, true).await.unwrap());
    assert!(world.provider.user_of(token.secret.expose_secret()).is_none());
    let row = world.row().await;
    assert!(row.refresh_token.is_none() && row.access_token.is_none());
    assert_eq!(row.state, GrantState::Pending);
    world.sign_in(&broker).await;
    assert!(broker.access_token(&world.grant).await.is_ok());
}

/// Grants of a client that signs in by itself, one for each of `count` logins.
fn logins(world: &World, count: usize) -> Vec<GrantRef> {
    let grant = |index| GrantRef {
        login: format!("box{index}@example.org"),
        ..world.grant.clone()
    };
    (0..count).map(grant).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_does_not_answer_is_asked_by_one_for_all() {
    let world = World::new(Flow::ClientCredentials);
    let broker = world.process().await;
    let grants = logins(&world, 6);
    let asked = || world.provider.requests().len();
    broker.access_token(&grants[0]).await.unwrap();
    world.provider.set(|behaviour| behaviour.outage = Some(Fault::Drop));
    world.pass(3600);
    let before = asked();
    for grant in &grants {
        let error = broker.access_token(grant).await.unwrap_err();
        assert!(matches!(error.remedy(), Remedy::Retry { after: Some(_) }), "{error}");
    }
    assert_eq!(asked() - before, 3, "the others were not sent");
    let store = world.store().await;
    let rows = store::grant::list(store.readers()).await.unwrap();
    assert!(rows.iter().all(|row| row.state == GrantState::Degraded), "all show it");
    world.pass(40);
    let before = asked();
    let asking = grants.iter().map(|grant| broker.access_token(grant));
    assert!(futures::future::join_all(asking).await.iter().all(Result::is_err));
    assert_eq!(asked() - before, 1, "the probe");
    world.provider.set(|behaviour| behaviour.outage = None);
    world.pass(15 * 60);
    let swept = broker.refresh_due(&grants[..1]).await;
    assert!(swept[0].outcome.is_ok());
    let swept = broker.refresh_due(&grants).await;
    assert_eq!(swept.len(), 5, "the others are due at once");
    assert!(swept.iter().all(|swept| swept.outcome.is_ok()));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_silence_the_others_do_not_wait_for_their_own_time() {
    let world = World::new(Flow::ClientCredentials);
    let broker = world.process().await;
    let grants = logins(&world, 5);
    world.provider.set(|behaviour| behaviour.outage = Some(Fault::Drop));
    // Long enough that the delays of all are a quarter of an hour.
    for _ in 0..7 {
        broker.refresh_due(&grants).await;
        world.pass(20 * 60);
    }
    broker.refresh_due(&grants).await;
    world.provider.set(|behaviour| behaviour.outage = None);
    world.pass(60);
    assert!(broker.refresh_due(&grants).await.is_empty());
    // Another one has its own reason to ask.
    let newcomer = GrantRef {
        login: "new@example.org".into(),
        ..world.grant.clone()
    };
    broker.access_token(&newcomer).await.unwrap();
    let swept = broker.refresh_due(&grants).await;
    assert!(swept.len() == 5 && swept.iter().all(|swept| swept.outcome.is_ok()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_nothing_uses_is_renewed_within_a_week() {
    let (world, broker) = World::signed_in().await;
    let integrations = [Arc::clone(&world.grant.integration)];
    let day = 24 * 3600;
    for (days, in_use, renewed) in [(1, false, 0), (4, false, 0), (1, true, 0), (0, false, 1), (1, false, 0)] {
        world.pass(days * day);
        let used = in_use.then(|| world.grant.clone());
        let done = broker.keep_alive(&integrations, used.as_slice()).await.unwrap();
        assert_eq!(done, renewed, "{days} {in_use}");
    }
    world.pass(7 * day);
    let mut other = (*world.grant.integration).clone();
    other.client_id = "another-client".into();
    let none = broker.keep_alive(&[Arc::new(other)], &[]).await.unwrap();
    assert_eq!((none, world.refreshes()), (0, 1));
    world.provider.revoke_all();
    for _ in 0..3 {
        broker.keep_alive(&integrations, &[]).await.unwrap();
        world.pass(day);
    }
    assert_eq!(world.refreshes(), 3, "once with either token; nobody waits for it");
    assert!(world.row().await.refresh_token.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_renewed_when_the_provider_wants_it() {
    let (world, broker) = World::signed_in().await;
    world.provider.set(|behaviour| behaviour.refresh_in = Some(900));
    world.pass(3600);
    broker.access_token(&world.grant).await.unwrap();
    world.pass(600);
    assert!(broker.refresh_due(std::slice::from_ref(&world.grant)).await.is_empty());
    world.pass(301);
    assert_eq!(broker.refresh_due(std::slice::from_ref(&world.grant)).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_set_right_lets_no_token_end_unnoticed() {
    let (world, broker) = World::signed_in().await;
    let grants = [world.grant.clone()];
    // Renewed by a clock that was two hours fast.
    world.pass(7200);
    broker.access_token(&world.grant).await.unwrap();
    world.pass(-7200);
    assert_eq!(broker.refresh_due(&grants).await.len(), 1);
    let end = world.row().await.access_token_expires_at.unwrap();
    assert!(world.clock.now().until(end) <= Duration::from_hours(1));
    // A suspend of a day, of which the monotonic clock knows nothing.
    world.pass(24 * 3600);
    assert_eq!(broker.refresh_due(&grants).await.len(), 1);
    assert!(broker.refresh_due(&grants).await.is_empty());
    // What a mail server refused before the clock was set back keeps nobody from asking after it.
    for seconds in [0, -7200] {
        world.pass(seconds);
        let generation = world.row().await.generation;
        assert!(broker.reject(&world.grant, generation).await.unwrap());
        assert_eq!(
            broker.access_token(&world.grant).await.unwrap().generation,
            generation + 1
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_a_strict_provider_lost_ends_in_one_plain_request() {
    let (world, broker) = World::signed_in().await;
    world.provider.set(|behaviour| behaviour.rotation = Rotation::Strict);
    world.pass(3600);
    broker.access_token(&world.grant).await.unwrap();
    world.pass(3600);
    world.provider.fault(Fault::DropAfter);
    broker.access_token(&world.grant).await.unwrap_err();
    assert_eq!(world.row().await.state, GrantState::Degraded);
    world.pass(40);
    let error = broker.access_token(&world.grant).await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::Reauthorize);
    let row = world.row().await;
    assert_eq!(row.state, GrantState::NeedsAuthorization);
    assert!(row.refresh_token.is_some() && row.previous_refresh_token.is_some());
    let asked = world.refreshes();
    broker.access_token(&world.grant).await.unwrap_err();
    assert_eq!(world.refreshes(), asked);
    world.sign_in(&broker).await;
    broker.access_token(&world.grant).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_in_a_loop_stops_for_a_quarter_of_an_hour() {
    let (world, broker) = World::signed_in().await;
    world.pass(3600);
    let text = "AADSTS50196: The server terminated an operation because it encountered a client request loop.";
    world.provider.fault(Fault::error(400, "invalid_grant", text));
    let error = broker.access_token(&world.grant).await.unwrap_err();
    assert_eq!(error.problem().code, "AADSTS50196");
    let row = world.row().await;
    assert_eq!(row.state, GrantState::Degraded);
    assert!(world.clock.now().until(row.next_refresh_at.unwrap()) >= Duration::from_secs(899));
    for _ in 0..5 {
        world.pass(170);
        broker.access_token(&world.grant).await.unwrap_err();
    }
    assert_eq!(world.refreshes(), 1);
    world.pass(300);
    broker.access_token(&world.grant).await.unwrap();
}

fn answer(status: u16, kind: &str, body: &str) -> Fault {
    Fault::Answer {
        status,
        headers: vec![("Content-Type", kind.into())],
        body: body.into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_provider_answers_has_a_name_and_costs_nothing() {
    let json = "application/json";
    let redirect = Fault::Answer {
        status: 307,
        headers: vec![("Location", "http://127.0.0.1:9/elsewhere".into())],
        body: String::new(),
    };
    let (world, broker) = World::signed_in().await;
    for (fault, code) in [
        (
            answer(200, json, &format!("{{\"access_token\":\"{}\"}}", "x".repeat(300_000))),
            "answer-too-large",
        ),
        (Fault::Flood, "answer-too-large"),
        (Fault::Trickle, "timeout"),
        (Fault::Truncate, "broken-answer"),
        (Fault::Drop, "broken-answer"),
        (Fault::page(200), "http-200"),
        (Fault::page(403), "http-403"),
        (redirect, "http-307"),
        (
            answer(200, json, "{\"access_token\":[\"a\"],\"expires_in\":{}}"),
            "http-200",
        ),
        (answer(200, json, "{\"access_token\":\"a\",\"token_type\":"), "http-200"),
        (answer(200, json, "null"), "http-200"),
        (answer(200, json, &"[".repeat(100_000)), "http-200"),
        (answer(400, json, "{\"error\":7,\"error_codes\":\"x\"}"), "http-400"),
        (answer(204, json, ""), "http-204"),
        (
            answer(
                400,
                json,
                "{\"error\":\"invalid_grant\\u0000\\u001b[31m\",\"error_description\":{}}",
            ),
            "",
        ),
    ] {
        world.pass(3600);
        let before = world.row().await.refresh_token;
        world.provider.fault(fault.clone());
        let problem = broker.access_token(&world.grant).await.unwrap_err().problem();
        let row = world.row().await;
        assert_eq!(row.refresh_token, before, "{problem:?}");
        assert!(!problem.summary.is_empty() && !problem.remedy.is_empty());
        assert!(!problem.code.contains(char::is_control), "{problem:?}");
        if !code.is_empty() {
            assert_eq!(
                (problem.code.as_str(), row.state),
                (code, GrantState::Degraded),
                "{problem:?}"
            );
        }
        broker.try_now(std::slice::from_ref(&world.grant)).await.unwrap();
        broker.access_token(&world.grant).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_of_another_issuer_is_a_fault_of_the_configuration() {
    let world = World::new(Flow::ClientCredentials);
    world
        .provider
        .set(|behaviour| behaviour.claimed_issuer = Some("https://evil.example.org"));
    let broker = world.process().await;
    let error = broker.access_token(&world.grant).await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::FixConfiguration);
    assert_eq!(error.problem().code, "issuer-mismatch");
    assert!(world.provider.requests().is_empty());
}

/// Everything that is logged from now on, of libraries too, at the finest level.
pub(crate) fn log() -> std::io::PipeReader {
    let (log, writer) = std::io::pipe().unwrap();
    let builder = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE);
    builder
        .with_writer(move || writer.try_clone().unwrap())
        .try_init()
        .unwrap();
    log
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_the_database_or_in_anything_printed() {
    use std::io::Read;

    let mut log = log();
    let reading = std::thread::spawn(move || {
        let mut seen = Vec::new();
        let mut buffer = [0; 8192];
        while !String::from_utf8_lossy(&seen).contains("that is all") {
            let count = log.read(&mut buffer).unwrap();
            seen.extend_from_slice(&buffer[..count]);
        }
        String::from_utf8(seen).unwrap()
    });
    let (world, broker) = World::signed_in().await;
    world.pass(3600);
    let token = broker.access_token(&world.grant).await.unwrap();
    let mut shown = format!("{token:?} {:?} {:?}", world.row().await, world.grant);
    world.provider.fault(Fault::Answer {
        status: 200,
        headers: vec![("Content-Type", "application/json".into())],
        body: r#"{"access_token":["canary-broken"],"refresh_token":"canary-broken"}"#.into(),
    });
    world.pass(3600);
    let error = broker.access_token(&world.grant).await.unwrap_err();
    let chain = mailintake::fault::chain(&error);
    shown = format!("{shown} {error} {error:?} {chain} {:?}", world.row().await);
    tracing::info!("that is all");
    let log = reading.join().unwrap();
    assert!(
        log.contains("token.refreshed") && log.contains("token.refresh_failed"),
        "{log}"
    );
    shown += &log;
    assert!(!shown.contains("canary"), "{shown}");
    world.store().await.close().await;
    for entry in std::fs::read_dir(world.directory.path()).unwrap().flatten() {
        let bytes = std::fs::read(entry.path()).unwrap();
        assert!(
            !bytes.windows(6).any(|window| window == b"canary"),
            "{:?}",
            entry.path()
        );
    }
}
