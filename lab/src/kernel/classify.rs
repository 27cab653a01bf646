//! The lab's own verdict about a site: what its boxes really do, measured from both sides at once.
//!
//! It shares nothing with the programs that the lab judges: no STUN, no timers. It holds sockets
//! inside and outside together, so it simply looks where a packet arrives. That something does *not*
//! arrive is known by a fence: a byte that goes to the host and back over a connection of its own
//! and overtakes nothing, as all lines keep their order. So no verdict hangs on a time-out, and
//! lines that lose or reorder packets cannot be classified.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use ntcp_proto::nat::{
    Filtering, InboundSynAfterSyn, InitialSequence, Mapping, NatReport, PortAllocation, TcpReport,
    UdpReport, UnsolicitedSyn,
};
use socket2::Socket;

use crate::packet::{self, Packet, Protocol, Segment, flag};

use super::capture_handle::Capture;
use super::control::{Frame, SocketKind, Tap};
use super::error::{Error, Result};
use super::lab::Lab;
use super::layout::{QUIET_ADDRESS, SERVER_ADDRESSES};
use super::plan::{ETHERNET, SERVER};

/// Flows opened to see how ports are chosen.
const SAMPLES: usize = 8;
/// Nothing takes this long in a lab that works.
const PATIENCE: Duration = Duration::from_secs(20);
/// Sequence number of forged SYNs.
const SEQUENCE: u32 = 0x6e74_6370;
/// Where forged SYNs come from; nobody else uses these ports of the server.
const FORGED_PORTS: [u16; 3] = [901, 902, 903];

/// Measures what stands between a host and the internet.
///
/// Lifetimes are left out: they take as long as they last.
///
/// # Errors
/// What a socket or the lab says.
pub fn classify(lab: &Lab, host: &str) -> Result<NatReport> {
    let address = lab.host(host)?.address;
    let mut probe = Probe { lab, host, address, fence: Fence::new(lab, host, address)?, token: 0 };
    let udp = probe.udp()?;
    let tcp = probe.tcp()?;
    let seen = tcp.public_address.map(|public| public.ip() != IpAddr::V4(address));
    Ok(NatReport { nat: seen, udp, tcp })
}

fn failed(action: &str) -> impl Fn(std::io::Error) -> Error + '_ {
    move |error| Error::system(action, error)
}

/// A connection from the host to the server whose bytes overtake nothing.
struct Fence {
    inside: TcpStream,
    outside: TcpStream,
}

impl Fence {
    fn new(lab: &Lab, host: &str, address: Ipv4Addr) -> Result<Self> {
        let listener = lab.tcp_listener(SERVER, (SERVER_ADDRESSES[3], 0))?;
        let (inside, outside, _) = connect(lab, host, (address, 0).into(), &listener)?;
        for stream in [&inside, &outside] {
            stream.set_read_timeout(Some(PATIENCE)).map_err(failed("fence"))?;
            stream.set_nodelay(true).map_err(failed("fence"))?;
        }
        Ok(Self { inside, outside })
    }

    /// Whatever was sent before, in either direction, has arrived or never will.
    fn wait(&mut self) -> Result<()> {
        let mut byte = [0];
        // Twice, as an answer of a box on the way may lag behind what it answers.
        for _ in 0..2 {
            self.outside.write_all(&[1]).map_err(failed("fence"))?;
            self.inside.read_exact(&mut byte).map_err(failed("fence"))?;
            self.inside.write_all(&[1]).map_err(failed("fence"))?;
            self.outside.read_exact(&mut byte).map_err(failed("fence"))?;
        }
        Ok(())
    }
}

/// A connection to a listener: both ends, and the address it came from.
fn connect(
    lab: &Lab,
    host: &str,
    from: SocketAddr,
    to: &TcpListener,
) -> Result<(TcpStream, TcpStream, SocketAddr)> {
    let inside = lab.tcp_socket(host, from)?;
    let target = to.local_addr().map_err(failed("getsockname"))?;
    inside.connect_timeout(&target.into(), PATIENCE).map_err(failed("connect"))?;
    let (outside, seen) = to.accept().map_err(failed("accept"))?;
    Ok((inside.into(), outside, seen))
}

fn port(address: &SocketAddr) -> u16 {
    address.port()
}

struct Probe<'a> {
    lab: &'a Lab,
    host: &'a str,
    address: Ipv4Addr,
    fence: Fence,
    token: u64,
}

// --- UDP -----------------------------------------------------------------------------------------

