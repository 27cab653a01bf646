//! The simulated peers: what each knows of its broker, and what it says and believes.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ntcp_proto::candidate::{Candidate, CandidateKind, Transport};
use ntcp_proto::entropy::Seed;
use ntcp_proto::secrecy::{Channel, Initiation, PublicKey, SecretKey};
use ntcp_proto::signal::codec::Received;
use ntcp_proto::signal::envelope::Envelope;
use ntcp_proto::signal::message::{
    Body, Connect, Message, Nonce, Refresh, Register, Registered, Secure, TransmitCount,
};
use ntcp_proto::signal::{Fingerprint, NatSummary, RegistrationId, RegistrationKey, Round};
use ntcp_proto::uri::{PeerName, TransportChoice};
use ntcp_stun::TransactionId;

/// What every peer asks for, and the longest that is given.
pub(crate) const LEASE: Duration = Duration::from_secs(300);
const RTT: Duration = Duration::from_millis(20);
/// What the two sides of a handshake with a broker have in common besides the NONCE (doc/protocol.md section 3).
const PURPOSE: &[u8] = b"ntcp broker 1";

/// Whether peers shake hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Sealed,
    Plain,
}

/// What a registered peer shares with its broker.
pub(crate) struct Standing {
    id: RegistrationId,
    key: RegistrationKey,
    channel: Option<Channel>,
    /// Which of the brokers.
    pub(crate) broker: usize,
    /// When it was last told that its lease is long, in seconds of the run.
    pub(crate) told_at: u32,
}

/// All peers; each has a number, and everything that it shows follows from that.
pub(crate) struct Crowd {
    pub(crate) manner: Manner,
    pub(crate) peers: Vec<Option<Standing>>,
    /// The keys that they show, by number.
    identities: Vec<Option<PublicKey>>,
    /// The broker's, as it showed it.
    pub(crate) broker_key: Option<PublicKey>,
}

impl Crowd {
    pub(crate) fn new(manner: Manner) -> Self {
        Self { manner, peers: Vec::new(), identities: Vec::new(), broker_key: None }
    }

    pub(crate) fn grow(&mut self, count: usize) {
        self.peers.resize_with(count, || None);
        self.identities.resize(count, None);
    }

    pub(crate) fn name(peer: usize) -> PeerName {
        match format!("node-{peer:08x}").parse() {
            Ok(name) => name,
            Err(_) => unreachable!("letters, digits and a dash are a name"),
        }
    }

    /// The reverse of [`Self::name`].
    pub(crate) fn number(name: &PeerName) -> Option<usize> {
        usize::from_str_radix(name.as_str().strip_prefix("node-")?, 16).ok()
    }

    fn fingerprint(peer: usize) -> Fingerprint {
        let mut bytes = [0xF1; 32];
        bytes[..8].copy_from_slice(&peer.to_be_bytes());
        Fingerprint(bytes)
    }

    fn secret(peer: usize) -> SecretKey {
        let mut bytes = [0x5E; 32];
        bytes[..8].copy_from_slice(&peer.to_be_bytes());
        SecretKey::from_bytes(bytes)
    }

    /// Two addresses of the peer's own, and what a server would see, for both transports.
    pub(crate) fn candidates(own: SocketAddr) -> Vec<Candidate> {
        let home = SocketAddr::from(([192, 168, 1, 17], own.port()));
        let of = |kind, address| {
            [Transport::Udp, Transport::Tcp].map(|transport| Candidate { kind, transport, address })
        };
        [of(CandidateKind::Host, home), of(CandidateKind::ServerReflexive, own)].concat()
    }

    /// A Register that only asks for what the next one needs.
    pub(crate) fn hello(
        &self,
        transaction: TransactionId,
        peer: usize,
        own: SocketAddr,
    ) -> Vec<u8> {
        match self.manner {
            Manner::Sealed => Message::new(transaction, Body::Hello).emit(None),
            Manner::Plain => Message::new(transaction, Self::register(peer, own)).emit(None),
        }
    }

    fn register(peer: usize, own: SocketAddr) -> Body {
        Body::Register(Register {
            name: Some(Self::name(peer)),
            candidates: Self::candidates(own),
            nat: NatSummary { nat: Some(true), ..NatSummary::default() },
            fingerprint: Self::fingerprint(peer),
            lease: LEASE,
            rtt: Some(RTT),
            consents: false,
            bare: false,
            offers_to_forge: false,
            account: None,
            meant_for: None,
        })
    }

