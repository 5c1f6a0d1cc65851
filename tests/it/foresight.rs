//! What is told before it happens, and one cause that is one alert: on real databases, with a provider and servers
//! on loopback.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use mailintake::alert::{AlertKind, Finding};
use mailintake::broker::Broker;
use mailintake::foresight::{Foresight, Subjects};
use mailintake::grant::{Flow, GrantRef, Problem, Provider as Preset, PublishingStatus};
use mailintake::notice::Notice;
use mailintake::store::Store;
use mailintake::store::alert::{self, AlertRow};
use mailintake::store::grant::sign_in;
use mailintake::time::Timestamp;
use serde_json::Value;

use crate::broker::{World, integration};
use crate::support::binary::{Daemon, Program};
use crate::support::certificate::LOOPBACK;
use crate::support::imap_server::{Action, Fault as ImapFault, ImapServer, Options, Security};
use crate::support::provider::Fault;
use crate::support::scene::{PASSWORD, SOON, Scene, address};

/// The day so many days from now, as the configuration has it.
fn day(from_now: i64) -> String {
    let at = mailintake::time::Clock::system().now().0 + from_now * 86_400;
    Timestamp(at).rfc3339().split('T').next().unwrap().to_owned()
}

fn microsoft(program: &Program, more: &str) -> String {
    let secret = program.secret("client", "canary-client-secret");
    format!(
        "[[integration]]\nname = \"contoso\"\nprovider = \"microsoft\"\ntenant = \"contoso.example\"\n\
         flow = \"client-credentials\"\nclient_id = \"11111111-2222\"\nclient_secret = {secret}\n{more}\n"
    )
}

fn open_alert(program: &Program, kind: &str) -> Option<Value> {
    let open = program.json(&["alert", "list"]);
    open.as_array()
        .unwrap()
        .iter()
        .find(|alert| alert["kind"] == kind)
        .cloned()
}

fn wait_alert(daemon: &mut Daemon, program: &Program, kind: &str, is_meant: impl Fn(&Value) -> bool) -> Value {
    daemon.wait_event("daemon.started", SOON);
    daemon.wait_for(kind, SOON, |_| open_alert(program, kind).filter(&is_meant))
}

#[test]
fn an_expiring_secret_is_told_at_each_threshold_and_over_when_its_date_moves() {
    let program = Program::bare();
    let expires = |days: i64, more: &str| {
        let section = microsoft(&program, &format!("client_secret_expires = {}\n{more}", day(days)));
        program.configure("", &section);
    };
    expires(40, "");
    let mut daemon = program.daemon();
    let alert = wait_alert(&mut daemon, &program, "secret-expiring", |_| true);
    assert_eq!(alert["subject"], "contoso");
    assert_eq!(alert["code"], "expires-within-60-days");
    assert_eq!(alert["severity"], "warning");
    let remedy = alert["remedy"].as_str().unwrap();
    for word in [
        "entra.microsoft.com",
        "11111111-2222",
        "next_client_secret",
        "client_secret_expires",
        "systemctl reload",
    ] {
        assert!(remedy.contains(word), "{word}: {remedy}");
    }
    // A file that is nearer to its end: the same alert, told again, and critical from a week on.
    expires(5, "");
    daemon.reload();
    let nearer = wait_alert(&mut daemon, &program, "secret-expiring", |alert| {
        alert["severity"] == "critical"
    });
    assert_eq!(
        (&nearer["id"], &nearer["code"]),
        (&alert["id"], &"expires-within-7-days".into())
    );
    assert_eq!(daemon.events("alert.raised").len(), 1, "{}", daemon.log());
    assert_eq!(daemon.events("alert.reminded").len(), 1, "{}", daemon.log());
    // A second slot goes on: nothing is critical any more.
    expires(
        -2,
        &format!("next_client_secret = {}", program.secret("next", "canary-next")),
    );
    daemon.reload();
    let succeeded = wait_alert(&mut daemon, &program, "secret-expiring", |alert| {
        alert["severity"] == "warning"
    });
    let summary = succeeded["summary"].as_str().unwrap();
    assert!(
        summary.contains("expired on") && summary.contains("next_client_secret is set"),
        "{summary}"
    );
    expires(400, "");
    daemon.reload();
    daemon.wait_event("alert.resolved", SOON);
    assert_eq!(open_alert(&program, "secret-expiring"), None);
    assert!(!daemon.log().contains("canary"), "{}", daemon.log());
}

