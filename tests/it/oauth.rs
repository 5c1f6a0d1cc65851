//! Against the lab's provider, a certified OpenID provider over TLS: sign-in, renewal, revocation, outage.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use mailintake::authorize::{Answer, Authorizer};
use mailintake::broker::Broker;
use mailintake::broker::keyring::Keyring;
use mailintake::fault::Remedy;
use mailintake::grant::{
    AssertionAlgorithm, ClientCertificate, EndpointSource, Flow, GrantRef, GrantState, Integration,
};
use mailintake::oauth::device::Device;
use mailintake::oauth::http::Http;
use mailintake::store::{self, Store};
use mailintake::time::Clock;
use mailintake::tls::Trust;
use serde_json::{Value, json};

use crate::broker::{World, integration, key_file, secret};
use crate::support::binary::Program;
use crate::support::lab::lab;
use crate::support::scene::{SOON, alerts};
use crate::support::signer::Signer;

struct LabWorld {
    lab: &'static Value,
    world: World,
    broker: Arc<Broker>,
    grant: GrantRef,
}

/// The certificate and key of a client, where it has them.
fn certificate(registration: &Value) -> Option<ClientCertificate> {
    let read = |name: &str| std::fs::read_to_string(registration[name].as_str()?).ok();
    Some(ClientCertificate {
        path: registration["certificate_file"].as_str()?.into(),
        pem: read("certificate_file")?,
        private_key: secret(&read("private_key_file")?),
    })
}

/// Orders something at the provider's control port.
fn order(lab: &Value, path: &str, what: &Value) {
    let control = lab["oauth"]["control"].as_str().unwrap();
    let host = control.strip_prefix("http://").unwrap().trim_end_matches('/');
    let body = what.to_string();
    let mut stream = TcpStream::connect(host).unwrap();
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 2"), "{answer}");
}

impl LabWorld {
    async fn new(client: &str, flow: Flow, login: &str) -> Option<Self> {
        let lab = lab()?;
        let world = World::new(flow);
        let ca_file = lab["ca_file"].as_str().unwrap();
        let registration = &lab["oauth"]["clients"][client];
        let scopes = match flow {
            Flow::ClientCredentials => vec![lab["oauth"]["application_scope"].as_str().unwrap().to_owned()],
            _ => ["openid", "email", "offline_access", "mail"].map(String::from).to_vec(),
        };
        let integration = Integration {
            client_id: registration["client_id"].as_str().unwrap().to_owned(),
            client_secret: registration["client_secret"].as_str().map(secret),
            certificate: certificate(registration),
            assertion_algorithm: AssertionAlgorithm::Rs256,
            endpoints: EndpointSource::Issuer(lab["oauth"]["issuer"].as_str().unwrap().to_owned()),
            scopes,
            ca_file: Some(ca_file.into()),
            ..integration(&world.provider, flow)
        };
        let trust = Trust::load(None, [Path::new(ca_file)]).unwrap();
        let store = Store::open(world.directory.path()).await.unwrap();
        let configured = key_file(&world.directory.path().join("token.key"));
        let keyring = Keyring::open(&store, configured).await.unwrap();
        let http = Http::new(trust, world.clock.clone());
        Some(Self {
            lab,
            broker: Arc::new(Broker::new(store, keyring, http, Clock::clone(&world.clock))),
            grant: GrantRef {
                integration: Arc::new(integration),
                login: login.into(),
            },
            world,
        })
    }

    async fn sign_in(&self) -> String {
        let authorizer = Authorizer::new(Arc::clone(&self.broker));
        let begun = authorizer
            .begin(&self.grant, "http://127.0.0.1:9/oauth/callback/idp")
            .await
            .unwrap();
        let out = std::process::Command::new("curl")
            .args(["--cacert", self.lab["ca_file"].as_str().unwrap()])
            .args([
                "-s",
                "-L",
                "-c",
                "/dev/null",
                "-b",
                "",
                "-o",
                "/dev/null",
                "-w",
                "%{url_effective}",
            ])
            .arg(begun.url.as_str())
            .output()
            .unwrap();
        let answer = Answer::from_paste(&String::from_utf8(out.stdout).unwrap()).unwrap();
        authorizer
            .finish(std::slice::from_ref(&self.grant), "idp", answer)
            .await
            .unwrap()
            .to_string()
    }

    fn control(&self, path: &str, what: &Value) {
        order(self.lab, path, what);
    }

    /// Renews without a shifted clock, by which an assertion would be of another time.
    async fn renew_at_once(&self) {
        let row = self.world.row().await;
        assert!(self.broker.reject(&self.grant, row.generation).await.unwrap());
        let token = self.broker.access_token(&self.grant).await.unwrap();
        assert_eq!(token.generation, row.generation + 1);
        assert_eq!(self.state().await, GrantState::Ok);
    }