    /// A Register with a nonce, and the handshake that it begins.
    pub(crate) fn ask_to_be_known(
        &mut self,
        transaction: TransactionId,
        (peer, own): (usize, SocketAddr),
        nonce: Nonce,
    ) -> Result<(Vec<u8>, Option<Box<Initiation>>)> {
        let register = Message::new(transaction, Self::register(peer, own));
        if self.manner == Manner::Plain {
            return Ok((register.with_nonce(nonce).emit(None), None));
        }
        let broker = self.broker_key.context("the broker has shown no key")?;
        let secret = Self::secret(peer);
        let mut ephemeral = [0; 32];
        ephemeral[..12].copy_from_slice(transaction.as_bytes());
        ephemeral[12..20].copy_from_slice(&peer.to_be_bytes());
        let prologue = [PURPOSE, nonce.as_bytes()].concat();
        let payload = register.emit(None);
        let (initiation, noise) =
            Initiation::begin(&secret, &broker, &prologue, &payload, Seed(ephemeral));
        self.identities[peer] = Some(secret.public());
        let secure = Body::Secure(Secure { hint: broker.hint(), noise });
        let bytes = Message::new(transaction, secure).with_nonce(nonce).emit(None);
        Ok((bytes, Some(Box::new(initiation))))
    }

    /// Takes the answer to it.
    pub(crate) fn be_known(
        &mut self,
        (peer, own): (usize, SocketAddr),
        (broker, now): (usize, u32),
        message: &Message,
        initiation: Option<Box<Initiation>>,
    ) -> Result<()> {
        let (registered, channel) = match (&message.body, initiation) {
            (Body::Registered(it), None) => (it.clone(), None),
            (Body::Secured(noise), Some(mut initiation)) => {
                let (payload, channel) = initiation.finish(noise)?;
                let inner = Message::parse(&payload)?.message;
                ensure!(inner.transaction == message.transaction, "another transaction inside");
                let Body::Registered(it) = inner.body else {
                    anyhow::bail!("not registered: {:?}", inner.body)
                };
                ensure!(it.identity == self.broker_key, "the broker shows another key inside");
                (it, Some(channel))
            }
            (other, _) => anyhow::bail!("not registered: {other:?}"),
        };
        let Registered { registration: id, key, observed, lease, .. } = registered;
        ensure!((observed, lease) == (own, LEASE), "{observed} for {lease:?}, not {own}");
        self.peers[peer] = Some(Standing { id, key, channel, broker, told_at: now });
        Ok(())
    }

    /// The bytes of a message of a registered peer.
    pub(crate) fn write(&mut self, peer: usize, message: &Message) -> Result<Vec<u8>> {
        let standing = self.peers[peer].as_mut().context("a peer speaks that is not registered")?;
        let transaction = message.transaction;
        let bytes = message.emit(Some(&standing.key));
        Ok(match &mut standing.channel {
            Some(channel) => Envelope::seal(channel, standing.id, transaction, bytes),
            None => bytes,
        })
    }

    /// A request of a registered peer.
    pub(crate) fn request(
        &mut self,
        peer: usize,
        transaction: TransactionId,
        body: Body,
    ) -> Result<Vec<u8>> {
        let registration = self.peers[peer].as_ref().map(|it| it.id);
        let transmit = Some(TransmitCount { request: 1, response: 0 });
        self.write(peer, &Message { transmit, registration, ..Message::new(transaction, body) })
    }

    /// Reads a message to a registered peer, which must be sealed and signed as it should.
    pub(crate) fn read(&mut self, peer: usize, bytes: &[u8]) -> Result<Message> {
        let standing = self.peers[peer].as_mut().context("a message to who is not registered")?;
        let signed = |received: Received<'_>, key| {
            ensure!(received.is_signed_by(key), "no good signature: {:?}", received.message);
            Ok(received.message)
        };
        let Some(channel) = &mut standing.channel else {
            return signed(Message::parse(bytes)?, &standing.key);
        };
        let Some(envelope) = Envelope::parse(bytes) else {
            anyhow::bail!("not sealed: {:?}", Message::parse(bytes)?.message)
        };
        ensure!(envelope.registration == standing.id, "sealed for another registration");
        let inner = envelope.open(channel)?;
        let message = signed(Message::parse(&inner)?, &standing.key)?;
        ensure!(message.transaction == envelope.transaction, "another transaction inside");
        Ok(message)
    }

    pub(crate) fn refresh() -> Body {
        Body::Refresh(Refresh { lease: LEASE, candidates: None, nat: None, rtt: Some(RTT) })
    }

    pub(crate) fn connect(own: SocketAddr, caller: usize, callee: usize) -> Body {
        Body::Connect(Connect {
            callee: Self::name(callee),
            transport: TransportChoice::Any,
            round: Round::FIRST,
            candidates: Self::candidates(own),
            nat: NatSummary { nat: Some(true), ..NatSummary::default() },
            fingerprint: Self::fingerprint(caller),
            rtt: Some(RTT),
            wait: Duration::ZERO,
            bare: false,
        })
    }

    /// Whether this is what `peer` has shown.
    pub(crate) fn is_of(
        &self,
        peer: usize,
        (fingerprint, identity): (Fingerprint, Option<PublicKey>),
    ) -> bool {
        (fingerprint, identity) == (Self::fingerprint(peer), self.identities[peer])
    }
}
