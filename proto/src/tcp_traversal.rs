//! Opening TCP connections through NATs: one file for each strategy.
//!
//! | strategy | what it does | privileges |
//! |---|---|---|
//! | direct | an ordinary connect to an address of the peer's own host, in the race with the others | none |
//! | [`simultaneous_open`] | both sides connect from their punching ports at the agreed instant, retry without a gap, and listen on the same ports | none |
//! | [`shielded_opener`] | one side opens its NAT with a SYN that dies on the way, the other dials | none |
//! | [`rounds`] of these | both take ports that nothing has happened to, one SYN each, and again if nothing came of it | none |
//! | [`port_prediction`] | the next ports of a sequential NAT are foretold from fresh samples | none |
//! | [`port_coverage`] | a steady side opens many holes, a random one draws many ports | none |
//! | [`ghost_handshake`] | both sides assume a connection that never had a handshake | both: assume connections |
//!
//! The [`plan`] chooses from what was measured; a [`survey`] measures what must be fresh; [`note`]s
//! carry what one side learns to the other; a [`budget`] bounds all of it. The
//! [`session`](crate::puncher::session) carries the strategies out.
//!
//! All sockets of a session share one local port with the connection that discovered its mapping,
//! but for draws and ghosts, which need ports of their own.

pub mod budget;
pub mod ghost_handshake;
pub mod note;
pub mod plan;
pub mod port_coverage;
pub mod port_prediction;
pub mod rounds;
pub mod shielded_opener;
pub mod simultaneous_open;
pub mod survey;