    async fn state(&self) -> GrantState {
        let store = self.world.store().await;
        store::grant::list(store.readers()).await.unwrap().remove(0).state
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certified_provider_signs_in_renews_fails_and_revokes() {
    for (client, login) in [("web", "alice@lab.test"), ("public", "bob@lab.test")] {
        let Some(lab) = LabWorld::new(client, Flow::AuthorizationCode, login).await else {
            return;
        };
        let text = lab.sign_in().await;
        assert!(text.contains(login), "{text}");
        lab.world.clock.shift(3600);
        assert_eq!(lab.broker.access_token(&lab.grant).await.unwrap().generation, 2);
        for fault in [
            json!({"fault": "status", "status": 503, "headers": {"Retry-After": "1"}}),
            json!({"fault": "garbage"}),
            json!({"fault": "truncate"}),
            json!({"fault": "drop"}),
            json!({"fault": "preset", "name": "AADSTS90033"}),
        ] {
            lab.world.clock.shift(3600);
            let mut order = fault.clone();
            order["endpoint"] = "token".into();
            order["client_id"] = lab.grant.integration.client_id.clone().into();
            lab.control("/faults", &order);
            let error = lab.broker.access_token(&lab.grant).await.unwrap_err();
            assert!(matches!(error.remedy(), Remedy::Retry { .. }), "{fault}: {error}");
            assert_eq!(lab.state().await, GrantState::Degraded, "{fault}");
            lab.world.clock.shift(40);
            lab.broker.access_token(&lab.grant).await.unwrap();
        }
        lab.control("/revoke", &json!({"login": login}));
        lab.world.clock.shift(3600);
        let error = lab.broker.access_token(&lab.grant).await.unwrap_err();
        assert_eq!(error.remedy(), Remedy::Reauthorize, "{error}");
        assert_eq!(lab.state().await, GrantState::NeedsAuthorization);
        lab.sign_in().await;
        lab.broker.access_token(&lab.grant).await.unwrap();
        assert_eq!(lab.state().await, GrantState::Ok);
        assert!(lab.broker.revoke(&lab.grant, true).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certified_provider_lets_a_client_sign_in_by_itself() {
    for client in ["application", "application_key"] {
        let Some(lab) = LabWorld::new(client, Flow::ClientCredentials, "support@lab.test").await else {
            return;
        };
        lab.broker.access_token(&lab.grant).await.unwrap();
        lab.renew_at_once().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certified_provider_believes_a_signature_at_each_request() {
    let Some(lab) = LabWorld::new("web_key", Flow::AuthorizationCode, "sales@lab.test").await else {
        return;
    };
    lab.sign_in().await;
    // The key of another client.
    let mut stranger = lab.grant.clone();
    let mut integration = (*stranger.integration).clone();
    integration.certificate = Some(Signer::rsa().client());
    stranger.integration = Arc::new(integration);
    let row = lab.world.row().await;
    assert!(lab.broker.reject(&stranger, row.generation).await.unwrap());
    let error = lab.broker.access_token(&stranger).await.unwrap_err();
    assert_eq!(error.problem().code, "invalid_client");
    assert_eq!(lab.state().await, GrantState::Misconfigured);
    lab.broker.access_token(&lab.grant).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certified_provider_signs_in_by_device() {
    let Some(lab) = LabWorld::new("public", Flow::DeviceCode, "carol@lab.test").await else {
        return;
    };
    let authorizer = Authorizer::new(Arc::clone(&lab.broker));
    let mut show = |device: &Device| {
        let order = json!({"user_code": device.user_code, "login": "carol@lab.test", "approve": true});
        lab.control("/device", &order);
    };
    let signed_in = authorizer.device(&lab.grant, &mut show).await.unwrap();
    assert!(signed_in.to_string().contains("as carol@lab.test"), "{signed_in}");
    lab.world.clock.shift(3600);
    assert_eq!(lab.broker.access_token(&lab.grant).await.unwrap().generation, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_nobody_we_know_is_an_outage_with_a_reason() {
    let Some(mut lab) = LabWorld::new("application", Flow::ClientCredentials, "support@lab.test").await else {
        return;
    };
    let mut integration = (*lab.grant.integration).clone();
    integration.ca_file = None;
    lab.grant.integration = Arc::new(integration);
    let error = lab.broker.access_token(&lab.grant).await.unwrap_err();
    assert!(matches!(error.remedy(), Remedy::Retry { .. }), "{error}");
    assert!(error.problem().summary.contains("certificate"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certified_provider_rotates_in_each_dialect_and_an_answer_of_it_is_lost() {
    for (dialect, login, survives) in [
        ("microsoft", "alice@lab.test", true),
        ("google", "bob@lab.test", true),
        ("strict", "carol@lab.test", false),
    ] {
        let Some(lab) = LabWorld::new("web", Flow::AuthorizationCode, login).await else {
            return;
        };
        lab.control("/settings", &json!({"dialect": dialect}));
        lab.sign_in().await;
        for _ in 0..3 {
            lab.world.clock.shift(3600);
            lab.broker.access_token(&lab.grant).await.unwrap();
        }
        let order = json!({"endpoint": "token", "client_id": "lab-web", "fault": "drop_after"});
        lab.control("/faults", &order);
        lab.world.clock.shift(3600);
        let lost = lab.broker.access_token(&lab.grant).await.unwrap_err();
        assert!(matches!(lost.remedy(), Remedy::Retry { .. }), "{dialect}: {lost}");
        lab.world.clock.shift(40);
        let after = lab.broker.access_token(&lab.grant).await;
        if survives {
            after.unwrap();
        } else {
            // Nothing that we have is good any more; that is told, and one sign-in mends it.
            assert_eq!(after.unwrap_err().remedy(), Remedy::Reauthorize);
            assert_eq!(lab.state().await, GrantState::NeedsAuthorization);
            lab.sign_in().await;
            lab.broker.access_token(&lab.grant).await.unwrap();
        }
        assert_eq!(lab.state().await, GrantState::Ok, "{dialect}");
    }
}

/// Signs alice in by `authorize`, with a browser that follows where it is sent.
fn authorize_by_browser(program: &Program, ca_file: &str) {
    let running = program.start(&["authorize", "alice", "--loopback", "0"], b"");
    let url = running.line(|line| line.starts_with("https://").then(|| line.to_owned()));
    let browser = std::process::Command::new("curl")
        .args(["--cacert", ca_file, "-s", "-S", "-L", "-c", "/dev/null", "-b", ""])
        .arg(&url)
        .output()
        .unwrap();
    assert!(browser.status.success(), "{}", String::from_utf8_lossy(&browser.stderr));
    let output = running.end();
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.stdout.contains("ok      folder"), "{output:?}");
}

#[test]
fn the_daemon_lives_with_a_certified_provider_and_dovecot_through_an_outage_and_a_revocation() {
    let Some(lab) = lab() else { return };
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (client, ca_file) = (&lab["oauth"]["clients"]["web"], text(&lab["ca_file"]));
    order(lab, "/settings", &json!({"access_token_ttl": 6, "dialect": "strict"}));
    let program = Program::bare();
    let secret = program.secret("client", &text(&client["client_secret"]));
    program.configure(
        &format!("ca_file = \"{ca_file}\""),
        &format!(
            "[[integration]]\nname = \"idp\"\nprovider = \"custom\"\nflow = \"authorization-code\"\nissuer = \"{}\"\n\
             client_id = \"{}\"\nclient_secret = {secret}\nclient_secret_expires = \"never\"\n\
             scopes = [\"openid\", \"email\", \"offline_access\", \"mail\"]\n\
             [[mailbox]]\naddress = \"alice@lab.test\"\nname = \"alice\"\nintegration = \"idp\"\nhost = \"localhost\"\n\
             port = {}\n",
            text(&lab["oauth"]["issuer"]),
            text(&client["client_id"]),
            lab["dovecot"]["ports"]["imaps"]
        ),
    );
    authorize_by_browser(&program, &ca_file);
    let mut daemon = program.daemon();
    daemon.wait_event("mailbox.connected", SOON);
    daemon.wait_for("two renewals", SOON, |daemon| {
        (daemon.events("token.refreshed").len() >= 2).then_some(())
    });
    // An outage is seen, and asks nobody for anything.
    let outage = json!({"endpoint": "token", "fault": "status", "status": 503, "headers": {"Retry-After": "2"}});
    order(lab, "/faults", &outage);
    let failed = daemon.wait_event("token.refresh_failed", SOON);
    assert_eq!(failed["provider_code"], "http-503", "{failed:?}");
    let renewed = daemon.events("token.refreshed").len();
    daemon.wait_for("a renewal after it", SOON * 3, |daemon| {
        (daemon.events("token.refreshed").len() > renewed).then_some(())
    });
    // A revocation does, once, and one sign-in mends it.
    order(lab, "/revoke", &json!({"login": "alice@lab.test"}));
    daemon.wait_for("the alert", SOON, |_| {
        (alerts(&program) == ["reauthorization-required idp invalid_grant"]).then_some(())
    });
    authorize_by_browser(&program, &ca_file);
    daemon.wait_for("the end of it", SOON, |_| alerts(&program).is_empty().then_some(()));
    assert_eq!(program.json(&["status"])["grants"][0]["state"], "ok");
    assert_eq!(daemon.terminate(), Some(0));
}
