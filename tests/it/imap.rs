//! The IMAP client against our own server, which can misbehave, and against Dovecot.
