//! Access lines that delay, lose, reorder and duplicate packets.
//!
//! Such a line is cut in two, and both ends lead into one namespace without addresses or routes. A
//! thread there takes frames from packet sockets on one end and puts them on the other when their
//! time has come, unchanged: no hop more, no checksum touched, and TCP segments of 64 KiB in one
//! piece. The delay counts from the kernel's own time stamp, so a thread that wakes up late does
//! not add its lateness.
//!
//! Address resolution passes at once: it belongs to the cable, not to the distance.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use ntcp_proto::entropy::{Entropy, Seed};
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::link::{Link, Quality};

use super::access::Access;
use super::error::{Error, Result};
use super::layout::{SERVER_ADDRESSES, SERVER_ADDRESSES_V6};
use super::plan::WirePlan;
use super::space::Space;
use super::sys::{self, Frames, OFFLOAD_HEADER, PacketSocket};

/// The longest frame: an offload header, Ethernet, and the largest IP packet.
pub(super) const LONGEST_FRAME: usize = OFFLOAD_HEADER + 14 + 65_535;
/// Frames taken from one end before the clock is looked at again.
const BATCH: usize = 64;
/// Bytes on their way on one line in one direction; what exceeds it is lost, as in a full queue.
const MOST_BYTES: usize = 256 << 20;

/// The running lines of a lab.
#[derive(Debug)]
pub(super) struct Wires {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    names: Vec<String>,
    /// Two ends for each line: towards the site, towards the core.
    sockets: Vec<PacketSocket>,
    /// For each line what happens to frames out of the site, into it, and into it from the servers.
    links: Mutex<Vec<[Link; 3]>>,
    overruns: AtomicU64,
}

impl Wires {
    /// Starts carrying.
    pub(super) fn start(space: &Space, plans: &[WirePlan], seed: u64) -> Result<Self> {
        let ends: Vec<String> =
            plans.iter().flat_map(|it| [it.site_end.clone(), it.core_end.clone()]).collect();
        let sockets = space.enter(move || {
            let open = |end: &String| {
                PacketSocket::open(end, Frames::Arriving)
                    .map_err(|error| Error::system(format!("packet socket on {end}"), error))
            };
            ends.iter().map(open).collect::<Result<Vec<_>>>()
        })?;
        let mut entropy = Entropy::new(Seed::from_number(seed));
        let mut link = |quality| Link::new(quality, entropy.seed());
        let links = plans.iter().map(|it| qualities(it.access).map(&mut link)).collect();
        let shared = Arc::new(Shared {
            names: plans.iter().map(|it| it.name.clone()).collect(),
            sockets,
            links: Mutex::new(links),
            overruns: AtomicU64::new(0),
        });
        let carrier = Carrier {
            shared: Arc::clone(&shared),
            under_way: BinaryHeap::new(),
            bytes: vec![0; plans.len() * 2],
            count: 0,
        };
        thread::Builder::new()
            .name("wires".into())
            .spawn(move || carrier.run())
            .map_err(|error| Error::system("starting a thread", error))?;
        Ok(Self { shared })
    }

    /// Changes a line; `false` if there is none of that name.
    pub(super) fn set(&self, name: &str, access: Access) -> bool {
        let Some(at) = self.shared.names.iter().position(|known| known == name) else {
            return false;
        };
        let mut links = self.shared.links.lock().unwrap_or_else(PoisonError::into_inner);
        for (link, quality) in links[at].iter_mut().zip(qualities(access)) {
            link.set_quality(quality);
        }
        true
    }

    /// Frames dropped because the carrying thread did not get to run in time.
    pub(super) fn overruns(&self) -> u64 {
        let fresh: u64 =
            self.shared.sockets.iter().map(|it| u64::from(it.dropped().unwrap_or(0))).sum();
        self.shared.overruns.fetch_add(fresh, Ordering::Relaxed) + fresh
    }
}

/// What a line does to frames: out, in, and in from the servers.
fn qualities(access: Access) -> [Quality; 3] {
    [access.into(), access.into(), access.lagging()]
}

/// A frame on its way; ordered by when it is due, then by when it came.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct UnderWay {
    due: Instant,
    count: u64,
    from: usize,
    frame: Vec<u8>,
}

struct Carrier {
    shared: Arc<Shared>,
    under_way: BinaryHeap<Reverse<UnderWay>>,
    /// By the end they came in: bytes under way.
    bytes: Vec<usize>,
    count: u64,
}

