//! Everything that needs a socket, a database or the built program, in one binary.
#![cfg(test)]

mod support;

mod authorize;
mod broker;
mod commands;
mod configuration;
mod corpus;
mod daemon;
mod files;
mod imap;
mod intake;
mod kill;
mod oauth;
mod pop3;
mod readme;
mod shape;
mod store;
mod systemd;
mod upkeep;