/// A certificate of an RSA key that ends so many days from now, and the key.
fn certificate(days: u32) -> (String, String) {
    use openssl::{asn1::Asn1Time, hash::MessageDigest, pkey::PKey, rsa::Rsa, x509::X509Builder};
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let mut builder = X509Builder::new().unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(days).unwrap()).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    let text = |pem: Vec<u8>| String::from_utf8(pem).unwrap();
    (
        text(builder.build().to_pem().unwrap()),
        text(key.private_key_to_pem_pkcs8().unwrap()),
    )
}

#[test]
fn a_certificate_is_told_by_its_own_date_and_a_longer_one_in_the_second_slot_calms_it() {
    let program = Program::bare();
    let slot = |prefix: &str, days: u32| {
        let (pem, key) = certificate(days);
        let path = program.file(&format!("{prefix}certificate.pem"), pem);
        let key = program.secret(&format!("{prefix}key.pem"), &key);
        format!(
            "{prefix}certificate = \"{}\"\n{prefix}private_key = {key}\n",
            path.display()
        )
    };
    let configure = |slots: &str| {
        let section = "[[integration]]\nname = \"contoso\"\nprovider = \"microsoft\"\ntenant = \"contoso.example\"\n\
                       flow = \"client-credentials\"\nclient_id = \"11111111-2222\"\n";
        program.configure("", &format!("{section}{slots}"));
    };
    let first = slot("", 6);
    configure(&first);
    let mut daemon = program.daemon();
    let alert = wait_alert(&mut daemon, &program, "certificate-expiring", |_| true);
    assert_eq!(
        (&alert["severity"], &alert["code"]),
        (&"critical".into(), &"expires-within-7-days".into())
    );
    assert!(alert["summary"].as_str().unwrap().contains(&day(6)), "{alert}");
    configure(&format!("{first}{}", slot("next_", 300)));
    daemon.reload();
    let calm = wait_alert(&mut daemon, &program, "certificate-expiring", |alert| {
        alert["severity"] == "warning"
    });
    assert!(calm["summary"].as_str().unwrap().contains(&day(300)), "{calm}");
    assert_eq!(calm["id"], alert["id"]);
}

/// What looks ahead and what tells, over the database of a world.
struct Look {
    store: Store,
    foresight: Foresight,
    notice: Notice,
}

impl Look {
    async fn at(world: &World, grants: &[GrantRef]) -> Self {
        let store = world.store().await;
        let subjects = Subjects {
            grants: grants.to_vec(),
            ..Subjects::default()
        };
        Self {
            foresight: Foresight::new(store.clone(), world.clock.clone(), subjects),
            notice: Notice::new(store.clone(), world.clock.clone()),
            store,
        }
    }

    async fn foresee(&self, broker: &Broker) {
        self.foresight.foresee(broker, &self.notice).await.unwrap();
    }

    async fn open(&self) -> Vec<AlertRow> {
        alert::open(self.store.readers()).await.unwrap()
    }

    /// The open alerts, each as `KIND LOGIN CODE`.
    async fn told(&self) -> Vec<String> {
        let one = |row: AlertRow| {
            let finding = row.finding;
            let whom = finding.login.unwrap_or(finding.subject);
            format!("{} {whom} {}", finding.kind.as_str(), finding.problem.code)
        };
        self.open().await.into_iter().map(one).collect()
    }
}

#[tokio::test]
async fn what_was_noted_is_not_told_again_before_it_is_critical_and_time_alone_tells_nothing() {
    let world = World::new(Flow::ClientCredentials);
    let broker = world.process().await;
    let look = Look::at(&world, &[]).await;
    let mut with_end = integration(&world.provider, Flow::ClientCredentials);
    let days = Duration::from_hours(24);
    with_end.client_secret_expires = Some(world.clock.now().plus(days * 50));
    look.foresight.set(Subjects {
        integrations: vec![Arc::new(with_end)],
        ..Subjects::default()
    });
    look.foresee(&broker).await;
    let row = look.open().await.remove(0);
    let mut write = look.store.write().await.unwrap();
    alert::acknowledge(write.connection().unwrap(), row.id, row.since)
        .await
        .unwrap();
    write.commit().await.unwrap();
    for (days, code, told) in [
        (10, "expires-within-60-days", 0),
        (15, "expires-within-30-days", 0),
        (19, "expires-within-7-days", 1),
        (1, "expires-within-7-days", 1),
        (5, "expired", 2),
    ] {
        world.clock.shift(days * 86_400);
        look.foresee(&broker).await;
        look.notice.remind(&[Duration::from_hours(1)]).await.unwrap();
        let row = look.open().await.remove(0);
        assert_eq!((row.finding.problem.code.as_str(), row.reminders), (code, told));
    }
}

