//! What application and helper say to each other: one datagram each, numbers in network order.
//!
//! ```text
//!  request   version(1) kind(1) …        + one descriptor, except with hello
//!    hello    0
//!    pin      1  sequence(4)
//!    assume   2  remote  sequence(4) peer sequence(4) options options departure(1)
//!    capture  3  remote
//!    inject   4  the packet
//!  remote    family(1: 4 or 6) address(4 or 16) port(2)
//!  options   present(1: bit 0 size, 1 scale, 2 SACK) size(2) scale(1)
//!
//!  reply     error number(4), 0 is success; abilities(1: bit 0 capture, 1 inject, 2 repair)
//! ```

use std::io;
use std::net::SocketAddr;

use ntcp_proto::command::Agreed;
use ntcp_proto::segment::{Options, Segment};

use crate::privileged::Abilities;
use crate::repair::Departure;

/// Of this language; application and helper must speak the same.
const VERSION: u8 = 1;
/// No message is longer.
pub(super) const MAX_MESSAGE: usize = 512;

/// What the application asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    Hello,
    Pin { sequence: u32 },
    Assume { remote: SocketAddr, agreed: Agreed, departure: Departure },
    Capture { remote: SocketAddr },
    Inject { segment: Segment, ttl: u8 },
}

impl Request {
    /// `None` for a segment that is no packet.
    pub(super) fn emit(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![VERSION];
        match self {
            Self::Hello => bytes.push(0),
            Self::Pin { sequence } => {
                bytes.push(1);
                bytes.extend(sequence.to_be_bytes());
            }
            Self::Assume { remote, agreed, departure } => {
                bytes.push(2);
                emit_address(&mut bytes, *remote);
                bytes.extend(agreed.sequence.to_be_bytes());
                bytes.extend(agreed.peer_sequence.to_be_bytes());
                emit_options(&mut bytes, &agreed.options);
                emit_options(&mut bytes, &agreed.peer_options);
                bytes.push(match departure {
                    Departure::Silent => 0,
                    Departure::Probe => 1,
                });
            }
            Self::Capture { remote } => {
                bytes.push(3);
                emit_address(&mut bytes, *remote);
            }
            Self::Inject { segment, ttl } => {
                bytes.push(4);
                bytes.extend(segment.emit(*ttl)?);
            }
        }
        Some(bytes)
    }

    /// `None` if it is not exactly one request.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut rest = Reader(bytes);
        if rest.byte()? != VERSION {
            return None;
        }
        let request = match rest.byte()? {
            0 => Self::Hello,
            1 => Self::Pin { sequence: rest.word()? },
            2 => Self::Assume {
                remote: rest.address()?,
                agreed: Agreed {
                    sequence: rest.word()?,
                    peer_sequence: rest.word()?,
                    options: rest.options()?,
                    peer_options: rest.options()?,
                },
                departure: match rest.byte()? {
                    0 => Departure::Silent,
                    1 => Departure::Probe,
                    _ => return None,
                },
            },
            3 => Self::Capture { remote: rest.address()? },
            4 => {
                let (segment, ttl) = Segment::parse(rest.0)?;
                // Nothing but what this value says is ever sent.
                rest.0 = &[];
                Self::Inject { segment, ttl }
            }
            _ => return None,
        };
        rest.0.is_empty().then_some(request)
    }
}

fn emit_address(bytes: &mut Vec<u8>, address: SocketAddr) {
    match address {
        SocketAddr::V4(address) => {
            bytes.push(4);
            bytes.extend(address.ip().octets());
        }
        SocketAddr::V6(address) => {
            bytes.push(6);
            bytes.extend(address.ip().octets());
        }
    }
    bytes.extend(address.port().to_be_bytes());
}

