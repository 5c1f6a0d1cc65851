//! `test`: "test connection", one line a step.

use serde_json::{Value, json};

use super::context::{Context, Failure, NO, OK};
use super::print;
use crate::config::Named;
use crate::doctor::{Checked, Doctor};
use crate::imap::Connector;
use crate::mailbox::SignIn;
use crate::store::StoreError;

/// Tests the named mailboxes and integrations, or all.
///
/// # Errors
/// Any [`Failure`].
pub async fn run(context: &Context, names: &[String], json: bool) -> Result<u8, Failure> {
    let subjects = subjects(context, names)?;
    let doctor = doctor(context, &subjects).await?;
    let mut all = Vec::new();
    let mut is_sound = true;
    for subject in subjects {
        let (name, steps) = match subject {
            Named::Mailbox(mailbox) => (format!("mailbox/{}", mailbox.name), doctor.mailbox(mailbox).await),
            Named::Integration(integration) => (
                format!("integration/{}", integration.name),
                doctor.integration(integration).await,
            ),
            Named::Smtp(smtp) => {
                return Err(Failure::Usage(format!(
                    "this version does not send mail by {}",
                    smtp.name
                )));
            }
        };
        is_sound &= steps.iter().all(|step| step.found.is_ok());
        if json {
            all.push(value(&name, &steps));
        } else {
            print::line(&text(&name, &steps))?;
        }
    }
    if json {
        print::json(&all)?;
    }
    Ok(if is_sound { OK } else { NO })
}

fn subjects<'c>(context: &'c Context, names: &[String]) -> Result<Vec<Named<'c>>, Failure> {
    if names.is_empty() {
        let integrations = context.config.integrations.iter().map(Named::Integration);
        return Ok(integrations
            .chain(context.config.mailboxes.iter().map(Named::Mailbox))
            .collect());
    }
    let find = |name: &String| {
        context
            .config
            .named(name)
            .map_err(|error| Failure::Usage(error.to_string()))
    };
    names.iter().map(find).collect()
}

/// Tokens need the database; passwords do not, and without one it is not made.
async fn doctor(context: &Context, subjects: &[Named<'_>]) -> Result<Doctor, Failure> {
    let needs_tokens = subjects.iter().any(|subject| match subject {
        Named::Mailbox(mailbox) => matches!(mailbox.sign_in, SignIn::Token(_)),
        Named::Integration(_) => true,
        Named::Smtp(_) => false,
    });
    let store = match context.store().await {
        Ok(store) => Some(store),
        Err(Failure::Store(StoreError::Missing { .. })) if needs_tokens => Some(context.make_store().await?),
        Err(Failure::Store(StoreError::Missing { .. })) => None,
        Err(other) => return Err(other),
    };
    let tokens = match store {
        Some(store) => Some((context.broker(&store).await?, store)),
        None => None,
    };
    Ok(Doctor {
        connector: Connector::new(context.config.trust.clone()),
        pop3: crate::pop3::Connector::new(context.config.trust.clone()),
        tokens,
    })
}

fn text(name: &str, steps: &[Checked]) -> String {
    let one = |checked: &Checked| match &checked.found {
        Ok(text) => format!("  ok      {:<10} {text}", checked.step),
        Err(problem) => format!(
            "  FAILED  {:<10} {} [{}]\n          {}",
            checked.step, problem.summary, problem.code, problem.remedy
        ),
    };
    let lines: Vec<String> = steps.iter().map(one).collect();
    format!("{name}\n{}", lines.join("\n"))
}

fn value(name: &str, steps: &[Checked]) -> Value {
    let one = |checked: &Checked| match &checked.found {
        Ok(text) => json!({ "step": checked.step, "ok": true, "text": text }),
        Err(problem) => json!({
            "step": checked.step, "ok": false,
            "code": problem.code, "summary": problem.summary, "remedy": problem.remedy,
        }),
    };
    json!({ "name": name, "steps": steps.iter().map(one).collect::<Vec<_>>() })
}
