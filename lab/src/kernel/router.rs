//! The lab's own NAT between real kernels: [`crate::nat::Nat`] as a router in user space.
//!
//! Packet sockets on both interfaces of a box take what arrives. The kernel of that namespace keeps
//! answering ARP and drops all other IPv4 packets; the value says what leaves on which side, and raw
//! sockets send it. IPv6 is the kernel's affair, as behind a netfilter box.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::thread;
use std::time::Instant;

use ntcp_proto::entropy::Seed;
use rustix::event::{PollFd, PollFlags, Timespec};
use socket2::{Domain, Protocol, Socket, Type};

use crate::nat::behaviour::Addresses;
use crate::nat::{Nat, Verdict};

use super::error::{Error, Result};
use super::netfilter::firewall_v6;
use super::plan::{BoxPlan, LAN, WAN};
use super::space::{Space, Tool};
use super::sys::{self, Frames, OFFLOAD_HEADER, PacketSocket};
use super::wire::LONGEST_FRAME;

/// Keeps the kernel out of it: it neither answers nor forwards what the sockets have seen.
const SILENCE: &str = "\
table ip ntcp {
  chain prerouting { type filter hook prerouting priority raw; policy drop;
    iifname \"lo\" accept
  }
}
";

/// The protocol number of raw sockets that take whole packets (IANA 255, `IPPROTO_RAW`).
pub(super) const WHOLE_PACKETS: i32 = 255;

/// Turns a namespace into a box.
pub(super) fn start(space: &Space, plan: &BoxPlan, seed: u64) -> Result<()> {
    space.tool(Tool::Nft, &["-f", "-"], format!("{SILENCE}{}", firewall_v6(plan)))?;
    let outside = [plan.outside].into_iter().chain(plan.spare.iter().copied());
    let addresses =
        Addresses { inside: vec![plan.inside.into()], outside: outside.map(IpAddr::V4).collect() };
    // Boxes of one lab differ, and each is the same in every run with this seed.
    let seed = Seed::from_number(seed ^ u64::from(u32::from(plan.outside)));
    let nat = Nat::new(plan.behaviour, addresses, seed);
    let name = format!("nat {}", space.name());
    space.enter(move || {
        let router = Router { nat, inside: Port::open(LAN)?, outside: Port::open(WAN)? };
        thread::Builder::new()
            .name(name)
            .spawn(move || router.run())
            .map_err(|error| Error::system("starting a thread", error))?;
        Ok(())
    })
}

struct Router {
    nat: Nat,
    inside: Port,
    outside: Port,
}

/// An interface of the box.
struct Port {
    arriving: PacketSocket,
    leaving: Socket,
}

impl Port {
    fn open(interface: &str) -> Result<Self> {
        let failed = |error| Error::system(format!("packet socket on {interface}"), error);
        let arriving = PacketSocket::open(interface, Frames::Arriving).map_err(failed)?;
        let protocol = Protocol::from(WHOLE_PACKETS);
        let leaving = Socket::new(Domain::IPV4, Type::RAW, Some(protocol)).map_err(failed)?;
        leaving.bind_device(Some(interface.as_bytes())).map_err(failed)?;
        Ok(Self { arriving, leaving })
    }

    fn send(&self, packet: &[u8]) {
        let Some(&[a, b, c, d]) = packet.get(16..20) else { return };
        let destination = SocketAddr::from((Ipv4Addr::new(a, b, c, d), 0));
        // Unreachable or queue full: a packet that gets no further, as on any router.
        let _ = self.leaving.send_to(packet, &destination.into());
    }
}

impl Router {
    fn run(mut self) {
        sys::be_punctual();
        let mut buffer = vec![0; LONGEST_FRAME];
        loop {
            let mut polled = [&self.inside, &self.outside]
                .map(|port| PollFd::from_borrowed_fd(port.arriving.as_fd(), PollFlags::IN));
            let timeout = self.nat.deadline().map(|due| {
                let left = due.saturating_duration_since(Instant::now());
                Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() }
            });
            match rustix::event::poll(&mut polled, timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
            while let Some(answer) = self.nat.next_answer(Instant::now()) {
                self.outside.send(&answer);
            }
            while let Ok(received) = self.inside.arriving.receive(&mut buffer) {
                if let Some(packet) = packet_of(&buffer[..received.length]) {
                    let verdict = self.nat.process_outbound(packet, Instant::now());
                    self.obey(verdict);
                }
            }
            while let Ok(received) = self.outside.arriving.receive(&mut buffer) {
                if let Some(packet) = packet_of(&buffer[..received.length]) {
                    let verdict = self.nat.process_inbound(packet, Instant::now());
                    self.obey(verdict);
                }
            }
        }
    }

    fn obey(&self, verdict: Verdict) {
        match verdict {
            Verdict::Inside(packet) => self.inside.send(&packet),
            Verdict::Outside(packet) => self.outside.send(&packet),
            Verdict::Dropped(_) => {}
        }
    }
}

/// The IPv4 packet of a frame that is for this box alone, without what Ethernet added at its end.
fn packet_of(frame: &[u8]) -> Option<&[u8]> {
    let ethernet = frame.get(OFFLOAD_HEADER..)?;
    let to_all = ethernet.first()? & 1 == 1;
    let ipv4 = ethernet.get(12..14)? == [0x08, 0x00];
    let packet = ethernet.get(14..)?;
    let length = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
    packet.get(..length).filter(|_| ipv4 && !to_all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(to: u8, ethertype: [u8; 2], packet: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; OFFLOAD_HEADER + 12];
        frame[OFFLOAD_HEADER] = to;
        frame.extend(ethertype);
        frame.extend(packet);
        frame
    }

    #[test]
    fn only_ipv4_for_this_box_is_taken_and_padding_is_cut_off() {
        let packet = [0x45, 0, 0, 6, 1, 2, 9, 9, 9];
        assert_eq!(packet_of(&frame(2, [8, 0], &packet)), Some(&packet[..6]));
        assert_eq!(packet_of(&frame(0xff, [8, 0], &packet)), None);
        assert_eq!(packet_of(&frame(2, [8, 6], &packet)), None);
        for cut in 0..6 {
            assert_eq!(packet_of(&frame(2, [8, 0], &packet[..cut])), None);
        }
    }
}
