//! mailintake turns mailboxes into issues. This file is the map; a module imports only from floors below its own.
//!
//! | floor | modules | what they do |
//! |---|---|---|
//! | entry | `main.rs`, [`cli`] | arguments, output, exit codes |
//! | house | [`daemon`], [`service`], [`log`] | builds everything from the configuration; signals, reload, ordered stop; systemd's notifications; the journal |
//! | loops | [`worker`], [`schedule`] | one mailbox for ever; what recurs |
//! | doors | [`http`], [`config`] | the listener; TOML into the types below |
//! | services | [`intake`], [`authorize`], [`doctor`], [`audit`], [`rehearse`], [`notice`] | one batch; a sign-in; "test connection"; server against ledger; what would become of mail; raise and resolve alerts |
//! | tokens | [`broker`] | the only way to an access token |
//! | adapters | [`store`], [`imap`], [`pop3`], [`files`], [`oauth`] | SQLite; IMAP; POP3; files and pipes; the provider's endpoints |
//! | facts | [`mailbox`], [`project`], [`grant`], [`outgoing`], [`alert`], [`thread`], [`issue`] | settings and rules, pure |
//! | ground | [`mail`], [`secret`], [`seal`], [`fault`], [`time`], [`tls`], [`dial`] | bytes into mail; secrets and their sealing; remedies; clock; trust; connections |
//!
//! A message goes `worker` → `imap` → `intake` (`mail`, `thread`, `issue`, `store`) → `imap` → `store`.
//! A token goes `worker` or `schedule` → `broker` (`store`, `oauth`).

pub mod alert;
pub mod audit;
pub mod authorize;
pub mod broker;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod dial;
pub mod doctor;
pub mod fault;
pub mod files;
pub mod grant;
pub mod http;
pub mod imap;
pub mod intake;
pub mod issue;
pub mod log;
pub mod mail;
pub mod mailbox;
pub mod notice;
pub mod oauth;
pub mod outgoing;
pub mod pop3;
pub mod project;
pub mod rehearse;
pub mod schedule;
pub mod seal;
pub mod secret;
pub mod service;
pub mod store;
pub mod thread;
pub mod time;
pub mod tls;
pub mod worker;