impl Probe<'_> {
    fn udp(&mut self) -> Result<UdpReport> {
        let outside = [SERVER_ADDRESSES[0], SERVER_ADDRESSES[0], SERVER_ADDRESSES[1]]
            .map(|address| self.udp_socket(SERVER, address));
        let [first, other_port, other_address] = outside;
        let (first, other_port, other_address) = (first?, other_port?, other_address?);
        let inside = self.udp_socket(self.host, self.address)?;
        let Some(public) = self.udp_seen(&inside, &first)? else { return Ok(UdpReport::default()) };
        let by_port = self.udp_seen(&inside, &other_port)?;
        let by_address = self.udp_seen(&inside, &other_address)?;
        Ok(UdpReport {
            reachable: true,
            public_address: Some(public),
            mapping: Some(mapping(Some(public), by_port, by_address)),
            filtering: Some(self.udp_filtering(&first, &other_port, &other_address)?),
            port_allocation: Some(self.udp_allocation(&first)?),
            hairpin: Some(self.udp_hairpin(&first)?),
            lifetime_s: None,
        })
    }

    fn udp_socket(&self, space: &str, address: Ipv4Addr) -> Result<UdpSocket> {
        let socket = self.lab.udp_socket(space, (address, 0))?;
        socket.set_nonblocking(true).map_err(failed("fcntl"))?;
        Ok(socket)
    }

    /// Sends something; what it was.
    fn udp_send(&mut self, from: &UdpSocket, to: SocketAddr) -> Result<u64> {
        self.token += 1;
        from.send_to(&self.token.to_be_bytes(), to).map_err(failed("sendto"))?;
        Ok(self.token)
    }

    /// Where that came from, if it came.
    fn udp_received(at: &UdpSocket, token: u64) -> Option<SocketAddr> {
        let mut bytes = [0; 8];
        // An empty queue ends it.
        while let Ok((length, from)) = at.recv_from(&mut bytes) {
            if length == bytes.len() && u64::from_be_bytes(bytes) == token {
                return Some(from);
            }
        }
        None
    }

    /// The address with which a socket is seen by another.
    fn udp_seen(&mut self, inside: &UdpSocket, at: &UdpSocket) -> Result<Option<SocketAddr>> {
        let token = self.udp_send(inside, at.local_addr().map_err(failed("getsockname"))?)?;
        self.fence.wait()?;
        Ok(Self::udp_received(at, token))
    }

    fn udp_filtering(
        &mut self,
        first: &UdpSocket,
        other_port: &UdpSocket,
        other_address: &UdpSocket,
    ) -> Result<Filtering> {
        let inside = self.udp_socket(self.host, self.address)?;
        let Some(public) = self.udp_seen(&inside, first)? else { return Ok(Filtering::Unknown) };
        let mut comes_in = |from: &UdpSocket| -> Result<bool> {
            let token = self.udp_send(from, public)?;
            self.fence.wait()?;
            Ok(Self::udp_received(&inside, token).is_some())
        };
        Ok(filtering(comes_in(other_port)?, comes_in(other_address)?))
    }

    fn udp_allocation(&mut self, at: &UdpSocket) -> Result<PortAllocation> {
        let mut samples = Vec::new();
        let mut sockets = Vec::new();
        for _ in 0..SAMPLES {
            let inside = self.udp_socket(self.host, self.address)?;
            let own = inside.local_addr().map_err(failed("getsockname"))?;
            if let Some(seen) = self.udp_seen(&inside, at)? {
                samples.push((port(&own), port(&seen)));
            }
            sockets.push(inside);
        }
        Ok(allocation(&samples))
    }

    fn udp_hairpin(&mut self, at: &UdpSocket) -> Result<bool> {
        let one = self.udp_socket(self.host, self.address)?;
        let other = self.udp_socket(self.host, self.address)?;
        let ends = (self.udp_seen(&one, at)?, self.udp_seen(&other, at)?);
        let (Some(public), Some(other_public)) = ends else { return Ok(false) };
        // Each has to send before the other's packet may pass a filter.
        self.udp_send(&one, other_public)?;
        let back = self.udp_send(&other, public)?;
        let forth = self.udp_send(&one, other_public)?;
        self.fence.wait()?;
        Ok(Self::udp_received(&one, back).is_some() || Self::udp_received(&other, forth).is_some())
    }
}

// --- TCP -----------------------------------------------------------------------------------------

