//! Packets seen at both ends of a path.

use std::net::SocketAddr;

use ntcp_proto::nat::UnsolicitedSyn;

use crate::kernel::capture_handle::Capture;
use crate::kernel::control::Frame;
use crate::packet::{Packet, Protocol, flag};

/// The tap in the host.
pub(super) const HOST: usize = 0;
/// The tap in the server.
pub(super) const OUTSIDE: usize = 1;

pub(super) struct Watch(pub(super) Capture);

impl Watch {
    pub(super) fn stop(self) -> Vec<Sight> {
        self.0.stop().iter().filter_map(Sight::new).collect()
    }
}

/// A packet seen at one end.
pub(super) struct Sight {
    pub(super) tap: usize,
    pub(super) outgoing: bool,
    pub(super) packet: Packet,
}

impl Sight {
    pub(super) fn new(frame: &Frame) -> Option<Self> {
        let packet = Packet::parse(&frame.packet).ok()?;
        Some(Self { tap: frame.tap, outgoing: frame.outgoing, packet })
    }

    pub(super) fn flags(&self) -> Option<u8> {
        self.packet.tcp().map(|fields| fields.flags & (flag::SYN | flag::ACK | flag::RST))
    }

    pub(super) fn sequence(&self) -> Option<u32> {
        self.packet.tcp().map(|fields| fields.sequence)
    }

    pub(super) fn syn_to(&self, to: SocketAddr) -> bool {
        self.flags() == Some(flag::SYN) && self.packet.destination() == Some(to)
    }

    pub(super) fn is_syn_to_host(&self, from: SocketAddr) -> bool {
        self.tap == HOST
            && !self.outgoing
            && self.flags() == Some(flag::SYN)
            && self.packet.source() == Some(from)
    }
}

/// What came back to where a SYN came from.
pub(super) fn answer(sights: &[Sight], from: SocketAddr) -> UnsolicitedSyn {
    let mut back = sights.iter().filter(|sight| {
        sight.tap == OUTSIDE && !sight.outgoing && sight.packet.destination_ip() == from.ip()
    });
    back.find_map(|sight| match sight.packet.protocol() {
        Protocol::Icmp => Some(UnsolicitedSyn::Icmp),
        Protocol::Tcp => {
            let refused = sight.flags().is_some_and(|flags| flags & flag::RST != 0);
            let here = sight.packet.destination() == Some(from);
            (refused && here).then_some(UnsolicitedSyn::Rst)
        }
        Protocol::Udp | Protocol::Other(_) => None,
    })
    .unwrap_or(UnsolicitedSyn::Silent)
}
