//! "Test connection" against a provider, an IMAP server and certificates on loopback: which step fails, and what is
//! said of it.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use mailintake::doctor::certificate::{self, Opening};
use mailintake::doctor::{Checked, Doctor, Service};
use mailintake::grant::{EndpointSource, Endpoints, Flow, GrantRef, Integration, Provider as Preset};
use mailintake::mailbox::{After, Mailbox, Protocol, Sasl, Server, SignIn, Start, Tls, Watch};
use mailintake::store;
use mailintake::time::{Clock, Timestamp};
use mailintake::tls::Trust;

use crate::broker::{World, secret};
use crate::support::certificate::{Authority, Identity, LOOPBACK};
use crate::support::imap_server::{Action, Fault as ImapFault, ImapServer, Options, Security};
use crate::support::provider::{CLIENT_ID, Fault};

const USER: &str = "support@example.org";
/// The application's object ID as Entra has it under Enterprise applications.
const OBJECT_ID: &str = "1a2b3c4d-0000-4000-8000-00000000e9a1";
const TENANT: &str = "99999999-0000-4000-8000-000000000001";

/// A mailbox of the server that signs in like this.
fn mailbox(port: u16, tls: Tls, sign_in: SignIn) -> Mailbox {
    Mailbox {
        address: USER.into(),
        name: "support".into(),
        login: USER.into(),
        sign_in,
        sasl_user: USER.into(),
        sasl: Sasl::Auto,
        server: Server {
            protocol: Protocol::Imap,
            host: "127.0.0.1".into(),
            port,
            tls,
            ca_file: None,
        },
        folders: vec!["INBOX".into()],
        watch: Watch::Idle,
        poll_interval: Duration::from_mins(1),
        start: Start::New,
        project: "SUP".into(),
        after: After::Keep,
        max_message_size: 1 << 20,
        authserv_id: Vec::new(),
    }
}

fn password() -> SignIn {
    SignIn::Password(secret("right"))
}

/// A server that takes the password `right`, and any token if `takes_tokens`.
fn server(security: Security, takes_tokens: bool) -> ImapServer {
    ImapServer::start(
        Options::new(security)
            .user(USER, "right")
            .token(move |_, _| takes_tokens),
    )
}

/// An integration at Microsoft whose token endpoint is the world's.
fn at_microsoft(world: &mut World, change: impl FnOnce(&mut Integration)) {
    let mut integration = (*world.grant.integration).clone();
    integration.provider = Preset::Microsoft;
    integration.tenant = Some(TENANT.into());
    integration.endpoints = EndpointSource::Fixed(Endpoints {
        issuer: None,
        authorization: Some(format!("{}/auth", world.provider.issuer())),
        token: world.provider.token_endpoint(),
        device_authorization: None,
        revocation: None,
        names_itself: false,
    });
    change(&mut integration);
    world.grant = GrantRef {
        integration: Arc::new(integration),
        login: USER.into(),
    };
}

/// The claims of an application's token that may read by IMAP.
fn application_claims() -> serde_json::Value {
    serde_json::json!({
        "aud": "https://outlook.office365.com", "iss": format!("https://sts.windows.net/{TENANT}/"),
        "appid": CLIENT_ID, "tid": TENANT, "oid": OBJECT_ID, "roles": ["IMAP.AccessAsApp"], "exp": 4_000_000_000_i64,
    })
}

async fn doctor(world: &World) -> Doctor {
    let tokens = (world.process().await, world.store().await);
    Doctor::new(Trust::load(None, []).unwrap(), world.clock.clone(), Some(tokens))
}

fn doctor_without(trust: Trust) -> Doctor {
    Doctor::new(trust, Clock::system(), None)
}

/// `ok` or `FAILED` with the name of each step.
fn outline(steps: &[Checked]) -> Vec<String> {
    let one = |step: &Checked| format!("{} {}", if step.found.is_ok() { "ok" } else { "FAILED" }, step.step);
    steps.iter().map(one).collect()
}