impl Probe<'_> {
    fn tcp(&mut self) -> Result<TcpReport> {
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
            lifetime_s: None,
            unsolicited_syn: Some(unsolicited_syn),
            inbound_syn_after_syn: Some(inbound_syn_after_syn),
            isn: Some(isn),
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
            samples.push((port(&own), port(&seen)));
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
        let watch = self.watch()?;
        for from in [from_quiet, from_first, from_other] {
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
        let own_ports = [port(&own), port(&other_own)];
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

// --- traces --------------------------------------------------------------------------------------

/// The tap in the host.
const HOST: usize = 0;
/// The tap in the server.
const OUTSIDE: usize = 1;

struct Watch(Capture);

impl Watch {
    fn stop(self) -> Vec<Sight> {
        self.0.stop().iter().filter_map(Sight::new).collect()
    }
}

/// A packet seen at one end.
struct Sight {
    tap: usize,
    outgoing: bool,
    packet: Packet,
}

impl Sight {
    fn new(frame: &Frame) -> Option<Self> {
        let packet = Packet::parse(&frame.packet).ok()?;
        Some(Self { tap: frame.tap, outgoing: frame.outgoing, packet })
    }

    fn flags(&self) -> Option<u8> {
        self.packet.tcp().map(|fields| fields.flags & (flag::SYN | flag::ACK | flag::RST))
    }

    fn sequence(&self) -> Option<u32> {
        self.packet.tcp().map(|fields| fields.sequence)
    }

    fn syn_to(&self, to: SocketAddr) -> bool {
        self.flags() == Some(flag::SYN) && self.packet.destination() == Some(to)
    }

    fn is_syn_to_host(&self, from: SocketAddr) -> bool {
        self.tap == HOST
            && !self.outgoing
            && self.flags() == Some(flag::SYN)
            && self.packet.source() == Some(from)
    }
}

/// What came back to where a SYN came from.
fn answer(sights: &[Sight], from: SocketAddr) -> UnsolicitedSyn {
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

// --- verdicts ------------------------------------------------------------------------------------

fn mapping(
    first: Option<SocketAddr>,
    other_port: Option<SocketAddr>,
    other_address: Option<SocketAddr>,
) -> Mapping {
    match (first == other_port, first == other_address) {
        (true, true) => Mapping::EndpointIndependent,
        (true, false) => Mapping::AddressDependent,
        (false, _) => Mapping::AddressAndPortDependent,
    }
}

fn filtering(from_other_port: bool, from_other_address: bool) -> Filtering {
    match (from_other_port, from_other_address) {
        (_, true) => Filtering::EndpointIndependent,
        (true, false) => Filtering::AddressDependent,
        (false, false) => Filtering::AddressAndPortDependent,
    }
}

/// How ports were chosen: pairs of internal and external ones, in the order of their making.
fn allocation(samples: &[(u16, u16)]) -> PortAllocation {
    /// Beyond this, a constant distance is no counter's.
    const LONGEST_STEP: u16 = 64;
    /// No block that carriers give to one subscriber is larger.
    const LARGEST_BLOCK: u16 = 4096;
    /// Ports that NATs give out, 1024 to 65535: an offset wraps around within them.
    const PORTS: i32 = 65_536 - 1024;
    let same = |values: &[u16]| values.windows(2).all(|pair| pair[0] == pair[1]);
    let offset = |(inside, outside): &(u16, u16)| {
        (i32::from(*outside) - i32::from(*inside)).rem_euclid(PORTS) as u16
    };
    let offsets: Vec<u16> = samples.iter().map(offset).collect();
    if offsets.iter().all(|offset| *offset == 0) {
        return PortAllocation::Preserved;
    }
    if same(&offsets) {
        return PortAllocation::Offset;
    }
    let mut steps: Vec<u16> =
        samples.windows(2).map(|pair| pair[1].1.wrapping_sub(pair[0].1)).collect();
    // A counter may begin again once on the way.
    if let Some(wrapped) = steps.iter().position(|step| *step > LONGEST_STEP) {
        steps.remove(wrapped);
    }
    if same(&steps) && steps.first().is_some_and(|step| (1..=LONGEST_STEP).contains(step)) {
        return PortAllocation::Sequential;
    }
    let outside = || samples.iter().map(|(_, outside)| *outside);
    let span = outside().max().unwrap_or(0) - outside().min().unwrap_or(0);
    if span < LARGEST_BLOCK { PortAllocation::Block } else { PortAllocation::Random }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_of_ports_is_told_from_samples() {
        let told = |outside: [u16; 6]| {
            let inside = [40_000, 40_010, 40_007, 40_100, 40_031, 40_044];
            allocation(&inside.into_iter().zip(outside).collect::<Vec<_>>())
        };
        let preserved = [40_000, 40_010, 40_007, 40_100, 40_031, 40_044];
        assert_eq!(told(preserved), PortAllocation::Preserved);
        assert_eq!(told(preserved.map(|port| port - 9000)), PortAllocation::Offset);
        let wrapped =
            preserved.map(|port| if port > 40_030 { port - 39_000 } else { port + 25_512 });
        assert_eq!(told(wrapped), PortAllocation::Offset);
        assert_eq!(told([7, 11, 15, 19, 23, 27]), PortAllocation::Sequential);
        assert_eq!(told([2046, 2047, 1024, 1025, 1026, 1027]), PortAllocation::Sequential);
        assert_eq!(told([30_100, 30_007, 30_411, 30_300, 30_009, 30_511]), PortAllocation::Block);
        assert_eq!(told([1100, 60_007, 3411, 30_300, 10_009, 44_511]), PortAllocation::Random);
    }

    #[test]
    fn mapping_and_filtering_are_told_from_three_destinations() {
        let [a, b] = [1, 2].map(|port| Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port))));
        assert_eq!(mapping(a, a, a), Mapping::EndpointIndependent);
        assert_eq!(mapping(a, a, b), Mapping::AddressDependent);
        assert_eq!(mapping(a, b, a), Mapping::AddressAndPortDependent);
        assert_eq!(mapping(a, b, None), Mapping::AddressAndPortDependent);
        assert_eq!(filtering(true, true), Filtering::EndpointIndependent);
        assert_eq!(filtering(true, false), Filtering::AddressDependent);
        assert_eq!(filtering(false, false), Filtering::AddressAndPortDependent);
    }
}
