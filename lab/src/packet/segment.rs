//! Packets as the segments of the machines' vocabulary.

use ntcp_proto::segment::Segment;

use super::Packet;

impl Packet {
    /// The TCP segment it carries, without its data.
    pub fn segment(&self) -> Option<Segment> {
        Segment::parse(self.as_bytes()).map(|(segment, _)| segment)
    }
}
