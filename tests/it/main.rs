//! Everything that needs a socket, a database or the built program, in one binary.
#![cfg(test)]

mod support;

mod alert;
mod authorize;
mod bad_input;
mod broker;
mod canary;
mod client;
mod commands;
mod configuration;
mod corpus;
mod daemon;
mod doctor;
mod files;
mod foresight;
mod imap;
mod init;
mod intake;
mod key;
mod kill;
mod large;
mod metrics;
mod oauth;
mod outgoing;
mod package;
mod pair;
mod pop3;
mod readme;
mod renewal;
mod shape;
mod sign_in;
mod smtp;
mod smtp_lab;
mod store;
mod systemd;
mod upkeep;
mod webhook;
