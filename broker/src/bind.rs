//! Opens the sockets of a broker, or says which one could not be had and why.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use ntcp_service::bind::{self, Opening};

use crate::forger::Forger;
use crate::{DirectoryError, Options};

/// The flags that set the addresses, for messages.
const UDP_FLAG: &str = "--udp IP:PORT";
const TCP_FLAG: &str = "--tcp IP:PORT";

/// Why a broker could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// A socket could not be had.
    #[error(transparent)]
    Socket(#[from] bind::BindError),
    /// Neither UDP nor TCP was asked for.
    #[error("nothing to listen on: give at least one address with --udp IP:PORT or --tcp IP:PORT")]
    Nothing,
    /// The system gave no random bytes, without which no secret can be made.
    #[error("the system gives no random bytes: {0}")]
    Entropy(std::io::Error),
    /// There is no directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The reactor has no room for the sockets.
    #[error("the sockets cannot be waited for: {0}")]
    Reactor(std::io::Error),
}

/// The sockets of a broker, before anything runs on them: nothing else of a broker may need a privilege.
#[derive(Debug)]
pub struct Sockets {
    pub(crate) udp: Vec<UdpSocket>,
    pub(crate) tcp: Vec<TcpListener>,
    /// For what is sent in peers' names.
    pub(crate) forger: Forger,
}

impl Sockets {
    /// Opens one UDP socket and one listener for each address of `options`. An unspecified address of a family that
    /// this host lacks is passed over, as long as another one works.
    ///
    /// # Errors
    ///
    /// A [`BindError`] that names the address and what to do.
    pub fn open(options: &Options, opening: &Opening) -> Result<Self, BindError> {
        if options.udp.is_empty() && options.tcp.is_empty() {
            return Err(BindError::Nothing);
        }
        Ok(Self {
            udp: each(&options.udp, |address| opening.udp(address, UDP_FLAG))?,
            tcp: each(&options.tcp, |address| opening.tcp(address, TCP_FLAG))?,
            forger: Forger::open(&options.limits),
        })
    }
}

fn each<S>(
    addresses: &[SocketAddr],
    open: impl Fn(SocketAddr) -> Result<S, bind::BindError>,
) -> Result<Vec<S>, BindError> {
    let (mut sockets, mut lacking) = (Vec::new(), None);
    for &address in addresses {
        match open(address) {
            Err(error) if error.lacks_family(address) => {
                tracing::info!(%address, "this host lacks that address family, passed over");
                lacking = Some(error);
            }
            opened => sockets.push(opened?),
        }
    }
    match lacking {
        Some(error) if sockets.is_empty() => Err(error.into()),
        Some(_) | None => Ok(sockets),
    }
}