#[tokio::test]
async fn a_sign_in_frequency_is_learned_from_the_answer_that_ended_the_last_one() {
    let (world, broker) = World::signed_in().await;
    let look = Look::at(&world, std::slice::from_ref(&world.grant)).await;
    let description = "AADSTS70043: The refresh token has expired or is invalid due to sign-in frequency checks by \
                       conditional access. The token was issued on 2026-05-03T07:38:23Z and the maximum allowed \
                       lifetime for this request is 43200.";
    world.clock.shift(13 * 3600);
    world.provider.fault(Fault::error(400, "invalid_grant", description));
    // The previous token is offered, too, where there is one.
    world.provider.fault(Fault::error(400, "invalid_grant", description));
    broker.access_token(&world.grant).await.unwrap_err();
    look.foresee(&broker).await;
    assert_eq!(
        look.told().await,
        [] as [&str; 0],
        "it has ended: that is told otherwise"
    );
    world.provider.set(|behaviour| behaviour.faults.clear());
    world.sign_in(&broker).await;
    let ends: Vec<_> = sign_in::list(look.store.readers()).await.unwrap();
    assert_eq!(ends.len(), 2);
    assert_eq!(ends[0].life, Some(Duration::from_hours(12)));
    look.foresee(&broker).await;
    assert_eq!(look.told().await, [] as [&str; 0], "too early");
    world.clock.shift(11 * 3600);
    broker.access_token(&world.grant).await.unwrap();
    look.foresee(&broker).await;
    assert_eq!(look.told().await, ["grant-expiring ann@example.org AADSTS70043"]);
    let row = look.open().await.remove(0);
    assert!(row.finding.problem.remedy.contains("mailintake authorize"), "{row:?}");
    // `status` shows the same end.
    let mut shown = world.row().await;
    let now = world.clock.now();
    mailintake::foresight::expect_ends(&look.store, &mut [(&world.grant, &mut shown)], now)
        .await
        .unwrap();
    let expected = ends[1].began_at.plus(Duration::from_hours(12));
    assert_eq!(shown.expected_end_at, Some(expected));
    // Whoever signs in again has mended it.
    world.sign_in(&broker).await;
    look.foresee(&broker).await;
    assert_eq!(look.told().await, [] as [&str; 0]);
}

#[tokio::test]
async fn a_refusal_that_passes_is_no_end_of_a_sign_in() {
    let (world, broker) = World::signed_in().await;
    world.clock.shift(3 * 3600);
    world.provider.fault(Fault::error(400, "invalid_grant", "for a moment"));
    world.provider.fault(Fault::error(400, "invalid_grant", "for a moment"));
    broker.access_token(&world.grant).await.unwrap_err();
    let store = world.store().await;
    assert!(sign_in::list(store.readers()).await.unwrap()[0].end.is_some());
    world.provider.set(|behaviour| behaviour.faults.clear());
    world.clock.shift(3 * 3600);
    broker.access_token(&world.grant).await.unwrap();
    assert!(sign_in::list(store.readers()).await.unwrap()[0].end.is_none());
}

#[tokio::test]
async fn a_google_application_in_testing_is_told_on_its_fifth_day() {
    let mut world = World::new(Flow::AuthorizationCode);
    let mut google = integration(&world.provider, Flow::AuthorizationCode);
    google.provider = Preset::Google;
    google.publishing_status = Some(PublishingStatus::Testing);
    world.grant.integration = Arc::new(google);
    let broker = world.process().await;
    world.sign_in(&broker).await;
    let look = Look::at(&world, std::slice::from_ref(&world.grant)).await;
    for (hours, expected) in [
        (4 * 24, vec![]),
        (25, vec!["grant-expiring ann@example.org google-testing"]),
    ] {
        world.clock.shift(hours * 3600);
        broker.access_token(&world.grant).await.unwrap();
        look.foresee(&broker).await;
        assert_eq!(look.told().await, expected, "{hours} h later");
    }
}

