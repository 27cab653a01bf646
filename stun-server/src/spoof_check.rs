//! [`spoof_check`]: does this network let forged sources out? Asked of a server that consents ([`ntcp_stun::spoof`]).

use ntcp_raw::transparent;
use ntcp_stun::attribute::XorMappedAddress;
use ntcp_stun::{Class, Message, Method, TransactionId, Writer, spoof};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// How long one answer is waited for.
const PATIENCE: Duration = Duration::from_millis(700);
/// How often each thing is sent.
const ATTEMPTS: usize = 3;

/// What became of packets with a forged source.
#[derive(Debug)]
#[non_exhaustive]
pub enum Forged {
    /// They arrived, with this source: another one than was forged if a NAT changed it.
    Arrived(SocketAddr),
    /// The server saw nothing.
    Lost,
    /// This system did not send them.
    NotSent(io::Error),
}

/// Sends to `server`, which must offer the check, with each of `sources` forged, and says what arrived there. Nobody but the
/// server receives anything of it. Blocks for some seconds; needs `CAP_NET_RAW`.
///
/// # Errors
///
/// [`io::ErrorKind::TimedOut`] if the server does not answer, [`io::ErrorKind::Unsupported`] if it does not offer the
/// check; otherwise as the system reports them.
pub fn spoof_check(server: SocketAddr, sources: &[IpAddr]) -> io::Result<Vec<(IpAddr, Forged)>> {
    let socket = UdpSocket::bind((any_beside(server), 0))?;
    socket.connect(server)?;
    let port = socket.local_addr()?.port();
    let proven = own_address(&socket)?;
    let token = token(&socket)?;
    let check = |ip: &IpAddr| {
        let sender = transparent::udp(SocketAddr::new(*ip, port));
        let outcome = sender.and_then(|it| forge(&socket, &it, proven, &token));
        (*ip, outcome.unwrap_or_else(Forged::NotSent))
    };
    Ok(sources.iter().map(check).collect())
}

/// The same with a sender that is bound to a forged source already.
pub(crate) fn prove(server: SocketAddr, sender: &UdpSocket) -> io::Result<Forged> {
    let socket = UdpSocket::bind((any_beside(server), 0))?;
    socket.connect(server)?;
    let (proven, token) = (own_address(&socket)?, token(&socket)?);
    Ok(forge(&socket, sender, proven, &token).unwrap_or_else(Forged::NotSent))
}

fn any_beside(address: SocketAddr) -> IpAddr {
    match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Sources that are worth a try from `own`: a neighbour in its /24 (IPv6: /64), one beyond it (IPv6: /48), and one from
/// far away, of the addresses that are nobody's (RFC 5737, RFC 3849).
pub fn sources_beside(own: IpAddr) -> Vec<IpAddr> {
    match own {
        IpAddr::V4(own) => {
            let [a, b, c, d] = own.octets();
            [[a, b, c, d ^ 1], [a, b, c ^ 1, d], [198, 51, 100, 77]].map(IpAddr::from).to_vec()
        }
        IpAddr::V6(own) => {
            let bits = u128::from(own);
            let far = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x77);
            [Ipv6Addr::from(bits ^ 1), Ipv6Addr::from(bits ^ 1 << 64), far].map(IpAddr::V6).to_vec()
        }
    }
}

/// The socket's address as the server sees it.
fn own_address(socket: &UdpSocket) -> io::Result<SocketAddr> {
    let (id, mut request) = (transaction_id(), [0; 20]);
    Writer::new(&mut request, Class::Request, Method::BINDING, id).map_err(io::Error::other)?;
    let answered = exchange(socket, &request, |message| {
        let mapped = message.attribute::<XorMappedAddress>().ok().flatten();
        mapped.filter(|_| message.transaction_id() == id).map(|it| it.0)
    });
    answered?.ok_or_else(|| io::Error::new(io::ErrorKind::TimedOut, "the server does not answer"))
}

fn token(socket: &UdpSocket) -> io::Result<Vec<u8>> {
    let (id, mut request) = (transaction_id(), [0; 64]);
    let length = spoof::write_request(&mut request, id).map_err(io::Error::other)?;
    let answered = exchange(socket, &request[..length], |message| {
        let token = spoof::read_token(message).filter(|_| message.transaction_id() == id);
        token.map(<[u8]>::to_vec)
    });
    let unsupported = "the server does not offer the check";
    answered?.ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, unsupported))
}

fn forge(
    socket: &UdpSocket,
    sender: &UdpSocket,
    proven: SocketAddr,
    token: &[u8],
) -> io::Result<Forged> {
    let (id, mut bytes) = (transaction_id(), [0; 64]);
    let length = spoof::write_forged(&mut bytes, id, proven, token).map_err(io::Error::other)?;
    let server = socket.peer_addr()?;
    for _ in 0..ATTEMPTS {
        sender.send_to(&bytes[..length], server)?;
    }
    let seen = await_reply(socket, |message| {
        spoof::read_report(message).filter(|_| message.transaction_id() == id)
    });
    Ok(seen?.map_or(Forged::Lost, Forged::Arrived))
}

/// Sends a request until there is what `read` finds in a reply.
fn exchange<T>(
    socket: &UdpSocket,
    request: &[u8],
    read: impl Fn(&Message<'_>) -> Option<T>,
) -> io::Result<Option<T>> {
    for _ in 0..ATTEMPTS {
        socket.send(request)?;
        if let Some(found) = await_reply(socket, &read)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn await_reply<T>(
    socket: &UdpSocket,
    read: impl Fn(&Message<'_>) -> Option<T>,
) -> io::Result<Option<T>> {
    let (end, mut buffer) = (Instant::now() + PATIENCE, [0; 1500]);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        socket.set_read_timeout(Some(left))?;
        let length = match socket.recv(&mut buffer) {
            Ok(length) => length,
            Err(error) if is_patience_over(&error) => continue,
            Err(error) => return Err(error),
        };
        let found = Message::parse(&buffer[..length]).ok().and_then(|it| read(&it));
        if found.is_some() {
            return Ok(found);
        }
    }
}

fn is_patience_over(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

/// The keys of the standard library's hashing are random.
pub(crate) fn transaction_id() -> TransactionId {
    let word = |it: u64| RandomState::new().hash_one(it).to_be_bytes();
    let (first, second) = (word(0), word(1));
    let mut id = [0; 12];
    id[..8].copy_from_slice(&first);
    id[8..].copy_from_slice(&second[..4]);
    TransactionId::new(id)
}
