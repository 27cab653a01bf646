//! The server's side: one request in, at most one reply out, and where it goes from and to.
//!
//! A [`Server`] keeps nothing about its clients. It is told the bytes that came, from whom and at which of its own
//! addresses, and writes the reply into the caller's buffer; the [`Reply`] says which socket must send it and to
//! whom. It answers Binding requests of RFC 8489, of RFC 5780 (behaviour discovery), and of RFC 3489.
//!
//! # What is answered how
//!
//! | request | answer |
//! |---|---|
//! | Binding | success with XOR-MAPPED-ADDRESS; on one of four addresses also MAPPED-ADDRESS, RESPONSE-ORIGIN and OTHER-ADDRESS |
//! | without magic cookie | the same in the words of RFC 3489: MAPPED-ADDRESS, SOURCE-ADDRESS, CHANGED-ADDRESS |
//! | CHANGE-REQUEST | from the address asked for, or 420 where there is no other address or over TCP, never from a wrong place |
//! | PADDING | padded exactly as far as the request itself was |
//! | RESPONSE-PORT | to that port of the same address; together with PADDING 400 |
//! | a malformed one of these three | 400 |
//! | unknown comprehension-required attribute | 420 and the list |
//! | any over TCP, if a [`Prober`] stands beside | with the tests of [`crate::probe`] that are served |
//! | FINGERPRINT | FINGERPRINT, if it is right; else nothing |
//! | without the credentials asked for | 400, 401 or 438, as RFC 8489, section 9 says; see [`Access`] |
//! | RESPONSE-PORT without proof of the source | 438 and a NONCE that is the proof, if asked to ([`Server::demand_proof`]) |
//! | while there is a [`Redirect`] | 300 and ALTERNATE-SERVER |
//! | that cannot be answered for want of room | 500 |
//! | a spoof check ([`crate::spoof`]), if it has a [`Mint`] and is open to everybody | a token, or a report to whom the token was given |
//! | anything else | nothing; a [`Silence`] says why |
//!
//! RFC 5780, section 7.6 would have a reply padded to the MTU whatever the request's length; that makes an amplifier
//! of 60 for everybody who forges a source, so this server deviates. For the same reason errors carry no phrase,
//! and RESPONSE-ADDRESS of RFC 3489 is refused.
//!
//! # How long a reply is
//!
//! RFC 5780 has a server with two addresses tell four of them, 68 bytes for a request of 20. Such replies, beyond 1.6 times
//! the request, have a budget of their own. Where it is used up, or where [`Server::bound_replies`] allows none, the reply is the
//! longest of these that fits:
//!
//! | reply | IPv4 | carries |
//! |---|---|---|
//! | full | 68 | XOR-MAPPED-ADDRESS, MAPPED-ADDRESS, RESPONSE-ORIGIN, OTHER-ADDRESS |
//! | short | 44 | XOR-MAPPED-ADDRESS, OTHER-ADDRESS: all that a test needs; it fits a request with CHANGE-REQUEST |
//! | bare | 32 | XOR-MAPPED-ADDRESS |

mod access;
mod binding;
mod budget;
mod counters;
mod link;
mod prober;
mod quartet;
mod spoofing;
mod token;

pub use access::{Access, User};
pub use budget::{Allowance, Amplification, Budget, BudgetLimits, Network, is_long};
pub use counters::Counters;
pub use link::{Heeded, Link, PATIENCE, PartnerState, ROUND};
pub use prober::{
    Conduct, Lease, Limits, Look, Order, Prober, RESERVATION, Reservation, Step, Wait,
};
pub use quartet::{Quartet, QuartetError};
pub use token::Mint;
pub(crate) use token::TOKEN_LENGTH;

use crate::spoof;
use crate::{Check, Class, Message, Method, ParseError, WriteError};
use binding::{Answer, Binding, Kind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

/// A STUN server.
#[derive(Clone, Debug, Default)]
pub struct Server {
    policy: Policy,
    counters: Counters,
    budget: Option<Budget>,
}

/// What the answers depend on beside the request.
#[derive(Clone, Debug, Default)]
struct Policy {
    quartets: Vec<Quartet>,
    probes: bool,
    mint: Option<Mint>,
    /// RESPONSE-PORT is believed though there is a mint ([`Server::trust_response_port`]).
    trusts_response_port: bool,
    access: Option<Arc<Access>>,
    redirect: Option<Arc<Redirect>>,
    software: Option<Arc<str>>,
    now: Option<Instant>,
    /// Whether the alternate addresses are another host's, and then whether they are withheld
    /// ([`Server::withhold_other_address`]).
    withholds_other: Option<bool>,
    /// The other host answers itself what is forwarded to it ([`Server::forward_changes`]).
    forwards: bool,
    amplification: Amplification,
}

/// What may change while a server runs; each of it can be set alone too.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    /// Whom it answers ([`Server::restrict`]). `None` is everybody.
    pub access: Option<Arc<Access>>,
    /// Where it sends clients ([`Server::redirect`]).
    pub redirect: Option<Arc<Redirect>>,
    /// What it calls itself ([`Server::name_software`]).
    pub software: Option<Arc<str>>,
    /// Whether RESPONSE-PORT needs no proof ([`Server::trust_response_port`]).
    pub trusts_response_port: bool,
    /// How long its replies are ([`Server::bound_replies`]).
    pub amplification: Amplification,
}

