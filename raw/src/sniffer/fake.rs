//! A sniffer that shows what a test wants.

use std::io;

use ntcp_proto::segment::Segment;
use socket2::{Domain, Socket, Type};

use super::{PacketSocket, relayed};
use crate::filter::SynFilter;

/// The test's end of a [`fake`] sniffer; dropping it ends the capture.
#[derive(Debug)]
pub struct Fake(Socket);

impl Fake {
    /// A segment passes by, with this TTL.
    ///
    /// # Errors
    ///
    /// As the system reports them; a segment with ends of two families is no packet.
    pub fn show(&self, segment: &Segment, ttl: u8) -> io::Result<()> {
        let packet = segment.emit(ttl).ok_or(io::ErrorKind::InvalidInput)?;
        self.0.send(&packet).map(drop)
    }
}

/// A sniffer and what passes it by.
///
/// # Errors
///
/// As the system reports them.
pub fn fake(filter: SynFilter) -> io::Result<(Fake, PacketSocket)> {
    let (ours, theirs) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None)?;
    Ok((Fake(ours), relayed(theirs, filter)?))
}
