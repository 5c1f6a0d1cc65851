//! imap_server
