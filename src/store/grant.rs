//! Statements about the noun grant.
