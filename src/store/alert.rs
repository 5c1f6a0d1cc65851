//! Statements about the noun alert.
