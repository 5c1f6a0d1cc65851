//! `authorize` and `revoke`: which grant is meant, and how the answer comes back.

use std::sync::Arc;

use clap::Args;

use super::authorize::{self, Request, Way, default_way};
use super::context::{Context, Failure, OK};
use super::{print, test};
use crate::authorize::Authorizer;
use crate::config::Named;
use crate::daemon;
use crate::grant::GrantRef;
use crate::mailbox::SignIn;
use crate::outgoing::SmtpSignIn;
use crate::store::lock;

/// The arguments of `authorize`.
#[derive(Debug, Args)]
pub struct Authorize {
    /// The mailbox, integration or smtp server
    name: String,
    /// The browser comes back to the running daemon
    #[arg(long, group = "way")]
    listener: bool,
    /// The browser comes back to this port of this machine, as by `ssh -L`
    #[arg(long, value_name = "PORT", group = "way")]
    loopback: Option<u16>,
    /// Paste the address that the browser ends at
    #[arg(long, group = "way")]
    paste: bool,
    /// Enter a code in a browser anywhere
    #[arg(long, group = "way")]
    device: bool,
}

/// The arguments of `revoke`.
#[derive(Debug, Args)]
pub struct Revoke {
    /// The mailbox, integration or smtp server
    name: String,
    /// At the provider, too
    #[arg(long)]
    upstream: bool,
}

/// Signs in.
///
/// # Errors
/// Any [`Failure`].
pub async fn authorize(context: &Context, arguments: &Authorize) -> Result<u8, Failure> {
    let grant = grant(context, &arguments.name)?;
    let store = context.make_store().await?;
    let broker = context.broker(&store).await?;
    let authorizer = Authorizer::new(Arc::new(broker));
    let public_url = context.public_url();
    let listener = listener(context).await;
    let asked = match arguments {
        Authorize { listener: true, .. } => Some(Way::Listener),
        Authorize {
            loopback: Some(port), ..
        } => Some(Way::Loopback(*port)),
        Authorize { paste: true, .. } => Some(Way::Paste),
        Authorize { device: true, .. } => Some(Way::Device),
        Authorize { .. } => None,
    };
    let way = asked.unwrap_or_else(|| default_way(&grant, public_url.as_ref(), listener.is_ok()));
    if let (Way::Listener, Err(error)) = (way, listener) {
        return Ok(failed(&error));
    }
    let request = Request {
        authorizer: &authorizer,
        grant: &grant,
        public_url: public_url.as_ref(),
        way,
    };
    let mut input = tokio::io::BufReader::new(tokio::io::stdin());
    if let Err(error) = authorize::authorize(&request, &mut std::io::stdout(), &mut input).await {
        return Ok(failed(&error));
    }
    let tokens = (Arc::clone(authorizer.broker()), store);
    if !test::users_of(context, &grant, tokens).await? {
        print::complaint("the grant is stored; what FAILED above keeps it from being of use");
    }
    Ok(OK)
}

/// Whether the daemon can take the browser's answer.
async fn listener(context: &Context) -> Result<(), authorize::CommandError> {
    let daemon = &context.config.daemon;
    if daemon.public_url.is_none() {
        return Err(authorize::CommandError::NoListener);
    }
    authorize::check_listener(daemon.listen, lock::is_daemon_running(&daemon.state_dir)).await
}

/// Forgets a grant.
///
/// # Errors
/// Any [`Failure`].
pub async fn revoke(context: &Context, arguments: &Revoke) -> Result<u8, Failure> {
    let grant = grant(context, &arguments.name)?;
    let store = context.store().await?;
    // Upstream the token itself is needed; to forget it here is the remedy for a lost key.
    let broker = if arguments.upstream {
        context.broker(&store).await?
    } else {
        daemon::open_broker_unchecked(&context.config, &store, &context.clock)
            .map_err(|error| Failure::Unusable(crate::fault::chain(&error)))?
    };
    let authorizer = Authorizer::new(Arc::new(broker));
    let done = authorize::revoke(&authorizer, &grant, arguments.upstream, &mut std::io::stdout()).await;
    Ok(done.map_or_else(|error| failed(&error), |()| OK))
}

/// A failure has its own exit code; its causes are told.
fn failed(error: &authorize::CommandError) -> u8 {
    print::complaint(&crate::fault::chain(error));
    error.exit_code()
}

/// The grant that a name means: of a mailbox or smtp server, or of an integration that has only one.
fn grant(context: &Context, name: &str) -> Result<GrantRef, Failure> {
    let named = context
        .config
        .named(name)
        .map_err(|error| Failure::Usage(error.to_string()))?;
    match named {
        Named::Mailbox(mailbox) => match &mailbox.sign_in {
            SignIn::Token(grant) => Ok(grant.clone()),
            SignIn::Password(_) => Err(Failure::Usage(format!(
                "the mailbox {} signs in by password; only a mailbox with an integration needs a grant",
                mailbox.name
            ))),
        },
        Named::Integration(integration) => {
            let mut grants = context.grants();
            grants.retain(|(grant, _)| grant.integration.name == integration.name);
            match grants.as_slice() {
                [(grant, _)] => Ok(grant.clone()),
                [] => Err(Failure::Usage(format!(
                    "no mailbox or smtp server uses the integration {name}"
                ))),
                several => {
                    let mailboxes: Vec<&str> = several.iter().map(|(_, mailbox)| mailbox.as_str()).collect();
                    Err(Failure::Usage(format!(
                        "several logins use the integration {name}; name one of {}",
                        mailboxes.join(", ")
                    )))
                }
            }
        }
        Named::Smtp(smtp) => match &smtp.sign_in {
            SmtpSignIn::Token { grant, .. } => Ok(grant.clone()),
            SmtpSignIn::Password { .. } => Err(Failure::Usage(format!(
                "the smtp server {} signs in by password; only one with an integration needs a grant",
                smtp.name
            ))),
            SmtpSignIn::Anonymous => Err(Failure::Usage(format!(
                "the smtp server {} takes mail without a sign-in; only one with an integration needs a grant",
                smtp.name
            ))),
        },
    }
}
