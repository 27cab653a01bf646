//! The attributes of PROBE messages.

use super::Test;
use crate::attribute::{Problem, address};
use crate::{Attribute, AttributeError, AttributeType, TransactionId};
use std::net::SocketAddr;
use std::time::Duration;

/// What is asked for: [`Wish`].
pub const PROBE: AttributeType = AttributeType::new(0x4D00);
/// What came of it: [`Outcome`].
pub const OUTCOME: AttributeType = AttributeType::new(0x4D01);
/// The server's end of the test: [`ProbeAddress`].
pub const PROBE_ADDRESS: AttributeType = AttributeType::new(0x4D02);
/// Which tests a server serves: [`Offer`].
pub const OFFER: AttributeType = AttributeType::new(0xCD00);
/// How the SYN of the client's connection arrived: [`Seen`].
pub const SEEN: AttributeType = AttributeType::new(0xCD01);

/// A time in whole milliseconds, up to 65 s; of [`Test::Hold`] and [`Test::Wait`] in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interval(u16);

impl Interval {
    /// The nearest interval that is not longer than `time`.
    pub fn of(time: Duration) -> Self {
        Self(u16::try_from(time.as_millis()).unwrap_or(u16::MAX))
    }

    /// The nearest whole number of seconds that is not longer than `time`, for tests that count in them.
    pub fn of_seconds(time: Duration) -> Self {
        Self(u16::try_from(time.as_secs()).unwrap_or(u16::MAX))
    }

    /// As a duration, of a test that counts in seconds.
    pub fn seconds(self) -> Duration {
        Duration::from_secs(self.0.into())
    }

    /// As a duration.
    pub fn duration(self) -> Duration {
        Duration::from_millis(self.0.into())
    }
}

/// What a client asks for.
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// +---------------+---------------+-------------------------------+
/// |     test      |       0       |   patience in milliseconds    |
/// +---------------+---------------+-------------------------------+
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The test.
    pub test: Test,
    /// How long silence is waited for, a port is kept, or the answer shall take; the server has bounds
    /// of its own.
    pub patience: Interval,
}

impl Attribute<'_> for Wish {
    const TYPE: AttributeType = PROBE;

    fn decode(value: &[u8], _: TransactionId) -> Result<Self, AttributeError> {
        let Ok([test, _, high, low]) = <[u8; 4]>::try_from(value) else {
            return Err(PROBE.error(Problem::Length(value.len())));
        };
        let known = Test::from_number(test);
        let test = known.ok_or(PROBE.error(Problem::Value(test.into())))?;
        Ok(Self { test, patience: Interval(u16::from_be_bytes([high, low])) })
    }

    fn encoded_len(&self) -> usize {
        4
    }

    fn encode(&self, value: &mut [u8], _: TransactionId) {
        let [high, low] = self.patience.0.to_be_bytes();
        value.copy_from_slice(&[self.test.number(), 0, high, low]);
    }
}

/// What a connect of the server met with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Met {
    /// 1: a connection.
    Connected,
    /// 2: an RST.
    Reset,
    /// 3: an ICMP error.
    Icmp {
        /// Its type; 0 if the system did not tell.
        kind: u8,
        /// Its code.
        code: u8,
    },
    /// 4: nothing.
    Silence,
    /// 5: the server could not try.
    NotTried,
}

/// What came of a test.
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// +---------------+---------------+---------------+---------------+
/// |    result     |   ICMP type   |   ICMP code   | TTL of answer |
/// +---------------+---------------+---------------+---------------+
/// |             until the answer, or in vain, in microseconds     |
/// +---------------------------------------------------------------+
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What the SYN met with.
    pub result: Met,
    /// IP TTL or hop limit with which the answer arrived; `None`, written 0, where the server's
    /// system does not tell.
    pub ttl: Option<u8>,
    /// From the SYN to the answer, or how long none was waited for.
    pub elapsed: Duration,
}

