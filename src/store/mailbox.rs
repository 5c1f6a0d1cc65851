//! Statements about the noun mailbox.