/// Where clients are sent instead (RFC 8489, section 10).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirect {
    /// ALTERNATE-SERVER, one for each family. Clients of another family are served here.
    pub servers: Vec<SocketAddr>,
    /// ALTERNATE-DOMAIN: the name that the other server's certificate has.
    pub domain: Option<String>,
}

/// A message that came.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// One datagram, or one message out of a stream.
    pub bytes: &'a [u8],
    /// Who sent it, as seen from here.
    pub source: SocketAddr,
    /// Which of the server's own addresses it was sent to. An unspecified IP means that nobody knows.
    pub local: SocketAddr,
    /// How it came.
    pub transport: Transport,
}

/// How messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// As datagrams, which may be answered from another address.
    Udp,
    /// On a stream, which can be answered on that stream only.
    Tcp,
    /// As datagrams of a DTLS session (RFC 7350), whose source has proved that it is there, and which can be answered in that
    /// session only.
    Dtls,
}

/// A reply that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its length in the buffer.
    pub length: usize,
    /// The server's address that must send it.
    pub from: SocketAddr,
    /// Where it goes.
    pub to: SocketAddr,
}

/// Why there is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Silence {
    /// Not a STUN message.
    #[error("malformed: {0}")]
    Malformed(ParseError),
    /// Meant for another protocol, or damaged.
    #[error("wrong FINGERPRINT")]
    WrongFingerprint,
    /// An indication or a response.
    #[error("a {0:?} is not answered")]
    NotARequest(Class),
    /// A request that this server does not serve.
    #[error("unknown method {0}")]
    UnknownMethod(Method),
    /// Too many replies went to that source or its network lately.
    #[error("over the budget of its source")]
    OverBudget,
    /// From port 0, which nothing can be sent to.
    #[error("the source has no port")]
    Unanswerable,
    /// What the partner has forwarded asks for no answer from here.
    #[error("forwarded, but not to be answered from here")]
    NotForwardable,
    /// The caller's buffer is too short for the reply.
    #[error("no room for the reply: {0}")]
    NoRoom(WriteError),
}

impl Server {
    /// A server whose requests all come to single addresses.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes CHANGE-REQUEST and OTHER-ADDRESS work on these four addresses. They replace an earlier quartet of which
    /// one address is the same.
    pub fn add_quartet(&mut self, quartet: Quartet) {
        let quartets = &mut self.policy.quartets;
        quartets.retain(|it| it.addresses().iter().all(|own| !quartet.contains(*own)));
        quartets.push(quartet);
    }

    /// For a server whose alternate IP is another host's: says no longer, or says again, that the alternate addresses answer
    /// too (OTHER-ADDRESS, CHANGED-ADDRESS), while CHANGE-REQUEST goes on being served. The other host may be down, and a
    /// client that asks there in vain would take its NAT for what it is not.
    pub fn withhold_other_address(&mut self, is_withheld: bool) {
        self.policy.withholds_other = Some(is_withheld);
    }

    /// For a server whose alternate IP is another host's that answers itself what is forwarded to it ([`Link`]): a reply that
    /// must leave from there is the caller's to forward, and such CHANGE-REQUESTs are refused while the alternate addresses are
    /// withheld.
    pub fn forward_changes(&mut self) {
        self.policy.forwards = true;
    }

    /// Has no reply over UDP be longer than that, whatever RFC 5780 demands.
    pub fn bound_replies(&mut self, amplification: Amplification) {
        self.policy.amplification = amplification;
    }

    /// Goes by these from now on, whatever it went by before.
    pub fn take_over(&mut self, conditions: &Conditions) {
        let Conditions { access, redirect, software, trusts_response_port, amplification } =
            conditions.clone();
        let policy = &mut self.policy;
        (policy.access, policy.redirect, policy.software) = (access, redirect, software);
        policy.trusts_response_port = trusts_response_port;
        policy.amplification = amplification;
    }

