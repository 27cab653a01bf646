//! A TCP connection by simultaneous open, for those who know the addresses by means of their own.
//!
//! [`open`] is all there is to it: a local port, the peer's addresses, an instant on which both sides
//! have agreed. It tells nobody anything and authenticates nobody; what is said on the stream must
//! show who the peer is. [`puncher`](crate::puncher) does that, learns the own addresses first, and
//! tries UDP and the other strategies besides.
//!
//! [`machine`] has the strategies themselves, for a shell of one's own.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use ntcp_proto::Owner;
pub use ntcp_proto::tcp_traversal as machine;
use ntcp_proto::tcp_traversal::lone::{Event, Opener};
pub use ntcp_proto::tcp_traversal::lone::{Failure, Tried};

use crate::driver::Driver;
use crate::error::Error;

/// The names of its commands; it is alone in its driver.
const OPENER: Owner = Owner(0);

/// Connects from `local` to the peer at one of `remotes` while the peer does the same, both from
/// `start` on; a past instant is now. Each side dials the other's addresses from its port, again at
/// once after each refusal, and listens on it.
///
/// The port should be one whose mapping a server has just told, asked from the very port with
/// `SO_REUSEADDR` and `SO_REUSEPORT` set, and the connection to that server kept open.
///
/// Cancel safe: dropping the future closes every socket. The stream is non-blocking.
///
/// # Errors
///
/// [`Failure::Local`] when the port cannot be had, [`Failure::TimeUp`] when `patience` is over, with
/// what became of each address; both inside [`ErrorKind::NoPath`](crate::ErrorKind::NoPath).
///
/// # Examples
///
/// ```no_run
/// # async fn run() -> Result<(), ntcp::Error> {
/// use std::time::{Duration, Instant};
///
/// let local = "0.0.0.0:40000".parse().unwrap();
/// let peer = ["203.0.113.7:40001".parse().unwrap()];
/// let stream =
///     ntcp::tcp_traversal::open(local, &peer, Instant::now(), Duration::from_secs(10)).await?;
/// # Ok(())
/// # }
/// ```
pub async fn open(
    local: SocketAddr,
    remotes: &[SocketAddr],
    start: Instant,
    patience: Duration,
) -> Result<TcpStream, Error> {
    /// Who asks for more means that there is no limit.
    const MAX_PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);
    let now = Instant::now();
    let deadline = start.max(now) + patience.min(MAX_PATIENCE);
    let machine = Opener::new(local, remotes, OPENER, start, deadline);
    let (driver, _) = Driver::new(machine);
    let mut result = None;
    let on_event = |event: Event, _: &mut Opener, sockets: &mut crate::driver::Sockets, _| {
        result = Some(match event {
            Event::Established { socket, .. } => Ok(sockets.take_stream(socket)),
            Event::Failed(failure) => Err(failure),
        });
    };
    driver.run(on_event).await;
    match result {
        Some(Ok(stream)) => {
            let stream = stream.and_then(|stream| stream.into_inner().ok());
            let lost = || std::io::Error::other("it is gone, or no descriptor is left");
            stream.ok_or_else(|| Error::system("cannot take the socket of the path")(lost()))
        }
        Some(Err(failure)) => Err(crate::ErrorKind::NoPath { reason: failure.to_string() }.into()),
        None => Err(crate::ErrorKind::Stopped.into()),
    }
}
