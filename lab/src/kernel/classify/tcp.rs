//! What the boxes do with TCP.

use std::net::{SocketAddr, TcpListener, TcpStream};

use ntcp_proto::nat::{
    Filtering, InboundSynAfterSyn, InitialSequence, Mapping, PortAllocation, TcpReport,
    UnsolicitedSyn,
};
use socket2::Socket;

use super::sight::{HOST, OUTSIDE, Watch, answer};
use super::verdict::{allocation, filtering, mapping};
use super::{Probe, SAMPLES, connect, failed};
use crate::kernel::control::{SocketKind, Tap};
use crate::kernel::error::Result;
use crate::kernel::layout::{QUIET_ADDRESS, SERVER_ADDRESSES};
use crate::kernel::plan::{ETHERNET, SERVER};
use crate::packet::{self, Segment, flag};

/// Sequence number of forged SYNs.
const SEQUENCE: u32 = 0x6e74_6370;
/// Where forged SYNs come from; nobody else uses these ports of the server.
const FORGED_PORTS: [u16; 3] = [901, 902, 903];

impl Probe<'_> {
    pub(super) fn tcp(&mut self) -> Result<TcpReport> {
        let [one, other, ..] = SERVER_ADDRESSES;
        let first = self.lab.tcp_listener(SERVER, (one, 0))?;
        let other_port = self.lab.tcp_listener(SERVER, (one, 0))?;
        let other_address = self.lab.tcp_listener(SERVER, (other, 0))?;
        let (stream, _first, public) = self.connect((self.address, 0).into(), &first)?;
        let own = stream.local_addr().map_err(failed("getsockname"))?;
        let (_by_port, _, seen_by_port) = self.connect(own, &other_port)?;
        let (_by_address, _, seen_by_address) = self.connect(own, &other_address)?;
        let mut mapping = mapping(Some(public), Some(seen_by_port), Some(seen_by_address));
        if mapping == Mapping::AddressAndPortDependent && self.changes_by_connection()? {
            mapping = Mapping::ConnectionDependent;
        }
        let (unsolicited_syn, filtering) = self.tcp_filtering(&first)?;
        let (isn, inbound_syn_after_syn) = self.simultaneous_open()?;
        Ok(TcpReport {
            reachable: true,
            public_address: Some(public),
            mapping: Some(mapping),
            filtering: Some(filtering),
            port_allocation: Some(self.tcp_allocation(&first)?),
            hairpin: Some(self.tcp_hairpin(&first)?),
            unsolicited_syn: Some(unsolicited_syn),
            inbound_syn_after_syn: Some(inbound_syn_after_syn),
            isn: Some(isn),
            ..TcpReport::default()
        })
    }

    fn connect(
        &self,
        from: SocketAddr,
        to: &TcpListener,
    ) -> Result<(TcpStream, TcpStream, SocketAddr)> {
        connect(self.lab, self.host, from, to)
    }

    /// Whether two connections between the same ends come from two ports. Neither gets an answer:
    /// a connection that has ended is no longer known to any NAT, whatever its mapping depends on.
    fn changes_by_connection(&mut self) -> Result<bool> {
        let remote = SocketAddr::from((QUIET_ADDRESS, FORGED_PORTS[2]));
        let reserved = self.lab.tcp_socket(self.host, (self.address, 0))?;
        let own = reserved.local_addr().map_err(failed("getsockname"))?.as_socket();
        let own = own.unwrap_or((self.address, 0).into());
        let watch = self.watch()?;
        for sequence in [0x1000_0000, 0x2000_0000] {
            self.forge_syn(self.host, own, remote, sequence)?;
            self.fence.wait()?;
        }
        let sights = watch.stop();
        let arrived = sights.iter().filter(|it| it.tap == OUTSIDE && it.syn_to(remote));
        let sources: Vec<_> = arrived.map(|sight| sight.packet.source()).collect();
        Ok(sources.len() == 2 && sources[0] != sources[1])
    }

    fn tcp_allocation(&self, to: &TcpListener) -> Result<PortAllocation> {
        let mut samples = Vec::new();
        let mut streams = Vec::new();
        for _ in 0..SAMPLES {
            let (inside, outside, seen) = self.connect((self.address, 0).into(), to)?;
            let own = inside.local_addr().map_err(failed("getsockname"))?;
            samples.push((own.port(), seen.port()));
            streams.push((inside, outside));
        }
        Ok(allocation(&samples))
    }

    /// Watches both ends of the path.
    fn watch(&self) -> Result<Watch> {
        let tap = |space: &str| Tap { space: space.into(), interface: ETHERNET.into() };
        Ok(Watch(self.lab.capture(&[tap(self.host), tap(SERVER)])?))
    }

    fn forge_syn(
        &self,
        space: &str,
        from: SocketAddr,
        to: SocketAddr,
        sequence: u32,
    ) -> Result<()> {
        let raw = self.lab.socket(space, SocketKind::Packets)?;
        let bytes = packet::tcp(&Segment::syn(from, to, sequence));
        raw.send_to(&bytes, &to.into()).map_err(failed("sendto"))?;
        Ok(())
    }

    /// The answer to a SYN nobody asked for, and whose SYNs come in at all.
    fn tcp_filtering(&mut self, to: &TcpListener) -> Result<(UnsolicitedSyn, Filtering)> {
        let (_stream, _outside, public) = self.connect((self.address, 0).into(), to)?;
        let [from_quiet, from_first, from_other] = [
            (QUIET_ADDRESS, FORGED_PORTS[0]),
            (SERVER_ADDRESSES[0], FORGED_PORTS[1]),
            (SERVER_ADDRESSES[1], FORGED_PORTS[2]),
        ]
        .map(SocketAddr::from);
        // A port that nobody has used: what is open to everybody lets strangers in, and answers none.
        let unused = SocketAddr::new(public.ip(), public.port() ^ 1);
        let watch = self.watch()?;
        self.forge_syn(SERVER, from_quiet, unused, SEQUENCE)?;
        self.fence.wait()?;
        for from in [from_first, from_other] {
            self.forge_syn(SERVER, from, public, SEQUENCE)?;
            self.fence.wait()?;
        }
        let sights = watch.stop();
        let comes_in = |from| sights.iter().any(|sight| sight.is_syn_to_host(from));
        let filtering = filtering(comes_in(from_first), comes_in(from_other));
        Ok((answer(&sights, from_quiet), filtering))
    }

    /// The host sends a SYN that nobody answers; then one comes from where it went.
    fn simultaneous_open(&mut self) -> Result<(InitialSequence, InboundSynAfterSyn)> {
        let remote = SocketAddr::from((QUIET_ADDRESS, FORGED_PORTS[1]));
        let watch = self.watch()?;
        let socket = self.lab.tcp_socket(self.host, (self.address, 0))?;
        start_connecting(&socket, remote)?;
        self.fence.wait()?;
        let sights = watch.stop();
        let leaving = sights.iter().find(|it| it.tap == HOST && it.outgoing && it.syn_to(remote));
        let arriving = sights.iter().find(|it| it.tap == OUTSIDE && it.syn_to(remote));
        let (Some(leaving), Some(arriving)) = (leaving, arriving) else {
            return Ok((InitialSequence::Preserved, InboundSynAfterSyn::Unknown));
        };
        let isn = match leaving.sequence() == arriving.sequence() {
            true => InitialSequence::Preserved,
            false => InitialSequence::Rewritten,
        };
        let Some(public) = arriving.packet.source() else {
            return Ok((isn, InboundSynAfterSyn::Unknown));
        };
        let watch = self.watch()?;
        self.forge_syn(SERVER, remote, public, SEQUENCE)?;
        self.fence.wait()?;
        let sights = watch.stop();
        let passed = sights.iter().any(|sight| sight.is_syn_to_host(remote));
        Ok((
            isn,
            match (passed, answer(&sights, remote)) {
                (true, _) => InboundSynAfterSyn::Accepted,
                (false, UnsolicitedSyn::Rst) => InboundSynAfterSyn::Rst,
                (false, UnsolicitedSyn::Silent | UnsolicitedSyn::Icmp) => {
                    InboundSynAfterSyn::Dropped
                }
            },
        ))
    }

    fn tcp_hairpin(&mut self, to: &TcpListener) -> Result<bool> {
        let (stream, _keep, public) = self.connect((self.address, 0).into(), to)?;
        let (other_stream, _keep, other_public) = self.connect((self.address, 0).into(), to)?;
        let own = stream.local_addr().map_err(failed("getsockname"))?;
        let other_own = other_stream.local_addr().map_err(failed("getsockname"))?;
        let watch = self.watch()?;
        let _listeners =
            [self.lab.tcp_listener(self.host, own)?, self.lab.tcp_listener(self.host, other_own)?];
        let one = self.lab.tcp_socket(self.host, own)?;
        let other = self.lab.tcp_socket(self.host, other_own)?;
        start_connecting(&one, other_public)?;
        // Within one host the first attempt has met this socket already, which leaves no address.
        let met = start_connecting(&other, public).is_err();
        self.fence.wait()?;
        // Without any box, packets to oneself never leave the host.
        let met = met || [&one, &other].into_iter().any(|socket| socket.peer_addr().is_ok());
        let own_ports = [own.port(), other_own.port()];
        let turned = watch.stop().iter().any(|sight| {
            let to = sight.packet.destination().map(|to| to.port());
            sight.tap == HOST
                && !sight.outgoing
                && sight.flags() == Some(flag::SYN)
                && to.is_some_and(|to| own_ports.contains(&to))
        });
        Ok(met || turned)
    }
}

fn start_connecting(socket: &Socket, to: SocketAddr) -> Result<()> {
    socket.set_nonblocking(true).map_err(failed("fcntl"))?;
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(()),
        other => other.map_err(failed("connect")),
    }
}
