//! Packets as the segments of the machines' vocabulary, and back.

use std::net::SocketAddr;

use ntcp_proto::segment::{self, Options, Timestamps};

use super::{Packet, Protocol, build, read_u32};

/// TCP option kinds (RFC 9293 section 3.2, RFC 7323, RFC 2018).
mod kind {
    pub(super) const NO_OPERATION: u8 = 1;
    pub(super) const MAX_SEGMENT_SIZE: u8 = 2;
    pub(super) const WINDOW_SCALE: u8 = 3;
    pub(super) const SACK_PERMITTED: u8 = 4;
    pub(super) const TIMESTAMPS: u8 = 8;
}

impl Packet {
    /// The TCP segment it carries, without its data.
    pub fn segment(&self) -> Option<segment::Segment> {
        let (fields, source, destination) = (self.tcp()?, self.source()?, self.destination()?);
        Some(segment::Segment {
            source,
            destination,
            flags: fields.flags,
            sequence: fields.sequence,
            acknowledgment: fields.acknowledgment,
            window: fields.window,
            options: self.options(),
        })
    }

    /// What its segment negotiates.
    pub fn options(&self) -> Options {
        let content = |kind, length| {
            let range = self.option_range(kind, length)?;
            Some(&self.body()[range.start + 2..range.end])
        };
        Options {
            max_segment_size: content(kind::MAX_SEGMENT_SIZE, 4)
                .map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]])),
            window_scale: self.window_scale(),
            sack_permitted: content(kind::SACK_PERMITTED, 2).is_some(),
            timestamps: content(kind::TIMESTAMPS, 10).map(|bytes| Timestamps {
                value: read_u32(&bytes[..4]),
                echo: read_u32(&bytes[4..8]),
            }),
        }
    }
}

/// The packet of a segment of the machines' vocabulary; nothing if its ends are of two families.
pub fn of_segment(segment: &segment::Segment, ttl: u8) -> Option<Vec<u8>> {
    let (source, destination): (SocketAddr, SocketAddr) = (segment.source, segment.destination);
    if source.is_ipv4() != destination.is_ipv4() {
        return None;
    }
    let options = option_bytes(&segment.options);
    // At most 28 bytes of options: the header has room for 40.
    let words = u8::try_from((20 + options.len()) / 4).ok()?;
    let mut body = Vec::with_capacity(20 + options.len());
    body.extend_from_slice(&source.port().to_be_bytes());
    body.extend_from_slice(&destination.port().to_be_bytes());
    body.extend_from_slice(&segment.sequence.to_be_bytes());
    body.extend_from_slice(&segment.acknowledgment.to_be_bytes());
    body.extend_from_slice(&[words << 4, segment.flags]);
    body.extend_from_slice(&segment.window.to_be_bytes());
    body.extend_from_slice(&[0; 4]);
    body.extend_from_slice(&options);
    Some(build::ip(source.ip(), destination.ip(), ttl, Protocol::Tcp, &body))
}

/// The options in the order of Linux, each filled up to whole words.
fn option_bytes(options: &Options) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(size) = options.max_segment_size {
        bytes.extend_from_slice(&[kind::MAX_SEGMENT_SIZE, 4]);
        bytes.extend_from_slice(&size.to_be_bytes());
    }
    if options.sack_permitted {
        let pad = kind::NO_OPERATION;
        bytes.extend_from_slice(&[pad, pad, kind::SACK_PERMITTED, 2]);
    }
    if let Some(timestamps) = options.timestamps {
        let pad = kind::NO_OPERATION;
        bytes.extend_from_slice(&[pad, pad, kind::TIMESTAMPS, 10]);
        bytes.extend_from_slice(&timestamps.value.to_be_bytes());
        bytes.extend_from_slice(&timestamps.echo.to_be_bytes());
    }
    if let Some(scale) = options.window_scale {
        bytes.extend_from_slice(&[kind::NO_OPERATION, kind::WINDOW_SCALE, 3, scale]);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_becomes_a_packet_and_is_read_back() {
        for (source, destination) in
            [("192.0.2.1:5000", "198.51.100.2:6000"), ("[2001:db8::1]:5000", "[2001:db8::2]:6000")]
        {
            let full = Options {
                max_segment_size: Some(1460),
                window_scale: Some(7),
                sack_permitted: true,
                timestamps: Some(Timestamps { value: 0x0102_0304, echo: 0xf0e0_d0c0 }),
            };
            for options in [Options::default(), full] {
                let segment = segment::Segment {
                    source: source.parse().unwrap(),
                    destination: destination.parse().unwrap(),
                    flags: segment::flag::SYN | segment::flag::ACK,
                    sequence: 0xffff_fff0,
                    acknowledgment: 17,
                    window: 4711,
                    options,
                };
                let bytes = of_segment(&segment, 9).unwrap();
                let packet = Packet::parse(&bytes).unwrap();
                assert_eq!(packet.segment(), Some(segment));
                assert_eq!(packet.ttl(), 9);
                assert_eq!(packet.seal(), bytes, "its checksums are right");
            }
        }
    }

    #[test]
    fn ends_of_two_families_make_no_packet() {
        let segment = segment::Segment {
            source: "192.0.2.1:5000".parse().unwrap(),
            destination: "[2001:db8::2]:6000".parse().unwrap(),
            flags: segment::flag::SYN,
            sequence: 1,
            acknowledgment: 0,
            window: 1,
            options: Options::default(),
        };
        assert_eq!(of_segment(&segment, 64), None);
    }
}
