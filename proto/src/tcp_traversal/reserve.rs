//! The reserve: a second pair of ports, of which one side opens before the other dials.
//!
//! ```text
//!  caller A                 NA              broker               NB              callee B, late
//!  |--SYN a0 to B*:b0------>|----------------------------------->| nobody has opened      |
//!  |<--RST: a0 is lost------|<-----------------------------------|                        |
//!  |== "my reserve is A*:a1" ==================>|===================== held up ==========>|
//!  |                        |             x<---------------------|<--SYN b1 to A*:a1------|  TTL 2
//!  |<==========================================|<== "my reserve is B*:b1, and it is open" |
//!  |--SYN a1 to B*:b1------>|----------------------------------->|----------------------->|
//!  |<-----------------------|<-----------------------------------|<--SYN+ACK--------------|
//! ```
//!
//! Crossing SYNs are the quickest way, and where the peer is late they may cost a NAT its port: an RST or an
//! ICMP error that comes in takes the mapping away. A node has a port in reserve anyway, for its next
//! call, and knows what the outside calls it. So while the announced ports are tried the reserves are told, and
//! one side's SYN leaves when the other's NAT is known to be open. It takes eight to ten ways to the peer instead of
//! four, and nothing has to be measured or to have failed before. Where the announced ports get through in time,
//! no SYN of it leaves.
//!
//! A caller without a name tells of its second port with the call, as a candidate: nobody calls it there. One with a
//! name, whose second port others know, takes the next one for its reserve, and tells of that when a server has
//! answered.
//!
//! The opener is the side that the [`plan`](super::plan) has for the [shielded opener](super::shielded_opener), else
//! the callee: its reserve is known since it has registered, so that one word less is needed.
//!
//! Preconditions: steady ports on both sides, IPv4, and an opener whose NAT keeps a hole when its SYN dies, and lets
//! a SYN in. No privilege.

use super::simultaneous_open::Stance;
use super::survey::Sample;

/// One side's reserve in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserve {
    /// The port, and what a server calls it.
    pub sample: Sample,
    /// Several servers call it so: our ports look the same to everybody.
    pub is_sure: bool,
    /// How its SYN has left, once it has.
    pub sent: Option<Stance>,
}

impl Reserve {
    /// A port that nothing has left from.
    pub fn new(sample: Sample, is_sure: bool) -> Self {
        Self { sample, is_sure, sent: None }
    }
}
