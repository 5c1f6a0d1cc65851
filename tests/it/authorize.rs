//! A person's sign-in: by paste, by the listener, by a port of the command; and what is refused.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use mailintake::authorize::{Answer, AuthorizeError, Authorizer};
use mailintake::broker::Broker;
use mailintake::cli::authorize::{self as command, Way};
use mailintake::grant::{Flow, GrantState};
use mailintake::http::{self, Doors};
use mailintake::store::authorization::Outcome;
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::broker::World;
use crate::support::provider::{Behaviour, Fault, Provider};

const PASTE: &str = "http://127.0.0.1:1/oauth/callback/idp";

/// Addresses that are not answered, and how.
const REFUSED: [(&str, u16); 7] = [
    ("/", 404),
    ("/oauth", 404),
    ("/oauth/callback/none", 404),
    ("/oauth/callback/none?state=a&code=b", 404),
    ("/oauth/callback/idp", 400),
    ("/oauth/callback/idp?state=%3Cscript%3E&code=b", 400),
    ("/healthz/../etc/passwd", 404),
];

type Change = fn(&mut Behaviour);
type Edit = fn(String) -> String;

/// What each page has, beside what it says.
const ON_EACH_PAGE: [&str; 8] = [
    "content-security-policy: default-src 'none'; style-src 'sha256-",
    "frame-ancestors 'none'",
    "x-frame-options: DENY",
    "nosniff",
    "no-referrer",
    "no-store",
    "prefers-color-scheme:dark",
    "width=device-width",
];

