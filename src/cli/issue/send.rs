//! `issue comment --send`: a comment, and its mail to the reporter, queued in one transaction.
//! It sends nothing: the daemon does.

use super::change::{find, new_comment, unless_merged};
use crate::cli::context::{Database, Failure, OK};
use crate::cli::print;
use crate::compose::reply::{self, Quoted, Reply};
use crate::compose::{Address, Answered, Composed, Sender};
use crate::config::Config;
use crate::mail::parse;
use crate::outgoing::{Channel, OutgoingKind};
use crate::store::correspondence::{self, Correspondence};
use crate::store::issue::{self, Standing};
use crate::store::outgoing::{self, NewOutgoing};
use crate::store::{Write, lock, sent, signing_key};
use crate::time::Timestamp;

/// Bytes of an original that are looked at for its header.
const HEADER_LIMIT: usize = 128 << 10;

/// Adds a comment and queues its mail. Nothing is written where it cannot be sent.
pub(super) async fn comment(database: &Database, key: &str, body: &str) -> Result<u8, Failure> {
    let config = database.config.as_ref().ok_or_else(|| {
        Failure::Failed("nothing was added: the configuration, which says by which server mail goes, is refused".into())
    })?;
    let store = database.store().await?;
    let mut write = store.write().await?;
    let found = find(&mut write, key).await?;
    unless_merged(&found)?;
    let correspondence = correspondence::find(write.connection()?, found.id).await?;
    let correspondence = correspondence.ok_or_else(|| super::not_found(key))?;
    let way = Way::of(config, &correspondence, &found.key)?;
    let now = database.clock.now();
    let added = issue::comment(write.connection()?, &new_comment(&found, body), now).await?;
    database.teller.commented(write.connection()?, added, now).await?;
    queue(&mut write, (&found, added, body), (&way, &correspondence), now).await?;
    write.commit().await?;
    let (to, server) = (way.to.as_str(), way.server);
    print::line(&format!("added to {}, and queued for {to} by {server}", found.key))?;
    if !lock::is_daemon_running(database.state_dir()) {
        print::aside("the daemon does not run: the mail goes out once it does (`systemctl start mailintake`)");
    }
    Ok(OK)
}

/// From whom, to whom and by which server.
struct Way<'w> {
    from: Sender,
    to: Address,
    server: &'w str,
}

impl<'w> Way<'w> {
    fn of(config: &'w Config, correspondence: &Correspondence, key: &str) -> Result<Self, Failure> {
        let failed = |why: String| Failure::Failed(format!("nothing was added: {why}"));
        let reporter = correspondence.reporter.address.as_deref();
        let reporter =
            reporter.ok_or_else(|| failed(format!("{key} has no reporter with an address, or was erased")))?;
        let to = Address::parse(reporter)
            .ok_or_else(|| failed(format!("the reporter's address {reporter:?} cannot be mailed to")))?;
        let project = config.project(&correspondence.project).ok_or_else(|| {
            let name = &correspondence.project;
            failed(format!("there is no project {name} in the configuration any more"))
        })?;
        let server = config
            .smtp_of(project)
            .ok_or_else(|| failed("no server sends mail; add an [[smtp]] section".into()))?;
        let from = project.from.as_deref().or(correspondence.mailbox.as_deref());
        let from = from.and_then(Sender::parse).ok_or_else(|| {
            let key = &project.key;
            failed(format!("there is no sender; add from = \"…\" to project {key}"))
        })?;
        Ok(Self {
            from,
            to,
            server: &server.name,
        })
    }
}

async fn queue(
    write: &mut Write,
    (issue, comment, body): (&Standing, i64, &str),
    (way, correspondence): (&Way<'_>, &Correspondence),
    now: Timestamp,
) -> Result<(), Failure> {
    let connection = write.connection()?;
    let keys = signing_key::signing(connection, now).await?;
    let composed = compose(way, correspondence, body, (&keys, now));
    let composed = composed.ok_or_else(|| Failure::Failed("nothing was added: there is no key to sign with".into()))?;
    let new = NewOutgoing {
        channel: Channel::Mail,
        kind: OutgoingKind::Reply,
        target: way.server,
        lane: &issue.key,
        once: &format!("reply:{comment}"),
        issue: Some(issue.id),
        payload: &serde_json::json!(composed.payload).to_string(),
    };
    let Some(outgoing) = outgoing::queue(connection, &new, now).await? else {
        return Ok(());
    };
    let sent = sent::NewSent {
        message_id: &composed.message_id,
        outgoing,
        issue: issue.id,
        recipient: way.to.as_str(),
        mailbox: None,
    };
    sent::record(connection, &sent, now).await?;
    Ok(())
}

fn compose(
    way: &Way<'_>,
    correspondence: &Correspondence,
    body: &str,
    (keys, now): (&crate::compose::sign::Keys, Timestamp),
) -> Option<Composed> {
    let token = keys.sign((&correspondence.project, correspondence.number), rand::random())?;
    let last = correspondence.last.as_ref();
    let references = last.and_then(|last| last.original.as_deref()).map(references);
    let reporter = &correspondence.reporter;
    let author = reporter.name.as_deref().filter(|name| !name.trim().is_empty());
    let reply = Reply {
        from: &way.from,
        to: &way.to,
        summary: &correspondence.summary,
        text: body,
        answered: Answered {
            message_id: last.and_then(|last| last.message_id.as_deref()),
            references: references.as_deref().unwrap_or_default(),
        },
        quoted: last.map(|last| Quoted {
            author: author.unwrap_or(way.to.as_str()),
            at: last.at,
            text: &last.text,
        }),
    };
    Some(reply::compose(&reply, &token, now))
}

/// The References of a mail.
fn references(original: &[u8]) -> Vec<String> {
    let header = original.get(..HEADER_LIMIT).unwrap_or(original);
    parse::parse(header).map(|mail| mail.references).unwrap_or_default()
}
