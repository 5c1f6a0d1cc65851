//! Peers and handles that the tests share.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test module uses a part of it, and nothing outside sees any"
)]

pub mod binary;
pub mod certificate;
pub mod disk;
pub mod dovecot;
pub mod imap_server;
pub mod lab;
pub mod pop3_server;
pub mod proof;
pub mod provider;
pub mod receiver;
pub mod scene;
pub mod signer;
pub mod smtp_server;
