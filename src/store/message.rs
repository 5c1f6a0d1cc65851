//! Statements about the noun message.