/// The last step with all that is said of it.
fn last(steps: &[Checked]) -> String {
    let step = steps.last().unwrap();
    let found = match &step.found {
        Ok(text) => text.clone(),
        Err(problem) => format!("[{}] {} | {}", problem.code, problem.summary, problem.remedy),
    };
    format!("{} {found}\n{}", step.step, step.notes.join("\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_that_works_is_ok_in_each_step_and_costs_no_new_token() {
    let (world, _) = World::signed_in().await;
    let server = server(Security::Clear, true);
    let mailbox = mailbox(server.port(), Tls::None, SignIn::Token(world.grant.clone()));
    let before = world.provider.requests().len();
    let doctor = doctor(&world).await;
    let steps = doctor.mailbox(&mailbox).await;
    assert_eq!(
        outline(&steps),
        [
            "discovery",
            "provider",
            "clock",
            "token",
            "claims",
            "dns",
            "tcp",
            "tls",
            "greeting",
            "sign-in",
            "folder",
            "start"
        ]
        .map(|step| format!("ok {step}")),
        "{steps:?}"
    );
    assert!(steps[4].found.as_ref().unwrap().contains("opaque"), "{:?}", steps[4]);
    assert_eq!(world.provider.requests().len(), before, "a good token was not renewed");
    // The provider is looked at once in a run.
    let again = doctor.mailbox(&mailbox).await;
    assert_eq!(again.first().unwrap().step, "token", "{again:?}");
    // Said as text, nothing is a token.
    assert!(!format!("{steps:?}").contains("canary"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_is_told() {
    for (shift, is_ok, words) in [(0, true, "agrees|within"), (120, true, "fast"), (-400, false, "slow")] {
        let world = World::new(Flow::ClientCredentials);
        world.clock.shift(shift);
        let steps = doctor(&world).await.integration(&world.grant.integration, &[]).await;
        let clock = steps.iter().find(|step| step.step == "clock").unwrap();
        assert_eq!(clock.found.is_ok(), is_ok, "{clock:?}");
        let said = format!("{clock:?}");
        assert!(words.split('|').any(|word| said.contains(word)), "{shift}: {said}");
        assert_eq!(said.contains("timedatectl"), shift != 0, "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_not_there_is_found_by_its_step() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for (issuer, outline_, words) in [
        (format!("http://{silent}"), vec!["ok dns", "FAILED tcp"], "firewall"),
        (
            "https://no-such-host.invalid".to_owned(),
            vec!["FAILED dns"],
            "getent hosts",
        ),
    ] {
        let mut world = World::new(Flow::ClientCredentials);
        let mut integration = (*world.grant.integration).clone();
        integration.endpoints = EndpointSource::Issuer(issuer);
        world.grant.integration = Arc::new(integration);
        let doctor = doctor(&world).await;
        let steps = doctor.integration(&world.grant.integration, &[]).await;
        assert_eq!(outline(&steps), outline_, "{steps:?}");
        let again = doctor.integration(&world.grant.integration, &[]).await;
        assert_eq!(again, steps, "said again, since it fails the next one, too");
        assert!(last(&steps).contains(words), "{steps:?}");
    }
    let world = World::new(Flow::ClientCredentials);
    world.provider.set(|behaviour| behaviour.has_discovery = false);
    let steps = doctor(&world).await.integration(&world.grant.integration, &[]).await;
    assert_eq!(outline(&steps), ["ok dns", "ok tcp", "FAILED discovery"]);
    assert!(last(&steps).contains("no discovery document"), "{steps:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_tells_its_remedy() {
    let world = World::new(Flow::ClientCredentials);
    world.provider.fault(Fault::error(401, "invalid_client", ""));
    let grants = [(world.grant.clone(), Service::Imap)];
    let doctor = doctor(&world).await;
    let steps = doctor.integration(&world.grant.integration, &grants).await;
    assert_eq!(outline(&steps).last().unwrap(), "FAILED token", "{steps:?}");
    // Whoever tests again has mended it, and does not wait.
    let steps = doctor.integration(&world.grant.integration, &grants).await;
    assert_eq!(outline(&steps), ["ok token", "ok claims"], "{steps:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_token_says_of_itself_hints_at_what_is_wrong() {
    type Edit = fn(&mut serde_json::Value);
    let cases: [(Edit, Flow, &str); 8] = [
        (|_| {}, Flow::ClientCredentials, ""),
        (
            |claims| claims["aud"] = "https://graph.microsoft.com".into(),
            Flow::ClientCredentials,
            "Microsoft Graph",
        ),
        (
            |claims| claims["aud"] = "00000003-0000-0000-c000-000000000000".into(),
            Flow::ClientCredentials,
            "Microsoft Graph",
        ),
        (
            |claims| claims["roles"] = serde_json::json!(["SMTP.SendAsApp"]),
            Flow::ClientCredentials,
            "lacks the role IMAP.AccessAsApp",
        ),
        (
            |claims| claims["scp"] = "IMAP.AccessAsUser.All".into(),
            Flow::ClientCredentials,
            "stands for a person",
        ),
        (
            |claims| claims["tid"] = "other".into(),
            Flow::ClientCredentials,
            "of the tenant other",
        ),
        (
            |claims| claims["appid"] = "other".into(),
            Flow::ClientCredentials,
            "of the application other",
        ),
        (
            |claims| claims["exp"] = 1_000.into(),
            Flow::ClientCredentials,
            "has ended",
        ),
    ];
    for (edit, flow, words) in cases {
        let mut world = World::new(flow);
        at_microsoft(&mut world, |_| {});
        let mut claims = application_claims();
        edit(&mut claims);
        world.provider.set(|behaviour| behaviour.claims = Some(claims.clone()));
        let grants = [(world.grant.clone(), Service::Imap)];
        let steps = doctor(&world)
            .await
            .integration(&world.grant.integration, &grants)
            .await;
        let step = steps.last().unwrap();
        assert!(step.step == "claims" && step.found.is_ok(), "only a hint: {step:?}");
        assert_eq!(step.notes.len(), usize::from(!words.is_empty()), "{words}: {step:?}");
        assert!(last(&steps).contains(words), "{words}: {step:?}");
        assert!(last(&steps).contains(&format!("oid {OBJECT_ID}")), "{step:?}");
        assert!(!format!("{steps:?}").contains("canary"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_may_not_open_the_mailbox_gets_the_exact_commands() {
    let mut world = World::new(Flow::ClientCredentials);
    at_microsoft(&mut world, |_| {});
    world
        .provider
        .set(|behaviour| behaviour.claims = Some(application_claims()));
    let server = server(Security::Clear, false);
    let mailbox = mailbox(server.port(), Tls::None, SignIn::Token(world.grant.clone()));
    let steps = doctor(&world).await.mailbox(&mailbox).await;
    assert_eq!(outline(&steps).last().unwrap(), "FAILED sign-in", "{steps:?}");
    let said = last(&steps);
    for line in [
        format!("New-ServicePrincipal -AppId {CLIENT_ID} -ObjectId {OBJECT_ID}"),
        format!("Set-ServicePrincipal -Identity {OBJECT_ID} -DisplayName 'mailintake idp'"),
        format!("Add-MailboxPermission -Identity {USER} -User {OBJECT_ID} -AccessRights FullAccess"),
        format!("{OBJECT_ID} is the object ID that Entra shows under Enterprise applications"),
        "The one under App registrations is another and the wrong one".to_owned(),
        "Get-ServicePrincipal".to_owned(),
    ] {
        assert!(said.contains(&line), "{line}: {said}");
    }
    assert!(!said.contains("authorize"), "nobody can sign in here: {said}");
    // The refused token was tried twice with a new one between, as the daemon does.
    assert_eq!(world.provider.requests().len(), 2);
    assert!(!format!("{steps:?}").contains("canary"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_that_does_not_open_is_told_by_its_past() {
    let mut world = World::new(Flow::ClientCredentials);
    at_microsoft(&mut world, |_| {});
    world
        .provider
        .set(|behaviour| behaviour.claims = Some(application_claims()));
    let server = server(Security::Clear, true);
    let mailbox = mailbox(server.port(), Tls::None, SignIn::Token(world.grant.clone()));
    for command in ["CAPABILITY", "EXAMINE"] {
        server.clear_faults();
        let words = "User is authenticated but not connected.";
        // The first CAPABILITY is before the sign-in.
        let skipped = usize::from(command == "CAPABILITY");
        server.fault(
            ImapFault::at(command, Action::Bad(words.into()))
                .after(skipped)
                .always(),
        );
        let steps = doctor(&world).await.mailbox(&mailbox).await;
        let said = last(&steps);
        assert!(steps.last().unwrap().found.is_err(), "{said}");
        assert!(
            said.contains("Give the application access") && said.contains("Add-MailboxPermission"),
            "{said}"
        );
    }
    let store = world.store().await;
    let mut write = store.write().await.unwrap();
    let connection = write.connection().unwrap();
    let now = world.clock.now();
    let id = store::mailbox::ensure(connection, USER, "support", "SUP", now)
        .await
        .unwrap();
    let validity = mailintake::mailbox::UidValidity(1);
    store::mailbox::set_folder(connection, id, "INBOX", (validity, None), now)
        .await
        .unwrap();
    write.commit().await.unwrap();
    let steps = doctor(&world).await.mailbox(&mailbox).await;
    assert!(last(&steps).contains("has worked before"), "{}", last(&steps));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_mailbox_that_does_not_open_to_a_person_is_told_so() {
    let mut world = World::new(Flow::AuthorizationCode);
    at_microsoft(&mut world, |_| {});
    world.grant.login = "ann@example.org".into();
    let broker = world.process().await;
    world.sign_in(&broker).await;
    let server = server(Security::Clear, true);
    let words = "User is authenticated but not connected.";
    server.fault(ImapFault::at("EXAMINE", Action::Bad(words.into())).always());
    let mailbox = mailbox(server.port(), Tls::None, SignIn::Token(world.grant.clone()));
    let steps = doctor(&world).await.mailbox(&mailbox).await;
    let said = last(&steps);
    for line in [
        "folder [bad]",
        "Add-MailboxPermission -Identity support@example.org -User ann@example.org -AccessRights FullAccess",
        "Set-CASMailbox -Identity support@example.org -ImapEnabled $true",
        "primary address",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(!said.contains("New-ServicePrincipal"), "{said}");
}

/// A server that speaks as told up to TLS: what it says, after it has heard what.
fn scripted(identity: &Identity, script: &'static [(&'static str, &'static str)]) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = identity.acceptor();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        for (heard, said) in script {
            let mut got = String::new();
            while !got.ends_with(heard) {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                got.push(char::from(byte[0]));
            }
            stream.write_all(said.as_bytes()).unwrap();
        }
        // The peer has seen enough after the handshake.
        drop(acceptor.accept(stream));
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_seen_behind_each_protocol() {
    let identity = Authority::new().issue(&["mail.example.org"]);
    let cases: [(Opening, &[(&str, &str)]); 4] = [
        (Opening::Implicit, &[]),
        (
            Opening::Imap,
            &[("", "* OK hello\r\n"), ("STARTTLS\r\n", "* STATUS\r\na OK begin\r\n")],
        ),
        (Opening::Pop3, &[("", "+OK hello\r\n"), ("STLS\r\n", "+OK begin\r\n")]),
        (
            Opening::Smtp,
            &[
                ("", "220-hello\r\n220 there\r\n"),
                ("EHLO localhost\r\n", "250-mail\r\n250 STARTTLS\r\n"),
                ("STARTTLS\r\n", "220 begin\r\n"),
            ],
        ),
    ];
    for (opening, script) in cases {
        let port = scripted(&identity, script);
        let lines = certificate::look("127.0.0.1", port, opening, Clock::system().now()).await;
        assert!(
            lines
                .concat()
                .contains("for mail.example.org; signed by Test authority"),
            "{opening:?}: {lines:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_is_told_its_delegation() {
    let mut world = World::new(Flow::ServiceAccount);
    let mut integration = (*world.grant.integration).clone();
    integration.provider = Preset::Google;
    integration.scopes = vec!["https://mail.google.com/".into()];
    integration.service_account = Some(secret(
        r#"{"client_id": "104210000000000000007", "client_email": "x@y.iam.gserviceaccount.com", "private_key": "canary"}"#,
    ));
    world.grant.integration = Arc::new(integration);
    let grants = [(world.grant.clone(), Service::Imap)];
    let steps = doctor(&world)
        .await
        .integration(&world.grant.integration, &grants)
        .await;
    assert_eq!(outline(&steps).last().unwrap(), "FAILED token", "{steps:?}");
    let said = last(&steps);
    for words in [
        "Client ID: 104210000000000000007",
        "OAuth scopes: https://mail.google.com/",
        "Domain-wide delegation",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!said.contains("canary"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_refused_is_shown_with_its_names() {
    let authority = Authority::new();
    let trusting = Trust::load(Some(authority.ca_file()), []).unwrap();
    let trusting_nobody = Trust::load(None, []).unwrap();
    for (names, is_expired, trust, words) in [
        (
            &["mail.example.org"][..],
            false,
            &trusting,
            "127.0.0.1 is not among its names",
        ),
        (&LOOPBACK[..], true, &trusting, "it has expired"),
        (&LOOPBACK[..], false, &trusting_nobody, "ca_file"),
    ] {
        let identity = if is_expired {
            authority.issue_expired(names)
        } else {
            authority.issue(names)
        };
        for (security, tls) in [
            (Security::Implicit(identity.clone()), Tls::Implicit),
            (Security::StartTls(identity.clone()), Tls::StartTls),
        ] {
            let server = server(security, true);
            let mailbox = mailbox(server.port(), tls, password());
            let steps = doctor_without(trust.clone()).mailbox(&mailbox).await;
            assert_eq!(outline(&steps), ["ok dns", "ok tcp", "FAILED tls"], "{steps:?}");
            let said = last(&steps);
            assert!(said.contains(words), "{words}: {said}");
            assert!(said.contains(&format!("certificate is for {}", names[0])), "{said}");
            assert!(said.contains("signed by Test authority"), "{said}");
            assert!(
                !server.log().iter().any(|line| line.contains("AUTHENTICATE")),
                "no credential was sent"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_no_certificate_nothing_is_said_of_one() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let clear = server(Security::Clear, true);
    for (port, opening) in [(closed.port(), Opening::Implicit), (clear.port(), Opening::Implicit)] {
        let lines = certificate::look("127.0.0.1", port, opening, Timestamp(0)).await;
        assert!(lines.is_empty(), "{lines:?}");
    }
}
