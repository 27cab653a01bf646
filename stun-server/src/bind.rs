//! Opens the sockets, or says which one could not be opened and what to do.

use crate::express::Express;
use crate::neighbours;
use crate::options::{AlternateHost, Options, TlsOptions};
use crate::outside::Outside;
use crate::spoof_check::sources_beside;
use crate::tls::{Identity, TlsError};
use ntcp_raw::transparent;
use ntcp_service::bind::{self, Opening};
use ntcp_stun::server::{Network, Quartet, QuartetError};
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

/// Bytes that may wait in the kernel for each direction of a stream: some requests and some replies. Left to itself the
/// kernel lets a peer that does not read hold megabytes.
const STREAM_BUFFER: usize = 16 << 10;
/// How often free ports are sought where port 0 was asked for: one that is free for UDP on one address need not be free
/// for TCP and on the other address too.
const ATTEMPTS: usize = 32;
/// The flags that set the addresses, for messages.
const FLAGS: &str = "--listen IP:PORT or --alternate IP:PORT";

/// The same for TLS and DTLS.
const TLS_FLAG: &str = "--tls IP:PORT";
const DTLS_FLAG: &str = "--dtls IP:PORT";

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// A socket could not be had.
    #[error(transparent)]
    Socket(#[from] bind::BindError),
    /// An alternate address that makes no RFC 5780 server with the primary one.
    #[error("the alternate address cannot be used: {0}")]
    Alternate(#[from] QuartetError),
    /// An alternate address without a primary one of its family.
    #[error(
        "the alternate address {alternate} has no primary address of its family: add one with --listen IP:PORT"
    )]
    AlternateAlone {
        /// The alternate address.
        alternate: SocketAddr,
    },
    /// Nothing can be sent in the name of that address.
    #[error(
        "UDP {address} cannot be sent from: {source}; mode \"forged\" needs CAP_NET_RAW (run as root, or AmbientCapabilities=CAP_NET_RAW)"
    )]
    Forging {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// There is no TLS to be had.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No address at all.
    #[error("nothing to listen on: give at least one address with --listen IP:PORT")]
    Nothing,
    /// The reactor or the system has no room for the sockets.
    #[error("the sockets on {address} cannot be waited for: {source}")]
    Reactor {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// All sockets of a server, before anything runs on them: nothing else of a server needs a privilege.
#[derive(Debug)]
pub struct Sockets {
    shards: usize,
    pub(crate) places: Vec<Place>,
    pub(crate) quartets: Vec<Quartet>,
    /// Addresses of another host to send from, with a socket for each shard.
    pub(crate) forged: Vec<(SocketAddr, Vec<UdpSocket>)>,
    /// For each such host: one of its addresses, and a sender in the name of its neighbour, which finds out whether the network
    /// lets forged sources out.
    pub(crate) provers: Vec<(SocketAddr, UdpSocket)>,
    /// Where TLS and DTLS are spoken, and with what certificate.
    pub(crate) tls: Option<Secured>,
    /// What clients call the addresses of `places`.
    pub(crate) outside: Outside,
    /// What answers before the sockets do.
    pub(crate) express: Express,
    /// The networks that this host is on. A confined process cannot find out.
    pub(crate) near: Vec<Network>,
}

/// Where TLS and DTLS are spoken, and with what certificate.
#[derive(Debug)]
pub(crate) struct Secured {
    pub(crate) identity: Identity,
    pub(crate) streams: Vec<(SocketAddr, TcpListener)>,
    pub(crate) datagrams: Vec<(SocketAddr, UdpSocket)>,
}

/// An address with its sockets.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    /// One for each shard.
    pub(crate) datagrams: Vec<UdpSocket>,
    pub(crate) listener: TcpListener,
}

impl Sockets {
    /// Opens all that `options` ask for. An unspecified address of a family that this host lacks is passed over as long
    /// as another one works.
    ///
    /// # Errors
    ///
    /// A [`BindError`] that names the address and what to do.
    pub fn open(options: &Options, opening: Opening) -> Result<(Self, Opening), BindError> {
        let opening = opening.stream_buffer(STREAM_BUFFER);
        let shards = options.shards.max(1);
        let mut sockets = Self {
            shards,
            places: Vec::new(),
            outside: Outside::new(&options.public),
            quartets: Vec::new(),
            forged: Vec::new(),
            provers: Vec::new(),
            tls: options.tls.as_ref().map(|it| open_tls(it, &opening)).transpose()?,
            express: Express::default(),
            near: neighbours::networks(),
        };
        let mut lacking = None;
        for &primary in &options.listen {
            let of_family = |it: &&SocketAddr| it.is_ipv4() == primary.is_ipv4();
            let opened = match options.alternate.iter().find(of_family) {
                Some(&alternate) => match options.alternate_host {
                    AlternateHost::ThisOne => sockets.open_quartet(&opening, primary, alternate),
                    AlternateHost::Forged => sockets.open_forging(&opening, primary, alternate),
                    AlternateHost::Partner(_) => sockets.open_half(&opening, primary, alternate),
                },
                None => sockets.open_single(&opening, primary),
            };
            match opened {
                Err(error) if error.lacks_family(primary) => {
                    tracing::info!(address = %primary, "no such address family here, passed over");
                    lacking = Some(error);
                }
                other => other?,
            }
        }
        for &alternate in &options.alternate {
            if !options.listen.iter().any(|it| it.is_ipv4() == alternate.is_ipv4()) {
                return Err(BindError::AlternateAlone { alternate });
            }
        }
        if sockets.places.is_empty() {
            Err(lacking.unwrap_or(BindError::Nothing))
        } else {
            let addresses: Vec<_> = sockets.places.iter().map(|it| it.address).collect();
            sockets.express = Express::open(options, &addresses, &sockets.near);
            Ok((sockets, opening))
        }
    }

    /// The listeners, for whoever changes their owner: to connect from a listener's address a socket needs the same
    /// owner (`SO_REUSEPORT`, socket(7)).
    pub fn listeners(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let tls = self.tls.iter().flat_map(|it| &it.streams);
        let tls = tls.map(|(_, listener)| listener.as_fd());
        self.places.iter().map(|place| place.listener.as_fd()).chain(tls)
    }

    fn open_single(&mut self, opening: &Opening, address: SocketAddr) -> Result<(), BindError> {
        let open = || Place::open(opening, address, self.shards);
        let place = again_if(address.port() == 0, open)?;
        self.places.push(place);
        Ok(())
    }

    fn open_quartet(
        &mut self,
        opening: &Opening,
        primary: SocketAddr,
        alternate: SocketAddr,
    ) -> Result<(), BindError> {
        let any_port = primary.port() == 0 || alternate.port() == 0;
        let (quartet, places) = again_if(any_port, || self.open_four(opening, primary, alternate))?;
        self.quartets.push(quartet);
        self.places.extend(places);
        Ok(())
    }
}

impl Sockets {
    fn open_four(
        &self,
        opening: &Opening,
        primary: SocketAddr,
        alternate: SocketAddr,
    ) -> Result<(Quartet, [Place; 4]), BindError> {
        let quartet =
            |primary, alternate| Quartet::new(self.outside.of(primary), self.outside.of(alternate));
        if primary.port() != 0 && alternate.port() != 0 {
            // Before anything is opened, so that the error is about the addresses.
            quartet(primary, alternate)?;
        }
        let open = |ip, port| Place::open(opening, SocketAddr::new(ip, port), self.shards);
        let first = open(primary.ip(), primary.port())?;
        let last = open(alternate.ip(), alternate.port())?;
        let quartet = quartet(first.address, last.address)?;
        let second = open(primary.ip(), last.address.port())?;
        let third = open(alternate.ip(), first.address.port())?;
        Ok((quartet, [first, second, third, last]))
    }
}

/// The two of four addresses that are this host's, and senders in the name of the others.
impl Sockets {
    /// The two addresses that are this host's; the partner has the others.
    fn open_half(
        &mut self,
        opening: &Opening,
        primary: SocketAddr,
        alternate: SocketAddr,
    ) -> Result<(), BindError> {
        let any_port = primary.port() == 0 || alternate.port() == 0;
        let (first, second) = again_if(any_port, || {
            let at = |port| SocketAddr::new(primary.ip(), port);
            let first = Place::open(opening, at(primary.port()), self.shards)?;
            let second = Place::open(opening, at(alternate.port()), self.shards)?;
            Ok((first, second))
        })?;
        let alternate = SocketAddr::new(alternate.ip(), second.address.port());
        let primary = self.outside.of(first.address);
        self.quartets.push(Quartet::new(primary, alternate)?);
        self.places.extend([first, second]);
        Ok(())
    }

    fn open_forging(
        &mut self,
        opening: &Opening,
        primary: SocketAddr,
        alternate: SocketAddr,
    ) -> Result<(), BindError> {
        self.open_half(opening, primary, alternate)?;
        let Some([_, _, third, last]) = self.quartets.last().map(Quartet::addresses) else {
            return Ok(());
        };
        for address in [third, last] {
            let open = |_| transparent::udp(address);
            let sockets: io::Result<Vec<_>> = (0..self.shards).map(open).collect();
            let sockets = sockets.map_err(|source| BindError::Forging { address, source })?;
            self.forged.push((address, sockets));
        }
        // The next one may be the other host's router, or a broadcast address.
        let neighbour = sources_beside(alternate.ip()).into_iter().nth(1).unwrap_or(alternate.ip());
        let address = SocketAddr::new(neighbour, 0);
        let forging = |source| BindError::Forging { address, source };
        let sender = transparent::udp(address).map_err(forging)?;
        self.provers.push((third, sender));
        Ok(())
    }
}

fn open_tls(tls: &TlsOptions, opening: &Opening) -> Result<Secured, BindError> {
    let identity = Identity::load(tls)?;
    let failed = |address| move |source| BindError::Reactor { address, source };
    let (mut streams, mut datagrams) = (Vec::new(), Vec::new());
    for &wanted in &tls.listen {
        let listener = opening.tcp(wanted, TLS_FLAG)?;
        let address = listener.local_addr().map_err(failed(wanted))?;
        streams.push((address, listener));
    }
    for &wanted in &tls.dtls {
        let socket = opening.udp(wanted, DTLS_FLAG)?;
        let address = socket.local_addr().map_err(failed(wanted))?;
        datagrams.push((address, socket));
    }
    Ok(Secured { identity, streams, datagrams })
}

/// Tries several times if ports may be chosen freely.
fn again_if<T>(any_port: bool, open: impl Fn() -> Result<T, BindError>) -> Result<T, BindError> {
    let attempts = if any_port { ATTEMPTS } else { 1 };
    for _ in 1..attempts {
        match open() {
            Err(
                BindError::Socket(bind::BindError::InUse { .. })
                | BindError::Alternate(QuartetError::SamePort { .. }),
            ) => {}
            other => return other,
        }
    }
    open()
}

impl Place {
    fn open(opening: &Opening, wanted: SocketAddr, shards: usize) -> Result<Self, BindError> {
        let datagrams = opening.udp_shared(wanted, FLAGS, shards)?;
        let address = datagrams[0].local_addr();
        let address = address.map_err(|source| BindError::Reactor { address: wanted, source })?;
        let listener = opening.tcp(address, FLAGS)?;
        Ok(Self { address, datagrams, listener })
    }
}

impl BindError {
    fn lacks_family(&self, address: SocketAddr) -> bool {
        matches!(self, Self::Socket(error) if error.lacks_family(address))
    }
}
