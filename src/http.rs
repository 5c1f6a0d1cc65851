//! The listener: where a provider sends the browser back to, health and metrics.
//! It never answers at any other address, and never shows or keeps what the browser brought.

mod page;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;
use url::{Host, Url};

use self::page::{Mood, Page};
use crate::authorize::{Answer, AuthorizeError, Authorizer, SignedIn};
use crate::fault::Remedy;
use crate::grant::GrantRef;
use crate::metrics::{MEDIA_TYPE, Metrics};

/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 64;
/// Longest life of a connection: a sign-in is finished within 12 s, and nobody may hold one open.
const CONNECTION_LIFE: Duration = Duration::from_secs(30);
/// Wait after a failed accept, for example without file descriptors.
const AFTER_ACCEPT_ERROR: Duration = Duration::from_secs(1);
/// Time that a look at the metrics may take: one that waits for a busy disk must not hold up the next.
const SCRAPE_LIMIT: Duration = Duration::from_secs(2);
/// Time for open connections when the program stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// What the listener shows and serves.
#[derive(Clone)]
pub struct Doors {
    /// Finishes sign-ins.
    pub authorizer: Authorizer,
    /// The grants that are configured at present.
    pub grants: Arc<dyn Fn() -> Vec<GrantRef> + Send + Sync>,
    /// Whether the daemon can do its work; if not, the reason in one line.
    pub health: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// What is counted; `None` in a command, which shows none.
    pub metrics: Option<Metrics>,
    /// Under which address others know it.
    pub public_url: Option<Url>,
}

struct Shared {
    doors: Doors,
    local: SocketAddr,
}

/// Serves until `stop`.
///
/// # Errors
/// If the listener has no address.
pub async fn serve(listener: TcpListener, doors: Doors, stop: CancellationToken) -> io::Result<()> {
    let local = listener.local_addr()?;
    let router = Router::new()
        .route("/oauth/callback/{integration}", get(callback))
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .fallback(nothing)
        .method_not_allowed_fallback(not_allowed)
        .with_state(Arc::new(Shared { doors, local }));
    let bounded = Bounded {
        listener,
        permits: Arc::new(Semaphore::new(CONNECTIONS)),
    };
    let stopping = stop.clone();
    let serving = axum::serve(bounded, router).with_graceful_shutdown(stop.cancelled_owned());
    tokio::select! {
        served = serving.into_future() => served,
        () = farewell(stopping) => Ok(()),
    }
}

async fn farewell(stop: CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(FAREWELL).await;
}

async fn nothing() -> Response {
    let text = "there is nothing at this address";
    bad(StatusCode::NOT_FOUND, "Not found", text, "")
}

async fn not_allowed() -> Response {
    let text = "only GET is answered here";
    bad(StatusCode::METHOD_NOT_ALLOWED, "Not allowed", text, "")
}

fn bad(status: StatusCode, title: &str, text: &str, next: &str) -> Response {
    let mood = Mood::Bad;
    Page {
        mood,
        title,
        text,
        next,
    }
    .answer(status)
}

fn good(signed_in: &SignedIn) -> Response {
    let page = Page {
        mood: Mood::Good,
        title: "Signed in",
        text: &signed_in.to_string(),
        next: "close this window; mailintake goes on by itself, and the terminal says whether the mailbox opens",
    };
    page.answer(StatusCode::OK)
}

fn refused(error: &AuthorizeError) -> Response {
    let (text, next) = error.parts();
    bad(status_of(error.remedy()), error.title(), &text, &next)
}

async fn healthz(State(shared): State<Arc<Shared>>) -> Response {
    let (status, text) = match (shared.doors.health)() {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{}\n", crate::fault::printable(&reason, 200)),
        ),
    };
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONNECTION, "close"),
    ];
    (status, headers, text).into_response()
}

