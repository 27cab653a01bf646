//! The lab's own verdict about a site: what its boxes really do, measured from both sides at once.
//!
//! It shares nothing with the programs that the lab judges: no STUN, no timers. It holds sockets
//! inside and outside together, so it simply looks where a packet arrives. That something does *not*
//! arrive is known by a fence: a byte that goes to the host and back over a connection of its own
//! and overtakes nothing, as all lines keep their order. So no verdict hangs on a time-out, and
//! lines that lose or reorder packets cannot be classified.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use ntcp_proto::nat::NatReport;

use super::error::{Error, Result};
use super::lab::Lab;
use super::layout::SERVER_ADDRESSES;
use super::plan::SERVER;

mod sight;
mod tcp;
mod udp;
mod verdict;

/// Flows opened to see how ports are chosen.
const SAMPLES: usize = 8;
/// Nothing takes this long in a lab that works.
const PATIENCE: Duration = Duration::from_secs(20);

/// Measures what stands between a host and the internet.
///
/// Lifetimes are left out: they take as long as they last.
///
/// # Errors
/// What a socket or the lab says.
pub fn classify(lab: &Lab, host: &str) -> Result<NatReport> {
    let address = lab.host(host)?.address;
    let mut probe = Probe { lab, host, address, fence: Fence::new(lab, host, address)?, token: 0 };
    let udp = probe.udp()?;
    let tcp = probe.tcp()?;
    let seen = tcp.public_address.map(|public| public.ip() != IpAddr::V4(address));
    Ok(NatReport { nat: seen, udp, tcp })
}

fn failed(action: &str) -> impl Fn(std::io::Error) -> Error + '_ {
    move |error| Error::system(action, error)
}

/// A connection from the host to the server whose bytes overtake nothing.
struct Fence {
    inside: TcpStream,
    outside: TcpStream,
}

impl Fence {
    fn new(lab: &Lab, host: &str, address: Ipv4Addr) -> Result<Self> {
        let listener = lab.tcp_listener(SERVER, (SERVER_ADDRESSES[3], 0))?;
        let (inside, outside, _) = connect(lab, host, (address, 0).into(), &listener)?;
        for stream in [&inside, &outside] {
            stream.set_read_timeout(Some(PATIENCE)).map_err(failed("fence"))?;
            stream.set_nodelay(true).map_err(failed("fence"))?;
        }
        Ok(Self { inside, outside })
    }

    /// Whatever was sent before, in either direction, has arrived or never will.
    fn wait(&mut self) -> Result<()> {
        let mut byte = [0];
        // Twice, as an answer of a box on the way may lag behind what it answers.
        for _ in 0..2 {
            self.outside.write_all(&[1]).map_err(failed("fence"))?;
            self.inside.read_exact(&mut byte).map_err(failed("fence"))?;
            self.inside.write_all(&[1]).map_err(failed("fence"))?;
            self.outside.read_exact(&mut byte).map_err(failed("fence"))?;
        }
        Ok(())
    }
}

/// A connection to a listener: both ends, and the address it came from.
fn connect(
    lab: &Lab,
    host: &str,
    from: SocketAddr,
    to: &TcpListener,
) -> Result<(TcpStream, TcpStream, SocketAddr)> {
    let inside = lab.tcp_socket(host, from)?;
    let target = to.local_addr().map_err(failed("getsockname"))?;
    inside.connect_timeout(&target.into(), PATIENCE).map_err(failed("connect"))?;
    let (outside, seen) = to.accept().map_err(failed("accept"))?;
    Ok((inside.into(), outside, seen))
}

/// Sockets on both sides of what is to be classified.
struct Probe<'a> {
    lab: &'a Lab,
    host: &'a str,
    address: Ipv4Addr,
    fence: Fence,
    token: u64,
}
