//! Techniques that forge segments or assume connections.

use std::net::SocketAddr;
use std::time::Duration;

use ntcp_proto::command::{Agreed, Ends};
use ntcp_proto::segment::{Options, Segment, flag};
use ntcp_proto::{Hops, SocketId};

use super::plain::OPENING;
use crate::probe::Handle;
use crate::town::{LOCAL_A, LOCAL_B, Town, ms};

/// One way between two hosts and a margin: by then a SYN has met the far NAT.
const CROSSING: Duration = ms(150);

/// One side of an attempt whose SYN was captured.
pub(crate) struct Armed {
    pub(crate) handle: Handle,
    pub(crate) socket: SocketId,
    /// Its end as the other side must address it.
    pub(crate) seen: SocketAddr,
    pub(crate) syn: Segment,
}

impl Armed {
    /// The SYN-ACK that `self` would send to `peer`, between these ends.
    pub(crate) fn syn_ack(&self, peer: &Self, source: SocketAddr, to: SocketAddr) -> Segment {
        Segment {
            source,
            destination: to,
            flags: flag::SYN | flag::ACK,
            acknowledgment: peer.syn.sequence.wrapping_add(1),
            options: self.options_for(peer),
            ..self.syn
        }
    }

    /// The options of our SYN, echoing the peer's clock.
    fn options_for(&self, peer: &Self) -> Options {
        let mut options = self.syn.options;
        let echo = peer.syn.options.timestamps.map(|it| it.value);
        options.timestamps = options.timestamps.zip(echo).map(|(mut own, echo)| {
            own.echo = echo;
            own
        });
        options
    }
}

/// Both sides connect, `b` by `skew` later, and capture their SYNs.
pub(crate) fn arm(town: &mut Town, hops: [Hops; 2], skew: Duration) -> Option<[Armed; 2]> {
    let (a, b) = (town.tcp_mapping(town.a, LOCAL_A), town.tcp_mapping(town.b, LOCAL_B));
    let one = arm_one(town, town.a, (LOCAL_A, a), b, hops[0]);
    town.world.advance(skew);
    let other = arm_one(town, town.b, (LOCAL_B, b), a, hops[1]);
    Some([one?, other?])
}

fn arm_one(
    town: &mut Town,
    handle: Handle,
    (local, seen): (&str, SocketAddr),
    remote: SocketAddr,
    hops: Hops,
) -> Option<Armed> {
    let capture = handle.capture(&mut town.world, local, remote);
    let socket = handle.connect_with(&mut town.world, local, remote, hops);
    let syn = handle.captured(&mut town.world, capture)?;
    Some(Armed { handle, socket, seen, syn })
}

/// SYNs that die on the way, from sockets that do not hear of it.
fn low(town: &Town) -> [Hops; 2] {
    [0, 1].map(|side| Hops { ttl: Some(town.low_ttl(side)), least: Some(2) })
}

/// ```text
/// a ── SYN(low) ──▶ ×                    × ◀── SYN(low) ── b
/// a ◀── SYN-ACK "from b*" ── server ── SYN-ACK "from a*" ──▶ b
/// ```
pub(super) fn spoofed_syn_ack(town: &mut Town, skew: Duration) -> Option<Duration> {
    let hops = low(town);
    let start = town.world.clock();
    let [a, b] = arm(town, hops, skew)?;
    town.world.advance(OPENING);
    town.forge(&b.syn_ack(&a, b.seen, a.seen));
    town.forge(&a.syn_ack(&b, a.seen, b.seen));
    town.raised_verdict(start, [a.socket, b.socket])
}

/// ```text
/// a ── SYN(low) ──▶ ×                    × ◀── SYN(low) ── b
/// a ── SYN-ACK, forged by itself ──▶ b,  a ◀── likewise ── b
/// ```
pub(super) fn own_syn_ack(town: &mut Town, skew: Duration) -> Option<Duration> {
    let hops = low(town);
    let start = town.world.clock();
    let [a, b] = arm(town, hops, skew)?;
    town.world.advance(OPENING);
    answer_by_themselves(town, &a, &b);
    town.raised_verdict(start, [a.socket, b.socket])
}