impl Attribute<'_> for Outcome {
    const TYPE: AttributeType = OUTCOME;

    fn decode(value: &[u8], _: TransactionId) -> Result<Self, AttributeError> {
        let Ok([result, kind, code, ttl, a, b, c, d]) = <[u8; 8]>::try_from(value) else {
            return Err(OUTCOME.error(Problem::Length(value.len())));
        };
        let result = match result {
            1 => Met::Connected,
            2 => Met::Reset,
            3 => Met::Icmp { kind, code },
            4 => Met::Silence,
            5 => Met::NotTried,
            other => return Err(OUTCOME.error(Problem::Value(other.into()))),
        };
        let elapsed = Duration::from_micros(u32::from_be_bytes([a, b, c, d]).into());
        Ok(Self { result, ttl: (ttl > 0).then_some(ttl), elapsed })
    }

    fn encoded_len(&self) -> usize {
        8
    }

    fn encode(&self, value: &mut [u8], _: TransactionId) {
        let [result, kind, code] = match self.result {
            Met::Connected => [1, 0, 0],
            Met::Reset => [2, 0, 0],
            Met::Icmp { kind, code } => [3, kind, code],
            Met::Silence => [4, 0, 0],
            Met::NotTried => [5, 0, 0],
        };
        value[..4].copy_from_slice(&[result, kind, code, self.ttl.unwrap_or_default()]);
        let elapsed = u32::try_from(self.elapsed.as_micros()).unwrap_or(u32::MAX);
        value[4..].copy_from_slice(&elapsed.to_be_bytes());
    }
}

/// The server's end of a test, obscured like XOR-MAPPED-ADDRESS (RFC 8489 section 14.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeAddress(pub SocketAddr);

impl Attribute<'_> for ProbeAddress {
    const TYPE: AttributeType = PROBE_ADDRESS;

    fn decode(value: &[u8], id: TransactionId) -> Result<Self, AttributeError> {
        address::decode_xor(value, id).map(Self).map_err(|problem| PROBE_ADDRESS.error(problem))
    }

    fn encoded_len(&self) -> usize {
        address::encoded_len(self.0)
    }

    fn encode(&self, value: &mut [u8], id: TransactionId) {
        address::encode_xor(self.0, value, id);
    }
}

/// The tests that a server serves on the address where it says so: bit *n* for the test of number
/// *n*, in 32 bits. Bits without a test are ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offer(u32);

impl Offer {
    /// These tests.
    pub fn of(tests: &[Test]) -> Self {
        Self(tests.iter().fold(0, |bits, test| bits | 1 << test.number()))
    }

    /// Whether the test is served.
    pub fn includes(self, test: Test) -> bool {
        self.0 & (1 << test.number()) != 0
    }
}

impl Attribute<'_> for Offer {
    const TYPE: AttributeType = OFFER;

    fn decode(value: &[u8], _: TransactionId) -> Result<Self, AttributeError> {
        let bytes = value.try_into().map_err(|_| OFFER.error(Problem::Length(value.len())))?;
        Ok(Self(u32::from_be_bytes(bytes)))
    }

    fn encoded_len(&self) -> usize {
        4
    }

    fn encode(&self, value: &mut [u8], _: TransactionId) {
        value.copy_from_slice(&self.0.to_be_bytes());
    }
}

/// How the SYN of the client's connection looked when it arrived.
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// +---------------------------------------------------------------+
/// |                    initial sequence number                    |
/// +---------------------------------------------------------------+
/// |                     TSval, 0 without option                   |
/// +-------------------------------+---------------+---------------+
/// |   MSS, 0 without option       | window scale  |    options    |
/// +-------------------------------+---------------+---------------+
/// |            window             |      TTL      |       0       |
/// +-------------------------------+---------------+---------------+
/// ```
///
/// Options: 1 window scale, 2 SACK permitted, 4 timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Initial sequence number.
    pub sequence: u32,
    /// The sender's timestamp (RFC 7323 section 3), if it sends one.
    pub timestamp: Option<u32>,
    /// Maximum segment size, if it names one.
    pub mss: Option<u16>,
    /// Window scale, if it offers one.
    pub window_scale: Option<u8>,
    /// Selective acknowledgements are permitted.
    pub selective: bool,
    /// Window, not scaled.
    pub window: u16,
    /// IP TTL or hop limit on arrival.
    pub ttl: u8,
}

