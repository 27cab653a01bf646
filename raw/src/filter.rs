//! Which packets a capture is for.

use std::net::{IpAddr, SocketAddr};

use ntcp_proto::command::Ends;
use ntcp_proto::segment::{Segment, flag};
use socket2::SockFilter;

/// Ethernet types of the two families (RFC 7042 appendix B.1).
const ETHERTYPE: (u32, u32) = (0x0800, 0x86dd);
/// The protocol number of TCP.
const TCP: u32 = 6;
/// Where `linux/filter.h` puts what is known of a packet beside its bytes.
const ANCILLARY: u32 = -0x1000_i32 as u32;
const ANCILLARY_PROTOCOL: u32 = ANCILLARY;
const ANCILLARY_PACKET_TYPE: u32 = ANCILLARY + 4;

/// SYNs that leave from a local address for a remote one.
///
/// An unspecified local address stands for each of this host's, the remote port 0 for any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SynFilter {
    ends: Ends,
}

impl SynFilter {
    /// `None` unless both ends are of one family and the local port and remote address are given.
    pub fn new(ends: Ends) -> Option<Self> {
        let Ends { local, remote } = ends;
        let one_family = local.is_ipv4() == remote.is_ipv4();
        let definite = local.port() != 0 && !remote.ip().is_unspecified();
        (one_family && definite).then_some(Self { ends })
    }

    /// Between which ends.
    pub fn ends(&self) -> Ends {
        self.ends
    }

    /// Whether it is for this segment.
    pub fn matches(&self, segment: &Segment) -> bool {
        let Ends { local, remote } = self.ends;
        let from = SocketAddr::new(
            if local.ip().is_unspecified() { segment.source.ip() } else { local.ip() },
            local.port(),
        );
        let to = SocketAddr::new(
            remote.ip(),
            if remote.port() == 0 { segment.destination.port() } else { remote.port() },
        );
        segment.source == from
            && segment.destination == to
            && segment.flags & (flag::SYN | flag::ACK) == flag::SYN
    }

    /// In the language of libpcap.
    pub fn expression(&self) -> String {
        let Ends { local, remote } = self.ends;
        // libpcap's `tcpflags` does not look into IPv6; there TCP follows the 40 bytes of its
        // header, flags at 13.
        let (family, flags) =
            if local.is_ipv4() { ("ip", "tcp[13]") } else { ("ip6 and tcp", "ip6[53]") };
        let mut expression = format!("{family} and {flags} & 0x12 = 0x02");
        let mut also = |condition: String| expression += &format!(" and {condition}");
        also(format!("tcp src port {}", local.port()));
        also(format!("dst host {}", remote.ip()));
        if !local.ip().is_unspecified() {
            also(format!("src host {}", local.ip()));
        }
        if remote.port() != 0 {
            also(format!("tcp dst port {}", remote.port()));
        }
        expression
    }

    /// As a classic BPF program for a packet socket that sees packets from the IP header on.
    pub fn program(&self) -> Vec<SockFilter> {
        let Ends { local, remote } = self.ends;
        let mut program = Program::default();
        program.require(load_word(ANCILLARY_PACKET_TYPE), u32::from(libc::PACKET_OUTGOING));
        match (local.ip(), remote.ip()) {
            (IpAddr::V4(local_ip), IpAddr::V4(remote_ip)) => {
                program.require(load_half(ANCILLARY_PROTOCOL), ETHERTYPE.0);
                program.require(load_byte(9), TCP);
                program.forbid(load_half(6), 0x1fff);
                if !local_ip.is_unspecified() {
                    program.require(load_word(12), local_ip.to_bits());
                }
                program.require(load_word(16), remote_ip.to_bits());
                program.header_length();
            }
            (IpAddr::V6(local_ip), IpAddr::V6(remote_ip)) => {
                program.require(load_half(ANCILLARY_PROTOCOL), ETHERTYPE.1);
                program.require(load_byte(6), TCP);
                if !local_ip.is_unspecified() {
                    program.require_address(8, local_ip.octets());
                }
                program.require_address(24, remote_ip.octets());
                program.fixed_length(40);
            }
            // `new` has refused such ends; this drops everything.
            _ => program.require(load_byte(0), u32::MAX),
        }
        program.require(load_half_behind(0), local.port().into());
        if remote.port() != 0 {
            program.require(load_half_behind(2), remote.port().into());
        }
        program.require_masked(load_byte_behind(13), 0x12, 0x02);
        program.finish()
    }
}

