//! How a client proves itself at the token endpoint: certificates, second credentials, service accounts, none.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mailintake::authorize::Authorizer;
use mailintake::broker::Broker;
use mailintake::config::{self, Environment};
use mailintake::fault::Remedy;
use mailintake::grant::{
    AssertionAlgorithm, ClientAuthentication, Flow, GrantRef, GrantState, Integration, Provider as Preset,
};
use mailintake::notice::Notice;
use mailintake::oauth::device::Device;
use mailintake::store::{self, alert};
use secrecy::ExposeSecret;

use crate::broker::{World, log, secret};
use crate::support::proof::Registration;
use crate::support::provider::{CLIENT_ID, CLIENT_SECRET, Fault, Provider};
use crate::support::scene::{SOON, Scene};
use crate::support::signer::{ACCOUNT, DAY, Signer};

/// Gives the integration of a world other settings.
fn configure(world: &mut World, change: impl FnOnce(&mut Integration)) {
    let mut integration = (*world.grant.integration).clone();
    change(&mut integration);
    world.grant.integration = Arc::new(integration);
}

/// A world whose provider knows a certificate, which the client has.
fn with_certificate(flow: Flow, signer: &Signer) -> World {
    let mut world = World::new(flow);
    configure(&mut world, |integration| {
        integration.client_secret = None;
        integration.certificate = Some(signer.client());
        integration.client_authentication = ClientAuthentication::PrivateKeyJwt;
    });
    let certificate = signer.certificate.clone();
    world.provider.set(|behaviour| {
        behaviour.registration.secrets.clear();
        behaviour.registration.certificates.push(certificate);
    });
    world
}

/// Signs in by the device flow; the provider needs no person.
async fn sign_in_by_device(world: &World, broker: &Arc<Broker>) {
    let login = world.grant.login.clone();
    world.provider.set(|behaviour| behaviour.user = Some(login));
    let authorizer = Authorizer::new(Arc::clone(broker));
    let mut show = |_: &Device| {};
    authorizer.device(&world.grant, &mut show).await.unwrap();
}

