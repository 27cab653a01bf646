//! What a NAT does to UDP: the client of RFC 5780, as tests that perform no I/O.
//!
//! Each test is a value of its own: it is told what arrived and what time it is, and answers with
//! datagrams to send. Its sockets are numbered [`Slot`]s that the owner binds to fresh ports before
//! the test starts and closes after it ended. That each test has ports of its own is not
//! housekeeping: a packet that comes in for one test may leave state in a NAT that changes what it
//! does to the next packet from the same port.
//!
//! | module | question | RFC 5780 |
//! |---|---|---|
//! | [`mapping`] | what does the external port depend on? | section 4.3 |
//! | [`filtering`] | whose packets come in? | section 4.4 |
//! | [`honesty`] | does this server send changed replies at all? | – |
//! | [`ports`] | which external ports do fresh sockets get? | – |
//! | [`hairpin`] | can a host reach itself through its external address? | section 4.5 |
//! | [`exchange`] | the part of all of them: one request, repeated until it is answered | – |
//! | [`ladder`] | when requests are repeated and when silence is believed | – |
//! | [`alternate`] | may an OTHER-ADDRESS be believed? | section 7.4 |
//! | [`classic`] | the same answers in the words of RFC 3489 | – |
//!
//! # Life of a test
//!
//! 1. The owner binds fresh sockets and constructs the test with `now`.
//! 2. It sends everything [`Test::poll_transmit`] yields, from the slot named.
//! 3. It reports every datagram to [`Test::handle_datagram`], and calls [`Test::handle_timeout`]
//!    when [`Test::poll_timeout`] has passed; after each it goes on with step 2.
//! 4. Once [`Test::is_settled`], nothing more is sent, and the finding stands.
//!
//! # What a verdict needs
//!
//! - A changed reply counts only if it came from where it was asked for. Some servers answer
//!   CHANGE-REQUEST from the same place, which would make every NAT look open.
//! - Silence counts only after seven transmissions ([`Ladder::silence`]), and only if the server
//!   still answers a plain request afterwards.
//! - Silence of a server that has never been seen to send a changed reply counts only where that
//!   cannot be seen ([`filtering::judge`]).
//!
//! What is missing stays missing: a verdict is `None` when no server could tell.

pub mod alternate;
pub mod classic;
pub mod exchange;
pub mod filtering;
pub mod hairpin;
pub mod honesty;
pub mod ladder;
pub mod mapping;
pub mod ports;

use std::net::SocketAddr;
use std::time::Instant;

pub use alternate::{Alternate, AlternateRefusal};
pub use classic::ClassicType;
pub use exchange::{Answer, Binding, Exchange, RequestSeed};
pub use filtering::{Change, Filtering, FilteringTest, Passage};
pub use hairpin::HairpinTest;
pub use honesty::HonestyTest;
pub use ladder::Ladder;
pub use mapping::{Dependence, Mapping, MappingTest, Observation, ServerState};
pub use ports::PortTest;

/// One of a test's own sockets, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u8);

/// A datagram to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// From this socket.
    pub slot: Slot,
    /// To this address.
    pub destination: SocketAddr,
    /// These bytes.
    pub payload: Vec<u8>,
}

/// A datagram that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// At this socket.
    pub slot: Slot,
    /// From this address; an IPv4 address in its own form, never mapped into IPv6.
    pub source: SocketAddr,
    /// These bytes.
    pub payload: &'a [u8],
}

/// The part of a test that its owner drives; the module documentation tells how.
pub trait Test {
    /// A datagram arrived at `now`. What is not for this test is ignored.
    fn handle_datagram(&mut self, datagram: Datagram<'_>, now: Instant);

    /// The instant of [`Test::poll_timeout`] has passed.
    fn handle_timeout(&mut self, now: Instant);

    /// The next datagram to send.
    fn poll_transmit(&mut self) -> Option<Transmit>;

    /// When to call [`Test::handle_timeout`]; `None` once the test is settled.
    fn poll_timeout(&self) -> Option<Instant>;

    /// Whether the finding stands.
    fn is_settled(&self) -> bool;
}