fn load_word(offset: u32) -> SockFilter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset)
}

fn load_half(offset: u32) -> SockFilter {
    instruction(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, 0, offset)
}

fn load_byte(offset: u32) -> SockFilter {
    instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, offset)
}

/// Behind the IP header, whose length is in the index register.
fn load_half_behind(offset: u32) -> SockFilter {
    instruction(libc::BPF_LD | libc::BPF_H | libc::BPF_IND, 0, 0, offset)
}

fn load_byte_behind(offset: u32) -> SockFilter {
    instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_IND, 0, 0, offset)
}

fn instruction(code: u32, jump_true: u8, jump_false: u8, operand: u32) -> SockFilter {
    SockFilter::new(code as u16, jump_true, jump_false, operand)
}

/// A step, and where it leads to when it is a comparison.
#[derive(Debug)]
enum Step {
    Plain(SockFilter),
    /// Goes on if equal.
    Equal(u32),
    /// Goes on if none of these bits is set.
    NoneOf(u32),
}

/// A list of conditions, all of which must hold.
#[derive(Debug, Default)]
struct Program(Vec<Step>);

impl Program {
    fn require(&mut self, load: SockFilter, value: u32) {
        self.0.extend([Step::Plain(load), Step::Equal(value)]);
    }

    fn require_masked(&mut self, load: SockFilter, mask: u32, value: u32) {
        let and = instruction(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, mask);
        self.0.extend([Step::Plain(load), Step::Plain(and), Step::Equal(value)]);
    }

    fn forbid(&mut self, load: SockFilter, bits: u32) {
        self.0.extend([Step::Plain(load), Step::NoneOf(bits)]);
    }

    fn require_address(&mut self, offset: u32, address: [u8; 16]) {
        let (words, _) = address.as_chunks::<4>();
        for (offset, word) in (offset..).step_by(4).zip(words) {
            self.require(load_word(offset), u32::from_be_bytes(*word));
        }
    }

    /// Four times the low half of the first byte, as IPv4 says it.
    fn header_length(&mut self) {
        let load = libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH;
        self.0.push(Step::Plain(instruction(load, 0, 0, 0)));
    }

    fn fixed_length(&mut self, length: u32) {
        let load = libc::BPF_LDX | libc::BPF_W | libc::BPF_IMM;
        self.0.push(Step::Plain(instruction(load, 0, 0, length)));
    }

    /// Takes the whole packet behind the last condition, drops it behind a false one.
    fn finish(self) -> Vec<SockFilter> {
        let steps = self.0.len();
        let jump = |test: u32| libc::BPF_JMP | test | libc::BPF_K;
        let drop_from = |at: usize| u8::try_from(steps - at).expect("a short program");
        let mut program: Vec<_> = self
            .0
            .into_iter()
            .enumerate()
            .map(|(at, step)| match step {
                Step::Plain(instruction) => instruction,
                Step::Equal(value) => instruction(jump(libc::BPF_JEQ), 0, drop_from(at), value),
                Step::NoneOf(bits) => instruction(jump(libc::BPF_JSET), drop_from(at), 0, bits),
            })
            .collect();
        let give = |length| instruction(libc::BPF_RET | libc::BPF_K, 0, 0, length);
        program.extend([give(u32::MAX), give(0)]);
        program
    }
}