#[tokio::test]
async fn a_client_that_is_refused_is_one_alert_however_many_sign_in_with_it() {
    let world = World::new(Flow::ClientCredentials);
    let broker = world.process().await;
    let login = |login: &str| GrantRef {
        login: login.to_owned(),
        ..world.grant.clone()
    };
    let grants = ["ann@example.org", "bob@example.org", "carol@example.org"].map(login);
    let look = Look::at(&world, &grants).await;
    let refusal = Fault::error(401, "invalid_client", "no");
    world.provider.set(|behaviour| behaviour.outage = Some(refusal));
    broker.access_token(&grants[0]).await.unwrap_err();
    look.notice.watch_grants(&grants, &broker).await.unwrap();
    let first = look.open().await;
    assert_eq!(
        look.told().await,
        ["configuration-refused ann@example.org invalid_client"]
    );
    for grant in &grants[1..] {
        broker.access_token(grant).await.unwrap_err();
    }
    look.notice.watch_grants(&grants, &broker).await.unwrap();
    assert_eq!(look.told().await, ["configuration-refused * invalid_client"]);
    let all = look.open().await.remove(0);
    assert_eq!(
        (all.id, all.since),
        (first[0].id, first[0].since),
        "the same alert, grown wider"
    );
    assert!(
        all.finding.problem.summary.contains("3 logins: ann@example.org"),
        "{all:?}"
    );
    // It heals one by one, and is over once.
    world.provider.set(|behaviour| behaviour.outage = None);
    broker.try_now(&grants).await.unwrap();
    for grant in &grants[..2] {
        broker.access_token(grant).await.unwrap();
    }
    look.notice.watch_grants(&grants, &broker).await.unwrap();
    assert_eq!(
        look.told().await,
        ["configuration-refused carol@example.org invalid_client"]
    );
    broker.access_token(&grants[2]).await.unwrap();
    look.notice.watch_grants(&grants, &broker).await.unwrap();
    assert_eq!(look.told().await, [] as [&str; 0]);
}

fn outage(mailbox: &str) -> Finding {
    Finding {
        kind: AlertKind::MailboxUnreachable,
        subject: mailbox.to_owned(),
        login: None,
        problem: Problem {
            code: "connect".to_owned(),
            summary: "cannot connect".to_owned(),
            remedy: "Look at it".to_owned(),
        },
    }
}

#[tokio::test]
async fn an_outage_of_all_hosts_is_one_alert_that_survives_a_restart_and_narrows_as_it_heals() {
    let world = World::new(Flow::ClientCredentials);
    let hosts: BTreeMap<String, String> = [("a1", "a:993"), ("a2", "a:993"), ("b", "b:993")]
        .map(|(mailbox, host)| (mailbox.to_owned(), host.to_owned()))
        .into();
    let look = Look::at(&world, &[]).await;
    look.notice.watch(hosts.clone());
    look.notice.raise(&outage("a1")).await;
    look.notice.suspect("a2", &outage("a2").problem);
    look.notice.watch_outages().await.unwrap();
    assert_eq!(look.told().await, ["mailbox-unreachable a:993 connect"]);
    look.notice.raise(&outage("b")).await;
    look.notice.watch_outages().await.unwrap();
    assert_eq!(look.told().await, ["mailbox-unreachable network network-unreachable"]);
    let before = look.open().await;
    // Another process knows nothing yet: what is open stays.
    let again = Look::at(&world, &[]).await;
    again.notice.watch(hosts);
    again.notice.watch_outages().await.unwrap();
    assert_eq!(again.open().await[0].id, before[0].id);
    assert_eq!(again.told().await, ["mailbox-unreachable network network-unreachable"]);
    // Once all have spoken, it narrows as they come back.
    again.notice.raise(&outage("a1")).await;
    again.notice.suspect("a2", &outage("a2").problem);
    for (mailbox, left) in [
        ("b", vec!["mailbox-unreachable a:993 connect"]),
        ("a2", vec!["mailbox-unreachable a1 connect"]),
        ("a1", vec![]),
    ] {
        again.notice.resolve(AlertKind::MailboxUnreachable, mailbox, None).await;
        again.notice.watch_outages().await.unwrap();
        assert_eq!(again.told().await, left, "{mailbox} is back");
    }
}

