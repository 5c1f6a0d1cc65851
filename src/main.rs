//! The `mailintake` command.

fn main() {}