/// Without timestamps, which no assumed connection has.
fn emit_options(bytes: &mut Vec<u8>, options: &Options) {
    let present = u8::from(options.max_segment_size.is_some())
        | u8::from(options.window_scale.is_some()) << 1
        | u8::from(options.sack_permitted) << 2;
    bytes.push(present);
    bytes.extend(options.max_segment_size.unwrap_or(0).to_be_bytes());
    bytes.push(options.window_scale.unwrap_or(0));
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take().map(u8::from_be_bytes)
    }

    fn half(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    fn word(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn address(&mut self) -> Option<SocketAddr> {
        match self.byte()? {
            4 => Some((self.take::<4>()?, self.half()?).into()),
            6 => Some((self.take::<16>()?, self.half()?).into()),
            _ => None,
        }
    }

    fn options(&mut self) -> Option<Options> {
        let (present, size, scale) = (self.byte()?, self.half()?, self.byte()?);
        Some(Options {
            max_segment_size: (present & 1 != 0).then_some(size),
            window_scale: (present & 2 != 0).then_some(scale),
            sack_permitted: present & 4 != 0,
            timestamps: None,
        })
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reply {
    /// The system's error number, 0 for success.
    error: i32,
    /// What the helper is capable of.
    pub(super) abilities: Abilities,
}

impl Reply {
    pub(super) fn new(outcome: &io::Result<()>, abilities: Abilities) -> Self {
        let error = match outcome {
            Ok(()) => 0,
            Err(error) => error.raw_os_error().unwrap_or_else(|| number(error.kind())),
        };
        Self { error, abilities }
    }

    pub(super) fn outcome(self) -> io::Result<()> {
        if self.error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(self.error)) }
    }

    pub(super) fn emit(self) -> Vec<u8> {
        let Abilities { capture, inject, repair } = self.abilities;
        let mut bytes = self.error.to_be_bytes().to_vec();
        bytes.push(u8::from(capture) | u8::from(inject) << 1 | u8::from(repair) << 2);
        bytes
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (error, rest) = bytes.split_first_chunk()?;
        let &[abilities] = rest else { return None };
        let has = |bit: u8| abilities & bit != 0;
        let abilities = Abilities { capture: has(1), inject: has(2), repair: has(4) };
        Some(Self { error: i32::from_be_bytes(*error), abilities })
    }
}

/// The error number of errors that are not the system's.
fn number(kind: io::ErrorKind) -> i32 {
    match kind {
        io::ErrorKind::PermissionDenied => libc::EPERM,
        io::ErrorKind::WouldBlock => libc::EAGAIN,
        io::ErrorKind::InvalidInput => libc::EINVAL,
        _ => libc::EIO,
    }
}

#[cfg(test)]
mod tests {
    use ntcp_proto::segment::flag;

    use super::*;

    fn requests() -> Vec<Request> {
        let remote = "[2001:db8::1]:7".parse().unwrap();
        let options = Options { max_segment_size: Some(1220), ..Options::default() };
        let peer_options =
            Options { window_scale: Some(7), sack_permitted: true, ..Options::default() };
        let agreed = Agreed { sequence: 1, peer_sequence: u32::MAX, options, peer_options };
        let segment = Segment {
            source: "192.0.2.1:1".parse().unwrap(),
            destination: "192.0.2.2:2".parse().unwrap(),
            flags: flag::SYN,
            sequence: 3,
            acknowledgment: 0,
            window: 4,
            options,
        };
        vec![
            Request::Hello,
            Request::Pin { sequence: 9 },
            Request::Assume { remote, agreed, departure: Departure::Probe },
            Request::Assume { remote, agreed, departure: Departure::Silent },
            Request::Capture { remote: "192.0.2.1:0".parse().unwrap() },
            Request::Inject { segment, ttl: 3 },
        ]
    }

    #[test]
    fn every_request_is_read_as_it_was_written_and_not_if_cut_short() {
        for request in requests() {
            let bytes = request.emit().unwrap();
            assert!(bytes.len() <= MAX_MESSAGE);
            assert_eq!(Request::parse(&bytes), Some(request.clone()));
            for length in 0..bytes.len() {
                assert_eq!(Request::parse(&bytes[..length]), None, "{request:?} at {length}");
            }
            let mut foreign = bytes.clone();
            foreign[0] = VERSION + 1;
            assert_eq!(Request::parse(&foreign), None);
            if !matches!(request, Request::Inject { .. }) {
                let longer = [bytes, vec![0]].concat();
                assert_eq!(Request::parse(&longer), None);
            }
        }
    }

    #[test]
    fn data_is_taken_off_a_segment() {
        let injected = requests().pop().unwrap();
        let bytes = [injected.emit().unwrap(), b"data".to_vec()].concat();
        assert_eq!(Request::parse(&bytes), Some(injected));
    }

    #[test]
    fn replies_carry_the_error() {
        let abilities = Abilities { capture: true, inject: false, repair: true };
        for kind in [
            io::ErrorKind::PermissionDenied,
            io::ErrorKind::WouldBlock,
            io::ErrorKind::InvalidInput,
        ] {
            let reply = Reply::new(&Err(kind.into()), abilities);
            let read = Reply::parse(&reply.emit()).unwrap();
            assert_eq!(read, reply);
            assert_eq!(read.outcome().unwrap_err().kind(), kind);
        }
        assert!(Reply::new(&Ok(()), abilities).outcome().is_ok());
        assert_eq!(Reply::parse(&[0; 4]), None);
        assert_eq!(Reply::parse(&[0; 6]), None);
    }
}
