//! Opening TCP connections through NATs: one file for each strategy.
//!
//! | strategy | what it does | privileges |
//! |---|---|---|
//! | [`direct`] | an ordinary connect to an address of the peer's own host, in the race with the others | none |
//! | [`simultaneous_open`] | both sides connect from their punching ports at the agreed instant, retry without a gap, and listen on the same ports | none |
//! | [`connect_listen`] | a listener takes the SYN that comes from a port nobody could announce | none |
//! | [`shielded_opener`] | one side opens its NAT with a SYN that dies on the way, the other dials | none |
//! | [`reserve`] | the same between two more ports that are at hand, beside the first | none |
//! | [`rounds`] of these | both take ports that nothing has happened to, one SYN each, and again if nothing came of it | none |
//! | [`crossing`] | many pairs of fresh ports, one side's SYNs at once and the other's one after the other | none |
//! | [`port_prediction`] | the next ports of a sequential NAT are foretold from fresh samples | none |
//! | [`port_coverage`] | a steady side opens many holes, a random one draws many ports | none |
//! | [`syn_replay`] | both sides open their NATs with SYNs that die on the way, and send them again | both: send segments |
//! | [`syn_ack_injection`] | each side answers the SYN that its NAT kept from it | both: send segments |
//! | [`syn_injection`] | a side puts the peer's SYN into its own stack | one: send segments |
//! | [`connect_close_listen`] | a SYN that dies on the way, a listener, and a peer that dials; only where both ask for it | none |
//! | [`ghost_handshake`] | both sides assume a connection that never had a handshake | both: assume connections |
//! | [`spoofed_syn_ack`] | the broker answers both SYNs in the other one's name | both: capture, or choose sequence numbers |
//!
//! The [`plan`] chooses from what was measured, [`hints`] reorder it by what others came through with; a [`survey`] measures what must be fresh; [`note`]s
//! carry what one side learns to the other; a [`budget`] bounds all of it. The
//! [`session`](crate::puncher::session) carries the strategies out.
//!
//! All sockets of a session share one local port with the connection that discovered its mapping,
//! but for draws and ghosts, which need ports of their own.

pub mod budget;
pub mod connect_close_listen;
pub mod connect_listen;
pub mod crossing;
pub mod direct;
pub mod forgery;
pub mod ghost_handshake;
pub mod hints;
pub mod lone;
pub mod note;
pub mod plan;
pub mod port_coverage;
pub mod port_prediction;
pub mod reserve;
pub mod rounds;
pub mod shielded_opener;
pub mod simultaneous_open;
pub mod spoofed_syn_ack;
pub mod survey;
pub mod syn_ack_injection;
pub mod syn_injection;
pub mod syn_replay;
