//! Rows of the stable views and what belongs to them, as the commands show them. Read only.

pub mod issue;
pub mod message;
pub mod told;
