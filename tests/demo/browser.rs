//! The person's browser: opens an address, follows where it is sent, and reads the page.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use url::Url;

/// Longest way from one address to another.
const HOPS: usize = 5;
/// Longest silence of a server.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a sign-in ended.
pub(crate) struct Page {
    /// The status of the answer.
    pub(crate) status: u16,
    /// The host and path of each address on the way.
    pub(crate) way: Vec<String>,
    /// What the page says.
    pub(crate) text: String,
}

/// Opens an address as a person does.
pub(crate) fn open(address: &str) -> Result<Page> {
    let mut address = Url::parse(address).with_context(|| format!("no address: {address}"))?;
    let mut way = Vec::new();
    for _ in 0..HOPS {
        way.push(format!("{}{}", address.authority(), address.path()));
        let answer = get(&address)?;
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .context("an answer without an end of its head")?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status: u16 = status.context("an answer without a status")?;
        let Some(next) = location(head) else {
            let text = visible(body);
            return Ok(Page { status, way, text });
        };
        address = address.join(next)?;
    }
    bail!("sent from one address to another for ever: {}", way.join(" > "))
}

fn get(address: &Url) -> Result<String> {
    let host = address.authority();
    let path = match address.query() {
        Some(query) => format!("{}?{query}", address.path()),
        None => address.path().to_owned(),
    };
    let mut stream = TcpStream::connect(host).with_context(|| format!("{host} does not answer"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn location(head: &str) -> Option<&str> {
    let mut headers = head.lines().filter_map(|line| line.split_once(": "));
    let (_, address) = headers.find(|(name, _)| name.eq_ignore_ascii_case("location"))?;
    Some(address)
}

/// The words of a page: from its heading on, without tags.
fn visible(page: &str) -> String {
    let mut body = page.split_once("<h1").map_or(page, |(_, body)| body).to_owned();
    // What stands within a line does not break it.
    for tag in [
        "span aria-hidden=\"true\"",
        "/span",
        "strong",
        "/strong",
        "code",
        "/code",
    ] {
        body = body.replace(&format!("<{tag}>"), "");
    }
    let text: Vec<&str> = body
        .split('>')
        .skip(1)
        .map(|part| part.split('<').next().unwrap_or_default().trim())
        .filter(|words| !words.is_empty())
        .collect();
    text.join("\n")
        .replace("&#x27;", "'")
        .replace("&quot;", "\"")
        .replace("&amp;", "&")
}
