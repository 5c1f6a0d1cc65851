//! The commands `authorize` and `revoke`: a person signs in, or a grant is forgotten.
//! It never prints a token or code; the address that it prints is of use once and for 15 minutes.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::authorize::{self, Answer, AuthorizeError, Authorizer, Begun};
use crate::broker::TokenError;
use crate::fault::Remedy;
use crate::grant::{Flow, GrantRef};
use crate::http::{self, Doors};
use crate::oauth::device::Device;
use crate::store::authorization::Outcome;

/// Time between looks at what came of a sign-in.
const POLL: Duration = Duration::from_millis(200);
/// Port of the redirect URI where nobody listens and the address is copied from the browser: never in use.
const PASTE_PORT: u16 = 1;
/// Longest line that is read, in bytes.
const LINE_LIMIT: u64 = 64 * 1024;
/// Time within which whoever took an answer has finished with it.
const FINISHING: Duration = Duration::from_secs(20);
/// Time for the daemon's listener to take a connection.
const LISTENER_PATIENCE: Duration = Duration::from_secs(2);
/// How often an answer that is none may be corrected.
const TRIES: usize = 3;

/// How the browser's answer comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Through the running daemon.
    Listener,
    /// To this command, on a port of 127.0.0.1.
    Loopback(u16),
    /// Copied by the person.
    Paste,
    /// None: the person enters a code elsewhere.
    Device,
}

/// The way if none is asked for: by the device flow where that is the integration's, through the daemon where
/// it can be reached, else by paste.
pub fn default_way(grant: &GrantRef, public_url: Option<&Url>, is_daemon_listening: bool) -> Way {
    match (grant.integration.flow, public_url) {
        (Flow::DeviceCode, _) => Way::Device,
        (Flow::AuthorizationCode | Flow::ClientCredentials | Flow::ServiceAccount, Some(_)) if is_daemon_listening => {
            Way::Listener
        }
        (Flow::AuthorizationCode | Flow::ClientCredentials | Flow::ServiceAccount, _) => Way::Paste,
    }
}

/// Whether a daemon listens at the configured address; one that runs with an older configuration does not.
///
/// # Errors
/// [`CommandError::NoListener`] where there is no such address, [`CommandError::NotListening`].
pub async fn check_listener(listen: Option<SocketAddr>, is_daemon_running: bool) -> Result<(), CommandError> {
    let listen = listen.ok_or(CommandError::NoListener)?;
    if !is_daemon_running {
        return Err(CommandError::NotListening(listen));
    }
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let connecting = TcpStream::connect(SocketAddr::new(ip, listen.port()));
    match tokio::time::timeout(LISTENER_PATIENCE, connecting).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(CommandError::NotListening(listen)),
    }
}

