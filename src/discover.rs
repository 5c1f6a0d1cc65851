//! From a mail address to who keeps its mailbox: by a table of well-known domains, MX and SRV records, and what the
//! domain itself publishes for mail programs. It asks each once, within seconds, and goes without whoever is silent.

pub mod autoconfig;
pub mod known;

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfigGroup, ResolverConfig};
use hickory_resolver::name_server::TokioConnectionProvider;
use hickory_resolver::proto::rr::RecordType;
use hickory_resolver::proto::rr::rdata::SRV;

use self::known::Keeper;
use crate::mailbox::Tls;
use crate::oauth::http::Http;

/// Time for one name server to answer.
const DNS_PATIENCE: Duration = Duration::from_secs(2);
/// Time for all that is asked by DNS, and for all that is asked by HTTPS.
const PATIENCE: Duration = Duration::from_secs(3);

/// An IMAP server to read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImapServer {
    /// Its name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How it is protected; never [`Tls::None`].
    pub tls: Tls,
}

/// Who keeps a mailbox, and how that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Who.
    pub keeper: Keeper,
    /// By what, for people: `the MX record aspmx.l.google.com`.
    pub by: String,
}

/// What is asked.
pub struct Discovery {
    resolver: Option<TokioResolver>,
    http: Http,
}

impl Discovery {
    /// Asks the system's name servers.
    pub fn new(http: Http) -> Self {
        let builder = TokioResolver::builder_tokio().ok();
        let resolver = builder.map(|mut builder| {
            builder.options_mut().timeout = DNS_PATIENCE;
            builder.options_mut().attempts = 1;
            builder.build()
        });
        Self { resolver, http }
    }

    /// Asks this name server alone, as a test does.
    pub fn at(name_server: SocketAddr, http: Http) -> Self {
        let servers = NameServerConfigGroup::from_ips_clear(&[name_server.ip()], name_server.port(), true);
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        let mut builder = TokioResolver::builder_with_config(config, TokioConnectionProvider::default());
        builder.options_mut().timeout = DNS_PATIENCE;
        builder.options_mut().attempts = 1;
        Self {
            resolver: Some(builder.build()),
            http,
        }
    }

    /// Who keeps the mailboxes of a domain. Where nobody tells, it is a guess.
    pub async fn keeper(&self, domain: &str) -> Found {
        if let Some(keeper) = known::by_domain(domain) {
            return found(keeper, "its well-known domain");
        }
        for host in self.mail_exchangers(domain).await {
            if let Some(keeper) = known::by_exchanger(&host) {
                return found(keeper, &format!("the MX record {host}"));
            }
        }
        let (led, published, record) = tokio::join!(
            self.autodiscover(domain),
            self.published(domain),
            self.service_record(domain)
        );
        // Mail may come through a gateway that says nothing of where it is kept.
        if let Some(host) = led
            && let Some(keeper) = known::by_autodiscover(&host)
        {
            return found(keeper, &format!("autodiscover.{domain}, which leads to {host}"));
        }
        let (server, by) = match (published, record) {
            (Some((server, address)), _) => (server, format!("what {address} publishes")),
            (None, Some(server)) => (server, format!("the SRV record _imaps._tcp.{domain}")),
            (None, None) => {
                return found(
                    Keeper::Unknown,
                    "a guess: neither MX, SRV, autodiscover nor autoconfig tell",
                );
            }
        };
        let keeper = known::by_server(&server.host).unwrap_or(Keeper::Server(server));
        found(keeper, &by)
    }

    /// The hosts that take mail for a domain (RFC 5321 §5.1), the preferred first, in lower case, without a last dot.
    async fn mail_exchangers(&self, domain: &str) -> Vec<String> {
        let Some(resolver) = &self.resolver else {
            return Vec::new();
        };
        let asking = resolver.mx_lookup(format!("{domain}."));
        let Ok(Ok(answer)) = tokio::time::timeout(PATIENCE, asking).await else {
            return Vec::new();
        };
        let mut hosts: Vec<(u16, String)> = answer
            .iter()
            .map(|mx| (mx.preference(), plain(&mx.exchange().to_ascii())))
            .collect();
        hosts.sort();
        hosts.into_iter().map(|(_, host)| host).collect()
    }

    /// Where Outlook is led to for a domain (MS-OXDSCLI §3.1.5): the target of `autodiscover.DOMAIN`.
    async fn autodiscover(&self, domain: &str) -> Option<String> {
        let resolver = self.resolver.as_ref()?;
        let asking = resolver.lookup(format!("autodiscover.{domain}."), RecordType::CNAME);
        let answer = tokio::time::timeout(PATIENCE, asking).await.ok()?.ok()?;
        let target = answer.iter().find_map(|data| data.as_cname())?;
        Some(plain(&target.0.to_ascii()))
    }

    /// The IMAP server that a domain names by SRV (RFC 6186 §3.2); a lone dot says that there is none.
    async fn service_record(&self, domain: &str) -> Option<ImapServer> {
        let resolver = self.resolver.as_ref()?;
        let asking = resolver.srv_lookup(format!("_imaps._tcp.{domain}."));
        let answer = tokio::time::timeout(PATIENCE, asking).await.ok()?.ok()?;
        let best = answer.iter().min_by_key(|record: &&SRV| record.priority())?;
        let host = plain(&best.target().to_ascii());
        autoconfig::is_host(&host).then(|| ImapServer {
            host,
            port: best.port(),
            tls: Tls::Implicit,
        })
    }

    /// What a domain publishes for mail programs, and where.
    async fn published(&self, domain: &str) -> Option<(ImapServer, String)> {
        let [first, second] = autoconfig::addresses(domain);
        let (first, second) = tokio::join!(self.fetch(first, domain), self.fetch(second, domain));
        first.or(second)
    }

    async fn fetch(&self, address: String, domain: &str) -> Option<(ImapServer, String)> {
        let exchange = self.http.exchange(None);
        let answer = tokio::time::timeout(PATIENCE, exchange.get(&address))
            .await
            .ok()?
            .ok()?;
        if answer.status != 200 {
            return None;
        }
        let text = String::from_utf8_lossy(&answer.body);
        autoconfig::read(&text, domain).map(|server| (server, address))
    }
}

fn found(keeper: Keeper, by: &str) -> Found {
    Found {
        keeper,
        by: by.to_owned(),
    }
}

fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}
