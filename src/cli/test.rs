//! `test`: "test connection", one line a step; and the same at the end of `authorize`.

use std::sync::Arc;

use serde_json::{Value, json};

use super::context::{Context, Failure, NO, OK};
use super::print;
use crate::broker::Broker;
use crate::config::Named;
use crate::doctor::{Checked, Doctor, Service};
use crate::grant::{GrantRef, Integration};
use crate::mailbox::{Mailbox, SignIn};
use crate::outgoing::SmtpSignIn;
use crate::store::{Store, StoreError};

/// Tests what is named, or all.
///
/// # Errors
/// Any [`Failure`].
pub async fn run(context: &Context, names: &[String], json: bool) -> Result<u8, Failure> {
    let subjects = subjects(context, names)?;
    let tokens = tokens(context, &subjects).await?;
    let doctor = Doctor::new(context.config.trust.clone(), context.clock.clone(), tokens);
    let is_sound = report(context, &doctor, &subjects, json).await?;
    Ok(if is_sound { OK } else { NO })
}

/// Tests what signs in with a grant, after a person has signed in. `false`: something failed.
///
/// # Errors
/// [`Failure::Output`].
pub async fn users_of(context: &Context, grant: &GrantRef, tokens: (Arc<Broker>, Store)) -> Result<bool, Failure> {
    let is_user = |named: &Named<'_>| grant_of(named).is_some_and(|own| own == grant);
    let subjects: Vec<Named<'_>> = all(context).filter(is_user).collect();
    let doctor = Doctor::new(context.config.trust.clone(), context.clock.clone(), Some(tokens));
    report(context, &doctor, &subjects, false).await
}

async fn report(context: &Context, doctor: &Doctor, subjects: &[Named<'_>], is_json: bool) -> Result<bool, Failure> {
    let mut told = Vec::new();
    let mut is_sound = true;
    for subject in subjects {
        let (name, steps) = match subject {
            Named::Mailbox(mailbox) => (format!("mailbox/{}", mailbox.name), doctor.mailbox(mailbox).await),
            Named::Integration(integration) => (
                format!("integration/{}", integration.name),
                doctor.integration(integration, &grants(context, integration)).await,
            ),
            Named::Smtp(smtp) => (format!("smtp/{}", smtp.name), doctor.smtp(smtp).await),
        };
        is_sound &= steps.iter().all(|step| step.found.is_ok());
        if is_json {
            told.push(value(&name, &steps));
        } else {
            print::line(&text(&name, &steps))?;
        }
    }
    if is_json {
        print::json(&told)?;
    }
    Ok(is_sound)
}

fn subjects<'c>(context: &'c Context, names: &[String]) -> Result<Vec<Named<'c>>, Failure> {
    if names.is_empty() {
        return Ok(all(context).collect());
    }
    let find = |name: &String| {
        context
            .config
            .named(name)
            .map_err(|error| Failure::Usage(error.to_string()))
    };
    names.iter().map(find).collect()
}

/// All that can be tested.
fn all(context: &Context) -> impl Iterator<Item = Named<'_>> {
    let config = &context.config;
    let integrations = config.integrations.iter().map(Named::Integration);
    integrations
        .chain(config.mailboxes.iter().map(Named::Mailbox))
        .chain(config.smtp.iter().map(Named::Smtp))
}

fn grant_of<'c>(named: &Named<'c>) -> Option<&'c GrantRef> {
    match *named {
        Named::Mailbox(mailbox) => mailbox_grant(mailbox),
        Named::Smtp(smtp) => match &smtp.sign_in {
            SmtpSignIn::Token { grant, .. } => Some(grant),
            SmtpSignIn::Password { .. } | SmtpSignIn::Anonymous => None,
        },
        Named::Integration(_) => None,
    }
}

fn mailbox_grant(mailbox: &Mailbox) -> Option<&GrantRef> {
    match &mailbox.sign_in {
        SignIn::Token(grant) => Some(grant),
        SignIn::Password(_) => None,
    }
}

/// The grants of an integration, each once for each use.
fn grants(context: &Context, integration: &Integration) -> Vec<(GrantRef, Service)> {
    let mut grants: Vec<(GrantRef, Service)> = Vec::new();
    for named in all(context) {
        let service = match named {
            Named::Mailbox(mailbox) => Service::of(mailbox.server.protocol),
            Named::Smtp(_) => Service::Smtp,
            Named::Integration(_) => continue,
        };
        if let Some(grant) = grant_of(&named).filter(|grant| grant.integration.name == integration.name) {
            let known = grants
                .iter()
                .any(|(other, wanted)| other == grant && *wanted == service);
            if !known {
                grants.push((grant.clone(), service));
            }
        }
    }
    grants
}

/// Tokens need the database; passwords do not, and without one it is not made.
async fn tokens(context: &Context, subjects: &[Named<'_>]) -> Result<Option<(Arc<Broker>, Store)>, Failure> {
    let needs_tokens = subjects.iter().any(|subject| match subject {
        Named::Integration(_) => true,
        Named::Mailbox(_) | Named::Smtp(_) => grant_of(subject).is_some(),
    });
    let store = match context.store().await {
        Ok(store) => store,
        Err(Failure::Store(StoreError::Missing { .. })) if needs_tokens => context.make_store().await?,
        Err(Failure::Store(StoreError::Missing { .. })) => return Ok(None),
        Err(other) => return Err(other),
    };
    Ok(Some((Arc::new(context.broker(&store).await?), store)))
}

/// One line a step; the remedy and what is to be read beside it are below.
fn text(name: &str, steps: &[Checked]) -> String {
    let one = |checked: &Checked| {
        let mut lines = match &checked.found {
            Ok(text) => vec![format!("  ok      {:<10} {text}", checked.step)],
            Err(problem) => vec![
                format!("  FAILED  {:<10} {} [{}]", checked.step, problem.summary, problem.code),
                format!("          {}", problem.remedy),
            ],
        };
        lines.extend(checked.notes.iter().map(|note| format!("          {note}")));
        lines.join("\n")
    };
    let lines: Vec<String> = steps.iter().map(one).collect();
    format!("{name}\n{}", lines.join("\n"))
}

fn value(name: &str, steps: &[Checked]) -> Value {
    let one = |checked: &Checked| match &checked.found {
        Ok(text) => json!({ "step": checked.step, "ok": true, "text": text, "notes": checked.notes }),
        Err(problem) => json!({
            "step": checked.step, "ok": false,
            "code": problem.code, "summary": problem.summary, "remedy": problem.remedy, "notes": checked.notes,
        }),
    };
    json!({ "name": name, "steps": steps.iter().map(one).collect::<Vec<_>>() })
}
