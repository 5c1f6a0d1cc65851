//! An OAuth 2.0 provider on loopback with faults to order: discovery, sign-in without questions, token,
//! revocation. Plain HTTP, one thread a connection, so that a demonstration can include it as it is.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::proof::{Memory, Registration};

/// The only client and its secret.
pub(crate) const CLIENT_ID: &str = "test-client";
pub(crate) const CLIENT_SECRET: &str = "canary-client-secret";

/// Grant type of a service account.
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// What a refresh does to refresh tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rotation {
    /// A new one each time; the use of an old one ends the grant.
    Strict,
    /// A new one each time; old ones stay valid.
    Lenient,
    /// One for good, not repeated in answers.
    Absent,
}

/// What goes wrong with one request to the token endpoint.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// This answer.
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
    },
    /// No answer, ever.
    Hang,
    /// The proper answer, later.
    Slow(Duration),
    /// The connection is closed without an answer.
    Drop,
    /// Everything is done, then the answer is lost.
    DropAfter,
    /// Half of the proper answer.
    Truncate,
    /// An answer that does not end.
    Flood,
    /// The proper answer, a byte at a time.
    Trickle,
}

impl Fault {
    /// An error as RFC 6749 §5.2 has it.
    pub(crate) fn error(status: u16, error: &str, description: &str) -> Self {
        Self::Answer {
            status,
            headers: vec![("Content-Type", "application/json".into())],
            body: format!(r#"{{"error":"{error}","error_description":"{description}"}}"#),
        }
    }

    /// A page of a captive portal or proxy.
    pub(crate) fn page(status: u16) -> Self {
        Self::Answer {
            status,
            headers: vec![("Content-Type", "text/html".into())],
            body: "<html>please wait</html>".into(),
        }
    }
}

/// How it behaves; change it with [`Provider::set`].
pub(crate) struct Behaviour {
    pub(crate) rotation: Rotation,
    /// Lifetime of access tokens, in seconds.
    pub(crate) access_ttl: u64,
    /// `expires_in` of answers: as a number, as text, or none.
    pub(crate) expires_in: Option<&'static str>,
    /// Who signs in, if not whoever was hinted at.
    pub(crate) user: Option<String>,
    /// The scopes that are granted, if not all that were asked for.
    pub(crate) granted: Option<String>,
    /// Whether the person refuses.
    pub(crate) is_denied: bool,
    /// Whether a sign-in yields a refresh token.
    pub(crate) gives_refresh_token: bool,
    /// Used up in order by requests to the token endpoint.
    pub(crate) faults: VecDeque<Fault>,
    /// Holds for all requests to the token endpoint, after the list above.
    pub(crate) outage: Option<Fault>,
    /// Whether discovery answers.
    pub(crate) has_discovery: bool,
    /// What discovery announces besides.
    pub(crate) announced: Vec<&'static str>,
    /// Who discovery says it is, if not who it is.
    pub(crate) claimed_issuer: Option<&'static str>,
    /// How often a device flow is told to wait.
    pub(crate) device_waits: u32,
    /// What the client must prove itself with.
    pub(crate) registration: Registration,
    /// When tokens are to be renewed, in seconds.
    pub(crate) refresh_in: Option<u64>,
    /// How far its clock is ahead of the system's, in seconds.
    pub(crate) clock_shift: i64,
    /// The payload of access tokens, where they are JWTs.
    pub(crate) claims: Option<serde_json::Value>,
}

struct Code {
    challenge: String,
    redirect_uri: String,
    scope: String,
    login: String,
    nonce: Option<String>,
}

#[derive(Default)]
struct Books {
    codes: HashMap<String, Code>,
    /// Refresh token to (grant, login, scope, current).
    refresh_tokens: HashMap<String, (u64, String, String, bool)>,
    /// Access token to (grant, login, end).
    access_tokens: HashMap<String, (u64, String, u64)>,
    ended: std::collections::HashSet<u64>,
    next: u64,
    requests: Vec<String>,
    memory: Memory,
    in_flight: usize,
    max_in_flight: usize,
}

struct Inner {
    behaviour: Mutex<Behaviour>,
    books: Mutex<Books>,
    issuer: String,
}

/// The provider; its threads end with the process.
#[derive(Clone)]
pub(crate) struct Provider {
    inner: Arc<Inner>,
}

impl Provider {
    /// Starts it on a free port.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let inner = Arc::new(Inner {
            behaviour: Mutex::new(Behaviour {
                rotation: Rotation::Lenient,
                access_ttl: 3600,
                expires_in: Some("number"),
                user: None,
                granted: None,
                is_denied: false,
                gives_refresh_token: true,
                faults: VecDeque::new(),
                outage: None,
                has_discovery: true,
                announced: Vec::new(),
                claimed_issuer: None,
                device_waits: 1,
                registration: Registration {
                    secrets: vec![CLIENT_SECRET.to_owned()],
                    ..Registration::default()
                },
                refresh_in: None,
                clock_shift: 0,
                claims: None,
            }),
            books: Mutex::default(),
            issuer,
        });
        let serving = Arc::clone(&inner);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let inner = Arc::clone(&serving);
                std::thread::spawn(move || inner.serve(stream));
            }
        });
        Self { inner }
    }

    /// Its issuer, of which discovery gives the endpoints.
    pub(crate) fn issuer(&self) -> &str {
        &self.inner.issuer
    }

    /// Its token endpoint.
    pub(crate) fn token_endpoint(&self) -> String {
        format!("{}/token", self.inner.issuer)
    }

    /// Changes how it behaves.
    pub(crate) fn set(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.inner.behaviour.lock().unwrap());
    }

    /// Orders a fault for the next request to the token endpoint.
    pub(crate) fn fault(&self, fault: Fault) {
        self.set(|behaviour| behaviour.faults.push_back(fault));
    }

    /// Requests to the token endpoint so far, by grant type.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.inner.books.lock().unwrap().requests.clone()
    }

    /// How each request proved itself since this was asked last.
    pub(crate) fn proofs(&self) -> Vec<String> {
        std::mem::take(&mut self.inner.books.lock().unwrap().memory.proofs)
    }

    /// The claims of the assertions that were good.
    pub(crate) fn claims(&self) -> Vec<serde_json::Value> {
        self.inner.books.lock().unwrap().memory.claims.clone()
    }

    /// Most requests to the token endpoint that were under way at once.
    pub(crate) fn max_in_flight(&self) -> usize {
        self.inner.books.lock().unwrap().max_in_flight
    }

    /// Ends all grants, as an administrator or a changed password does.
    pub(crate) fn revoke_all(&self) {
        let mut books = self.inner.books.lock().unwrap();
        let last = books.next;
        books.ended.extend(0..=last);
    }

    /// Whose access token this is, if it is good.
    pub(crate) fn user_of(&self, access_token: &str) -> Option<String> {
        let books = self.inner.books.lock().unwrap();
        let (grant, login, end) = books.access_tokens.get(access_token)?;
        (!books.ended.contains(grant) && *end > now()).then(|| login.clone())
    }

    /// Opens a sign-in address as the person's browser does; the address that it ends at.
    pub(crate) fn sign_in(url: &str) -> String {
        let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let mut stream = TcpStream::connect(host).unwrap();
        write!(
            stream,
            "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let location = answer.lines().find_map(|line| line.strip_prefix("Location: "));
        location.unwrap_or_else(|| panic!("no redirect: {answer}")).to_owned()
    }
}

