//! Statements about the noun issue.