async fn metrics(State(shared): State<Arc<Shared>>, method: Method) -> Response {
    // The route answers HEAD as it does GET, which would cost a look at the database for nothing.
    if method != Method::GET {
        return not_allowed().await;
    }
    let headers = [
        (header::CONTENT_TYPE, MEDIA_TYPE),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONNECTION, "close"),
    ];
    let Some(metrics) = &shared.doors.metrics else {
        return nothing().await;
    };
    match tokio::time::timeout(SCRAPE_LIMIT, metrics.text()).await {
        Ok(Ok(text)) => (StatusCode::OK, headers, text).into_response(),
        Ok(Err(error)) => {
            tracing::warn!(error = %crate::fault::chain(&error), "the metrics could not be gathered");
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

async fn callback(
    State(shared): State<Arc<Shared>>,
    Path(integration): Path<String>,
    method: Method,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    if !host.is_some_and(|host| is_our_host(host, shared.doors.public_url.as_ref(), shared.local)) {
        let text = "this service is not known under the name in the address";
        let next =
            "an administrator sets `public_url` to the address that browsers use, or the proxy passes the name on";
        return bad(StatusCode::MISDIRECTED_REQUEST, "Wrong address", text, next);
    }
    // A look ahead must not use up the sign-in.
    if method != Method::GET {
        return not_allowed().await;
    }
    let grants = (shared.doors.grants)();
    if !grants.iter().any(|grant| grant.integration.name == integration) {
        return nothing().await;
    }
    let Some(answer) = query.as_deref().and_then(Answer::from_query) else {
        let text = "the provider sent nothing along";
        let next = "begin in the terminal with `mailintake authorize NAME`, and open the address that it prints";
        return bad(StatusCode::BAD_REQUEST, "No sign-in", text, next);
    };
    match shared.doors.authorizer.finish(&grants, &integration, answer).await {
        Ok(signed_in) => good(&signed_in),
        Err(error) => refused(&error),
    }
}

fn status_of(remedy: Remedy) -> StatusCode {
    match remedy {
        Remedy::Retry { .. } => StatusCode::SERVICE_UNAVAILABLE,
        Remedy::Reauthorize | Remedy::AskAdministrator | Remedy::FixConfiguration | Remedy::Quarantine => {
            StatusCode::BAD_REQUEST
        }
        Remedy::Abort => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Whether a `Host` header names us: the host of `public_url`, or the address that we listen on. Else a
/// page elsewhere could have its own name point here (DNS rebinding).
fn is_our_host(host: &str, public_url: Option<&Url>, local: SocketAddr) -> bool {
    let Ok(asked) = Url::parse(&format!("http://{host}/")) else {
        return false;
    };
    if public_url.is_some_and(|url| url.host() == asked.host()) {
        return true;
    }
    let is_here = match asked.host() {
        Some(Host::Domain(name)) => name == "localhost" && (local.ip().is_loopback() || local.ip().is_unspecified()),
        Some(Host::Ipv4(address)) => local.ip() == address || local.ip().is_unspecified(),
        Some(Host::Ipv6(address)) => local.ip() == address || local.ip().is_unspecified(),
        None => false,
    };
    is_here && asked.port_or_known_default() == Some(local.port())
}

/// Accepts a bounded number of connections, each for a bounded time.
struct Bounded {
    listener: TcpListener,
    permits: Arc<Semaphore>,
}

impl axum::serve::Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
            match self.listener.accept().await {
                Ok((stream, peer)) => return (Connection::new(stream, permit), peer),
                Err(error) => {
                    tracing::warn!(error = %crate::fault::chain(&error), "could not accept a connection");
                    tokio::time::sleep(AFTER_ACCEPT_ERROR).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that breaks when its time is over.
struct Connection {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Connection {
    fn new(stream: TcpStream, permit: Option<OwnedSemaphorePermit>) -> Self {
        Self {
            stream,
            end: Box::pin(tokio::time::sleep(CONNECTION_LIFE)),
            _permit: permit,
        }
    }

    fn check_time(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_time(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check_time(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_answered() {
        let public = Url::parse("https://intake.example.org").unwrap();
        let local: SocketAddr = "127.0.0.1:8425".parse().unwrap();
        for (host, is_ours) in [
            ("intake.example.org", true),
            ("intake.example.org:443", true),
            ("127.0.0.1:8425", true),
            ("localhost:8425", true),
            ("localhost:80", false),
            ("127.0.0.1", false),
            ("evil.example.org:8425", false),
            ("10.0.0.1:8425", false),
            ("", false),
        ] {
            assert_eq!(is_our_host(host, Some(&public), local), is_ours, "{host}");
        }
        let any: SocketAddr = "0.0.0.0:8425".parse().unwrap();
        assert!(is_our_host("10.0.0.1:8425", None, any));
        assert!(!is_our_host("evil.example.org:8425", None, any));
    }
}