struct Request {
    method: String,
    path: String,
    form: BTreeMap<String, String>,
    authorization: Option<String>,
}

fn now() -> u64 {
    UNIX_EPOCH.elapsed().unwrap().as_secs()
}

fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let end = loop {
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let header = |name: &str| {
        let line = head
            .lines()
            .find(|line| line.to_lowercase().starts_with(&format!("{name}:")))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let length: usize = header("content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    let mut body = bytes[end + 4..].to_vec();
    while body.len() < length {
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        body.extend_from_slice(&buffer[..count]);
    }
    let mut words = head.split_whitespace();
    let method = words.next()?.to_owned();
    let target = words.next()?.to_owned();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let form = if method == "GET" { query.as_bytes() } else { &body };
    Some(Request {
        path: path.to_owned(),
        form: url::form_urlencoded::parse(form).into_owned().collect(),
        authorization: header("authorization"),
        method,
    })
}

fn answer(stream: &mut TcpStream, status: u16, headers: &[(&str, String)], body: &str) {
    let date = chrono::DateTime::from_timestamp(i64::try_from(now()).unwrap(), 0).unwrap();
    let mut text = format!(
        "HTTP/1.1 {status} Status\r\nDate: {}\r\nContent-Length: {}\r\nConnection: close\r\n",
        date.format("%a, %d %b %Y %H:%M:%S GMT"),
        body.len()
    );
    for (name, value) in headers {
        text.extend([name, ": ", value, "\r\n"]);
    }
    text.push_str("\r\n");
    text.push_str(body);
    // The peer may be gone, as a test wants it.
    drop(stream.write_all(text.as_bytes()));
}

fn json(stream: &mut TcpStream, status: u16, value: &serde_json::Value) {
    answer(
        stream,
        status,
        &[("Content-Type", "application/json".into())],
        &value.to_string(),
    );
}

type Refusal = (u16, &'static str, &'static str);

impl Inner {
    fn serve(&self, mut stream: TcpStream) {
        let Some(request) = read_request(&mut stream) else {
            return;
        };
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/.well-known/openid-configuration") if self.behaviour.lock().unwrap().has_discovery => {
                json(&mut stream, 200, &self.document());
            }
            ("POST", "/device") if self.check_client(&request).is_err() => {
                json(&mut stream, 401, &serde_json::json!({"error": "invalid_client"}));
            }
            ("POST", "/device") => {
                let value = serde_json::json!({
                    "device_code": "canary-device", "user_code": "WDJB-MJHT", "expires_in": 900, "interval": 1,
                    "verification_uri": format!("{}/enter", self.issuer),
                });
                json(&mut stream, 200, &value);
            }
            ("GET", "/auth") => {
                let location = self.authorize(&request.form);
                answer(&mut stream, 302, &[("Location", location)], "");
            }
            ("POST", "/token") => {
                {
                    let mut books = self.books.lock().unwrap();
                    books
                        .requests
                        .push(request.form.get("grant_type").cloned().unwrap_or_default());
                    books.in_flight += 1;
                    books.max_in_flight = books.max_in_flight.max(books.in_flight);
                }
                self.serve_token(&mut stream, &request);
                self.books.lock().unwrap().in_flight -= 1;
            }
            ("POST", "/revoke") => {
                let mut books = self.books.lock().unwrap();
                let token = request.form.get("token").cloned().unwrap_or_default();
                if let Some((grant, ..)) = books.refresh_tokens.get(&token).cloned() {
                    books.ended.insert(grant);
                }
                drop(books);
                answer(&mut stream, 200, &[], "");
            }
            _ => answer(
                &mut stream,
                404,
                &[("Content-Type", "text/html".into())],
                "<html>nothing here</html>",
            ),
        }
    }

    /// What discovery answers.
    fn document(&self) -> serde_json::Value {
        let issuer = &self.issuer;
        let behaviour = self.behaviour.lock().unwrap();
        let claimed = behaviour.claimed_issuer.unwrap_or(issuer);
        let mut document = serde_json::json!({
            "issuer": claimed, "authorization_endpoint": format!("{issuer}/auth"),
            "token_endpoint": format!("{issuer}/token"), "revocation_endpoint": format!("{issuer}/revoke"),
            "jwks_uri": format!("{issuer}/jwks"), "device_authorization_endpoint": format!("{issuer}/device"),
        });
        behaviour
            .announced
            .iter()
            .for_each(|name| document[*name] = true.into());
        document
    }

    fn authorize(&self, form: &BTreeMap<String, String>) -> String {
        let behaviour = self.behaviour.lock().unwrap();
        let redirect_uri = form["redirect_uri"].clone();
        let mut back = url::Url::parse(&redirect_uri).unwrap();
        back.query_pairs_mut()
            .append_pair("state", &form["state"])
            .append_pair("iss", &self.issuer);
        if behaviour.is_denied {
            back.query_pairs_mut().append_pair("error", "access_denied");
            return back.to_string();
        }
        assert_eq!(form["code_challenge_method"], "S256");
        let mut books = self.books.lock().unwrap();
        books.next += 1;
        let code = format!("canary-code-{}", books.next);
        let login = behaviour
            .user
            .clone()
            .or_else(|| form.get("login_hint").cloned())
            .unwrap_or_default();
        let granted = Code {
            challenge: form["code_challenge"].clone(),
            redirect_uri,
            scope: behaviour
                .granted
                .clone()
                .unwrap_or_else(|| form.get("scope").cloned().unwrap_or_default()),
            login,
            nonce: form.get("nonce").cloned(),
        };
        books.codes.insert(code.clone(), granted);
        back.query_pairs_mut().append_pair("code", &code);
        back.to_string()
    }

    fn serve_token(&self, stream: &mut TcpStream, request: &Request) {
        let fault = {
            let mut behaviour = self.behaviour.lock().unwrap();
            behaviour.faults.pop_front().or_else(|| behaviour.outage.clone())
        };
        match &fault {
            Some(Fault::Answer { status, headers, body }) => return answer(stream, *status, headers, body),
            Some(Fault::Hang) => return std::thread::sleep(Duration::from_mins(1)),
            Some(Fault::Drop) => return,
            Some(Fault::Slow(delay)) => std::thread::sleep(*delay),
            Some(Fault::Flood) => {
                let piece = [b' '; 8192];
                drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"));
                while stream.write_all(&piece).is_ok() {}
                return;
            }
            Some(Fault::DropAfter | Fault::Truncate | Fault::Trickle) | None => {}
        }
        let (status, value) = match self.grant(request) {
            Ok(value) => (200, value),
            Err((status, error, text)) => (status, serde_json::json!({"error": error, "error_description": text})),
        };
        match fault {
            Some(Fault::DropAfter) => {}
            Some(Fault::Truncate) => {
                let body = value.to_string();
                let half = body.split_at(body.len() / 2).0;
                let head = format!(
                    "HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                drop(stream.write_all(format!("{head}{half}").as_bytes()));
            }
            Some(Fault::Trickle) => {
                let body = value.to_string();
                let head = format!("HTTP/1.1 {status} OK\r\nContent-Length: {}\r\n\r\n", body.len());
                for byte in format!("{head}{body}").bytes() {
                    if stream.write_all(&[byte]).is_err() {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(200));
                }
            }
            _ => json(stream, status, &value),
        }
    }

    fn grant(&self, request: &Request) -> Result<serde_json::Value, Refusal> {
        let is_delegated = request.form.get("grant_type").is_some_and(|kind| kind == JWT_BEARER);
        if !is_delegated {
            self.check_client(request)?;
        }
        let form = &request.form;
        let field = |name: &str| form.get(name).cloned().unwrap_or_default();
        match field("grant_type").as_str() {
            "authorization_code" => {
                let code = self.books.lock().unwrap().codes.remove(&field("code"));
                let code = code.ok_or((400, "invalid_grant", "no such code"))?;
                let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(field("code_verifier")));
                if challenge != code.challenge || field("redirect_uri") != code.redirect_uri {
                    return Err((400, "invalid_grant", "verifier or redirect URI"));
                }
                let mut books = self.books.lock().unwrap();
                books.next += 1;
                let grant = books.next;
                let mut value = self.tokens(&mut books, grant, (&code.login, &code.scope), None);
                if code.scope.split(' ').any(|scope| scope == "openid") {
                    let claims = serde_json::json!({"iss": self.issuer, "aud": CLIENT_ID, "sub": "1", "email": code.login, "nonce": code.nonce});
                    value["id_token"] = format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims.to_string())).into();
                }
                Ok(value)
            }
            "refresh_token" => self.refresh(&field("refresh_token")),
            "client_credentials" => {
                let mut books = self.books.lock().unwrap();
                let mut value = self.tokens(&mut books, 0, ("application", &field("scope")), None);
                value.as_object_mut().unwrap().remove("refresh_token");
                Ok(value)
            }
            JWT_BEARER => {
                let behaviour = self.behaviour.lock().unwrap();
                let mut books = self.books.lock().unwrap();
                let at = (format!("{}/token", self.issuer), behaviour.clock_shift);
                let memory = &mut books.memory;
                let login = behaviour
                    .registration
                    .delegate(&field("assertion"), (&at.0, at.1), memory)?;
                drop(behaviour);
                let mut value = self.tokens(&mut books, 0, (&login, "https://mail.google.com/"), None);
                value.as_object_mut().unwrap().remove("refresh_token");
                Ok(value)
            }
            "urn:ietf:params:oauth:grant-type:device_code" => {
                let mut behaviour = self.behaviour.lock().unwrap();
                if behaviour.device_waits > 0 {
                    behaviour.device_waits -= 1;
                    return Err((400, "authorization_pending", ""));
                }
                let login = behaviour.user.clone().unwrap_or_default();
                drop(behaviour);
                let mut books = self.books.lock().unwrap();
                books.next += 1;
                let grant = books.next;
                Ok(self.tokens(&mut books, grant, (&login, "mail"), None))
            }
            _ => Err((400, "unsupported_grant_type", "")),
        }
    }

    fn refresh(&self, token: &str) -> Result<serde_json::Value, Refusal> {
        let mut books = self.books.lock().unwrap();
        let (grant, login, scope, is_current) =
            books
                .refresh_tokens
                .get(token)
                .cloned()
                .ok_or((400, "invalid_grant", "no such refresh token"))?;
        if books.ended.contains(&grant) {
            return Err((400, "invalid_grant", "Token has been expired or revoked."));
        }
        if !is_current && self.behaviour.lock().unwrap().rotation == Rotation::Strict {
            books.ended.insert(grant);
            return Err((400, "invalid_grant", "refresh token was used already"));
        }
        Ok(self.tokens(&mut books, grant, (&login, &scope), Some(token)))
    }

    fn check_client(&self, request: &Request) -> Result<(), Refusal> {
        let behaviour = self.behaviour.lock().unwrap();
        let mut books = self.books.lock().unwrap();
        let endpoint = format!("{}/token", self.issuer);
        let sent = (&request.form, request.authorization.as_deref());
        let at = (endpoint.as_str(), behaviour.clock_shift);
        behaviour.registration.check(CLIENT_ID, sent, at, &mut books.memory)
    }

    fn tokens(
        &self,
        books: &mut Books,
        grant: u64,
        (login, scope): (&str, &str),
        old: Option<&str>,
    ) -> serde_json::Value {
        let behaviour = self.behaviour.lock().unwrap();
        books.next += 1;
        let access = match &behaviour.claims {
            Some(claims) => format!(
                "e30.{}.canary-{}",
                URL_SAFE_NO_PAD.encode(claims.to_string()),
                books.next
            ),
            None => format!("canary-access-{}", books.next),
        };
        books
            .access_tokens
            .insert(access.clone(), (grant, login.to_owned(), now() + behaviour.access_ttl));
        let mut value = serde_json::json!({"access_token": access, "token_type": "Bearer", "scope": scope});
        match behaviour.expires_in {
            Some("text") => value["expires_in"] = behaviour.access_ttl.to_string().into(),
            Some(_) => value["expires_in"] = behaviour.access_ttl.into(),
            None => {}
        }
        if let Some(seconds) = behaviour.refresh_in {
            value["refresh_in"] = seconds.into();
        }
        let is_rotated = old.is_none() || behaviour.rotation != Rotation::Absent;
        if is_rotated && (old.is_some() || behaviour.gives_refresh_token) {
            if let Some(entry) = old.and_then(|old| books.refresh_tokens.get_mut(old)) {
                entry.3 = false;
            }
            let refresh = format!("canary-refresh-{}", books.next);
            books
                .refresh_tokens
                .insert(refresh.clone(), (grant, login.to_owned(), scope.to_owned(), true));
            value["refresh_token"] = refresh.into();
        }
        value
    }
}
