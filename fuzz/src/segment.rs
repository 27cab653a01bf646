//! Any bytes as an IP packet with a TCP segment.

use ntcp_proto::segment::Segment;

/// Reads a segment and writes it again: what was understood stays the same.
///
/// # Panics
///
/// If anything that must hold does not.
pub fn check(bytes: &[u8]) {
    let Some((segment, ttl)) = Segment::parse(bytes) else { return };
    let packet = segment.emit(ttl).expect("both ends are of the packet's family");
    assert_eq!(Segment::parse(&packet), Some((segment, ttl)));
}
