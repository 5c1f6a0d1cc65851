//! Statements about the noun attachment.
