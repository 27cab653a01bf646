//! Packets from libpcap.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll, ready};

use async_io::Async;
use pcap::{Active, Capture, Error, Linktype};

use super::{Captured, Sniffer};
use crate::filter::SynFilter;

/// The device that stands for all.
const EVERY_DEVICE: &str = "any";
/// Bytes of a packet to look at: a link header, and the longest headers of IP and TCP.
const HEADERS: i32 = 320;

/// A sniffer on libpcap.
pub struct Pcap {
    capture: Capture<Active>,
    /// A copy of its descriptor, for the reactor.
    readiness: Async<OwnedFd>,
    link_header: usize,
    filter: SynFilter,
}

impl std::fmt::Debug for Pcap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pcap").field("filter", &self.filter).finish_non_exhaustive()
    }
}

/// A capture by libpcap. Needs `CAP_NET_RAW`.
///
/// # Errors
///
/// [`io::ErrorKind::PermissionDenied`] without the capability; otherwise as libpcap reports them.
pub fn pcap(filter: SynFilter) -> io::Result<Pcap> {
    let mut capture = Capture::from_device(EVERY_DEVICE)
        .and_then(|device| device.immediate_mode(true).snaplen(HEADERS).open())
        .and_then(Capture::setnonblock)
        .map_err(into_io)?;
    capture.filter(&filter.expression(), true).map_err(into_io)?;
    let link_header = link_header(capture.get_datalink())?;
    let readiness = Async::new_nonblocking(capture.as_fd().try_clone_to_owned()?)?;
    Ok(Pcap { capture, readiness, link_header, filter })
}

/// Bytes before the IP header.
fn link_header(link: Linktype) -> io::Result<usize> {
    match link {
        Linktype::LINUX_SLL => Ok(16),
        Linktype::LINUX_SLL2 => Ok(20),
        other => Err(io::Error::other(format!("link type {} is not supported", other.0))),
    }
}

fn into_io(error: Error) -> io::Error {
    match error {
        Error::IoError(kind) => kind.into(),
        Error::ErrnoError(number) => io::Error::from_raw_os_error(number.0),
        Error::PcapError(text) if text.contains("ermission") || text.contains("permitted") => {
            io::Error::new(io::ErrorKind::PermissionDenied, text)
        }
        other => io::Error::other(other.to_string()),
    }
}

impl Sniffer for Pcap {
    fn poll_syn(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Captured>> {
        loop {
            match self.capture.next_packet() {
                Ok(packet) => {
                    let captured = packet.data.get(self.link_header..).and_then(Captured::parse);
                    // What came before the filter was in force.
                    if let Some(captured) = captured.filter(|it| self.filter.matches(&it.segment)) {
                        return Poll::Ready(Ok(captured));
                    }
                }
                Err(Error::TimeoutExpired | Error::NoMorePackets) => {
                    ready!(self.readiness.poll_readable(context))?;
                }
                Err(error) => return Poll::Ready(Err(into_io(error))),
            }
        }
    }
}
