//! The peers of the show: a mail server, an OAuth 2.0 provider and a certificate authority, all in this process.
//! They are those of the tests; nothing is played that the daemon could tell from a real one.
#![expect(
    dead_code,
    unused_imports,
    unreachable_pub,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "made for the tests, of which this show uses a part"
)]

#[path = "../it/support/certificate.rs"]
pub mod certificate;
#[path = "../it/support/imap_server.rs"]
pub mod imap_server;
#[path = "../it/support/proof.rs"]
pub mod proof;
#[path = "../it/support/provider.rs"]
pub mod provider;
