//! What only the database can say of mails before they are judged: whether they are ours, or answer ours, and which of
//! the marks in them are genuine. It never writes.

use std::collections::HashSet;

use sqlx::SqliteConnection;

use super::prepare::{Prepared, Readable};
use crate::compose::sign::{Keys, ORIGIN_FIELD, Token};
use crate::mail::classify;
use crate::mail::parse::carrier_key;
use crate::project::Rules;
use crate::store::{StoreError, sent, signing_key};
use crate::thread::Carrier;

/// Takes forged marks out, and classifies anew what has to do with a mail of ours.
///
/// # Errors
/// What the database says.
pub(crate) async fn recognize(
    connection: &mut SqliteConnection,
    messages: &mut [Prepared],
    rules: &Rules,
) -> Result<(), StoreError> {
    let keys = signing_key::known(&mut *connection).await?;
    let mut ids = HashSet::new();
    for message in messages.iter() {
        if let Ok(readable) = &message.content {
            ids.extend(readable.message_key.clone());
            ids.extend(answered(readable));
        }
    }
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let ours = sent::ours(connection, &ids).await?;
    for message in messages {
        if let Ok(readable) = &mut message.content {
            recognize_one(readable, (&keys, &ours), rules);
        }
    }
    Ok(())
}

fn recognize_one(readable: &mut Readable, (keys, ours): (&Keys, &HashSet<String>), rules: &Rules) {
    readable.carriers.retain(|carrier| match carrier {
        Carrier::Signed(token) => keys.verify(token),
        Carrier::Report(_) | Carrier::InReplyTo(_) | Carrier::Reference(_) | Carrier::SubjectKey { .. } => true,
    });
    let is_genuine = |token: Option<Token>| token.is_some_and(|token| keys.verify(&token));
    let facts = classify::Facts {
        own: &rules.own,
        answers_ours: answered(readable).any(|id| ours.contains(&id) || is_genuine(Token::of_id(&id))),
        is_ours: readable.message_key.as_ref().is_some_and(|id| ours.contains(id))
            || is_genuine(readable.mail.header(ORIGIN_FIELD).and_then(Token::of_field)),
    };
    if facts.answers_ours || facts.is_ours {
        readable.classification = classify::classify(&readable.mail, &facts);
    }
}

/// The ids that a message answers, normalized.
fn answered(readable: &Readable) -> impl Iterator<Item = String> + '_ {
    let mail = &readable.mail;
    mail.in_reply_to
        .iter()
        .chain(&mail.references)
        .map(|id| carrier_key(id))
}