/// ```text
/// a ── SYN ──▶ NAT of b ×                × NAT of a ◀── SYN ── b
/// a ── SYN-ACK, forged by itself ──▶ b,  a ◀── likewise ── b
/// ```
pub(super) fn own_syn_ack_after_crossing(town: &mut Town, skew: Duration) -> Option<Duration> {
    let start = town.world.clock();
    let [a, b] = arm(town, [Hops::USUAL; 2], skew)?;
    town.world.advance(CROSSING);
    if [&a, &b].iter().all(|it| it.handle.outcome(&mut town.world, it.socket).is_none()) {
        answer_by_themselves(town, &a, &b);
    }
    town.verdict(start, [a.socket, b.socket])
}

fn answer_by_themselves(town: &mut Town, a: &Armed, b: &Armed) {
    for (own, peer) in [(a, b), (b, a)] {
        let segment = own.syn_ack(peer, own.syn.source, peer.seen);
        own.handle.inject(&mut town.world, segment, 64);
    }
}

/// ```text
/// a ── SYN(low) ──▶ ×                    × ◀── SYN(low) ── b
/// a: b's SYN appears in the own stack,   b: likewise
/// a ── SYN-ACK of the kernel ──▶ b,      a ◀── likewise ── b
/// ```
pub(super) fn syn_injection(town: &mut Town, skew: Duration) -> Option<Duration> {
    let hops = low(town);
    let start = town.world.clock();
    let [a, b] = arm(town, hops, skew)?;
    town.world.advance(OPENING);
    for (own, peer) in [(&a, &b), (&b, &a)] {
        own.handle.adjust(&mut town.world, own.socket, Hops { ttl: None, least: Some(2) });
        let segment = Segment { source: peer.seen, destination: own.syn.source, ..peer.syn };
        own.handle.inject(&mut town.world, segment, 64);
    }
    town.verdict(start, [a.socket, b.socket])
}

/// ```text
/// a ── ACK(low) ──▶ ×                    × ◀── ACK(low) ── b
/// a ── data ──▶ b,                       a ◀── data ── b
/// ```
pub(super) fn ghost_handshake(town: &mut Town, skew: Duration) -> Option<Duration> {
    let ttl = [0, 1].map(|side| Some(town.low_ttl(side)));
    ghost_with(town, ttl, skew)
}

/// The same with openers of this TTL.
pub(crate) fn ghost_with(
    town: &mut Town,
    ttl: [Option<u8>; 2],
    skew: Duration,
) -> Option<Duration> {
    let seen = [town.tcp_mapping(town.a, LOCAL_A), town.tcp_mapping(town.b, LOCAL_B)];
    ghost_between(town, seen, ttl, skew)
}

/// The same between ends that are known already.
pub(crate) fn ghost_between(
    town: &mut Town,
    [a, b]: [SocketAddr; 2],
    ttl: [Option<u8>; 2],
    skew: Duration,
) -> Option<Duration> {
    let options = Options {
        max_segment_size: Some(1460),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps: None,
    };
    // Any two numbers: both sides know them.
    let agreed = |sequence, peer_sequence| Agreed {
        sequence,
        peer_sequence,
        options,
        peer_options: options,
    };
    let assume = |town: &mut Town, handle: Handle, local: &str, remote, agreed, ttl| {
        let local = local.parse().expect("a local end");
        let hops = Hops { ttl, least: None };
        handle.assume(&mut town.world, Ends { local, remote }, agreed, hops)
    };
    let start = town.world.clock();
    let (handle_a, handle_b) = (town.a, town.b);
    let from_a = assume(town, handle_a, LOCAL_A, b, agreed(0x1234_5678, 0x9abc_def0), ttl[0]);
    town.world.advance(skew);
    let from_b = assume(town, handle_b, LOCAL_B, a, agreed(0x9abc_def0, 0x1234_5678), ttl[1]);
    town.world.advance(OPENING);
    town.raised_verdict(start, [from_a, from_b])
}
