//! mailintake turns mailboxes into issues. This file is the map; a module imports only from floors below its own.
//!
//! | floor | modules | what they do |
//! |---|---|---|
//! | entry | `main.rs`, [`cli`] | arguments, output, exit codes |
//! | house | [`daemon`], [`service`], [`log`] | builds everything from the configuration; signals, reload, ordered stop; systemd's notifications; the journal |
//! | loops | [`worker`], [`schedule`], [`outbox`] | one mailbox for ever; what recurs; what goes out |
//! | doors | [`http`], [`config`] | the listener; TOML into the types below |
//! | services | [`intake`], [`authorize`], [`doctor`], [`discover`], [`audit`], [`rehearse`], [`notice`], [`foresight`], [`metrics`], [`telling`] | one batch; a sign-in; "test connection"; who keeps a mailbox; server against ledger; what would become of mail; raise and resolve alerts; what will end; what is counted; what is told to whom |
//! | tokens | [`broker`] | the only way to an access token |
//! | adapters | [`store`], [`imap`], [`pop3`], [`files`], [`oauth`], [`smtp`] | SQLite; IMAP; POP3; files and pipes; the provider's endpoints; outgoing mail |
//! | facts | [`mailbox`], [`project`], [`grant`], [`outgoing`], [`alert`], [`thread`], [`issue`], [`compose`] | settings and rules, pure; mails composed |
//! | ground | [`mail`], [`secret`], [`seal`], [`fault`], [`time`], [`tls`], [`dial`], [`skimmed`] | bytes into mail; secrets and their sealing; remedies; clock; trust; connections; a message and its long parts |
//!
//! A message goes `worker` → `imap` → `intake` (`mail`, `thread`, `issue`, `store`) → `imap` → `store`.
//! A token goes `worker` or `schedule` → `broker` (`store`, `oauth`).

pub mod alert;
pub mod audit;
pub mod authorize;
pub mod broker;
pub mod cli;
pub mod compose;
pub mod config;
pub mod daemon;
pub mod dial;
pub mod discover;
pub mod doctor;
pub mod fault;
pub mod files;
pub mod foresight;
pub mod grant;
pub mod http;
pub mod imap;
pub mod intake;
pub mod issue;
pub mod log;
pub mod mail;
pub mod mailbox;
pub mod metrics;
pub mod notice;
pub mod oauth;
pub mod outbox;
pub mod outgoing;
pub mod pop3;
pub mod project;
pub mod rehearse;
pub mod schedule;
pub mod seal;
pub mod secret;
pub mod service;
pub mod skimmed;
pub mod smtp;
pub mod store;
pub mod telling;
pub mod thread;
pub mod time;
pub mod tls;
pub mod worker;
