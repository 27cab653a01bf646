//! A simulated internet in virtual time, and the same NATs under real kernels.
//!
//! A [`world::World`] is wired from [`host`]s, [`nat`]s, routers and [`link`]s, carries the machines
//! of `ntcp_proto` on its hosts ([`run`](world::World::run)) and keeps a [`trace`] of every packet.
//! [`presets`] name the NATs worth knowing.
//!
//! [`oracle`] foretells which pairs of NATs connect, and [`matrix`] lets them all try. A world is a
//! value that is told the time; it opens no socket and reads no clock, and equal seeds give equal
//! runs, byte for byte. Only [`kernel`] leaves virtual time.
#![deny(unsafe_code)]

pub mod chart;
pub mod endurance;
#[cfg(test)]
mod findings;
pub mod host;
pub mod kernel;
pub mod link;
pub mod matrix;
pub mod meeting;
pub mod nat;
pub mod oracle;
pub mod packet;
pub mod pairs;
pub mod presets;
mod probe;
mod runner;
pub mod scratch;
pub mod server;
pub mod technique;
mod town;
pub mod trace;
pub mod trial;
pub mod world;
