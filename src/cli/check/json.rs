//! The facts of `check` as one JSON object. Names follow the configuration; readers skip what they do not know.
//! It shows where secrets are, never what they are.

use serde_json::{Map, Value, json};

use super::redirect_uris;
use super::rule::permission;
use crate::config::Config;
use crate::config::value::write_duration;
use crate::grant::{ClientAuthentication, ClientCertificate, EndpointSource, Endpoints, Integration};
use crate::mail::Class;
use crate::mailbox::{After, Mailbox, Protocol, SignIn, Start, Tls, Watch};
use crate::oauth::assertion;
use crate::outgoing::{Smtp, SmtpSignIn};
use crate::project::{
    Acknowledge, ClosedIssue, Glob, Handler, NonParticipant, Project, Route, RouteTarget, SameMessage, Trim,
    UnknownSender,
};
use crate::secret::Secret;

/// The object, indented, with a line end.
pub(super) fn object(config: &Config) -> String {
    let daemon = &config.daemon;
    let object = json!({
        "path": config.path,
        "daemon": {
            "state_dir": daemon.state_dir,
            "log": daemon.log.as_str(),
            "listen": daemon.listen.map(|address| address.to_string()),
            "public_url": daemon.public_url,
            "token_key": daemon.token_key.as_ref()
                .map_or_else(|| daemon.token_key_file().display().to_string(), origin),
            "ca_file": daemon.ca_file,
        },
        "integrations": list(&config.integrations, |one| integration(config, one)),
        "mailboxes": list(&config.mailboxes, |one| mailbox(one)),
        "projects": list(&config.projects, |one| project(one)),
        "routes": list(&config.routes, route),
        "smtp": list(&config.smtp, smtp),
        "webhooks": list(&config.webhooks, |webhook| json!({
            "url": webhook.url,
            "secret": webhook.secret.as_ref().map(origin),
            "events": list(&webhook.events, |glob| json!(glob.as_str())),
        })),
        "alerts": {
            "email": config.alerts.email,
            "command": config.alerts.command,
            "remind_after": list(&config.alerts.remind_after, |delay| json!(write_duration(*delay))),
        },
        "retention": { "raw_messages": write_duration(config.retention.raw_messages) },
        "warnings": config.warnings,
    });
    format!("{object:#}\n")
}

fn list<T>(items: &[T], value: impl Fn(&T) -> Value) -> Value {
    Value::Array(items.iter().map(value).collect())
}

fn origin(secret: &Secret) -> String {
    secret.source.describe()
}

fn integration(config: &Config, integration: &Integration) -> Value {
    let (discovery, endpoints) = match &integration.endpoints {
        EndpointSource::Issuer(issuer) => (Some(issuer), None),
        EndpointSource::Fixed(endpoints) => (None, Some(endpoints)),
    };
    let endpoint = |get: fn(&Endpoints) -> Option<&String>| endpoints.and_then(get);
    json!({
        "name": integration.name,
        "description": integration.description,
        "provider": integration.provider.as_str(),
        "tenant": integration.tenant,
        "flow": integration.flow.as_str(),
        "client_id": integration.client_id,
        "client_authentication": match integration.client_authentication {
            ClientAuthentication::Post => "post",
            ClientAuthentication::Basic => "basic",
            ClientAuthentication::PrivateKeyJwt => "private-key-jwt",
        },
        "client_secret": integration.client_secret.as_ref().map(origin),
        "client_secret_expires": integration.client_secret_expires.map(crate::time::Timestamp::rfc3339),
        "certificate": integration.certificate.as_ref().map(|certificate| &certificate.path),
        "certificate_expires": integration.certificate.as_ref().and_then(end),
        "next_client_secret": integration.next_client_secret.as_ref().map(origin),
        "next_certificate": integration.next_certificate.as_ref().map(|certificate| &certificate.path),
        "next_certificate_expires": integration.next_certificate.as_ref().and_then(end),
        "service_account": integration.service_account.as_ref().map(origin),
        "redirect_uris": redirect_uris(config, integration),
        "discovery": discovery,
        "issuer": endpoint(|endpoints| endpoints.issuer.as_ref()),
        "authorization_endpoint": endpoint(|endpoints| endpoints.authorization.as_ref()),
        "token_endpoint": endpoint(|endpoints| Some(&endpoints.token)),
        "device_authorization_endpoint": endpoint(|endpoints| endpoints.device_authorization.as_ref()),
        "revocation_endpoint": endpoint(|endpoints| endpoints.revocation.as_ref()),
        "scopes": integration.scopes,
        "authorization_parameters": integration.authorization_parameters,
    })
}

/// When a certificate ends.
fn end(certificate: &ClientCertificate) -> Option<String> {
    let validity = assertion::validity(&certificate.pem).ok()?;
    Some(validity.not_after.rfc3339())
}

