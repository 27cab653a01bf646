//! A simulated internet in virtual time, and the same NATs under real kernels.
//!
//! A [`nat::Nat`] is a value that turns packets into packets; [`presets`] name the ones worth knowing.
#![deny(unsafe_code)]

pub mod kernel;
pub mod nat;
pub mod packet;
pub mod presets;
