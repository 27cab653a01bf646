//! What a host's kernel does for privileged programs only: sockets without a handshake, captures of
//! outgoing SYNs and raw segments.

use std::time::Instant;

use ntcp_proto::command::{Agreed, Ends};
use ntcp_proto::segment::Segment;
use ntcp_proto::{Hops, IoFailure};

use super::connection::Connection;
use super::{Host, Notice, Socket, is_bound, pair};
use crate::packet::Packet;

/// What the programs of a host may do beyond what everybody may.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Privileges {
    /// Capture packets and send raw ones: `CAP_NET_RAW`.
    pub raw: bool,
    /// Choose sequence numbers and assume connections: `CAP_NET_ADMIN`.
    pub admin: bool,
}

impl Privileges {
    /// Those of an ordinary user; what hosts have unless they are given more.
    pub const NONE: Self = Self { raw: false, admin: false };
    /// All there are.
    pub const ALL: Self = Self { raw: true, admin: true };
}

/// A wait for a SYN.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capture {
    ends: Ends,
    seen: bool,
}

impl Capture {
    fn covers(&self, ends: Ends) -> bool {
        is_bound(self.ends.local, ends.local) && self.ends.remote == ends.remote
    }
}

impl Host {
    /// Gives programs these privileges, instead of those they had.
    pub fn set_privileges(&mut self, privileges: Privileges) {
        self.privileges = privileges;
    }

    /// Opens a connection as if its handshake had taken place (`TCP_REPAIR`): it is established at
    /// once and says so with one ACK, as a socket does that leaves repair mode.
    ///
    /// # Errors
    ///
    /// No privilege, an address that is not the host's, or a pair of ends in use.
    pub fn assume_tcp(
        &mut self,
        ends: Ends,
        agreed: Agreed,
        hops: Hops,
        now: Instant,
    ) -> Result<Socket, IoFailure> {
        if !self.privileges.admin {
            return Err(IoFailure::NotPermitted);
        }
        let ends = self.free_ends(ends.local, ends.remote)?;
        let connection = Connection::assume(ends, agreed, hops, now);
        Ok(self.dial(connection.ok_or(IoFailure::AddressNotAvailable)?, now))
    }

    /// Waits for the first SYN that leaves from one end for the other.
    ///
    /// # Errors
    ///
    /// No privilege.
    pub fn capture(&mut self, ends: Ends) -> Result<Socket, IoFailure> {
        if !self.privileges.raw {
            return Err(IoFailure::NotPermitted);
        }
        let socket = self.name();
        self.captures.insert(socket, Capture { ends, seen: false });
        Ok(socket)
    }

    /// Captures that are open.
    pub fn captures(&self) -> usize {
        self.captures.len()
    }

    /// Sends a segment as it is; one for the host itself arrives at once. It must belong to a pair
    /// of ends that is connected or captured here.
    ///
    /// # Errors
    ///
    /// No privilege, somebody else's ends, or ends of two families.
    pub fn inject(&mut self, segment: &Segment, ttl: u8) -> Result<(), IoFailure> {
        let out = Ends { local: segment.source, remote: segment.destination };
        let back = Ends { local: segment.destination, remote: segment.source };
        let ours = [out, back].into_iter().any(|ends| {
            self.connections.contains_key(&pair(ends))
                || self.captures.values().any(|capture| capture.covers(ends))
        });
        if !self.privileges.raw || !ours {
            return Err(IoFailure::NotPermitted);
        }
        let packet = segment.emit(ttl.max(1));
        self.outgoing.push_back(packet.ok_or(IoFailure::NetworkUnreachable)?);
        Ok(())
    }

    /// Sends a packet in another host's name.
    ///
    /// # Errors
    ///
    /// [`IoFailure::NotPermitted`] without raw sockets.
    pub fn forge(&mut self, packet: Vec<u8>) -> Result<(), IoFailure> {
        if !self.privileges.raw {
            return Err(IoFailure::NotPermitted);
        }
        self.send_raw(Some(packet));
        Ok(())
    }

    /// Sends a packet with any source, as a raw socket does; what is none is dropped.
    pub(crate) fn send_raw(&mut self, packet: Option<Vec<u8>>) {
        self.outgoing.extend(packet);
    }

    /// Every packet that is about to leave passes here.
    pub(super) fn show_to_captures(&mut self, packet: &Packet) {
        let is_syn = packet.tcp().is_some_and(|fields| fields.is_syn());
        let Some(segment) = packet.segment().filter(|_| is_syn) else { return };
        let ends = Ends { local: segment.source, remote: segment.destination };
        for (socket, capture) in &mut self.captures {
            if !capture.seen && capture.covers(ends) {
                capture.seen = true;
                self.notices.push_back(Notice::Captured { socket: *socket, segment });
            }
        }
    }
}
