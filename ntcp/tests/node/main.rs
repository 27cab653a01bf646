//! Nodes over real sockets of one host, with a broker of their own.

mod common;
mod faults;
mod lone;
mod open;
mod runtimes;
mod secrecy;
