//! The `ntcp` command, as a library so that tests can reach its parts.
//!
//! [`arguments`] says what can be written; [`doctor`], [`listen`] and [`connect`] are the commands;
//! [`local`] joins a connection to its local end through [`pump`]; [`story`] finds the words;
//! [`failure`] knows the exit status.
//!
//! What this room does *not* do: anything about NATs, which is the `ntcp` crate's.

#![forbid(unsafe_code)]

pub mod arguments;
pub mod connect;
pub mod doctor;
pub mod failure;
pub mod listen;
pub mod local;
pub mod log;
pub mod page;
pub mod peer;
pub mod pump;
pub mod spoof_check;
mod stop;
pub mod story;
pub mod stream;

/// The examples in the README are compiled as documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