#[test]
fn mailboxes_of_one_server_that_is_down_are_one_alert_which_is_over_once() {
    let scene = Scene::with(&["support"], |options| options);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mailboxes = [
        scene.mailbox("support", ""),
        scene.mailbox_at(port, "sales", ""),
        scene.mailbox_at(port, "office", ""),
    ];
    scene.configure(&mailboxes.each_ref().map(String::as_str));
    let mut daemon = scene.program.daemon();
    scene.wait_alerts(&mut daemon, &["mailbox-unreachable"], Duration::from_mins(2));
    assert_eq!(
        scene.alerts(),
        [format!("mailbox-unreachable 127.0.0.1:{port} connect")]
    );
    let alert = open_alert(&scene.program, "mailbox-unreachable").unwrap();
    let summary = alert["summary"].as_str().unwrap();
    assert!(
        summary.starts_with("2 of 2 mailboxes cannot be reached (office, sales)"),
        "{summary}"
    );
    // A reload, which knows mailboxes but no hosts by name, leaves it.
    daemon.reload();
    daemon.wait_event("config.reloaded", SOON);
    assert_eq!(
        open_alert(&scene.program, "mailbox-unreachable").unwrap()["id"],
        alert["id"]
    );
    let options = Options::new(Security::Implicit(scene.authority.issue(&LOOPBACK)));
    let users = ["sales", "office"];
    let options = users.iter().fold(options.port(port), |options, user| {
        options.user(&address(user), PASSWORD)
    });
    let _back = ImapServer::start(options);
    daemon.wait_event("alert.resolved", Duration::from_mins(2));
    assert_eq!(daemon.events("alert.raised").len(), 1, "{}", daemon.log());
    assert_eq!(daemon.events("alert.resolved").len(), 1);
}

#[test]
fn mailboxes_that_one_server_refuses_alike_are_one_alert_which_is_over_once() {
    let users = ["one", "two", "three"];
    let scene = Scene::with(&users, |options| options);
    let refusal = Action::No("[AUTHENTICATIONFAILED] IMAP is disabled for the tenant".into());
    scene.server.fault(ImapFault::at("AUTHENTICATE", refusal).always());
    scene.configure(&users.map(|user| scene.mailbox(user, "")).each_ref().map(String::as_str));
    let mut daemon = scene.program.daemon();
    let together = format!(
        "credentials-refused 127.0.0.1:{} AUTHENTICATIONFAILED",
        scene.server.port()
    );
    daemon.wait_event("daemon.started", SOON);
    daemon.wait_for("one alert", SOON * 2, |_| {
        (scene.alerts() == [together.as_str()]).then_some(())
    });
    let alert = open_alert(&scene.program, "credentials-refused").unwrap();
    let summary = alert["summary"].as_str().unwrap();
    assert!(
        summary.starts_with("3 mailboxes are refused alike (one, three, two): "),
        "{summary}"
    );
    // Neither a reload, which knows mailboxes but no hosts by name, nor a restart tells of it anew.
    daemon.reload();
    daemon.wait_event("config.reloaded", SOON);
    assert_eq!(daemon.terminate(), Some(0));
    let mut daemon = scene.program.daemon();
    daemon.wait_for("second refusals", SOON * 2, |daemon| {
        (daemon.log().matches("attempt=2").count() >= users.len()).then_some(())
    });
    assert_eq!(
        open_alert(&scene.program, "credentials-refused").unwrap()["id"],
        alert["id"]
    );
    assert_eq!(daemon.events("alert.raised").len(), 0, "{}", daemon.log());
    scene.server.clear_faults();
    daemon.reload();
    daemon.wait_for("the end of it", SOON * 2, |_| scene.alerts().is_empty().then_some(()));
    assert_eq!(daemon.events("alert.resolved").len(), 1, "{}", daemon.log());
    assert_eq!(daemon.events("alert.raised").len(), 0, "{}", daemon.log());
}

#[test]
fn a_mailbox_that_signs_in_and_does_not_open_beside_others_that_do_is_an_administrators() {
    let scene = Scene::with(&["open", "shut"], |options| options);
    let unconnected = Action::Bad("User is authenticated but not connected.".into());
    let fault = ImapFault::at("SELECT", unconnected).of(&address("shut"));
    scene.server.fault(fault.always());
    scene.configure(
        &["open", "shut"]
            .map(|user| scene.mailbox(user, ""))
            .each_ref()
            .map(String::as_str),
    );
    let mut daemon = scene.program.daemon();
    scene.wait_state(&mut daemon, "shut", "backing-off", SOON);
    scene.wait_state(&mut daemon, "open", "watching", SOON);
    scene.wait_state(&mut daemon, "shut", "needs-admin", Duration::from_mins(3));
    scene.wait_alerts(&mut daemon, &["admin-action-required"], SOON);
    let alert = open_alert(&scene.program, "admin-action-required").unwrap();
    assert!(alert["remedy"].as_str().unwrap().contains("FullAccess"), "{alert}");
    scene.server.clear_faults();
    daemon.reload();
    scene.wait_alerts(&mut daemon, &[], SOON);
    scene.wait_state(&mut daemon, "shut", "watching", SOON);
}
