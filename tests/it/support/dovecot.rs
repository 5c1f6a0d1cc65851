//! dovecot
