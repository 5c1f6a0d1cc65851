//! The listener: where a provider sends the browser back to, health and metrics.
//! It never answers at any other address, and never shows or keeps what the browser brought.

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

use crate::authorize::{Answer, Authorizer};
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
    page(StatusCode::NOT_FOUND, "Not found", "There is nothing at this address.")
}

async fn not_allowed() -> Response {
    page(
        StatusCode::METHOD_NOT_ALLOWED,
        "Not allowed",
        "Only GET is answered here.",
    )
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
        return page(
            StatusCode::MISDIRECTED_REQUEST,
            "Wrong address",
            "This service is not known under this name. An administrator sets public_url.",
        );
    }
    // A look ahead must not use up the sign-in.
    if method != Method::GET {
        return page(
            StatusCode::METHOD_NOT_ALLOWED,
            "Not allowed",
            "Only GET is answered here.",
        );
    }
    let grants = (shared.doors.grants)();
    if !grants.iter().any(|grant| grant.integration.name == integration) {
        return nothing().await;
    }
    let Some(answer) = query.as_deref().and_then(Answer::from_query) else {
        return page(
            StatusCode::BAD_REQUEST,
            "No sign-in",
            "The provider sent nothing along. Begin with `mailintake authorize NAME`.",
        );
    };
    match shared.doors.authorizer.finish(&grants, &integration, answer).await {
        Ok(signed_in) => page(
            StatusCode::OK,
            "Signed in",
            &format!("{signed_in}. You can close this window; mailintake goes on by itself."),
        ),
        Err(error) => page(status_of(error.remedy()), "Not signed in", &format!("{error}.")),
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

/// A plain page that loads nothing, is kept nowhere, and tells no other site where it was.
fn page(status: StatusCode, title: &str, text: &str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONNECTION, "close"),
    ];
    let body = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title} – mailintake</title>\n\
         <style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem}}</style>\n\
         <h1>{title}</h1>\n<p>{}</p>\n",
        escape(text)
    );
    (status, headers, body).into_response()
}

fn escape(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, c| {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
        escaped
    })
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

    #[test]
    fn a_page_shows_text_and_runs_none_of_it() {
        assert_eq!(escape("<b a='\"'>&"), "&lt;b a=&#39;&quot;&#39;&gt;&amp;");
    }
}
