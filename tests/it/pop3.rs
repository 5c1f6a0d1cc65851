//! POP3: the client and the daemon against our own server, which can misbehave, and against Dovecot.

mod client;
mod daemon;
mod dovecot;
mod kill;
mod stage;
