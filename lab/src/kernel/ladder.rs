//! From frames seen at several interfaces to a [`Trace`]: which of them are one packet on its way.
//!
//! NATs change addresses, ports and checksums of a packet, and nothing else. So what stays is a
//! fingerprint, and a frame continues the journey of the earlier frame that has the same one.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::packet::{Packet, Protocol, flag};
use crate::trace::{Fate, JourneyId, Place, Trace};

use super::capture;
use super::control::{Frame, Tap};
use super::layout::Layout;
use super::plan::{ETHERNET, SERVER, WAN};

/// Packets of one flow in one direction that are drawn; of a long transfer, the beginning tells.
const DRAWN_PER_FLOW: usize = 12;

/// The interfaces worth watching between two hosts, from one to the other: the hosts, the outer
/// sides of their boxes, and the server in between.
pub fn taps(layout: &Layout, one: &str, other: &str) -> Vec<Tap> {
    let tap =
        |space: &str, interface: &str| Tap { space: space.into(), interface: interface.into() };
    let side = |name: &str| {
        let home = layout.host(name).map_or(name, |host| host.home.as_str());
        let boxes = layout.boxes.iter().filter(move |it| it.belongs_to(home));
        // Boxes are listed from the outermost to the host's own.
        let mut taps = vec![tap(name, ETHERNET)];
        let mut outwards: Vec<_> = boxes.map(|it| tap(&it.name, WAN)).collect();
        outwards.reverse();
        taps.append(&mut outwards);
        taps
    };
    let mut taps = side(one);
    if one != SERVER && other != SERVER {
        taps.push(tap(SERVER, ETHERNET));
    }
    let mut inwards = side(other);
    inwards.reverse();
    taps.append(&mut inwards);
    taps
}

/// A trace of what the taps saw. `longest` is how long a packet may be on its way between two of
/// them: twice the delay of the lines between, and then some.
pub fn trace(taps: &[Tap], frames: &[Frame], longest: Duration) -> (Trace, usize) {
    let mut trace = Trace::new();
    trace.record();
    let places: Vec<Place> =
        taps.iter().map(|tap| trace.add_place(tap.space.clone(), true)).collect();
    let mut joiner = Joiner {
        trace,
        places,
        hosts: taps.iter().map(|tap| tap.interface == ETHERNET).collect(),
        open: BTreeMap::new(),
        flows: BTreeMap::new(),
        left_out: 0,
        longest: longest.as_nanos() as u64,
        start: None,
        end: 0,
    };
    frames.iter().for_each(|frame| joiner.join(frame));
    joiner.close();
    (joiner.trace, joiner.left_out)
}

/// What no NAT changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Fingerprint {
    Tcp { flags: u8, sequence: u32, acknowledgment: u32, length: usize },
    Udp { payload: Vec<u8> },
    Icmp { kind: u8, code: u8, about: Vec<u8> },
}

impl Fingerprint {
    fn of(packet: &Packet) -> Option<Self> {
        match packet.protocol() {
            Protocol::Tcp => packet.tcp().map(|fields| Self::Tcp {
                flags: fields.flags,
                sequence: fields.sequence,
                // Without the flag the field is not read, and boxes may clear it.
                acknowledgment: if fields.has(flag::ACK) { fields.acknowledgment } else { 0 },
                length: fields.payload,
            }),
            Protocol::Udp => Some(Self::Udp { payload: packet.payload().to_vec() }),
            Protocol::Icmp => {
                let body = packet.body();
                let (kind, code) = (*body.first()?, *body.get(1)?);
                // Of a quoted IPv4 packet: its length and identification. Of an echo: all of it.
                let about = match packet.icmp() {
                    Some(_) => body.get(10..14)?.to_vec(),
                    None => body.get(6..)?.to_vec(),
                };
                Some(Self::Icmp { kind, code, about })
            }
            Protocol::Other(_) => None,
        }
    }
}

/// A packet that may be seen again.
struct Open {
    journey: JourneyId,
    seen_at: Vec<usize>,
    last_ns: u64,
    outgoing: bool,
}

struct Joiner {
    trace: Trace,
    places: Vec<Place>,
    hosts: Vec<bool>,
    open: BTreeMap<Fingerprint, Vec<Open>>,
    flows: BTreeMap<(SocketAddr, SocketAddr), usize>,
    left_out: usize,
    longest: u64,
    /// When the first packet was seen.
    start: Option<u64>,
    /// When the last one was.
    end: u64,
}

impl Joiner {
    fn join(&mut self, frame: &Frame) {
        let Ok(packet) = Packet::parse(&frame.packet) else {
            // Only the headers were kept of a long segment.
            self.left_out += usize::from(capture::is_tcp(&frame.packet));
            return;
        };
        if packet.destination_ip().is_multicast() {
            return;
        }
        let Some(fingerprint) = Fingerprint::of(&packet) else { return };
        let start = *self.start.get_or_insert(frame.time_ns);
        self.end = frame.time_ns;
        let at = Duration::from_nanos(frame.time_ns.saturating_sub(start));
        if !self.go_on(&fingerprint, frame, at) {
            self.begin(fingerprint, &packet, frame, at);
        }
    }