    /// Says in its answers over TCP which tests of [`crate::probe`] are served: a [`Prober`] stands
    /// beside this server.
    pub fn offer_probes(&mut self) {
        self.policy.probes = true;
    }

    /// Has a source prove that it receives what is sent to it before RESPONSE-PORT sends a reply elsewhere: without a
    /// token of `mint` in NONCE it gets 438 and a token. A server without a mint believes everybody.
    pub fn demand_proof(&mut self, mint: Mint) {
        self.policy.mint = Some(mint);
    }

    /// Believes RESPONSE-PORT all the same, as clients that know RFC 5780 only need it.
    pub fn trust_response_port(&mut self) {
        self.policy.trusts_response_port = true;
    }

    /// Answers only whom `access` lets in. Long-term credentials need a [`Mint`] as well ([`Server::demand_proof`]);
    /// without one nobody is let in.
    pub fn restrict(&mut self, access: Arc<Access>) {
        self.policy.access = Some(access);
    }

    /// Sends clients elsewhere, with 300, once they are let in.
    pub fn redirect(&mut self, redirect: Redirect) {
        self.policy.redirect = Some(Arc::new(redirect));
    }

    /// Says in SOFTWARE what answers, at most 509 bytes of it being told. It makes each reply longer.
    pub fn name_software(&mut self, name: &str) {
        self.policy.software = Some(name.into());
    }

    /// Bounds the replies over UDP by where they go, from now on; [`Server::advance`] must tell the time then.
    pub fn limit(&mut self, budget: Budget) {
        self.budget = Some(budget);
    }

    /// Says what time it is. Where many requests come at once, once for all of them is enough.
    pub fn advance(&mut self, now: Instant) {
        self.policy.now = Some(now);
        if let Some(budget) = &mut self.budget {
            budget.advance(now);
        }
    }

    /// What has happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Answers a request; a success of 76 bytes with IPv4 and of 124 with IPv6 fits into `reply` unless the request has
    /// PADDING, which is as long again in the reply.
    ///
    /// # Errors
    ///
    /// A [`Silence`] if nothing is to be sent.
    pub fn handle_request(
        &mut self,
        request: Request<'_>,
        reply: &mut [u8],
    ) -> Result<Reply, Silence> {
        let outcome = self.answer(request, reply);
        self.counters.note(&request, &outcome);
        outcome.map(|it| it.reply)
    }

    /// Answers a request that the partner ([`Link`]) had from `request.source` at its own address `request.local`, which must
    /// ask for an answer from this host. The partner has seen to it that the client is let in and is there.
    ///
    /// # Errors
    ///
    /// A [`Silence`] if nothing is to be sent.
    pub fn handle_forwarded(
        &mut self,
        request: Request<'_>,
        reply: &mut [u8],
    ) -> Result<Reply, Silence> {
        let message = self.read(request)?;
        if message.method() != Method::BINDING {
            return Err(Silence::NotForwardable);
        }
        let binding = Binding::new(&self.policy, message, request).forwarded();
        let answer = binding.answer_within(self.budget.as_mut(), reply)?;
        let is_ours = answer.kind == Kind::Changed && answer.reply.from.ip() != request.local.ip();
        if is_ours {
            self.counters.answered_for_partner += 1;
            Ok(answer.reply)
        } else {
            Err(Silence::NotForwardable)
        }
    }

    fn answer(&mut self, request: Request<'_>, reply: &mut [u8]) -> Result<Answer, Silence> {
        let message = self.read(request)?;
        if message.method() == spoof::METHOD {
            return self.answer_spoof_check(&message, request, reply);
        }
        let binding = Binding::new(&self.policy, message, request);
        match request.transport {
            Transport::Udp => binding.answer_within(self.budget.as_mut(), reply),
            Transport::Tcp | Transport::Dtls => binding.answer(reply),
        }
    }

    /// A message that may be answered: a Binding request, or one of a spoof check.
    fn read<'a>(&self, request: Request<'a>) -> Result<Message<'a>, Silence> {
        let message = Message::parse_classic(request.bytes).map_err(Silence::Malformed)?;
        if message.fingerprint() == Check::Invalid {
            return Err(Silence::WrongFingerprint);
        }
        if message.method() == spoof::METHOD && !message.is_classic() {
            return Ok(message);
        }
        match message.class() {
            Class::Request if message.method() == Method::BINDING => {}
            Class::Request => return Err(Silence::UnknownMethod(message.method())),
            class => return Err(Silence::NotARequest(class)),
        }
        if request.source.port() == 0 {
            return Err(Silence::Unanswerable);
        }
        Ok(message)
    }
}
