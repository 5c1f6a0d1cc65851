//! Everything that needs a socket, a database or the built program, in one binary.
#![cfg(test)]

mod support;

mod authorize;
mod broker;
mod commands;
mod configuration;
mod corpus;
mod daemon;
mod doctor;
mod files;
mod imap;
mod init;
mod intake;
mod kill;
mod oauth;
mod pair;
mod readme;
mod shape;
mod sign_in;
mod store;
mod systemd;
mod upkeep;