    /// Whether the frame continues a journey.
    fn go_on(&mut self, fingerprint: &Fingerprint, frame: &Frame, at: Duration) -> bool {
        if self.hosts[frame.tap] && frame.outgoing {
            return false;
        }
        let Some(known) = self.open.get_mut(fingerprint) else { return false };
        let continued = known.iter_mut().find(|open| {
            !open.seen_at.contains(&frame.tap)
                && frame.time_ns.saturating_sub(open.last_ns) <= self.longest
        });
        let Some(open) = continued else { return false };
        open.seen_at.push(frame.tap);
        (open.last_ns, open.outgoing) = (frame.time_ns, frame.outgoing);
        self.trace.pass(open.journey, at, self.places[frame.tap], &frame.packet);
        if self.hosts[frame.tap] {
            self.trace.end(open.journey, Fate::Arrived);
        }
        true
    }

    fn begin(&mut self, fingerprint: Fingerprint, packet: &Packet, frame: &Frame, at: Duration) {
        let end =
            |end: Option<SocketAddr>, ip: IpAddr| end.map_or(SocketAddr::new(ip, 0), |end| end);
        let flow = (
            end(packet.source(), packet.source_ip()),
            end(packet.destination(), packet.destination_ip()),
        );
        let count = self.flows.entry(flow).or_default();
        *count += 1;
        if *count > DRAWN_PER_FLOW {
            self.left_out += 1;
            return;
        }
        let journey = self.trace.depart(at, self.places[frame.tap], &frame.packet);
        if self.hosts[frame.tap] && !frame.outgoing {
            self.trace.end(journey, Fate::Arrived);
        }
        let (seen_at, last_ns, outgoing) = (vec![frame.tap], frame.time_ns, frame.outgoing);
        self.open.entry(fingerprint).or_default().push(Open {
            journey,
            seen_at,
            last_ns,
            outgoing,
        });
    }

    /// What became of those that were not seen again: a box kept what arrived there, and the
    /// internet what left.
    fn close(&mut self) {
        for open in self.open.values().flatten() {
            if open.last_ns + self.longest > self.end {
                // The trace ended before the journey had to.
                continue;
            }
            let fate =
                if open.outgoing { Fate::Lost } else { Fate::Dropped("went no further".into()) };
            self.trace.end(open.journey, fate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{self, Segment};

    fn tap(space: &str, interface: &str) -> Tap {
        Tap { space: space.into(), interface: interface.into() }
    }

    fn syn(from: &str, to: &str, sequence: u32) -> Vec<u8> {
        let end = |text: &str| text.parse::<SocketAddr>().unwrap();
        packet::tcp(&Segment::syn(end(from), end(to), sequence))
    }

    fn frame(tap: usize, time_ms: u64, outgoing: bool, packet: &[u8]) -> Frame {
        Frame { tap, time_ns: time_ms * 1_000_000, outgoing, packet: packet.to_vec() }
    }

    #[test]
    fn a_packet_is_followed_through_translation_and_its_end_is_told() {
        let taps = [tap("a", "eth0"), tap("nat-a", "wan"), tap("nat-b", "wan"), tap("b", "eth0")];
        let (home, public, peer) = ("192.168.1.10:4000", "203.0.113.18:4000", "203.0.113.34:5000");
        let (inner, outer) = (syn(home, peer, 7), syn(public, peer, 7));
        let arriving = syn(public, "192.168.2.10:5000", 7);
        let refused = syn(public, peer, 8);
        let frames = [
            frame(0, 0, true, &inner),
            frame(1, 0, true, &outer),
            frame(2, 20, false, &outer),
            frame(3, 20, false, &arriving),
            frame(0, 30, true, &syn(home, peer, 8)),
            frame(1, 30, true, &refused),
            frame(2, 50, false, &refused),
            frame(0, 60, true, &syn(home, peer, 9)),
            frame(0, 180, true, &syn(home, peer, 10)),
        ];
        let (trace, left_out) = trace(&taps, &frames, Duration::from_millis(100));
        let ends: Vec<_> =
            trace.journeys().iter().map(|it| (it.stations.len(), it.fate.clone())).collect();
        let kept = Fate::Dropped("went no further".into());
        assert_eq!(ends, [(4, Fate::Arrived), (3, kept), (1, Fate::Lost), (1, Fate::Travelling)]);
        assert_eq!(left_out, 0);
    }

    #[test]
    fn a_repeated_packet_is_a_journey_of_its_own() {
        let taps = [tap("a", "eth0"), tap("server", "eth0")];
        let packet = syn("203.0.113.18:4000", "198.51.100.2:80", 7);
        let frames = [
            frame(0, 0, true, &packet),
            frame(0, 1000, true, &packet),
            frame(1, 1010, false, &packet),
        ];
        let (trace, _) = trace(&taps, &frames, Duration::from_millis(50));
        let fates: Vec<_> = trace.journeys().iter().map(|it| it.fate.clone()).collect();
        assert_eq!(fates, [Fate::Lost, Fate::Arrived]);
    }
}