impl Carrier {
    fn run(mut self) {
        sys::be_punctual();
        let mut buffer = vec![0; LONGEST_FRAME];
        loop {
            self.deliver();
            match self.wait() {
                Ok(ready) => ready.into_iter().for_each(|end| self.collect(end, &mut buffer)),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    /// Puts what is due on its other end.
    fn deliver(&mut self) {
        let mut now = Instant::now();
        while let Some(Reverse(next)) = self.under_way.peek() {
            if next.due > now {
                now = Instant::now();
                if next.due > now {
                    return;
                }
            }
            let Some(Reverse(next)) = self.under_way.pop() else { return };
            self.bytes[next.from] -= next.frame.len();
            // A line whose far end is down loses its frames.
            let _ = self.shared.sockets[next.from ^ 1].send(&next.frame);
        }
    }

    /// Sleeps until a frame arrives or is due; the ends with frames.
    fn wait(&self) -> rustix::io::Result<Vec<usize>> {
        let timeout = self.under_way.peek().map(|Reverse(next)| {
            let left = next.due.saturating_duration_since(Instant::now());
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() }
        });
        let sockets = &self.shared.sockets;
        let mut polled: Vec<PollFd<'_>> = sockets
            .iter()
            .map(|socket| PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN))
            .collect();
        rustix::event::poll(&mut polled, timeout.as_ref())?;
        let ready = polled.iter().enumerate().filter(|(_, it)| !it.revents().is_empty());
        Ok(ready.map(|(end, _)| end).collect())
    }

    fn collect(&mut self, end: usize, buffer: &mut [u8]) {
        let shared = Arc::clone(&self.shared);
        for _ in 0..BATCH {
            // Nothing left, or an interface on its way out: either way there is no frame.
            let Ok(received) = shared.sockets[end].receive(buffer) else { return };
            let frame = &buffer[..received.length];
            if belongs_to_cable(frame) {
                // Lost if the far end is down.
                let _ = shared.sockets[end ^ 1].send(frame);
                continue;
            }
            let now = Instant::now();
            let arrived = now.checked_sub(received.age).unwrap_or(now);
            let mut links = shared.links.lock().unwrap_or_else(PoisonError::into_inner);
            let inwards = end % 2 == 1;
            let lane = usize::from(inwards) + usize::from(inwards && is_from_servers(frame));
            for due in links[end / 2][lane].transmit(arrived) {
                self.schedule(end, frame, due);
            }
        }
    }

    fn schedule(&mut self, from: usize, frame: &[u8], due: Instant) {
        if self.bytes[from] + frame.len() > MOST_BYTES {
            return;
        }
        self.count += 1;
        self.bytes[from] += frame.len();
        let frame = frame.to_vec();
        self.under_way.push(Reverse(UnderWay { due, count: self.count, from, frame }));
    }
}

/// Sent by one of the lab's servers.
fn is_from_servers(frame: &[u8]) -> bool {
    const IP: usize = OFFLOAD_HEADER + 14;
    let source = |at: usize, length: usize| frame.get(IP + at..IP + at + length);
    match frame.get(IP).map(|first| first >> 4) {
        Some(4) => SERVER_ADDRESSES.iter().any(|ip| source(12, 4) == Some(&ip.octets())),
        Some(6) => SERVER_ADDRESSES_V6.iter().any(|ip| source(8, 16) == Some(&ip.octets())),
        _ => false,
    }
}

/// ARP, and IPv6 neighbour discovery (RFC 4861 section 4: ICMPv6 types 133 to 137).
fn belongs_to_cable(frame: &[u8]) -> bool {
    const ETHERTYPE: usize = OFFLOAD_HEADER + 12;
    const IP: usize = OFFLOAD_HEADER + 14;
    const ICMPV6: u8 = 58;
    match frame.get(ETHERTYPE..IP) {
        Some([0x08, 0x00]) => false,
        Some([0x86, 0xdd]) => {
            let discovery = frame.get(IP + 40).is_some_and(|kind| (133..=137).contains(kind));
            frame.get(IP + 6) == Some(&ICMPV6) && discovery
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn frame(ethertype: [u8; 2], rest: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; OFFLOAD_HEADER + 12];
        frame.extend(ethertype);
        frame.extend(rest);
        frame
    }

    #[test]
    fn address_resolution_is_no_matter_of_distance() {
        let mut neighbour = [0; 48];
        (neighbour[6], neighbour[40]) = (58, 135);
        let mut echo = neighbour;
        echo[40] = 128;
        assert!(belongs_to_cable(&frame([0x08, 0x06], &[])));
        assert!(belongs_to_cable(&frame([0x86, 0xdd], &neighbour)));
        assert!(!belongs_to_cable(&frame([0x86, 0xdd], &echo)));
        assert!(!belongs_to_cable(&frame([0x08, 0x00], &[0x45])));
    }

    #[test]
    fn the_servers_are_known_by_their_source_addresses() {
        let mut packet = [0; 40];
        packet[0] = 0x45;
        packet[12..16].copy_from_slice(&SERVER_ADDRESSES[1].octets());
        assert!(is_from_servers(&frame([8, 0], &packet)));
        assert!(!is_from_servers(&frame([8, 0], &packet[..14])));
        packet[12] ^= 1;
        assert!(!is_from_servers(&frame([8, 0], &packet)));
        packet[0] = 0x60;
        packet[8..24].copy_from_slice(&SERVER_ADDRESSES_V6[0].octets());
        assert!(is_from_servers(&frame([0x86, 0xdd], &packet)));
    }

    #[test]
    fn what_comes_first_leaves_first_and_ties_keep_their_order() {
        let now = Instant::now();
        let later = now + Duration::from_millis(1);
        let mut heap = BinaryHeap::new();
        for (due, count) in [(later, 1), (now, 3), (now, 2)] {
            heap.push(Reverse(UnderWay { due, count, from: 0, frame: Vec::new() }));
        }
        let order: Vec<u64> =
            std::iter::from_fn(|| heap.pop()).map(|Reverse(it)| it.count).collect();
        assert_eq!(order, [2, 3, 1]);
    }
}