async fn alerts(world: &World) -> Vec<String> {
    let store = world.store().await;
    let open = alert::open(store.readers()).await.unwrap();
    let line = |row: alert::AlertRow| {
        let finding = row.finding;
        format!(
            "{} {} {}: {} / {}",
            finding.kind.as_str(),
            finding.subject,
            finding.problem.code,
            finding.problem.summary,
            finding.problem.remedy
        )
    };
    open.into_iter().map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_to_the_token_endpoint_is_signed_anew() {
    let signer = Signer::rsa();
    for (algorithm, name) in [
        (AssertionAlgorithm::Ps256, "PS256"),
        (AssertionAlgorithm::Rs256, "RS256"),
    ] {
        for flow in [Flow::AuthorizationCode, Flow::DeviceCode, Flow::ClientCredentials] {
            let mut world = with_certificate(flow, &signer);
            configure(&mut world, |integration| integration.assertion_algorithm = algorithm);
            world
                .provider
                .set(|behaviour| behaviour.registration.algorithm = Some(name));
            let broker = world.process().await;
            match flow {
                Flow::AuthorizationCode => world.sign_in(&broker).await,
                Flow::DeviceCode => sign_in_by_device(&world, &broker).await,
                Flow::ClientCredentials | Flow::ServiceAccount => {}
            }
            for _ in 0..2 {
                world.pass(3600);
                broker.access_token(&world.grant).await.unwrap();
            }
            let proofs = world.provider.proofs();
            assert!(
                proofs.len() >= 2 && proofs.iter().all(|proof| proof == name),
                "{flow:?}: {proofs:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assertion_is_for_this_endpoint_and_lasts_some_minutes() {
    let world = with_certificate(Flow::ClientCredentials, &Signer::rsa());
    let broker = world.process().await;
    broker.access_token(&world.grant).await.unwrap();
    let claims = world.provider.claims().remove(0);
    assert_eq!(claims["iss"], CLIENT_ID);
    assert_eq!(claims["sub"], CLIENT_ID);
    assert_eq!(claims["aud"], world.provider.token_endpoint());
    let life = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert!((300..=600).contains(&life), "{claims}");
    // A clock of ours that is some seconds ahead of the provider's does no harm.
    world.clock.shift(3600 + 45);
    world.provider.set(|behaviour| behaviour.clock_shift += 3600);
    broker.access_token(&world.grant).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_refused_says_why_and_what_mends_it() {
    let known = Signer::rsa();
    let ended = Signer::rsa_between((-30 * DAY, -DAY));
    let early = Signer::rsa_between((DAY, 30 * DAY));
    for (sent, state, words) in [
        (
            &Signer::rsa(),
            GrantState::Misconfigured,
            "its certificate or how that signs",
        ),
        (&ended, GrantState::NeedsAdmin, "the client certificate ended on"),
        (&early, GrantState::Misconfigured, "good only from"),
    ] {
        let mut world = with_certificate(Flow::ClientCredentials, &known);
        configure(&mut world, |integration| integration.certificate = Some(sent.client()));
        let broker = world.process().await;
        let error = broker.access_token(&world.grant).await.unwrap_err();
        let problem = error.problem();
        assert_eq!(world.row().await.state, state, "{problem:?}");
        assert!(problem.summary.contains(words), "{problem:?}");
        assert_eq!(problem.code, "invalid_client");
        assert!(!problem.remedy.is_empty());
        assert_eq!(world.provider.proofs(), ["PS256 refused"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_credentials_that_stand_in_are_remembered_until_the_first_ones_change() {
    let mut world = World::new(Flow::ClientCredentials);
    let set = |world: &mut World, first: &str, next: Option<&str>| {
        configure(world, |integration| {
            integration.client_secret = Some(secret(first));
            integration.next_client_secret = next.map(secret);
        });
    };
    set(&mut world, "canary-ended", Some(CLIENT_SECRET));
    world.provider.set(|behaviour| {
        behaviour.registration.refusal = Some((
            "invalid_client",
            "AADSTS7000222: The provided client secret keys are expired.",
        ));
    });
    let broker = world.process().await;
    broker.access_token(&world.grant).await.unwrap();
    assert_eq!(world.provider.proofs(), ["secret refused", "secret"]);
    world.pass(3600);
    broker.access_token(&world.grant).await.unwrap();
    assert_eq!(world.provider.proofs(), ["secret"]);
    // Another process, as after a restart.
    drop(broker);
    let broker = world.process().await;
    world.pass(3600);
    broker.access_token(&world.grant).await.unwrap();
    assert_eq!(world.provider.proofs(), ["secret"]);

    let notice = Notice::new(world.store().await, world.clock.clone());
    let grants = [world.grant.clone()];
    notice.watch_clients(&grants, &broker).await.unwrap();
    notice.watch_clients(&grants, &broker).await.unwrap();
    let open = alerts(&world).await;
    assert_eq!(open.len(), 1, "{open:?}");
    assert!(open[0].starts_with("secret-expiring idp AADSTS7000222: client_secret of idp has been refused since "));
    assert!(open[0].contains("move next_client_secret to client_secret, then reload"));

    // As the remedy says.
    set(&mut world, CLIENT_SECRET, None);
    world.pass(3600);
    broker.access_token(&world.grant).await.unwrap();
    assert_eq!(world.provider.proofs(), ["secret"]);
    notice
        .watch_clients(std::slice::from_ref(&world.grant), &broker)
        .await
        .unwrap();
    assert_eq!(alerts(&world).await, [] as [String; 0]);

    // The next change of that kind begins with the first again.
    set(&mut world, CLIENT_SECRET, Some("canary-to-come"));
    world.pass(3600);
    broker.access_token(&world.grant).await.unwrap();
    assert_eq!(world.provider.proofs(), ["secret"]);
    let bytes = std::fs::read(world.directory.path().join(store::FILE_NAME)).unwrap();
    assert!(!bytes.windows(6).any(|window| window == b"canary"));
}

#[test]
fn the_daemon_tells_of_a_refused_secret_until_it_is_replaced() {
    let scene = Scene::with(&["support"], |options| options);
    let provider = Provider::start();
    let configure = |first: &str, next: &str| {
        let [first, next] = [("first", first), ("next", next)].map(|(name, value)| scene.program.secret(name, value));
        let (endpoint, port) = (provider.token_endpoint(), scene.server.port());
        let ca_file = scene.authority.ca_file().display();
        scene.configure(&[&format!(
            "[[integration]]\nname = \"idp\"\nprovider = \"custom\"\nflow = \"client-credentials\"\n\
             client_id = \"{CLIENT_ID}\"\ntoken_endpoint = \"{endpoint}\"\nclient_secret = {first}\n\
             client_secret_expires = \"never\"\nnext_client_secret = {next}\n\n\
             [[mailbox]]\naddress = \"support@example.org\"\nname = \"support\"\nintegration = \"idp\"\n\
             host = \"127.0.0.1\"\nport = {port}\nca_file = \"{ca_file}\"\n"
        )]);
    };
    configure("ended", CLIENT_SECRET);
    let mut daemon = scene.program.daemon();
    let told = daemon.wait_event("token.client_refused", SOON);
    assert_eq!(
        (told["integration"].as_str(), told["provider_code"].as_str()),
        ("idp", "invalid_client")
    );
    let is_open = || {
        scene
            .alerts()
            .iter()
            .any(|alert| alert == "secret-expiring idp invalid_client")
    };
    daemon.wait_for("the alert", SOON, |_| is_open().then_some(()));
    configure(CLIENT_SECRET, "to-come");
    daemon.reload();
    daemon.wait_for("the end of the alert", SOON, |_| (!is_open()).then_some(()));
    assert_eq!(daemon.events("token.client_refused").len(), 1);
    daemon.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_stands_in_for_a_secret_and_for_a_certificate() {
    let (old, new) = (Signer::rsa(), Signer::rsa());
    for is_secret in [true, false] {
        let mut world = with_certificate(Flow::AuthorizationCode, &new);
        configure(&mut world, |integration| {
            integration.next_certificate = Some(new.client());
            (integration.certificate, integration.client_secret) = if is_secret {
                (None, Some(secret("canary-ended")))
            } else {
                (Some(old.client()), None)
            };
        });
        let broker = world.process().await;
        world.sign_in(&broker).await;
        let first = if is_secret { "secret refused" } else { "PS256 refused" };
        assert_eq!(world.provider.proofs(), [first, "PS256"]);
        world.pass(3600);
        broker.access_token(&world.grant).await.unwrap();
        assert_eq!(world.provider.proofs(), ["PS256"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_both_credentials_are_refused_the_first_are_complained_of_and_nothing_is_remembered() {
    let mut world = World::new(Flow::ClientCredentials);
    configure(&mut world, |integration| {
        integration.client_secret = Some(secret("wrong"));
        integration.next_client_secret = Some(secret("wrong, too"));
    });
    let broker = world.process().await;
    let error = broker.access_token(&world.grant).await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::FixConfiguration);
    assert_eq!(world.provider.proofs(), ["secret refused", "secret refused"]);
    let clients = broker
        .refused_clients(std::slice::from_ref(&world.grant))
        .await
        .unwrap();
    assert!(clients.len() == 1 && clients[0].1.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_first_credentials_are_taken_again_they_come_first_again() {
    let mut world = World::new(Flow::ClientCredentials);
    configure(&mut world, |integration| {
        integration.client_secret = Some(secret("one"));
        integration.next_client_secret = Some(secret("two"));
    });
    let broker = world.process().await;
    for (known, proofs) in [
        ("two", &["secret refused", "secret"][..]),
        ("two", &["secret"]),
        ("one", &["secret refused", "secret"]),
        ("one", &["secret"]),
    ] {
        world
            .provider
            .set(|behaviour| behaviour.registration.secrets = vec![known.to_owned()]);
        world.pass(3600);
        broker.access_token(&world.grant).await.unwrap();
        assert_eq!(world.provider.proofs(), proofs, "{known}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_by_device_notes_which_credentials_worked() {
    let mut world = World::new(Flow::DeviceCode);
    configure(&mut world, |integration| {
        integration.next_client_secret = integration.client_secret.replace(secret("canary-ended"));
    });
    let broker = world.process().await;
    sign_in_by_device(&world, &broker).await;
    let proofs = world.provider.proofs();
    assert_eq!(
        proofs.iter().filter(|proof| proof.ends_with("refused")).count(),
        1,
        "{proofs:?}"
    );
    let grants = std::slice::from_ref(&world.grant);
    let clients = broker.refused_clients(grants).await.unwrap();
    let problem = clients[0].1.as_ref().unwrap();
    assert!(
        problem.summary.contains("next_client_secret is used in its place"),
        "{problem:?}"
    );
    // The renewal asks with them at once.
    world.pass(3600);
    broker.access_token(&world.grant).await.unwrap();
    assert_eq!(world.provider.proofs(), ["secret"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_no_refusal_of_a_secret() {
    let mut world = World::new(Flow::ClientCredentials);
    configure(&mut world, |integration| {
        integration.next_client_secret = Some(secret("other"));
    });
    world
        .provider
        .fault(Fault::error(503, "invalid_client", "AADSTS7000222: odd"));
    let broker = world.process().await;
    broker.access_token(&world.grant).await.unwrap_err();
    assert_eq!(world.provider.requests().len(), 1);
    assert_eq!(world.row().await.state, GrantState::Degraded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_client_sends_no_secret_in_any_flow() {
    for flow in [Flow::AuthorizationCode, Flow::DeviceCode] {
        let mut world = World::new(flow);
        configure(&mut world, |integration| integration.client_secret = None);
        world.provider.set(|behaviour| {
            behaviour.registration.secrets.clear();
            behaviour.registration.is_public = true;
        });
        let broker = world.process().await;
        match flow {
            Flow::DeviceCode => sign_in_by_device(&world, &broker).await,
            _ => world.sign_in(&broker).await,
        }
        world.pass(3600);
        broker.access_token(&world.grant).await.unwrap();
        assert!(broker.revoke(&world.grant, true).await.unwrap());
        let proofs = world.provider.proofs();
        assert!(
            proofs.len() >= 2 && proofs.iter().all(|proof| proof == "nothing"),
            "{flow:?}: {proofs:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_basic_carries_any_secret() {
    let odd = "canary: a+b%20/ü\"=&";
    for flow in [Flow::AuthorizationCode, Flow::DeviceCode, Flow::ClientCredentials] {
        let mut world = World::new(flow);
        configure(&mut world, |integration| {
            integration.client_secret = Some(secret(odd));
            integration.client_authentication = ClientAuthentication::Basic;
        });
        world
            .provider
            .set(|behaviour| behaviour.registration.secrets = vec![odd.to_owned()]);
        let broker = world.process().await;
        match flow {
            Flow::AuthorizationCode => world.sign_in(&broker).await,
            Flow::DeviceCode => sign_in_by_device(&world, &broker).await,
            Flow::ClientCredentials | Flow::ServiceAccount => {}
        }
        world.pass(3600);
        broker.access_token(&world.grant).await.unwrap();
        let proofs = world.provider.proofs();
        assert!(proofs.iter().all(|proof| proof == "basic"), "{flow:?}: {proofs:?}");
    }
}

/// A world of a service account that may act for the login of its grant.
fn with_service_account(signer: &Signer) -> World {
    let mut world = World::new(Flow::ServiceAccount);
    let endpoint = world.provider.token_endpoint();
    configure(&mut world, |integration| {
        integration.provider = Preset::Google;
        integration.client_secret = None;
        integration.scopes = vec!["https://mail.google.com/".into()];
        integration.service_account = Some(secret(&signer.service_account(&endpoint)));
    });
    world.provider.set(|behaviour| {
        behaviour.registration.account = Some((signer.certificate.clone(), ACCOUNT));
        behaviour.registration.delegated = vec!["Ann@example.org", "bob@example.org"];
    });
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_gets_a_token_for_each_mailbox() {
    let world = with_service_account(&Signer::rsa());
    let broker = world.process().await;
    for login in ["Ann@example.org", "bob@example.org"] {
        let grant = GrantRef {
            login: login.into(),
            ..world.grant.clone()
        };
        for _ in 0..2 {
            world.pass(3600);
            let token = broker.access_token(&grant).await.unwrap();
            assert_eq!(
                world.provider.user_of(token.secret.expose_secret()).as_deref(),
                Some(login)
            );
        }
    }
    let claims = world.provider.claims();
    assert_eq!(claims.len(), 4);
    assert_eq!(claims[0]["scope"], "https://mail.google.com/");
    assert_eq!(claims[0]["aud"], world.provider.token_endpoint());
    let store = world.store().await;
    let rows = store::grant::list(store.readers()).await.unwrap();
    assert!(
        rows.len() == 2
            && rows
                .iter()
                .all(|row| row.state == GrantState::Ok && row.refresh_token.is_none())
    );
}

type Change<'c> = Box<dyn Fn(&mut World) + 'c>;

#[tokio::test(flavor = "multi_thread")]
async fn what_google_refuses_a_service_account_is_told_in_plain_words() {
    let signer = Signer::rsa();
    let stranger = Signer::rsa();
    let endpoint = |world: &World| world.provider.token_endpoint();
    let cases: [(&str, Change<'_>, GrantState, &str); 5] = [
        (
            "unauthorized_client",
            Box::new(|world| configure(world, |integration| integration.scopes = vec!["other".into()])),
            GrantState::NeedsAdmin,
            "Domain-wide delegation",
        ),
        (
            "invalid_grant",
            Box::new(|world| world.grant.login = "alias@example.org".into()),
            GrantState::Misconfigured,
            "primary address",
        ),
        (
            "invalid_grant",
            Box::new(|world| world.clock.shift(7200)),
            GrantState::Misconfigured,
            "check the clock",
        ),
        (
            "invalid_grant",
            Box::new(|world| {
                let key = stranger.service_account(&endpoint(world));
                configure(world, |integration| integration.service_account = Some(secret(&key)));
            }),
            GrantState::NeedsAdmin,
            "create a key",
        ),
        (
            "service-account",
            Box::new(|world| configure(world, |integration| integration.service_account = Some(secret("{}")))),
            GrantState::Misconfigured,
            "reload mailintake",
        ),
    ];
    for (code, change, state, remedy) in cases {
        let mut world = with_service_account(&signer);
        change(&mut world);
        let broker = world.process().await;
        let problem = broker.access_token(&world.grant).await.unwrap_err().problem();
        assert_eq!(problem.code, code, "{problem:?}");
        assert_eq!(world.row().await.state, state, "{problem:?}");
        assert!(problem.remedy.contains(remedy), "{problem:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_google_asks_of_a_service_account_is_kept() {
    let world = with_service_account(&Signer::rsa());
    world.provider.fault(Fault::Answer {
        status: 429,
        headers: vec![("Retry-After", "77".into())],
        body: String::new(),
    });
    let broker = world.process().await;
    let error = broker.access_token(&world.grant).await.unwrap_err();
    let Remedy::Retry { after: Some(after) } = error.remedy() else {
        panic!("{error}");
    };
    assert!(
        (Duration::from_secs(75)..=Duration::from_secs(93)).contains(&after),
        "{after:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_signs_or_was_signed_is_printed_or_kept() {
    use std::io::Read;

    let mut log = log();
    let reading = std::thread::spawn(move || {
        let mut seen = String::new();
        let mut buffer = [0; 8192];
        while !seen.contains("that is all") {
            let count = log.read(&mut buffer).unwrap();
            seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        seen
    });
    let signer = Signer::rsa();
    let mut shown = Vec::new();
    for mut world in [
        with_certificate(Flow::ClientCredentials, &signer),
        with_service_account(&signer),
    ] {
        let broker = world.process().await;
        broker.access_token(&world.grant).await.unwrap();
        world.pass(3600);
        world
            .provider
            .set(|behaviour| behaviour.registration = Registration::default());
        let error = broker.access_token(&world.grant).await.unwrap_err();
        shown.push(format!(
            "{error:?} {:?} {:?}",
            world.row().await,
            world.grant.integration
        ));
        configure(&mut world, |integration| {
            integration.next_certificate = Some(signer.client());
            integration.service_account = Some(secret(&signer.service_account("x").replace("kid", "dik")));
        });
        shown.push(format!("{:?}", broker.access_token(&world.grant).await.unwrap_err()));
        for entry in std::fs::read_dir(world.directory.path()).unwrap().flatten() {
            shown.push(String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()).into_owned());
        }
    }
    tracing::info!("that is all");
    shown.push(reading.join().unwrap());
    let shown = shown.concat();
    assert!(shown.contains("token.refresh_failed"));
    // A line of the key, and how each assertion begins.
    let line = signer.key.lines().nth(3).unwrap();
    for hidden in [line, "PRIVATE KEY", "eyJhbGciOi"] {
        assert!(!shown.contains(hidden), "{hidden}");
    }
}

fn write(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// The faults and warnings of an integration with these lines.
fn check(directory: &Path, provider: &str, lines: &str) -> (Vec<String>, Vec<String>) {
    let text = format!(
        "[daemon]\nstate_dir = \"state\"\n\n[[integration]]\nname = \"idp\"\nprovider = \"{provider}\"\n{lines}\n"
    );
    let path = directory.join("config.toml");
    write(&path, &text, 0o644);
    match config::load_in(&path, &Environment::default()) {
        Ok(config) => {
            let is_about_it = |warning: &String| warning.contains("idp");
            (Vec::new(), config.warnings.into_iter().filter(is_about_it).collect())
        }
        Err(refused) => (
            refused.faults.into_iter().map(|fault| fault.message).collect(),
            Vec::new(),
        ),
    }
}

/// A certificate with its key: file contents, mode of the key's file, and the words of the one fault.
type Pair<'p> = (&'p str, &'p str, u32, &'p str);

/// Looks at these pairs one after the other.
fn check_pairs(pairs: &[Pair<'_>]) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let [pem, key] = ["client.pem", "client.key"].map(|name| directory.path().join(name));
    let lines = "flow = \"client-credentials\"\ntoken_endpoint = \"https://idp.example.org/token\"\n\
                 client_id = \"c\"\ncertificate = \"client.pem\"\nprivate_key = { file = \"client.key\" }";
    let mut warned = Vec::new();
    for (certificate, private_key, mode, words) in pairs {
        write(&pem, certificate, 0o644);
        write(&key, private_key, *mode);
        let (faults, warnings) = check(directory.path(), "custom", lines);
        let words = words.replace("PEM", &pem.display().to_string());
        let words = words.replace("KEY", &key.display().to_string());
        let is_as_told = match words.as_str() {
            "" => faults.is_empty(),
            _ => faults.len() == 1 && faults[0].contains(&words),
        };
        assert!(is_as_told, "{words}: {faults:?}");
        warned.extend(warnings);
    }
    warned
}

#[test]
fn a_certificate_is_looked_at_beforehand() {
    let (good, other) = (Signer::rsa(), Signer::rsa());
    let together = format!("{}{}", good.certificate, good.key);
    let (turned, chain) = (
        format!("{}{}", other.certificate, good.certificate),
        format!("{}{}", good.certificate, other.certificate),
    );
    let warned = check_pairs(&[
        (&chain, &good.key, 0o600, ""),
        (
            &turned,
            &good.key,
            0o600,
            "certificate: PEM holds the certificate of the private key, but not as the first",
        ),
        (
            "nothing",
            &good.key,
            0o600,
            "certificate: PEM holds no usable certificate",
        ),
        (
            &together,
            &good.key,
            0o600,
            "certificate: the secret file PEM can be read by others",
        ),
        ("", &good.key, 0o600, "certificate: PEM holds no usable certificate"),
    ]);
    assert_eq!(warned, [] as [String; 0]);
    let (ended, early) = (
        Signer::rsa_between((-9 * DAY, -DAY)),
        Signer::rsa_between((DAY, 9 * DAY)),
    );
    let warned = check_pairs(&[(&ended.certificate, &ended.key, 0o600, "")]);
    assert!(warned.len() == 1 && warned[0].contains("ended on 2"), "{warned:?}");
    let warned = check_pairs(&[(&early.certificate, &early.key, 0o600, "")]);
    assert!(warned.len() == 1 && warned[0].contains("good only from"), "{warned:?}");
}

#[test]
fn a_private_key_is_looked_at_beforehand() {
    let (good, other, short, elliptic) = (Signer::rsa(), Signer::rsa(), Signer::short(), Signer::elliptic());
    let broken = "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n";
    let pem = &good.certificate;
    check_pairs(&[
        (
            pem,
            &good.key,
            0o644,
            "private_key: the secret file KEY can be read by others",
        ),
        (
            pem,
            &other.key,
            0o600,
            "private_key: KEY holds a private key that does not belong to the certificate in PEM",
        ),
        (
            pem,
            &good.encrypted_key(),
            0o600,
            "private_key: KEY holds a private key with a passphrase",
        ),
        (
            &elliptic.certificate,
            &elliptic.key,
            0o600,
            "private_key: KEY holds a private key that is not RSA",
        ),
        (
            &short.certificate,
            &short.key,
            0o600,
            "private_key: KEY holds an RSA key of less than 2048 bits",
        ),
        (pem, broken, 0o600, "private_key: KEY holds no private key"),
        (pem, pem, 0o600, "private_key: KEY holds no private key"),
    ]);
}

#[test]
fn the_key_of_a_service_account_is_looked_at_beforehand() {
    let directory = tempfile::tempdir().unwrap();
    let signer = Signer::rsa();
    let google = "https://oauth2.googleapis.com/token";
    let good = signer.service_account(google);
    let change = |name: &str, value: serde_json::Value| {
        let mut json: serde_json::Value = serde_json::from_str(&good).unwrap();
        json[name] = value;
        json.to_string()
    };
    let of_user = change("type", "authorized_user".into());
    let without_address = change("client_email", serde_json::Value::Null);
    let with_broken_key = change("private_key", "x".into());
    let former = signer.service_account("https://accounts.google.com/o/oauth2/token");
    let foreign = signer.service_account("https://evil.example.org/token");
    let cases: [(&str, &str, &str); 9] = [
        (&good, "", ""),
        (&former, "", ""),
        (&good, "client_id = \"104729104729104729\"", ""),
        (
            &good,
            "client_id = \"7\"",
            "client_id = \"7\" is not that of the service account, which is 104729104729104729",
        ),
        (
            &good,
            "client_secret = { file = \"key.json\" }\nclient_secret_expires = \"never\"",
            "client_secret is of no use with flow",
        ),
        (&of_user, "", "is no key of a service account"),
        (&without_address, "", "lacks client_email"),
        (&with_broken_key, "", "holds no private key"),
        (
            &foreign,
            "",
            "is for the token endpoint https://evil.example.org/token, but the integration uses https://oauth2.googleapis.com/token",
        ),
    ];
    for (key, more, words) in cases {
        write(&directory.path().join("key.json"), key, 0o600);
        let lines = format!("flow = \"service-account\"\nservice_account = {{ file = \"key.json\" }}\n{more}");
        let (faults, _) = check(directory.path(), "google", &lines);
        let is_as_told = match words {
            "" => faults.is_empty(),
            _ => faults.len() == 1 && faults[0].contains(words),
        };
        assert!(is_as_told, "{words}: {faults:?}");
    }
}

#[test]
fn the_second_credentials_may_be_of_the_other_kind() {
    let directory = tempfile::tempdir().unwrap();
    let signer = Signer::rsa();
    write(&directory.path().join("client.pem"), &signer.certificate, 0o644);
    write(&directory.path().join("client.key"), &signer.key, 0o600);
    write(&directory.path().join("secret"), "x", 0o600);
    let base = "flow = \"client-credentials\"\ntoken_endpoint = \"https://idp.example.org/token\"\nclient_id = \"c\"\n\
                client_secret = { file = \"secret\" }\nclient_secret_expires = \"never\"\n";
    let next = "next_certificate = \"client.pem\"\nnext_private_key = { file = \"client.key\" }\n";
    let (faults, warnings) = check(
        directory.path(),
        "custom",
        &format!("{base}{next}assertion_algorithm = \"RS256\""),
    );
    assert!(faults.is_empty() && warnings.is_empty(), "{faults:?} {warnings:?}");
    let both = format!("{base}{next}next_client_secret = {{ file = \"secret\" }}");
    let (faults, _) = check(
        directory.path(),
        "google",
        &format!("{base}{next}").replace("client-credentials", "authorization-code"),
    );
    assert!(
        faults.len() == 1 && faults[0].contains("this one takes a client_secret only"),
        "{faults:?}"
    );
    let (faults, _) = check(directory.path(), "custom", &both);
    assert!(
        faults.len() == 1 && faults[0].contains("exclude each other"),
        "{faults:?}"
    );
    let alone = base
        .replace("client_secret = ", "next_client_secret = ")
        .replace("client_secret_expires = \"never\"\n", "");
    let (faults, _) = check(directory.path(), "custom", &alone);
    assert!(
        faults
            .iter()
            .any(|fault| fault.contains("of no use without client_secret")),
        "{faults:?}"
    );
}
