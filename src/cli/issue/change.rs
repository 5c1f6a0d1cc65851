//! `issue close|reopen|comment|merge|erase`: what changes an issue.
//! It decides nothing but whether the change makes sense.

use super::not_found;
use crate::cli::context::{Database, Failure, OK};
use crate::cli::print;
use crate::mail::Person;
use crate::store::issue::{self, NewComment, NewEvent, Standing};
use crate::store::{Write, erase as erasing, merge as merging};
use crate::thread::parse_key;

pub(super) async fn find(write: &mut Write, key: &str) -> Result<Standing, Failure> {
    let parsed = parse_key(key).ok_or_else(|| not_found(key))?;
    let found = issue::find(write.connection()?, parsed).await?;
    found.ok_or_else(|| not_found(key))
}

fn event(issue: &Standing, kind: &'static str) -> NewEvent<'static> {
    NewEvent {
        issue: issue.id,
        kind,
        message: None,
        detail: Some("by command"),
    }
}

/// Whether somebody may still work on an issue: one that was merged goes on elsewhere.
pub(super) fn unless_merged(issue: &Standing) -> Result<(), Failure> {
    match &issue.merged_into {
        Some(into) => Err(Failure::Failed(format!(
            "{} was merged into {into}; name that one instead",
            issue.key
        ))),
        None => Ok(()),
    }
}

/// Closes an issue; one that is closed stays as it is.
pub(super) async fn close(database: &Database, key: &str) -> Result<u8, Failure> {
    let store = database.store().await?;
    let mut write = store.write().await?;
    let found = find(&mut write, key).await?;
    if found.is_closed {
        return say(&format!("{} is closed already", found.key));
    }
    issue::close(write.connection()?, found.id).await?;
    issue::event(write.connection()?, &event(&found, "closed"), database.clock.now()).await?;
    write.commit().await?;
    say(&format!("{} is closed", found.key))
}

/// Opens an issue again; one that is open stays as it is.
pub(super) async fn reopen(database: &Database, key: &str) -> Result<u8, Failure> {
    let store = database.store().await?;
    let mut write = store.write().await?;
    let found = find(&mut write, key).await?;
    unless_merged(&found)?;
    if !found.is_closed {
        return say(&format!("{} is open already", found.key));
    }
    issue::reopen(write.connection()?, found.id).await?;
    issue::event(write.connection()?, &event(&found, "reopened"), database.clock.now()).await?;
    write.commit().await?;
    say(&format!("{} is open", found.key))
}

/// Adds a comment of whoever types the command; with `is_sent` it is mailed to the reporter.
pub(super) async fn comment(database: &Database, key: &str, text: &str, is_sent: bool) -> Result<u8, Failure> {
    let body = text.trim_end();
    if body.trim().is_empty() {
        return Err(Failure::Usage("the comment has no text; nothing was added".into()));
    }
    if is_sent {
        return super::send::comment(database, key, body).await;
    }
    let store = database.store().await?;
    let mut write = store.write().await?;
    let found = find(&mut write, key).await?;
    unless_merged(&found)?;
    let comment = new_comment(&found, body);
    let now = database.clock.now();
    let added = issue::comment(write.connection()?, &comment, now).await?;
    database.teller.commented(write.connection()?, added, now).await?;
    write.commit().await?;
    say(&format!("added to {}", found.key))
}

/// A comment of whoever types.
pub(super) fn new_comment<'c>(issue: &Standing, body: &'c str) -> NewComment<'c> {
    static AUTHOR: std::sync::LazyLock<Person> = std::sync::LazyLock::new(|| Person {
        name: Some(author()),
        address: None,
    });
    NewComment {
        issue: issue.id,
        author: &AUTHOR,
        trust: "local",
        body,
        elided: None,
        signature: None,
        people: &[],
        message_id: None,
    }
}

/// The name of whoever types, before sudo.
fn author() -> String {
    ["SUDO_USER", "LOGNAME", "USER"]
        .iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|name| !name.trim().is_empty())
        .unwrap_or_else(|| "local".to_owned())
}

/// Merges an issue into another one. Since neither may have been merged before, no circle can come about.
pub(super) async fn merge(database: &Database, key: &str, into: &str) -> Result<u8, Failure> {
    let store = database.store().await?;
    let mut write = store.write().await?;
    let one = find(&mut write, key).await?;
    let into = find(&mut write, into).await?;
    if one.id == into.id {
        return Err(Failure::Failed(format!("{} cannot be merged into itself", one.key)));
    }
    unless_merged(&one)?;
    unless_merged(&into)?;
    merging::merge(write.connection()?, &one, &into, database.clock.now()).await?;
    write.commit().await?;
    say(&format!(
        "{} is closed; its text, and replies to it, are in {}",
        one.key, into.key
    ))
}

/// Erases what an issue holds.
pub(super) async fn erase(database: &Database, key: &str) -> Result<u8, Failure> {
    let store = database.store().await?;
    let mut write = store.write().await?;
    let found = find(&mut write, key).await?;
    drop(write);
    let erased = erasing::erase(&store, found.id, database.clock.now()).await?;
    print::aside("the mail on the server and copies of the database, such as those of the last seven nights, stay");
    say(&format!("erased {}", erased.join(", ")))
}

fn say(text: &str) -> Result<u8, Failure> {
    print::line(text)?;
    Ok(OK)
}
