//! Questions to one STUN server over UDP, and their bytes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ntcp_stun::attribute::{MappedAddress, OtherAddress, XorMappedAddress};
use ntcp_stun::{Class, Message, Method, TransactionId, Writer};

use crate::address;
use crate::entropy::Entropy;

/// Pauses after the first requests. Shorter than RFC 8489 section 6.2.1 asks of a client that knows
/// nothing of the path (500 ms first): a start that waits half a second for one lost datagram is
/// felt, and a call without an own mapped address is lost; at 30 % loss in both directions five
/// requests to each of two servers leave one start in a thousand without.
const PAUSES: [Duration; 6] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(300),
    Duration::from_millis(400),
    Duration::from_millis(1000),
    Duration::from_millis(2000),
];
/// Requests without answer after which nobody waits for this server any more; it is still asked.
const SETTLED_AFTER: usize = 5;
/// Between two requests to a server that answered, and to one that did not: keeps the mapping from
/// the shortest UDP timer seen, 30 s, and notices a new one.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// Asks one server, again and again.
#[derive(Debug)]
pub(super) struct UdpProbe {
    pub(super) server: SocketAddr,
    pub(super) mapped: Option<SocketAddr>,
    /// The requests since the last answer.
    unanswered: Vec<TransactionId>,
    next: Instant,
}

impl UdpProbe {
    pub(super) fn new(server: SocketAddr, now: Instant) -> Self {
        Self { server, mapped: None, unanswered: Vec::new(), next: now }
    }

    /// The request to send now, if one is due.
    pub(super) fn due(&mut self, entropy: &mut Entropy, now: Instant) -> Option<Vec<u8>> {
        if self.next > now {
            return None;
        }
        let pause = PAUSES.get(self.unanswered.len()).copied();
        if pause.is_none() {
            // A later answer to so old a request would tell nothing of today's mapping.
            self.unanswered.remove(0);
        }
        let id = entropy.transaction_id();
        self.unanswered.push(id);
        self.next = now + pause.unwrap_or(KEEPALIVE);
        Some(binding_request(id))
    }

    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Answered, or silent for so long that nobody should wait.
    pub(super) fn is_settled(&self) -> bool {
        self.mapped.is_some() || self.unanswered.len() >= SETTLED_AFTER
    }

    /// Whether this datagram told something new.
    pub(super) fn on_response(&mut self, source: SocketAddr, payload: &[u8], now: Instant) -> bool {
        if source != self.server {
            return false;
        }
        let Some((id, mapped)) = binding_response(payload) else { return false };
        if !self.unanswered.contains(&id) {
            return false;
        }
        self.unanswered.clear();
        self.next = now + KEEPALIVE;
        self.mapped.replace(mapped) != Some(mapped)
    }
}

/// The server's other address (RFC 5780 section 7.4), if this is an answer of one that has another: what is
/// asked there tells whether a mapping depends on the destination, where nobody else is asked.
pub(super) fn other_address(server: SocketAddr, payload: &[u8]) -> Option<SocketAddr> {
    let message = Message::parse(payload).ok()?;
    let other = address::canonical(message.attribute::<OtherAddress>().ok()??.0);
    let elsewhere = other.ip() != server.ip() && other.is_ipv4() == server.is_ipv4();
    (elsewhere && address::is_usable(other)).then_some(other)
}

/// Whether these are all at one address.
pub(super) fn are_one_host(servers: impl IntoIterator<Item = SocketAddr>) -> bool {
    let mut servers = servers.into_iter().map(|it| it.ip());
    let first = servers.next();
    servers.all(|ip| Some(ip) == first)
}

/// A Binding request.
pub(in crate::puncher) fn binding_request(id: TransactionId) -> Vec<u8> {
    let mut buffer = [0; 28];
    let mut write = || -> Result<usize, ntcp_stun::WriteError> {
        let mut writer = Writer::new(&mut buffer, Class::Request, Method::BINDING, id)?;
        writer.fingerprint()?;
        Ok(writer.finish())
    };
    let length = write().expect("a header and FINGERPRINT take 28 bytes");
    buffer[..length].to_vec()
}

/// The transaction and the mapped address of a Binding success.
pub(in crate::puncher) fn binding_response(payload: &[u8]) -> Option<(TransactionId, SocketAddr)> {
    let message = Message::parse(payload).ok()?;
    if message.class() != Class::Success || message.method() != Method::BINDING {
        return None;
    }
    let xor = message.attribute::<XorMappedAddress>().ok()?.map(|it| it.0);
    let plain = || message.attribute::<MappedAddress>().ok()?.map(|it| it.0);
    Some((message.transaction_id(), address::canonical(xor.or_else(plain)?)))
}
