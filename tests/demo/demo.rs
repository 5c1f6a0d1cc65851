//! The whole path in one terminal, with the real program and embedded peers: `tests/try` builds and plays it.
//! It fails where a step does not happen in time, so that it is a test; it leaves nothing behind.

mod browser;
mod daemon;
mod interrupt;
mod narrator;
mod peer;
mod stage;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use daemon::{Daemon, Mark};
use narrator::Narrator;
use peer::provider::Fault;
use serde_json::Value;
use stage::{ADDRESS, Stage, is_interrupted};

/// Longest wait for what comes within seconds, on a machine that has more to do.
const SOON: Duration = Duration::from_secs(20);
/// Life of the first access token, in seconds: short, so that its renewal can be watched.
const SHORT_LIFE: u64 = 20;
/// Life of the later ones, in seconds, as at most providers.
const USUAL_LIFE: u64 = 3600;
/// Longest wait for the renewal: it comes before the token's end.
const RENEWAL: Duration = Duration::from_secs(SHORT_LIFE);
/// What a shell reports for a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

const MAIL: &str = "\
From: Ann Miller <ann@customer.example>
To: support@example.org
Subject: The printer is out of paper
Message-ID: <one@customer.example>
Date: Mon, 02 Nov 2026 10:00:00 +0000

Hello,

the printer on the second floor wants paper.

Ann
";

const REPLY: &str = "\
From: Ann Miller <ann@customer.example>
To: support@example.org
Subject: Re: The printer is out of paper
Message-ID: <two@customer.example>
In-Reply-To: <one@customer.example>
References: <one@customer.example>
Date: Mon, 02 Nov 2026 10:05:00 +0000

It wants toner, too.

On Mon, 2 Nov 2026 at 10:00, Ann Miller <ann@customer.example> wrote:
> Hello,
>
> the printer on the second floor wants paper.
";

const WAITING: &str = "\
From: Bob Stone <bob@customer.example>
To: support@example.org
Subject: The door does not close
Message-ID: <three@customer.example>
Date: Mon, 02 Nov 2026 11:00:00 +0000

The front door stands open.
";