fn mailbox(mailbox: &Mailbox) -> Value {
    let (integration, password) = match &mailbox.sign_in {
        SignIn::Token(grant) => (Some(&grant.integration.name), None),
        SignIn::Password(secret) => (None, Some(origin(secret))),
    };
    json!({
        "name": mailbox.name,
        "address": mailbox.address,
        "login": mailbox.login,
        "sasl_user": mailbox.sasl_user,
        "integration": integration,
        "password": password,
        "protocol": super::protocol(mailbox.server.protocol),
        "host": mailbox.server.host,
        "port": mailbox.server.port,
        "tls": tls(mailbox.server.tls),
        "folders": match mailbox.server.protocol {
            Protocol::Imap => Some(&mailbox.folders),
            Protocol::Pop3 => None,
        },
        "watch": match mailbox.watch {
            Watch::Idle => "idle",
            Watch::Poll => "poll",
        },
        "poll_interval": write_duration(mailbox.poll_interval),
        "start": match mailbox.start {
            Start::New => "new".to_owned(),
            Start::Unseen => "unseen".to_owned(),
            Start::All => "all".to_owned(),
            Start::Since(instant) => instant.rfc3339(),
        },
        "project": mailbox.project,
        "after": match &mailbox.after {
            After::Keep => json!("keep"),
            After::Seen => json!("seen"),
            After::Delete => json!("delete"),
            After::Flag(keyword) => json!({ "flag": keyword }),
            After::Move(folder) => json!({ "move": folder }),
        },
        "max_message_size": mailbox.max_message_size,
        "authserv_id": mailbox.authserv_id,
    })
}

fn tls(tls: Tls) -> &'static str {
    match tls {
        Tls::Implicit => "implicit",
        Tls::StartTls => "starttls",
        Tls::None => "none",
    }
}

fn project(project: &Project) -> Value {
    let classes: Map<String, Value> = Class::ALL
        .into_iter()
        .map(|class| (class.as_str().to_owned(), json!(permission(project.classes.of(class)))))
        .collect();
    json!({
        "key": project.key,
        "name": project.name,
        "handler": match project.handler {
            Handler::CreateOrComment => "create-or-comment",
            Handler::Create => "create",
            Handler::Comment => "comment",
        },
        "classes": classes,
        "trim": match project.trim {
            Trim::Reply => "reply",
            Trim::None => "none",
        },
        "unknown_sender": match project.unknown_sender {
            UnknownSender::Accept => "accept",
            UnknownSender::Hold => "hold",
            UnknownSender::Ignore => "ignore",
        },
        "non_participant": match project.non_participant {
            NonParticipant::LinkedIssue => "linked-issue",
            NonParticipant::Comment => "comment",
            NonParticipant::Hold => "hold",
        },
        "closed_issue": match project.closed_issue {
            ClosedIssue::Reopen => "reopen",
            ClosedIssue::Comment => "comment",
            ClosedIssue::LinkedIssue => "linked-issue",
        },
        "same_message": match project.same_message {
            SameMessage::Once => "once",
            SameMessage::Each => "each",
        },
        "acknowledge": match &project.acknowledge {
            Acknowledge::Off => json!(false),
            Acknowledge::Standard => json!(true),
            Acknowledge::Template(letters) => json!({ "template": letters.path }),
        },
        "watchers_from_cc": project.watchers_from_cc,
        "smtp": project.smtp,
        "from": project.from,
    })
}

fn route(route: &Route) -> Value {
    let glob = |glob: &Option<Glob>| glob.as_ref().map(|glob| glob.as_str().to_owned());
    let headers: Map<String, Value> = route
        .header
        .iter()
        .map(|(name, glob)| (name.clone(), json!(glob.as_str())))
        .collect();
    let (project, action) = match &route.target {
        RouteTarget::Project(key) => (Some(key), None),
        RouteTarget::Ignore => (None, Some("ignore")),
        RouteTarget::Hold => (None, Some("hold")),
    };
    json!({
        "to": glob(&route.to),
        "from": glob(&route.from),
        "subject": glob(&route.subject),
        "mailbox": glob(&route.mailbox),
        "header": headers,
        "project": project,
        "action": action,
    })
}

fn smtp(smtp: &Smtp) -> Value {
    let (integration, username, password) = match &smtp.sign_in {
        SmtpSignIn::Anonymous => (None, None, None),
        SmtpSignIn::Password { username, password, .. } => (None, Some(username), Some(origin(password))),
        SmtpSignIn::Token { grant, sasl_user } => (Some(&grant.integration.name), Some(sasl_user), None),
    };
    json!({
        "name": smtp.name,
        "host": smtp.host,
        "port": smtp.port,
        "tls": tls(smtp.tls),
        "from": smtp.from,
        "integration": integration,
        "username": username,
        "password": password,
    })
}
