//! Statements about the noun thread.
