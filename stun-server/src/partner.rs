//! [`Partner`]: the host that has the alternate address and answers itself, and the link to it ([`ntcp_stun::partner`]).
//!
//! The link needs no port of its own: its messages go between the two STUN ports that stand in both hosts' `listen`, so
//! whatever lets clients through lets the link through. Each shard handles what arrives at its sockets; a task asks
//! and has proofs made each second.

use crate::other::does_answer;
use crate::spoof_check::transaction_id;
use async_io::Timer;
use ntcp_stun::server::{Heeded, Link, PartnerState, ROUND};
use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The secret that two partners share.
#[derive(Clone, PartialEq, Eq)]
pub struct PartnerKey(Vec<u8>);

impl PartnerKey {
    /// The shortest that is taken: 128 bits in hexadecimal digits.
    pub const LEAST: usize = 32;

    /// This secret, of at least 32 bytes.
    pub fn new(secret: &[u8]) -> Option<Self> {
        (secret.len() >= Self::LEAST).then(|| Self(secret.to_vec()))
    }
}

impl fmt::Debug for PartnerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PartnerKey(..)")
    }
}

/// The partner over one address family, as all shards see it.
#[derive(Debug)]
pub(crate) struct Partner {
    own: SocketAddr,
    address: SocketAddr,
    link: Mutex<Link>,
    /// The socket on this host's first address, for what the task sends.
    socket: UdpSocket,
    is_up: AtomicBool,
    forwarded: AtomicU64,
    refused: AtomicU64,
}

impl Partner {
    pub(crate) fn new(
        own: (SocketAddr, UdpSocket),
        address: SocketAddr,
        key: &PartnerKey,
        drawn: [u64; 3],
    ) -> Self {
        let (own, socket) = own;
        Self {
            own,
            address,
            link: Mutex::new(Link::new(own, address, &key.0, drawn)),
            socket,
            is_up: AtomicBool::new(false),
            forwarded: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// This host's end of the link.
    pub(crate) fn own(&self) -> SocketAddr {
        self.own
    }

    /// The other end.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether a datagram is for the link: it comes from one of the partner's two ports.
    pub(crate) fn is_source(&self, source: SocketAddr) -> bool {
        source.ip() == self.address.ip()
            && (source.port() == self.address.port() || source.port() == self.own.port())
    }

    /// Whether clients may be told of it.
    pub(crate) fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Relaxed)
    }

    /// Requests that were forwarded, and datagrams that were refused.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.forwarded.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed))
    }

    /// Writes a client's request for the partner.
    pub(crate) fn forward(
        &self,
        request: &[u8],
        client: SocketAddr,
        asked: SocketAddr,
        buffer: &mut [u8],
    ) -> Option<usize> {
        let length = self.lock().forward(request, client, asked, buffer)?;
        self.forwarded.fetch_add(1, Ordering::Relaxed);
        Some(length)
    }

    /// What is to be done about a datagram for the link.
    pub(crate) fn heed<'a>(
        &self,
        bytes: &'a [u8],
        way: (SocketAddr, SocketAddr),
        buffer: &mut [u8],
    ) -> Heeded<'a> {
        let heeded = self.lock().handle(bytes, way, buffer, Instant::now());
        if heeded == Heeded::Refused {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        heeded
    }

    /// Keeps the link alive for as long as the future is kept, and says in the log how the partner is.
    pub(crate) async fn watch(&self) {
        let mut said = None;
        let mut due = Instant::now();
        loop {
            if let Err(error) = self.ask() {
                tracing::debug!(%error, "the partner cannot be asked");
            }
            due = Instant::now().max(due + ROUND);
            Timer::at(due).await;
            let state = self.lock().state(Instant::now());
            self.is_up.store(state == PartnerState::Up, Ordering::Relaxed);
            // A partner that has just been heard of proves itself in the next round.
            let is_settled = said.is_some() || state != PartnerState::Unproven;
            if said != Some(state) && is_settled {
                said = Some(state);
                self.tell(state).await;
            }
        }
    }

    /// Sends what is due in a round.
    fn ask(&self) -> io::Result<()> {
        let mut buffer = [0; 512];
        let now = Instant::now();
        let asked = self.lock().ask(transaction_id(), &mut buffer, now);
        let length = asked.map_err(io::Error::other)?;
        self.socket.send_to(&buffer[..length], self.address)?;
        for which in 0..2 {
            let proof = self.lock().prove(which, transaction_id(), &mut buffer, now);
            if let Some(length) = proof {
                self.socket.send_to(&buffer[..length], self.address)?;
            }
        }
        Ok(())
    }

    async fn tell(&self, state: PartnerState) {
        let partner = self.address;
        let consequence =
            "clients are not told of it, so they cannot learn how their NAT maps and filters";
        match state {
            PartnerState::Up => {
                tracing::info!(%partner, "the partner answers in its part: clients are told of it");
            }
            PartnerState::Silent if does_answer(partner).await => tracing::warn!(
                %partner,
                "the partner answers STUN but not the link: does it have the same partner_key, the other's listen as its alternate, and no older version? {consequence}"
            ),
            PartnerState::Silent => tracing::warn!(
                %partner,
                "the partner does not answer: is it down, or is a firewall in between? {consequence}"
            ),
            PartnerState::Version(version) => tracing::warn!(
                %partner,
                version,
                ours = ntcp_stun::partner::VERSION,
                "the partner speaks another version of the link: run the same version on both hosts; {consequence}"
            ),
            PartnerState::Slow => tracing::warn!(
                %partner,
                "the partner's answers take longer than a client waits, 500 ms: {consequence}"
            ),
            state => tracing::warn!(
                %partner,
                ?state,
                "what is forwarded to the partner is not answered from both its ports: {consequence}"
            ),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Link> {
        // Counts and instants; a panic elsewhere has not left them worse than a lost message would.
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The partners over all families.
pub(crate) type Partners = Arc<[Partner]>;