fn main() -> ExitCode {
    let begun = Instant::now();
    match interrupt::watch().map_err(Into::into).and_then(|()| show(begun)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_interrupted(&error) => ExitCode::from(INTERRUPTED),
        Err(error) => {
            // Where standard error is gone the exit code tells.
            drop(writeln!(std::io::stderr(), "\nthe show failed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn show(begun: Instant) -> Result<()> {
    let stage = Stage::new()?;
    let narrator = &stage.narrator;
    narrator.title("mailintake from the first sign-in to the last mail");
    narrator.say("The mail server and the OAuth 2.0 provider are part of this show and live on loopback. The program is the real one.");
    configure(&stage)?;
    let mut daemon = start(&stage)?;
    sign_in(&stage, &mut daemon)?;
    issue(&stage, &mut daemon)?;
    comment(&stage, &mut daemon)?;
    renewal(&stage, &mut daemon)?;
    revocation(&stage, &mut daemon)?;
    mending(&stage, &mut daemon)?;
    stop(&stage, daemon)?;
    let home = stage.home().to_owned();
    let narrator = std::sync::Arc::clone(narrator);
    drop(stage);
    ensure!(!home.exists(), "{} is still there", home.display());
    narrator.good(&format!(
        "{} is gone. The show took {} s.",
        home.display(),
        begun.elapsed().as_secs()
    ));
    Ok(())
}

fn configure(stage: &Stage) -> Result<()> {
    stage.narrator.step(1, "One file tells everything");
    stage.narrator.say(&format!("{}/config.toml:", stage.home().display()));
    stage.narrator.quote(&stage.configure()?);
    stage
        .narrator
        .say("It is checked without the network; of the answer, what the provider must know:");
    let printed = stage.run(&["check"], |narrator, text| {
        let lines = text.lines().enumerate();
        let shown = lines.filter(|(number, line)| *number == 0 || line.contains("redirect"));
        let shown: Vec<&str> = shown.map(|(_, line)| line).collect();
        narrator.output(&shown.join(
            "
",
        ));
    })?;
    ensure!(
        printed.contains("/oauth/callback/idp"),
        "`check` does not say the redirect URI"
    );
    Ok(())
}

fn start(stage: &Stage) -> Result<Daemon> {
    let narrator = &stage.narrator;
    narrator.step(2, "Nobody has signed in yet: an alert says so");
    narrator.say("The daemon starts. Its log is shown here after a bar; under systemd it goes to the journal.");
    narrator.command(&["run"]);
    let mut daemon = Daemon::start(stage.command(&["run"]), narrator)?;
    let alert = ["event=alert.raised", "alert=reauthorization-required"];
    daemon.line(Mark::BEGINNING, &alert, SOON)?;
    Ok(daemon)
}

fn sign_in(stage: &Stage, daemon: &mut Daemon) -> Result<()> {
    stage.narrator.step(3, "A person signs in, once");
    stage.provider.set(|behaviour| behaviour.access_ttl = SHORT_LIFE);
    let mark = daemon.mark();
    authorize(stage)?;
    // From now on tokens live as long as usual; the first one does not.
    stage.provider.set(|behaviour| behaviour.access_ttl = USUAL_LIFE);
    daemon.line(mark, &["event=alert.resolved", "alert=reauthorization-required"], SOON)?;
    stage.until(&["status"], SOON, |status| {
        at(status, "/mailboxes/0/state") == "watching"
    })?;
    stage.narrator.good("The mailbox is watched.");
    Ok(())
}

/// Signs in as a person does: by the address that the command prints, in a browser.
fn authorize(stage: &Stage) -> Result<()> {
    let narrator = &stage.narrator;
    let command = stage.start(&["authorize", "support", "--listener"])?;
    let address = command.word("http://")?;
    narrator.output(&address);
    let page = browser::open(&address)?;
    narrator.say(&format!("The browser goes {}, and shows:", page.way.join(" > ")));
    narrator.quote(&page.text);
    ensure!(page.status == 200, "the page has status {}", page.status);
    let printed = command.end()?;
    let sentence = printed
        .lines()
        .find(|line| line.starts_with("signed in"))
        .unwrap_or_default();
    ensure!(
        sentence.contains(ADDRESS),
        "`authorize` does not say who signed in: {printed}"
    );
    narrator.say("The command ends with a test of what was signed in for:");
    narrator.output(sentence);
    let steps = printed.lines().filter(|line| line.starts_with("  "));
    for step in steps.filter(|step| ["FAILED", "sign-in", "folder"].iter().any(|word| step.contains(word))) {
        narrator.output(step);
    }
    Ok(())
}

fn issue(stage: &Stage, daemon: &mut Daemon) -> Result<()> {
    stage.narrator.step(4, "A mail becomes an issue");
    deliver(stage, daemon, MAIL, &["event=issue.created", "issue=SUP-1"])?;
    let printed = stage.run(&["issue", "show", "SUP-1"], Narrator::output)?;
    ensure!(printed.contains("second floor"), "the issue lacks the mail's text");
    Ok(())
}

fn comment(stage: &Stage, daemon: &mut Daemon) -> Result<()> {
    stage
        .narrator
        .step(5, "A reply becomes a comment; what it quotes is kept apart");
    deliver(stage, daemon, REPLY, &["event=comment.added", "issue=SUP-1"])?;
    stage.run(&["issue", "show", "SUP-1"], Narrator::output)?;
    let issue = stage.json(&["issue", "show", "SUP-1"])?;
    let (body, elided) = (at(&issue, "/comments/0/body"), at(&issue, "/comments/0/elided"));
    ensure!(body.trim() == "It wants toner, too.", "the comment says {body:?}");
    ensure!(elided.contains("> Hello,"), "what is quoted was lost: {elided:?}");
    Ok(())
}

/// A text in JSON, by its pointer (RFC 6901); empty where there is none.
fn at<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Delivers a mail, shows it and waits for what becomes of it.
fn deliver(stage: &Stage, daemon: &mut Daemon, mail: &str, becomes: &[&str]) -> Result<()> {
    stage.narrator.quote(mail);
    let mark = daemon.mark();
    let delivered = Instant::now();
    stage.mail.deliver(ADDRESS, "INBOX", mail);
    daemon.line(mark, becomes, SOON)?;
    let milliseconds = delivered.elapsed().as_millis();
    stage.narrator.good(&format!("{milliseconds} ms after its delivery."));
    Ok(())
}

fn renewal(stage: &Stage, daemon: &mut Daemon) -> Result<()> {
    stage.narrator.step(6, "The token is renewed before it ends");
    stage.narrator.say(&format!(
        "This provider's first access token lives {SHORT_LIFE} s, so that one can watch; an hour is usual. Nobody does anything."
    ));
    daemon.line(Mark::BEGINNING, &["event=token.refreshed"], RENEWAL)?;
    let status = stage.json(&["status"])?;
    let grant = at(&status, "/grants/0/state");
    ensure!(grant == "ok", "the grant is {grant}");
    let cuts = daemon.count(Mark::BEGINNING, &["event=mailbox.disconnected"]);
    ensure!(cuts == 0, "the mailbox was left {cuts} times");
    stage.narrator.good("Renewed; the mailbox was watched all the time.");
    Ok(())
}

fn revocation(stage: &Stage, daemon: &mut Daemon) -> Result<()> {
    let narrator = &stage.narrator;
    narrator.step(
        7,
        "The provider ends the grant: one alert, with the command that mends it",
    );
    narrator.say("An administrator revokes the grant, the mail server hangs up, and a mail comes:");
    narrator.quote(WAITING);
    let mark = daemon.mark();
    stage.provider.revoke_all();
    let refusal = Fault::error(400, "invalid_grant", "the administrator ended this grant");
    stage.provider.set(|behaviour| behaviour.outage = Some(refusal));
    stage.mail.hang_up();
    stage.mail.deliver(ADDRESS, "INBOX", WAITING);
    let alert = ["event=alert.raised", "alert=reauthorization-required"];
    daemon.line(mark, &alert, SOON)?;
    let parked = |status: &Value| at(status, "/mailboxes/0/state") == "needs-authorization";
    stage.until(&["status"], SOON, parked)?;
    let printed = stage.run(&["alert", "list"], Narrator::output)?;
    ensure!(
        printed.contains("mailintake authorize support"),
        "the alert lacks its remedy"
    );
    stage.run(&["status"], |narrator, text| {
        // Below its tables it repeats the alerts.
        narrator.table(text.split("\n\n").take(3).collect::<Vec<_>>().join("\n\n").as_str());
    })?;
    let count = daemon.count(mark, &alert);
    ensure!(count == 1, "the alert was raised {count} times");
    narrator.good("Raised once. Nothing else asks for attention.");
    Ok(())
}

fn mending(stage: &Stage, daemon: &mut Daemon) -> Result<()> {
    stage
        .narrator
        .step(8, "The person signs in again; the alert ends and nothing is lost");
    let mark = daemon.mark();
    stage.provider.set(|behaviour| behaviour.outage = None);
    authorize(stage)?;
    daemon.line(mark, &["event=issue.created", "issue=SUP-2"], SOON)?;
    daemon.line(mark, &["event=alert.resolved", "alert=reauthorization-required"], SOON)?;
    stage.narrator.good("The mail that waited is an issue.");
    stage.run(&["issue", "list"], Narrator::table)?;
    let issues = stage.json(&["issue", "list"])?;
    let count = issues.as_array().map_or(0, Vec::len);
    ensure!(count == 2, "there are {count} issues");
    let alerts = stage.json(&["alert", "list"])?;
    ensure!(
        alerts.as_array().is_some_and(Vec::is_empty),
        "there are alerts: {alerts}"
    );
    Ok(())
}

fn stop(stage: &Stage, mut daemon: Daemon) -> Result<()> {
    let narrator = &stage.narrator;
    narrator.step(9, "The end");
    narrator.say("The daemon gets SIGTERM, as by `systemctl stop mailintake`.");
    let asked = Instant::now();
    let status = daemon.stop()?;
    let code = status.code().context("the daemon was killed")?;
    narrator.good(&format!(
        "It ended after {:.2} s with exit code {code}.",
        asked.elapsed().as_secs_f64()
    ));
    ensure!(code == 0, "its exit code is {code}");
    Ok(())
}