/// Signs in as the provider's behaviour has it.
async fn attempt(world: &World, broker: &Arc<Broker>) -> Result<String, AuthorizeError> {
    let authorizer = Authorizer::new(Arc::clone(broker));
    let begun = authorizer.begin(&world.grant, PASTE).await?;
    let back = Provider::sign_in(begun.url.as_str());
    let answer = Answer::from_paste(&back).unwrap();
    let finished = authorizer
        .finish(std::slice::from_ref(&world.grant), "idp", answer)
        .await;
    match (&finished, authorizer.outcome(&begun).await?) {
        (Ok(signed_in), Outcome::Done(text)) => assert_eq!(text, signed_in.to_string()),
        (Err(error), Outcome::Failed(text)) => assert_eq!(text, error.to_string()),
        (finished, outcome) => panic!("{finished:?} {outcome:?}"),
    }
    finished.map(|signed_in| signed_in.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_says_who_it_was_and_what_was_granted() {
    let world = World::new(Flow::AuthorizationCode);
    let broker = world.process().await;
    let text = attempt(&world, &broker).await.unwrap();
    assert_eq!(
        text,
        "signed in at idp as Ann@example.org; granted: openid offline_access mail"
    );
    let row = world.row().await;
    assert_eq!((row.state, row.generation), (GrantState::Ok, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_the_right_grant_leaves_the_old_one() {
    let (world, broker) = World::signed_in().await;
    let before = broker.access_token(&world.grant).await.unwrap();
    let changes: [(&str, Change); 5] = [
        ("signed in as bob@example.org", |b| {
            b.user = Some("bob@example.org".into());
        }),
        ("not granted: mail", |b| b.granted = Some("openid".into())),
        ("no refresh token", |b| b.gives_refresh_token = false),
        ("access_denied", |b| b.is_denied = true),
        ("invalid_client", |b| {
            b.faults.push_back(Fault::error(401, "invalid_client", ""));
        }),
    ];
    for (words, change) in changes {
        world.provider.set(change);
        let error = attempt(&world, &broker).await.unwrap_err();
        assert!(error.to_string().contains(words), "{words}: {error}");
        let now = broker.access_token(&world.grant).await.unwrap();
        assert_eq!(now.secret.expose_secret(), before.secret.expose_secret(), "{words}");
        world.provider.set(|b| {
            (b.user, b.granted, b.gives_refresh_token, b.is_denied) = (None, None, true, false);
        });
    }
    attempt(&world, &broker).await.unwrap();
    assert_eq!(broker.access_token(&world.grant).await.unwrap().generation, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_counts_once_in_time_and_for_its_integration() {
    let world = World::new(Flow::AuthorizationCode);
    let broker = world.process().await;
    let authorizer = Authorizer::new(Arc::clone(&broker));
    let grants = [world.grant.clone()];
    let answer = async || {
        let begun = authorizer.begin(&world.grant, PASTE).await.unwrap();
        Provider::sign_in(begun.url.as_str())
    };
    let finish = async |integration: &str, back: &str| {
        authorizer
            .finish(&grants, integration, Answer::from_paste(back).unwrap())
            .await
    };
    let back = answer().await;
    assert!(matches!(finish("other", &back).await, Err(AuthorizeError::Unknown)));
    finish("idp", &back).await.unwrap();
    assert!(matches!(finish("idp", &back).await, Err(AuthorizeError::Used)));
    assert!(matches!(
        finish("idp", "state=made-up&code=x").await,
        Err(AuthorizeError::Unknown)
    ));
    let back = answer().await;
    world.clock.shift(16 * 60);
    assert!(matches!(finish("idp", &back).await, Err(AuthorizeError::TooOld)));
    let elsewhere = answer().await.replace("iss=http", "iss=https");
    assert!(matches!(
        finish("idp", &elsewhere).await,
        Err(AuthorizeError::Forged(_))
    ));
    let wrong = answer().await.replace("code=canary", "code=forged");
    assert!(matches!(
        finish("idp", &wrong).await,
        Err(AuthorizeError::Refused { .. })
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_signs_in_by_itself_needs_nobody() {
    let world = World::new(Flow::ClientCredentials);
    let authorizer = Authorizer::new(world.process().await);
    let refused = authorizer.begin(&world.grant, PASTE).await.err().unwrap();
    assert!(refused.to_string().contains("mailintake test idp"), "{refused}");
}

/// One request; the status and the whole answer.
fn fetch(address: &str, method: &str, path: &str, host: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_listener_finishes_a_sign_in_that_another_process_waits_for() {
    let world = World::new(Flow::AuthorizationCode);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let public_url = Url::parse(&format!("http://{address}")).unwrap();
    let grants = vec![world.grant.clone()];
    let doors = Doors {
        metrics: None,
        authorizer: Authorizer::new(world.process().await),
        grants: Arc::new(move || grants.clone()),
        health: Arc::new(|| Ok(())),
        public_url: Some(public_url.clone()),
    };
    let stop = CancellationToken::new();
    let command = Authorizer::new(world.process().await);
    let redirect = mailintake::authorize::redirect_uri(&public_url, "idp");
    let begun = command.begin(&world.grant, &redirect).await.unwrap();
    let browser = async {
        let fetch = async |method: &'static str, path: &str, host: &str| {
            let (address, path, host) = (address.clone(), path.to_owned(), host.to_owned());
            tokio::task::spawn_blocking(move || fetch(&address, method, &path, &host))
                .await
                .unwrap()
        };
        let back = Url::parse(&Provider::sign_in(begun.url.as_str())).unwrap();
        let path = format!("{}?{}", back.path(), back.query().unwrap());
        assert_eq!(fetch("GET", &path, "evil.example.org").await.0, 421);
        assert_eq!(fetch("HEAD", &path, &address).await.0, 405);
        assert_eq!(fetch("POST", &path, &address).await.0, 405);
        for (path, status) in REFUSED {
            let (given, page) = fetch("GET", path, &address).await;
            assert_eq!(given, status, "{path}");
            assert!(!page.contains("<script"), "{page}");
        }
        assert!(fetch("GET", "/healthz", &address).await.1.ends_with("\r\n\r\nok\n"));
        assert_eq!(command.outcome(&begun).await.unwrap(), Outcome::Waiting);
        let (status, page) = fetch("GET", &path, &address).await;
        assert_eq!(status, 200, "{page}");
        for header in ON_EACH_PAGE {
            assert!(page.contains(header), "{header}: {page}");
        }
        assert!(
            page.contains("Signed in at idp as Ann@example.org") && !page.contains("canary"),
            "{page}"
        );
        assert!(
            page.contains("<strong>Next:</strong>") && !page.contains("unsafe-inline"),
            "{page}"
        );
        assert!(matches!(command.outcome(&begun).await.unwrap(), Outcome::Done(_)));
        let (status, page) = fetch("GET", &path, &address).await;
        assert_eq!(status, 400);
        assert!(
            page.contains("<title>Used already") && page.contains("<code>mailintake authorize NAME</code>"),
            "{page}"
        );
        stop.cancel();
    };
    let (served, ()) = tokio::join!(http::serve(listener, doors, stop.clone()), browser);
    served.unwrap();
}

/// What a provider announces that names itself in each answer (RFC 9207 §3).
const NAMES_ITSELF: &str = "authorization_response_iss_parameter_supported";

/// An address without `iss`.
fn without_issuer(path: &str) -> String {
    let issuer = path.split(['?', '&']).find(|piece| piece.starts_with("iss=")).unwrap();
    path.replace(issuer, "x=y")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_promises_nothing_may_leave_itself_out() {
    for is_promised in [false, true] {
        let world = World::new(Flow::AuthorizationCode);
        if is_promised {
            world.provider.set(|b| b.announced.push(NAMES_ITSELF));
        }
        let authorizer = Authorizer::new(world.process().await);
        let begun = authorizer.begin(&world.grant, PASTE).await.unwrap();
        let back = Provider::sign_in(begun.url.as_str());
        let back = if is_promised { back } else { without_issuer(&back) };
        let answer = Answer::from_paste(&back).unwrap();
        let grants = std::slice::from_ref(&world.grant);
        authorizer.finish(grants, "idp", answer).await.unwrap();
        // What is known of an issuer that was kept by a former version stays readable.
        let store = world.store().await;
        let mut write = store.write().await.unwrap();
        sqlx::query("UPDATE discovery SET endpoints = json_remove(endpoints, '$.names_itself')")
            .execute(write.connection().unwrap())
            .await
            .unwrap();
        write.commit().await.unwrap();
        let kept = mailintake::store::discovery::find(store.readers(), world.provider.issuer()).await;
        assert!(!kept.unwrap().unwrap().0.names_itself);
    }
}

/// Each way in which a sign-in ends badly: how the provider behaves, what the browser's address becomes, and what
/// the page says.
const BAD_ENDS: [(&str, Change, Edit, &str); 8] = [
    ("declined", |b| b.is_denied = true, |path| path, "<title>Declined"),
    (
        "wrong account",
        |b| b.user = Some("<i>bob</i>@example.org".into()),
        |path| path,
        "&lt;i&gt;bob&lt;/i&gt;@example.org",
    ),
    (
        "issuer mix-up",
        |_| {},
        |path| path.replace("iss=http%3A", "iss=https%3A"),
        "<title>Not accepted",
    ),
    (
        "no issuer, though it is always named",
        |b| b.announced.push(NAMES_ITSELF),
        |path| without_issuer(&path),
        "<title>Not accepted",
    ),
    (
        "a refusal that names no issuer",
        |b| {
            b.announced.push(NAMES_ITSELF);
            b.is_denied = true;
        },
        |path| without_issuer(&path),
        "<title>Not accepted",
    ),
    (
        "made-up state",
        |_| {},
        |path| path.replace("state=", "state=x"),
        "<title>Unknown sign-in",
    ),
    (
        "another's code",
        |_| {},
        |path| path.replace("code=canary", "code=forged"),
        "invalid_grant",
    ),
    (
        "an outage",
        |b| b.outage = Some(Fault::page(503)),
        |path| path,
        "<strong>Next:</strong>",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_page_says_how_a_sign_in_ended_badly_and_what_to_do() {
    for (case, change, edit, words) in BAD_ENDS {
        let world = World::new(Flow::AuthorizationCode);
        world.provider.set(change);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let public_url = Url::parse(&format!("http://{address}")).unwrap();
        let grants = vec![world.grant.clone()];
        let authorizer = Authorizer::new(world.process().await);
        let redirect = mailintake::authorize::redirect_uri(&public_url, "idp");
        let begun = authorizer.begin(&world.grant, &redirect).await.unwrap();
        let doors = Doors {
            authorizer,
            grants: Arc::new(move || grants.clone()),
            health: Arc::new(|| Ok(())),
            public_url: Some(public_url),
            metrics: None,
        };
        let stop = CancellationToken::new();
        let browser = async {
            let (status, page) = tokio::task::spawn_blocking(move || {
                let back = Url::parse(&Provider::sign_in(begun.url.as_str())).unwrap();
                let path = edit(format!("{}?{}", back.path(), back.query().unwrap()));
                fetch(&address, "GET", &path, &address)
            })
            .await
            .unwrap();
            assert!(status >= 400, "{case}: {status}");
            assert!(page.contains(words), "{case}: {page}");
            assert!(
                page.contains("<strong>Next:</strong>") && page.contains("<main class=\"bad\">"),
                "{case}: {page}"
            );
            assert!(!page.contains("<i>") && !page.contains("canary"), "{case}: {page}");
            stop.cancel();
        };
        let (served, ()) = tokio::join!(http::serve(listener, doors, stop.clone()), browser);
        served.unwrap();
    }
}

/// Runs the command with a person who signs in at the address that it prints and pastes what `edit` makes of
/// where the browser ends.
async fn converse(world: &World, way: Way, edit: Edit) -> (Result<(), command::CommandError>, String) {
    let authorizer = Authorizer::new(world.process().await);
    let (mut screen, out) = std::io::pipe().unwrap();
    let (input, mut keyboard) = tokio::io::duplex(64 * 1024);
    let person = tokio::task::spawn_blocking(move || {
        let mut seen = String::new();
        let mut byte = [0];
        while !seen.ends_with("\n\n") || !seen.contains("http://") {
            screen.read_exact(&mut byte).unwrap();
            seen.push(char::from(byte[0]));
        }
        let url = seen.lines().find(|line| line.starts_with("http")).unwrap().to_owned();
        let back = Provider::sign_in(&url);
        if let Way::Loopback(_) = way {
            let back = Url::parse(&back).unwrap();
            let address = format!("127.0.0.1:{}", back.port().unwrap());
            let path = format!("{}?{}", back.path(), back.query().unwrap());
            assert_eq!(fetch(&address, "GET", &path, &address).0, 200);
        }
        (back, screen)
    });
    let typing = async {
        let (back, screen) = person.await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut keyboard, edit(back).as_bytes())
            .await
            .unwrap();
        screen
    };
    let request = command::Request {
        authorizer: &authorizer,
        grant: &world.grant,
        public_url: None,
        way,
    };
    let mut input = tokio::io::BufReader::new(input);
    let running = async {
        let mut out = out;
        command::authorize(&request, &mut out, &mut input).await
    };
    let (outcome, mut screen) = tokio::join!(running, typing);
    let mut rest = String::new();
    screen.read_to_string(&mut rest).unwrap();
    (outcome, rest)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_takes_a_pasted_address_or_a_port() {
    for (way, edit) in [
        (Way::Paste, (|back| format!("{back}\n")) as Edit),
        (Way::Paste, |back| {
            format!("what?\n{}\n", back.split_once('?').unwrap().1)
        }),
        (Way::Loopback(0), |_| String::new()),
    ] {
        let world = World::new(Flow::AuthorizationCode);
        let (outcome, screen) = converse(&world, way, edit).await;
        outcome.unwrap();
        assert!(
            screen.ends_with("signed in at idp as Ann@example.org; granted: openid offline_access mail\n"),
            "{screen}"
        );
        assert_eq!(world.row().await.state, GrantState::Ok);
    }
    let world = World::new(Flow::AuthorizationCode);
    let (outcome, _) = converse(&world, Way::Paste, |_| "a\nb\nc\n".into()).await;
    assert_eq!(outcome.unwrap_err().exit_code(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_shows_a_code_and_waits_for_a_person_elsewhere() {
    let world = World::new(Flow::DeviceCode);
    let authorizer = Authorizer::new(world.process().await);
    let request = |way| command::Request {
        authorizer: &authorizer,
        grant: &world.grant,
        public_url: None,
        way,
    };
    let mut screen = Vec::new();
    let other = command::authorize(&request(Way::Paste), &mut screen, &mut tokio::io::empty()).await;
    assert!(other.unwrap_err().to_string().contains("--device"));
    world
        .provider
        .set(|behaviour| behaviour.user = Some("Ann@example.org".into()));
    world.provider.fault(Fault::page(503));
    command::authorize(&request(Way::Device), &mut screen, &mut tokio::io::empty())
        .await
        .unwrap();
    let screen = String::from_utf8(screen).unwrap();
    assert!(screen.contains("/enter\ncode: WDJB-MJHT\n"), "{screen}");
    assert!(
        screen.contains("the grant is for Ann@example.org; granted: mail"),
        "{screen}"
    );
    assert!(!screen.contains("canary"), "{screen}");
    world.clock.shift(3600);
    let broker = world.process().await;
    assert_eq!(broker.access_token(&world.grant).await.unwrap().generation, 2);
    world.provider.fault(Fault::error(400, "authorization_declined", ""));
    let declined = command::authorize(&request(Way::Device), &mut Vec::new(), &mut tokio::io::empty()).await;
    assert_eq!(declined.unwrap_err().exit_code(), 1);
}

#[test]
fn the_way_follows_from_what_is_there() {
    let url = Url::parse("https://intake.example.org").unwrap();
    for (flow, public_url, is_running, way) in [
        (Flow::AuthorizationCode, None, true, Way::Paste),
        (Flow::AuthorizationCode, Some(&url), false, Way::Paste),
        (Flow::AuthorizationCode, Some(&url), true, Way::Listener),
        (Flow::DeviceCode, Some(&url), true, Way::Device),
    ] {
        let world = World::new(flow);
        assert_eq!(command::default_way(&world.grant, public_url, is_running), way);
    }
}
