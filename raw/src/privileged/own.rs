//! The operations by this process itself.

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;

use ntcp_proto::command::{Agreed, Ends};
use ntcp_proto::segment::Segment;

use super::Privileged;
use crate::filter::SynFilter;
use crate::holder;
use crate::injector::Injector;
use crate::repair::{self, Departure};
use crate::sniffer::{self, Sniffer};

/// What this process may do with its own capabilities.
#[derive(Debug, Default)]
pub struct Own {
    injector: OnceLock<Injector>,
}

impl Own {
    /// The raw sockets, opened when they are first needed.
    fn injector(&self) -> io::Result<&Injector> {
        if let Some(injector) = self.injector.get() {
            return Ok(injector);
        }
        let injector = Injector::open()?;
        Ok(self.injector.get_or_init(|| injector))
    }

    /// The filter of a capture for the holder of a socket.
    pub(crate) fn filter(holder: BorrowedFd<'_>, remote: SocketAddr) -> io::Result<SynFilter> {
        let local = holder::local_end(holder, remote)?;
        SynFilter::new(Ends { local, remote }).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }
}

impl Privileged for Own {
    fn pin_sequence(&self, socket: BorrowedFd<'_>, sequence: u32) -> io::Result<()> {
        repair::pin_sequence(&socket, sequence)
    }

    fn assume(
        &self,
        socket: BorrowedFd<'_>,
        remote: SocketAddr,
        agreed: &Agreed,
        departure: Departure,
    ) -> io::Result<()> {
        repair::assume(&socket, remote, agreed, departure)
    }

    fn capture(&self, holder: BorrowedFd<'_>, remote: SocketAddr) -> io::Result<Box<dyn Sniffer>> {
        let filter = Self::filter(holder, remote)?;
        #[cfg(feature = "pcap")]
        if let Ok(sniffer) = sniffer::pcap(filter) {
            return Ok(Box::new(sniffer));
        }
        Ok(Box::new(sniffer::packet_socket(filter)?))
    }

    fn inject(&self, holder: BorrowedFd<'_>, segment: &Segment, ttl: u8) -> io::Result<()> {
        holder::check(holder, segment)?;
        let packet = segment.emit(ttl).ok_or(io::ErrorKind::InvalidInput)?;
        self.injector()?.try_send(&packet)
    }
}
