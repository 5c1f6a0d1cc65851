//! How far one comes towards an https address: name, port, certificate.
//! It sends nothing there.

use std::time::Duration;

use url::{Host, Url};

use super::certificate::{self, Opening};
use super::step::{Checked, problem};
use crate::grant::Problem;
use crate::time::Timestamp;

/// Time for a name or a port to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The host of an address, for people.
pub(super) fn host_of(address: &str) -> String {
    let url = Url::parse(address).ok();
    url.and_then(|url| url.host_str().map(str::to_owned))
        .unwrap_or_else(|| address.to_owned())
}

/// The steps to an address up to the one that fails. Where all go well, `failed` is: the answer itself was no good.
pub(super) async fn towards(address: &str, failed: (&'static str, Problem), now: Timestamp) -> Vec<Checked> {
    let (step, failure) = failed;
    let place = Url::parse(address).ok().and_then(|url| {
        let host = match url.host()? {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        Some((host, url.port_or_known_default()?, url.scheme() == "https"))
    });
    let Some((host, port, is_tls)) = place else {
        return vec![Checked::failed(step, failure)];
    };
    let mut steps = Vec::new();
    let addresses = match resolve(&host, port).await {
        Ok(addresses) => addresses,
        Err(reason) => return vec![Checked::failed("dns", unknown(&host, &reason)).with(proxy_note())],
    };
    steps.push(Checked::ok("dns", format!("{host} has an address")));
    if let Err(reason) = connect(&addresses).await {
        steps.push(Checked::failed("tcp", closed(&host, port, &reason)).with(proxy_note()));
        return steps;
    }
    steps.push(Checked::ok("tcp", format!("port {port} answers")));
    let is_broken_there = matches!(failure.code.as_str(), "unreachable");
    if is_tls && is_broken_there {
        let notes = certificate::look(&host, port, Opening::Implicit, now).await;
        steps.push(Checked::failed("tls", failure).with(notes));
        return steps;
    }
    steps.push(Checked::failed(step, failure));
    steps
}

async fn resolve(host: &str, port: u16) -> Result<Vec<std::net::SocketAddr>, String> {
    match tokio::time::timeout(PATIENCE, tokio::net::lookup_host((host, port))).await {
        Ok(Ok(addresses)) => Ok(addresses.collect()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

async fn connect(addresses: &[std::net::SocketAddr]) -> Result<(), String> {
    match tokio::time::timeout(PATIENCE, tokio::net::TcpStream::connect(addresses)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

fn unknown(host: &str, reason: &str) -> Problem {
    problem(
        "dns",
        format!("cannot find the address of {host}: {reason}"),
        format!("Check the name {host} in the configuration and the DNS of this server (`getent hosts {host}`)"),
    )
}

fn closed(host: &str, port: u16, reason: &str) -> Problem {
    problem(
        "connect",
        format!("cannot connect to {host}:{port}: {reason}"),
        format!("Let the firewall pass connections to {host}:{port}"),
    )
}

/// Behind a proxy the direct way need not work.
fn proxy_note() -> Option<String> {
    let is_set = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
        .iter()
        .any(|name| std::env::var_os(name).is_some());
    is_set.then(|| {
        "a proxy is set for https; this is the direct way, which may be closed: check the proxy first".to_owned()
    })
}
