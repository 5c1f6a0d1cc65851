//! HTTPS to a provider: bounded in time and size, without redirects, with the administrator's roots.
//! It never sends anything in clear to another machine, and never puts an answer's body into an error.

use std::collections::HashMap;
use std::error::Error as _;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::DateTime;
use oauth2::{HttpRequest, HttpResponse};
use tokio::time::Instant;
use url::{Host, Url};

use super::failure::{self, TokenFailure};
use super::token;
use crate::fault;
use crate::time::{Clock, Timestamp};
use crate::tls::Trust;

/// Time for DNS, TCP and TLS.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for all requests of one exchange: shorter than the lease of a grant (15 s) and than the stop (20 s).
pub const EXCHANGE: Duration = Duration::from_secs(12);
/// Largest answer, in bytes; tokens with many claims are a few kilobytes.
const ANSWER_LIMIT: usize = 256 * 1024;

/// The HTTP clients, one for each set of trusted roots. Clones share them.
#[derive(Clone)]
pub struct Http {
    clock: Clock,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    trust: Trust,
    clients: HashMap<ClientKey, reqwest::Client>,
}

/// What makes one client differ from another: its roots, and whether a proxy may be used.
#[derive(PartialEq, Eq, Hash)]
struct ClientKey {
    ca_file: Option<PathBuf>,
    is_loopback: bool,
}

/// A few requests to one provider that share a deadline.
pub struct Exchange {
    http: Http,
    ca_file: Option<PathBuf>,
    deadline: Instant,
}

/// What a provider answered.
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The wait that it asked for.
    pub retry_after: Option<Duration>,
    /// Its clock.
    pub date: Option<Timestamp>,
    /// The body, which may hold tokens.
    pub body: Vec<u8>,
}

impl Answer {
    /// What it means where it holds nothing usable.
    pub(super) fn failure(&self) -> TokenFailure {
        TokenFailure {
            retry_after: self.retry_after,
            ..failure::classify(self.status, &self.body)
        }
    }
}

impl Http {
    /// Clients that trust these roots.
    pub fn new(trust: Trust, clock: Clock) -> Self {
        let clients = HashMap::new();
        Self {
            clock,
            shared: Arc::new(Mutex::new(Shared { trust, clients })),
        }
    }

    /// Trusts other roots from now on, as after a reload.
    pub fn trust(&self, trust: Trust) {
        let clients = HashMap::new();
        *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = Shared { trust, clients };
    }

    /// Begins an exchange that ends within [`EXCHANGE`].
    pub fn exchange(&self, ca_file: Option<&Path>) -> Exchange {
        Exchange {
            http: self.clone(),
            ca_file: ca_file.map(Path::to_owned),
            deadline: Instant::now() + EXCHANGE,
        }
    }

    fn client(&self, key: ClientKey) -> Result<reqwest::Client, TokenFailure> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = shared.clients.get(&key) {
            return Ok(client.clone());
        }
        let client = shared.build(&key).map_err(|error| unusable_client(&error))?;
        shared.clients.insert(key, client.clone());
        Ok(client)
    }
}

impl Shared {
    fn build(&self, key: &ClientKey) -> reqwest::Result<reqwest::Client> {
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(EXCHANGE)
            // A kept connection may be closed while a refresh token is on its way, and the answer be lost.
            .pool_max_idle_per_host(0)
            .user_agent(concat!("mailintake/", env!("CARGO_PKG_VERSION")));
        if key.is_loopback {
            builder = builder.no_proxy();
        }
        for der in self.trust.extra_der(key.ca_file.as_deref()) {
            builder = builder.add_root_certificate(reqwest::Certificate::from_der(&der)?);
        }
        builder.build()
    }
}

impl Exchange {
    /// The present instant.
    pub(super) fn now(&self) -> Timestamp {
        self.http.clock.now()
    }

    /// Sends one request and reads its answer, whatever the status.
    ///
    /// # Errors
    /// A transient [`TokenFailure`] where there is no whole answer; one of configuration for an address that is
    /// neither https nor loopback.
    pub async fn send(&self, request: HttpRequest) -> Result<Answer, TokenFailure> {
        let (parts, body) = request.into_parts();
        let url = checked_url(&parts.uri.to_string())?;
        let client = self.http.client(ClientKey {
            ca_file: self.ca_file.clone(),
            is_loopback: is_loopback(&url),
        })?;
        let remaining = self.deadline.saturating_duration_since(Instant::now());
        let request = client
            .request(parts.method, url)
            .headers(parts.headers)
            .body(body)
            .timeout(remaining);
        let response = request.send().await.map_err(|error| unreachable(&error))?;
        self.read(response).await
    }

