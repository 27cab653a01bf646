//! One punching port: a UDP socket and a TCP port in each family the host has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use super::Servers;
use super::tcp::TcpEnd;
use super::udp::UdpEnd;
use crate::address::Family;
use crate::candidate::Transport;
use crate::command::Names;
use crate::entropy::Entropy;
use crate::{Command, IoFailure, SocketId};

/// Names one punching port of a gatherer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortId(pub(super) u32);

#[derive(Debug, Default)]
pub(super) struct Port {
    /// The UDP port number asked for; 0 takes any.
    pub(super) wanted: u16,
    pub(super) udp: Vec<UdpEnd>,
    pub(super) tcp: Vec<TcpEnd>,
}

impl Port {
    /// Opens what is missing in `families`.
    pub(super) fn open(&mut self, families: &[Family], names: &mut Names) -> Vec<Command> {
        let mut commands = Vec::new();
        for family in families {
            if self.udp.iter().any(|end| end.family == *family) {
                continue;
            }
            let any = unspecified(*family);
            let (udp, bind) = UdpEnd::open(*family, SocketAddr::new(any, self.wanted), names);
            let (tcp, listen) = TcpEnd::open(*family, SocketAddr::new(any, 0), names);
            self.udp.push(udp);
            self.tcp.push(tcp);
            commands.extend([bind, listen]);
        }
        commands
    }

    pub(super) fn sockets(&self) -> Vec<SocketId> {
        let udp = self.udp.iter().map(|end| end.socket);
        udp.chain(self.tcp.iter().flat_map(TcpEnd::sockets)).collect()
    }

    /// Whether the system has answered for every end.
    pub(super) fn is_bound(&self) -> bool {
        let udp = self.udp.iter().all(|end| end.local.is_some());
        udp && !self.udp.is_empty() && self.tcp.iter().all(|end| end.local.is_some())
    }

    /// Whether a server has told both halves their address.
    pub(super) fn is_told(&self) -> bool {
        let udp = self.udp.iter().any(|end| end.mapped().next().is_some());
        udp && self.tcp.iter().any(|end| !end.mapped().is_empty())
    }

    /// Whether a socket of this transport is open, or may still be.
    pub(super) fn may_have(&self, transport: Transport) -> bool {
        let may = |local: Option<Result<SocketAddr, IoFailure>>| !matches!(local, Some(Err(_)));
        match transport {
            Transport::Udp => self.udp.iter().any(|end| may(end.local)),
            Transport::Tcp => self.tcp.iter().any(|end| may(end.local)),
        }
    }

    /// Where the TCP half probably is while no server has told: behind the address that UDP has, on
    /// the host's own port number, which most NATs keep. A wrong guess costs a few SYNs.
    pub(super) fn likely_tcp(&self) -> Vec<SocketAddr> {
        let untold = self.tcp.iter().filter(|end| end.mapped().is_empty());
        let guess = |end: &TcpEnd| {
            let Some(Ok(local)) = end.local else { return None };
            let udp = self.udp.iter().find(|udp| udp.family == end.family)?;
            Some(SocketAddr::new(udp.mapped().next()?.ip(), local.port()))
        };
        untold.filter_map(guess).collect()
    }

    pub(super) fn is_settled(&self, servers: &Servers) -> bool {
        let udp = self.udp.iter().all(UdpEnd::is_settled);
        self.is_bound() && udp && self.tcp.iter().all(|end| end.is_settled(&servers.tcp))
    }

    pub(super) fn drive(
        &mut self,
        servers: &Servers,
        names: &mut Names,
        entropy: &mut Entropy,
        now: Instant,
    ) -> Vec<Command> {
        let mut commands = Vec::new();
        for end in &mut self.udp {
            commands.extend(end.drive(&servers.udp, names, entropy, now));
        }
        for end in &mut self.tcp {
            commands.extend(end.drive(servers, names, entropy, now));
        }
        commands
    }

    pub(super) fn next(&self) -> Option<Instant> {
        let udp = self.udp.iter().filter_map(UdpEnd::next);
        udp.chain(self.tcp.iter().filter_map(TcpEnd::next)).min()
    }
}

fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}