/// What a sign-in needs to know.
pub struct Request<'a> {
    /// Finishes it.
    pub authorizer: &'a Authorizer,
    /// The grant.
    pub grant: &'a GrantRef,
    /// The daemon's address.
    pub public_url: Option<&'a Url>,
    /// How the answer comes back.
    pub way: Way,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The sign-in failed here.
    #[error(transparent)]
    Authorize(#[from] AuthorizeError),
    /// The sign-in failed in the daemon, with this message.
    #[error("{0}")]
    Failed(String),
    /// The provider does not revoke, or the database failed.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// There is no listener.
    #[error("--listener needs public_url and listen in the configuration; --paste needs neither")]
    NoListener,
    /// Nobody listens where the browser would come back to.
    #[error(
        "no daemon listens at {0}, so the browser would come back to nobody; `systemctl start mailintake` (or `restart`, where listen is new), or sign in with --paste"
    )]
    NotListening(SocketAddr),
    /// The port cannot be used.
    #[error("cannot listen on 127.0.0.1:{port}; choose another port")]
    Port {
        /// The port.
        port: u16,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nobody has signed in in time.
    #[error("nobody has signed in within 15 minutes; begin again")]
    TooLate,
    /// Nothing was pasted.
    #[error("no address was given; begin again")]
    NoInput,
    /// The terminal is gone.
    #[error("cannot write")]
    Terminal(#[from] io::Error),
}

impl CommandError {
    /// The exit code: 1 for no, 74 for database or disk, 75 for later, 78 for the configuration.
    pub fn exit_code(&self) -> u8 {
        let remedy = match self {
            Self::Authorize(error) => error.remedy(),
            Self::Token(error) => error.remedy(),
            Self::NoListener => Remedy::FixConfiguration,
            Self::NotListening(_) => Remedy::RETRY,
            Self::Failed(_) | Self::Port { .. } | Self::TooLate | Self::NoInput | Self::Terminal(_) => return 1,
        };
        match remedy {
            Remedy::Retry { .. } => 75,
            Remedy::FixConfiguration => 78,
            Remedy::Abort => 74,
            Remedy::Reauthorize | Remedy::AskAdministrator | Remedy::Quarantine => 1,
        }
    }
}

/// Signs a person in and tells who it was. `input` is read where the answer is pasted.
///
/// # Errors
/// Any [`CommandError`]; the old grant stays.
pub async fn authorize(
    request: &Request<'_>,
    out: &mut (dyn Write + Send),
    input: &mut (dyn AsyncBufRead + Unpin + Send),
) -> Result<(), CommandError> {
    let sentence = match request.way {
        Way::Listener => {
            let base = request.public_url.ok_or(CommandError::NoListener)?.clone();
            let begun = begin(request, &base, out).await?;
            wait(request.authorizer, &begun).await?
        }
        Way::Loopback(port) => loopback(request, port, out).await?,
        Way::Paste => paste(request, out, input).await?,
        Way::Device => device(request, out).await?,
    };
    writeln!(out, "{sentence}")?;
    Ok(())
}

async fn begin(request: &Request<'_>, base: &Url, out: &mut (dyn Write + Send)) -> Result<Begun, CommandError> {
    let redirect_uri = authorize::redirect_uri(base, &request.grant.integration.name);
    let begun = request.authorizer.begin(request.grant, &redirect_uri).await?;
    writeln!(
        out,
        "Open this address in a browser and sign in as {} (within 15 minutes):\n\n{}\n",
        request.grant.login, begun.url
    )?;
    out.flush()?;
    Ok(begun)
}

/// Waits for what the daemon or our own listener makes of the answer.
async fn wait(authorizer: &Authorizer, begun: &Begun) -> Result<String, CommandError> {
    let deadline = tokio::time::Instant::now() + authorize::TIME_LIMIT;
    while tokio::time::Instant::now() < deadline {
        match authorizer.outcome(begun).await? {
            Outcome::Done(sentence) => return Ok(sentence),
            Outcome::Failed(message) => return Err(CommandError::Failed(message)),
            Outcome::Waiting => tokio::time::sleep(POLL).await,
        }
    }
    Err(CommandError::TooLate)
}

async fn loopback(request: &Request<'_>, port: u16, out: &mut (dyn Write + Send)) -> Result<String, CommandError> {
    let unusable = |source| CommandError::Port { port, source };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(unusable)?;
    let port = listener.local_addr().map_err(unusable)?.port();
    let base = loopback_base(request.grant, port)?;
    let begun = begin(request, &base, out).await?;
    let grants = vec![request.grant.clone()];
    let doors = Doors {
        metrics: None,
        authorizer: request.authorizer.clone(),
        grants: Arc::new(move || grants.clone()),
        health: Arc::new(|| Ok(())),
        public_url: Some(base),
    };
    let stop = CancellationToken::new();
    let waiting = async {
        let outcome = wait(request.authorizer, &begun).await;
        // The server ends once the browser has its page.
        stop.cancel();
        outcome
    };
    let (outcome, served) = tokio::join!(waiting, http::serve(listener, doors, stop.clone()));
    served.map_err(unusable)?;
    outcome
}

async fn device(request: &Request<'_>, out: &mut (dyn Write + Send)) -> Result<String, CommandError> {
    let login = &request.grant.login;
    let mut written = Ok(());
    let mut show = |device: &Device| {
        let address = &device.verification_uri;
        written = writeln!(
            out,
            "Open this address in any browser, enter the code and sign in as {login}:\n\n{address}\ncode: {}\n",
            device.user_code
        );
        if let (Ok(()), Some(complete)) = (&written, &device.verification_uri_complete) {
            written = writeln!(out, "or, with the code in it: {complete}\n");
        }
        if written.is_ok() {
            written = out.flush();
        }
    };
    let signed_in = request.authorizer.device(request.grant, &mut show).await?;
    written?;
    Ok(signed_in.to_string())
}

async fn paste(
    request: &Request<'_>,
    out: &mut (dyn Write + Send),
    input: &mut (dyn AsyncBufRead + Unpin + Send),
) -> Result<String, CommandError> {
    let base = match request.public_url {
        Some(url) => url.clone(),
        None => loopback_base(request.grant, PASTE_PORT)?,
    };
    let begun = begin(request, &base, out).await?;
    writeln!(
        out,
        "The browser ends at a page that may not load. Copy its address from the address bar and paste it here:"
    )?;
    out.flush()?;
    for _ in 0..TRIES {
        let mut line = String::new();
        let reading = async { (&mut *input).take(LINE_LIMIT).read_line(&mut line).await };
        tokio::select! {
            read = reading => {
                if read? == 0 {
                    return Err(CommandError::NoInput);
                }
            }
            // With public_url the daemon may have taken the answer.
            outcome = wait(request.authorizer, &begun) => return outcome,
        }
        if let Some(answer) = Answer::from_paste(&line) {
            return finish(request, &begun, answer).await;
        }
        writeln!(out, "{}", AuthorizeError::NoAnswer)?;
        out.flush()?;
    }
    Err(AuthorizeError::NoAnswer.into())
}

async fn finish(request: &Request<'_>, begun: &Begun, answer: Answer) -> Result<String, CommandError> {
    let integration = &request.grant.integration.name;
    let grants = [request.grant.clone()];
    match request.authorizer.finish(&grants, integration, answer).await {
        Ok(signed_in) => Ok(signed_in.to_string()),
        // The browser was quicker: the daemon has taken it, and may be about to finish it.
        Err(AuthorizeError::Used) => {
            let waiting = tokio::time::timeout(FINISHING, wait(request.authorizer, begun));
            waiting.await.unwrap_or_else(|_| Err(AuthorizeError::Used.into()))
        }
        Err(error) => Err(error.into()),
    }
}

fn loopback_base(grant: &GrantRef, port: u16) -> Result<Url, CommandError> {
    authorize::loopback_base(grant.integration.provider, port).ok_or(CommandError::NoListener)
}

/// Forgets a grant, with `is_upstream` at the provider first, and says so.
///
/// # Errors
/// [`CommandError::Token`]; where the provider refuses, nothing is forgotten.
pub async fn revoke(
    authorizer: &Authorizer,
    grant: &GrantRef,
    is_upstream: bool,
    out: &mut (dyn Write + Send),
) -> Result<(), CommandError> {
    let had_tokens = authorizer.broker().revoke(grant, is_upstream).await?;
    let (login, integration) = (&grant.login, &grant.integration.name);
    match (had_tokens, is_upstream) {
        (false, _) => writeln!(out, "there is no grant of {login} at {integration}")?,
        (true, true) => writeln!(
            out,
            "the grant of {login} at {integration} is revoked there and forgotten here"
        )?,
        (true, false) => writeln!(
            out,
            "the grant of {login} at {integration} is forgotten here; --upstream also revokes it there"
        )?,
    }
    Ok(())
}
