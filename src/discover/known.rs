//! Who is known to keep mailboxes: by the domain of an address, by the host that takes its mail, by its IMAP server.
//! One table each, data only; it asks nobody.

use super::ImapServer;
use crate::grant::Provider;
use crate::mailbox::Tls;

/// Who keeps a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keeper {
    /// A personal mailbox at Google.
    Gmail,
    /// An organization at Google.
    Workspace,
    /// A personal mailbox at Microsoft.
    Outlook,
    /// An organization at Microsoft, in this cloud.
    Microsoft365(Provider),
    /// A server that takes an app password, made on this page.
    AppPassword(ImapServer, &'static str),
    /// A server.
    Server(ImapServer),
    /// Somebody whose mailboxes no other program can read, and why.
    Closed(&'static str),
    /// Nobody knows.
    Unknown,
}

/// Domains of personal mailboxes at Google and at Microsoft, the latter without their top-level domain.
const GMAIL: [&str; 2] = ["gmail.com", "googlemail.com"];
const OUTLOOK: [&str; 4] = ["outlook", "hotmail", "live", "msn"];

/// Domains, their IMAP server, and where an app password is made or IMAP is switched on.
const SERVERS: [(&[&str], &str, &str); 12] = [
    (
        &["yahoo", "ymail.com", "rocketmail.com"],
        "imap.mail.yahoo.com",
        "https://login.yahoo.com/account/security > Generate app password",
    ),
    (
        &["aol", "aim.com"],
        "imap.aol.com",
        "https://login.aol.com/account/security > Generate app password",
    ),
    (
        &["icloud.com", "me.com", "mac.com"],
        "imap.mail.me.com",
        "https://account.apple.com > Sign-In and Security > App-Specific Passwords",
    ),
    (
        &["fastmail.com", "fastmail.fm"],
        "imap.fastmail.com",
        "https://app.fastmail.com/settings/security/integrations > New app password",
    ),
    (
        &["gmx.de", "gmx.net", "gmx.at", "gmx.ch"],
        "imap.gmx.net",
        "GMX > E-Mail > Einstellungen > POP3/IMAP Abruf, which must be switched on",
    ),
    (
        &["gmx.com", "mail.com"],
        "imap.gmx.com",
        "Settings > POP3 & IMAP, which must be switched on",
    ),
    (
        &["web.de"],
        "imap.web.de",
        "WEB.DE > E-Mail > Einstellungen > POP3/IMAP Abruf, which must be switched on",
    ),
    (
        &["t-online.de", "magenta.de"],
        "secureimap.t-online.de",
        "the Kundencenter > E-Mail-Passwort",
    ),
    (
        &["mailbox.org"],
        "imap.mailbox.org",
        "the settings > Security > Application passwords",
    ),
    (&["posteo.de", "posteo.net"], "posteo.de", "the password of the account"),
    (
        &["yandex.com", "yandex.ru", "ya.ru"],
        "imap.yandex.com",
        "https://id.yandex.com/security/app-passwords",
    ),
    (
        &["mail.ru", "inbox.ru", "list.ru", "bk.ru"],
        "imap.mail.ru",
        "https://account.mail.ru/user/2-step-auth/passwords",
    ),
];

const PROTON: &str =
    "Proton encrypts mailboxes; they are read through its Bridge alone, on a machine that somebody is signed in at";

/// Ends of MX hosts, and who that is. The first that fits counts.
const EXCHANGERS: [(&str, &str); 16] = [
    ("olc.protection.outlook.com", "outlook"),
    ("mail.protection.outlook.com", "microsoft"),
    ("mx.microsoft", "microsoft"),
    ("protection.office365.us", "microsoft-gcc-high"),
    ("mail.protection.partner.outlook.cn", "microsoft-china"),
    ("google.com", "workspace"),
    ("googlemail.com", "workspace"),
    ("psmtp.com", "workspace"),
    ("messagingengine.com", "fastmail.com"),
    ("mail.icloud.com", "icloud.com"),
    ("yahoodns.net", "yahoo.com"),
    ("yandex.net", "yandex.com"),
    ("yandex.ru", "yandex.com"),
    ("mailbox.org", "mailbox.org"),
    ("protonmail.ch", "proton"),
    ("mail.ru", "mail.ru"),
];

/// By the domain of the address.
pub fn by_domain(domain: &str) -> Option<Keeper> {
    let domain = domain.to_ascii_lowercase();
    let name = domain.split('.').next().unwrap_or_default();
    if GMAIL.contains(&domain.as_str()) {
        return Some(Keeper::Gmail);
    }
    // hotmail.co.uk, live.nl, outlook.de: Microsoft's own in every country that has them.
    if OUTLOOK.contains(&name) && is_of_country(&domain) {
        return Some(Keeper::Outlook);
    }
    if matches!(domain.as_str(), "proton.me" | "protonmail.com" | "pm.me") {
        return Some(Keeper::Closed(PROTON));
    }
    let is_named = |known: &str| domain == known || (!known.contains('.') && name == known && is_of_country(&domain));
    let (_, host, page) = SERVERS
        .iter()
        .find(|(domains, ..)| domains.iter().any(|known| is_named(known)))?;
    Some(Keeper::AppPassword(implicit(host), page))
}

/// By a host that takes mail for the domain.
pub fn by_exchanger(host: &str) -> Option<Keeper> {
    let (_, who) = EXCHANGERS.iter().find(|(end, _)| is_below(host, end))?;
    match *who {
        "workspace" => Some(Keeper::Workspace),
        "outlook" => Some(Keeper::Outlook),
        "microsoft" => Some(Keeper::Microsoft365(Provider::Microsoft)),
        "microsoft-gcc-high" => Some(Keeper::Microsoft365(Provider::MicrosoftGccHigh)),
        "microsoft-china" => Some(Keeper::Microsoft365(Provider::MicrosoftChina)),
        "proton" => Some(Keeper::Closed(PROTON)),
        domain => by_domain(domain),
    }
}

/// By the host that Outlook is led to.
pub fn by_autodiscover(host: &str) -> Option<Keeper> {
    let clouds = [
        ("outlook.com", Provider::Microsoft),
        ("office365.us", Provider::MicrosoftGccHigh),
        ("partner.outlook.cn", Provider::MicrosoftChina),
    ];
    let (_, provider) = clouds.iter().find(|(end, _)| is_below(host, end))?;
    Some(Keeper::Microsoft365(*provider))
}

/// By its IMAP server, where that is one of a provider with OAuth 2.0.
pub fn by_server(host: &str) -> Option<Keeper> {
    match host {
        "imap.gmail.com" => Some(Keeper::Workspace),
        "outlook.office365.com" => Some(Keeper::Microsoft365(Provider::Microsoft)),
        "outlook.office365.us" => Some(Keeper::Microsoft365(Provider::MicrosoftGccHigh)),
        "outlook-dod.office365.us" => Some(Keeper::Microsoft365(Provider::MicrosoftDod)),
        "partner.outlook.cn" => Some(Keeper::Microsoft365(Provider::MicrosoftChina)),
        _ => None,
    }
}

/// Whether a name's rest is that of a whole country or `.com`: `com`, `de`, `co.uk`, `com.br`.
fn is_of_country(domain: &str) -> bool {
    let rest: Vec<&str> = domain.split('.').skip(1).collect();
    match rest.as_slice() {
        [top] => *top == "com" || top.len() == 2,
        [second, top] => matches!(*second, "co" | "com") && top.len() == 2,
        _ => false,
    }
}

fn is_below(host: &str, end: &str) -> bool {
    host == end || host.strip_suffix(end).is_some_and(|front| front.ends_with('.'))
}

fn implicit(host: &str) -> ImapServer {
    ImapServer {
        host: host.to_owned(),
        port: 993,
        tls: Tls::Implicit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(keeper: Option<Keeper>) -> String {
        match keeper {
            Some(Keeper::AppPassword(server, _)) => server.host,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn well_known_domains_are_known() {
        for (domain, expected) in [
            ("gmail.com", "Some(Gmail)"),
            ("GoogleMail.com", "Some(Gmail)"),
            ("outlook.com", "Some(Outlook)"),
            ("hotmail.co.uk", "Some(Outlook)"),
            ("live.nl", "Some(Outlook)"),
            ("yahoo.com", "imap.mail.yahoo.com"),
            ("yahoo.com.br", "imap.mail.yahoo.com"),
            ("aol.de", "imap.aol.com"),
            ("me.com", "imap.mail.me.com"),
            ("fastmail.com", "imap.fastmail.com"),
            ("gmx.net", "imap.gmx.net"),
            ("live.example.org", "None"),
            ("outlook.example", "None"),
            ("notgmail.com", "None"),
            ("example.org", "None"),
        ] {
            assert_eq!(host(by_domain(domain)), expected, "{domain}");
        }
        assert!(matches!(by_domain("proton.me"), Some(Keeper::Closed(_))));
    }

    #[test]
    fn who_takes_mail_tells_who_keeps_it() {
        for (exchanger, expected) in [
            ("aspmx.l.google.com", "Some(Workspace)"),
            ("alt1.aspmx.googlemail.com", "Some(Workspace)"),
            ("smtp.google.com", "Some(Workspace)"),
            (
                "contoso-example.mail.protection.outlook.com",
                "Some(Microsoft365(Microsoft))",
            ),
            ("contoso-example.o-v1.mx.microsoft", "Some(Microsoft365(Microsoft))"),
            ("outlook-com.olc.protection.outlook.com", "Some(Outlook)"),
            ("x.mail.protection.office365.us", "Some(Microsoft365(MicrosoftGccHigh))"),
            (
                "x.mail.protection.partner.outlook.cn",
                "Some(Microsoft365(MicrosoftChina))",
            ),
            ("in1-smtp.messagingengine.com", "imap.fastmail.com"),
            ("mx01.mail.icloud.com", "imap.mail.me.com"),
            ("mta5.am0.yahoodns.net", "imap.mail.yahoo.com"),
            ("notgoogle.com", "None"),
            ("google.com.evil.example", "None"),
            ("mx.example.org", "None"),
        ] {
            assert_eq!(host(by_exchanger(exchanger)), expected, "{exchanger}");
        }
    }

    #[test]
    fn each_end_of_an_exchanger_leads_to_somebody() {
        for (end, who) in EXCHANGERS {
            assert!(by_exchanger(&format!("x.{end}")).is_some(), "{end} {who}");
        }
    }
}