    /// Fetches a document.
    ///
    /// # Errors
    /// As [`Exchange::send`].
    pub async fn get(&self, url: &str) -> Result<Answer, TokenFailure> {
        let request = oauth2::http::Request::get(url).header("accept", "application/json");
        let request = request.body(Vec::new()).map_err(|_| bad_url())?;
        self.send(request).await
    }

    async fn read(&self, mut response: reqwest::Response) -> Result<Answer, TokenFailure> {
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let retry_after = header("retry-after").and_then(|value| failure::retry_after(value, self.http.clock.now()));
        let date = header("date")
            .and_then(|value| DateTime::parse_from_rfc2822(value).ok())
            .map(|date| Timestamp(date.timestamp()));
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(&error))? {
            if body.len() + chunk.len() > ANSWER_LIMIT {
                return Err(TokenFailure::transient(
                    "answer-too-large",
                    "the provider's answer is too large to be a token",
                ));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer {
            status,
            retry_after,
            date,
            body,
        })
    }
}

/// Hands the `oauth2` crate nothing but sound answers: everything else is classified here, because the
/// crate would lose the status, `Retry-After` and Microsoft's codes, and keep tokens in its parse errors.
impl<'c> oauth2::AsyncHttpClient<'c> for Exchange {
    type Error = TokenFailure;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, TokenFailure>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            let answer = self.send(request).await?;
            let sound = (answer.status == 200).then(|| token::normalize(&answer.body)).flatten();
            let Some(body) = sound else {
                return Err(answer.failure());
            };
            let mut response = HttpResponse::new(body);
            response.headers_mut().insert(
                oauth2::http::header::CONTENT_TYPE,
                oauth2::http::HeaderValue::from_static("application/json"),
            );
            Ok(response)
        })
    }
}

/// An endpoint's address, if what is sent there stays secret: https, or http on loopback.
///
/// # Errors
/// [`TokenFailure`] of configuration.
pub fn checked_url(text: &str) -> Result<Url, TokenFailure> {
    let url = Url::parse(text).map_err(|_| bad_url())?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        _ => Err(bad_url()),
    }
}

/// Whether an address is on this machine: `localhost`, 127.0.0.0/8 or `[::1]`.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn bad_url() -> TokenFailure {
    TokenFailure::configuration(
        "endpoint-not-https",
        "an endpoint of the provider is no https address",
        "check issuer and endpoints of the integration; http is possible on loopback only",
    )
}

fn unusable_client(error: &reqwest::Error) -> TokenFailure {
    TokenFailure::configuration(
        "tls-setup",
        &format!("cannot set up TLS: {}", fault::chain(error)),
        "check ca_file and the proxy variables of the service",
    )
}

fn unreachable(error: &reqwest::Error) -> TokenFailure {
    let code = if error.is_timeout() {
        "timeout"
    } else if error.is_connect() {
        "unreachable"
    } else {
        "broken-answer"
    };
    // The outermost message holds the address, which is nothing new; the causes say what happened.
    let cause = error.source().map_or_else(|| "no answer".to_owned(), fault::chain);
    let failure = TokenFailure::transient(code, &format!("cannot reach the provider: {cause}"))
        .lasting("check the network, DNS and proxy of this server, and ca_file of the integration");
    TokenFailure {
        is_unreachable: true,
        ..failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_sent_in_clear_to_another_machine() {
        for (url, is_allowed) in [
            ("https://idp.example.org/token", true),
            ("http://127.0.0.1:8080/token", true),
            ("http://[::1]:8080/token", true),
            ("http://localhost/token", true),
            ("http://idp.example.org/token", false),
            ("http://localhost.example.org/token", false),
            ("http://127.0.0.1.example.org/token", false),
            ("ftp://127.0.0.1/token", false),
            ("token", false),
        ] {
            assert_eq!(checked_url(url).is_ok(), is_allowed, "{url}");
        }
    }
}
