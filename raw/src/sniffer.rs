//! Captures of this host's own SYNs: what the kernel chose for a handshake that has just begun.
//!
//! | backend | what it stands on | where |
//! |---|---|---|
//! | [`packet_socket`] | `AF_PACKET` with a classic BPF filter | any Linux, no C library |
//! | `pcap` | libpcap, feature `pcap` | wherever libpcap is |
//! | [`relayed`] | the privilege helper, which has a packet socket | without privilege of one's own |
//! | [`fake`] | whatever a test shows | tests |
//!
//! All are open, with the filter in force, when their constructor returns: a SYN sent afterwards is
//! not missed, and nothing older is seen. Checksums in what they show may be wrong, since the
//! network card fills them in later.

mod fake;
mod packet_socket;
#[cfg(feature = "pcap")]
mod pcap;

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use ntcp_proto::segment::Segment;

pub use fake::{Fake, fake};
pub(crate) use packet_socket::{HEADERS, open_packet_socket};

pub use packet_socket::{PacketSocket, packet_socket, relayed};
#[cfg(feature = "pcap")]
pub use pcap::{Pcap, pcap};

/// What a sniffer saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Captured {
    /// The SYN.
    pub segment: Segment,
    /// The TTL or hop limit it left with.
    pub ttl: u8,
}

impl Captured {
    /// From the first bytes of a packet, the IP header on.
    fn parse(packet: &[u8]) -> Option<Self> {
        Segment::parse(packet).map(|(segment, ttl)| Self { segment, ttl })
    }
}

/// An open capture; it ends when it is dropped.
pub trait Sniffer: Send {
    /// The next SYN that its filter is for: the first, then its retransmissions.
    fn poll_syn(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Captured>>;
}

impl dyn Sniffer + '_ {
    /// Waits for the next SYN. Cancel safe: none is lost.
    ///
    /// # Errors
    ///
    /// As the system reports them; the capture is of no more use then.
    pub async fn syn(&mut self) -> io::Result<Captured> {
        poll_fn(|context| self.poll_syn(context)).await
    }
}
