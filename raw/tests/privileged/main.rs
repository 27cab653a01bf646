//! What takes privileges, on the real kernel: each test runs in a user and a network namespace of
//! its own, where it is root over its own loopback interface and over nothing else.
#![cfg(target_os = "linux")]

mod helper;
mod namespace;
mod packets;
mod repairs;
mod sniffers;