impl Attribute<'_> for Seen {
    const TYPE: AttributeType = SEEN;

    fn decode(value: &[u8], _: TransactionId) -> Result<Self, AttributeError> {
        let Ok(bytes) = <[u8; 16]>::try_from(value) else {
            return Err(SEEN.error(Problem::Length(value.len())));
        };
        let [a, b, c, d, e, f, g, h, i, j, scale, options, k, l, ttl, _] = bytes;
        let mss = u16::from_be_bytes([i, j]);
        Ok(Self {
            sequence: u32::from_be_bytes([a, b, c, d]),
            timestamp: (options & 4 != 0).then_some(u32::from_be_bytes([e, f, g, h])),
            mss: (mss > 0).then_some(mss),
            window_scale: (options & 1 != 0).then_some(scale),
            selective: options & 2 != 0,
            window: u16::from_be_bytes([k, l]),
            ttl,
        })
    }

    fn encoded_len(&self) -> usize {
        16
    }

    fn encode(&self, value: &mut [u8], _: TransactionId) {
        let options = u8::from(self.window_scale.is_some())
            | u8::from(self.selective) << 1
            | u8::from(self.timestamp.is_some()) << 2;
        value[..4].copy_from_slice(&self.sequence.to_be_bytes());
        value[4..8].copy_from_slice(&self.timestamp.unwrap_or_default().to_be_bytes());
        value[8..10].copy_from_slice(&self.mss.unwrap_or_default().to_be_bytes());
        value[10..12].copy_from_slice(&[self.window_scale.unwrap_or_default(), options]);
        value[12..14].copy_from_slice(&self.window.to_be_bytes());
        value[14..].copy_from_slice(&[self.ttl, 0]);
    }
}

impl Seen {
    /// What the headers of a SYN show, given from the first byte of the IP header on, as a system
    /// keeps them; `None` if they are something else.
    pub fn of_syn(headers: &[u8]) -> Option<Self> {
        /// IPPROTO_TCP.
        const TCP: u8 = 6;
        let (protocol, ttl, length) = match headers.first()? >> 4 {
            4 => (*headers.get(9)?, *headers.get(8)?, usize::from(headers.first()? & 15) * 4),
            // A system that keeps extension headers as well is not known.
            6 => (*headers.get(6)?, *headers.get(7)?, 40),
            _ => return None,
        };
        let segment = headers.get(length..).filter(|_| protocol == TCP)?;
        let (fixed, rest) = segment.split_first_chunk::<20>()?;
        let options = usize::from(fixed[12] >> 4).checked_sub(5)? * 4;
        let mut seen = Self {
            sequence: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            timestamp: None,
            mss: None,
            window_scale: None,
            selective: false,
            window: u16::from_be_bytes([fixed[14], fixed[15]]),
            ttl,
        };
        seen.read_options(rest.get(..options)?);
        Some(seen)
    }

    /// RFC 9293 section 3.1, RFC 7323, RFC 2018; the rest behind a malformed option is ignored.
    fn read_options(&mut self, mut options: &[u8]) {
        loop {
            options = match *options {
                [1, ref rest @ ..] => rest,
                [2, 4, high, low, ref rest @ ..] => {
                    self.mss = Some(u16::from_be_bytes([high, low]));
                    rest
                }
                [3, 3, scale, ref rest @ ..] => {
                    self.window_scale = Some(scale);
                    rest
                }
                [4, 2, ref rest @ ..] => {
                    self.selective = true;
                    rest
                }
                [8, 10, a, b, c, d, _, _, _, _, ref rest @ ..] => {
                    self.timestamp = Some(u32::from_be_bytes([a, b, c, d]));
                    rest
                }
                [] | [0, ..] | [_] => return,
                [_, length, ..] => match options.get(usize::from(length).max(2)..) {
                    Some(rest) => rest,
                    None => return,
                },
            };
        }
    }
}
