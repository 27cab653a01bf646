//! One Binding request to one address, repeated until it is answered or silence is believed.
//!
//! ```text
//!            ladder's next gap
//!             ┌───────────┐
//!             ▼           │
//!  new ──► Waiting ───────┘──── last wait over ──► Silent
//!             │ │                                    │
//!             │ └──── error response ──► Refused     │ late
//!             └── success from where expected ──► Answered
//! ```
//!
//! Each transmission has a transaction id of its own, so that an answer tells which of them it
//! answers and the round-trip time is never ambiguous (RFC 8489 section 6.2.1 would discard it).
//! A success from elsewhere does not end the exchange: it is kept as evidence about the server.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Ladder;
use crate::attribute::{
    ChangeRequest, ChangedAddress, ErrorCode, MappedAddress, OtherAddress, XorMappedAddress,
};
use crate::{Check, Class, Message, Method, TransactionId, WriteError, Writer};

/// Room for the longest request here: a header and CHANGE-REQUEST.
const REQUEST_LENGTH: usize = 20 + 8;

/// Ten random bytes from which the transaction ids of one test are made.
///
/// The last two bytes of an id number the exchange and the transmission; 80 random ones remain
/// against an attacker who guesses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestSeed(pub [u8; 10]);

impl std::fmt::Debug for RequestSeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RequestSeed(…)")
    }
}

impl RequestSeed {
    /// The id of one transmission of one exchange.
    pub fn transaction_id(&self, exchange: u8, transmission: u8) -> TransactionId {
        let mut id = [0; 12];
        id[..10].copy_from_slice(&self.0);
        id[10] = exchange;
        id[11] = transmission;
        TransactionId::new(id)
    }

    /// The exchange and the transmission that `id` names, if it is made from this seed.
    pub fn position(&self, id: TransactionId) -> Option<(u8, u8)> {
        let [.., exchange, transmission] = *id.as_bytes();
        (id == self.transaction_id(exchange, transmission)).then_some((exchange, transmission))
    }
}

/// What a Binding response says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// The address the request came from, as the server saw it.
    pub mapped: SocketAddr,
    /// Where else the server says it answers from: OTHER-ADDRESS, or CHANGED-ADDRESS of RFC 3489.
    pub other: Option<SocketAddr>,
    /// MAPPED-ADDRESS differs from XOR-MAPPED-ADDRESS: something on the path rewrites addresses in
    /// payloads (RFC 5780 section 4.7).
    pub rewritten: bool,
}

impl Binding {
    /// Reads a Binding success response; `None` if it is none, is damaged, or names no address of
    /// the family of `destination`.
    pub fn read(message: &Message<'_>, destination: SocketAddr) -> Option<Self> {
        if message.class() != Class::Success || message.method() != Method::BINDING {
            return None;
        }
        let plain = message.attribute::<MappedAddress>().ok().flatten().map(|it| it.0);
        let obscured = message.attribute::<XorMappedAddress>().ok().flatten().map(|it| it.0);
        let mapped = obscured.or(plain)?;
        if mapped.is_ipv4() != destination.is_ipv4() || mapped.port() == 0 {
            return None;
        }
        let other = message.attribute::<OtherAddress>().ok().flatten().map(|it| it.0);
        let changed = || message.attribute::<ChangedAddress>().ok().flatten().map(|it| it.0);
        let rewritten = obscured.zip(plain).is_some_and(|(one, other)| one != other);
        Some(Self { mapped, other: other.or_else(changed), rewritten })
    }
}

/// A Binding request with this id that asks for this change, as a whole message.
pub fn request(id: TransactionId, change: ChangeRequest) -> Vec<u8> {
    let mut buffer = [0; REQUEST_LENGTH];
    let write = |buffer: &mut [u8]| -> Result<usize, WriteError> {
        let mut writer = Writer::new(buffer, Class::Request, Method::BINDING, id)?;
        // Nothing that is not needed: some old servers drop a request with anything else in it.
        if change != ChangeRequest::Nothing {
            writer.attribute(&change)?;
        }
        Ok(writer.finish())
    };
    let length = write(&mut buffer).expect("the buffer holds a header and one attribute");
    buffer[..length].to_vec()
}

/// A message that may answer a request: whole, undamaged, and without comprehension-required
/// attributes that nobody knows (RFC 8489 section 6.3.3).
pub fn parse(payload: &[u8]) -> Option<Message<'_>> {
    let message = Message::parse(payload).ok()?;
    let unknown = message
        .attributes()
        .map(|it| it.attribute_type)
        .any(|it| it.is_comprehension_required() && it.name().is_none());
    (!unknown && message.fingerprint() != Check::Invalid).then_some(message)
}

/// The answer to an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// What it says.
    pub binding: Binding,
    /// From the transmission it answers until it arrived.
    pub rtt: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// For the answer; the next transmission, or the end, comes then.
    Waiting(Instant),
    Answered(Answer),
    /// With this error code.
    Refused(u16),
    Silent,
}

/// One request, repeated until it is answered; the module documentation draws its states.
#[derive(Debug, Clone)]
pub struct Exchange {
    seed: RequestSeed,
    number: u8,
    destination: SocketAddr,
    change: ChangeRequest,
    expected: SocketAddr,
    ladder: Ladder,
    sent: Vec<Instant>,
    unsent: u8,
    state: State,
    elsewhere: Option<SocketAddr>,
}

impl Exchange {
    /// A plain request to `destination`, the exchange `number` of its test.
    pub fn plain(
        seed: RequestSeed,
        number: u8,
        destination: SocketAddr,
        ladder: Ladder,
        now: Instant,
    ) -> Self {
        Self::new(seed, number, (destination, ChangeRequest::Nothing, destination), ladder, now)
    }

    /// A request to `destination` that asks for `change`; the answer is expected from `expected`.
    pub fn changed(
        seed: RequestSeed,
        number: u8,
        (destination, change, expected): (SocketAddr, ChangeRequest, SocketAddr),
        ladder: Ladder,
        now: Instant,
    ) -> Self {
        Self::new(seed, number, (destination, change, expected), ladder, now)
    }

    fn new(
        seed: RequestSeed,
        number: u8,
        (destination, change, expected): (SocketAddr, ChangeRequest, SocketAddr),
        ladder: Ladder,
        now: Instant,
    ) -> Self {
        let (sent, state) = (vec![now], State::Waiting(now + ladder.wait_after(1)));
        Self {
            seed,
            number,
            destination,
            change,
            expected,
            ladder,
            sent,
            unsent: 1,
            state,
            elsewhere: None,
        }
    }

    /// Where the request goes to.
    pub fn destination(&self) -> SocketAddr {
        self.destination
    }

    /// Goes on at the pace of `ladder`, counted from the last transmission; its count of
    /// transmissions includes those already made.
    pub fn adopt(&mut self, ladder: Ladder) {
        self.ladder = ladder;
        if let State::Waiting(_) = self.state {
            self.state = State::Waiting(self.next_deadline());
        }
    }

    /// A datagram arrived; tells whether it was one for this exchange.
    pub fn handle_datagram(&mut self, source: SocketAddr, payload: &[u8], now: Instant) -> bool {
        let Some(message) = parse(payload) else { return false };
        let Some(sent) = self.sent_as(message.transaction_id()) else { return false };
        if message.method() != Method::BINDING || message.class() == Class::Request {
            return false;
        }
        if !self.is_open() {
            return true;
        }
        if message.class() == Class::Error {
            let code = message.attribute::<ErrorCode<'_>>().ok().flatten();
            self.state = State::Refused(code.map_or(0, |it| it.code()));
        } else if let Some(binding) = Binding::read(&message, self.destination) {
            if source == self.expected {
                let rtt = now.saturating_duration_since(sent);
                self.state = State::Answered(Answer { binding, rtt });
            } else {
                self.elsewhere = Some(source);
            }
        }
        true
    }

    /// The time of [`Exchange::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        let State::Waiting(deadline) = self.state else { return };
        if now < deadline {
            return;
        }
        if self.count() >= self.ladder.transmissions() {
            self.state = State::Silent;
            return;
        }
        self.sent.push(now);
        self.unsent += 1;
        self.state = State::Waiting(self.next_deadline());
    }

    /// The next request to send to [`Exchange::destination`].
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.unsent = self.unsent.checked_sub(1)?;
        let transmission = self.count() - self.unsent;
        Some(request(self.seed.transaction_id(self.number, transmission), self.change))
    }

    /// When the next transmission or the end is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Waiting(deadline) => Some(deadline),
            State::Answered(_) | State::Refused(_) | State::Silent => None,
        }
    }

    /// Whether it has ended, one way or another.
    pub fn is_settled(&self) -> bool {
        self.poll_timeout().is_none()
    }

    /// Whether the request has been sent as often as it will be.
    pub fn is_last_sent(&self) -> bool {
        self.count() >= self.ladder.transmissions()
    }

    /// The answer, if there was one.
    pub fn answer(&self) -> Option<Answer> {
        match self.state {
            State::Answered(answer) => Some(answer),
            State::Waiting(_) | State::Refused(_) | State::Silent => None,
        }
    }

    /// The code of the error response, if there was one; 0 if it named none.
    pub fn refusal(&self) -> Option<u16> {
        match self.state {
            State::Refused(code) => Some(code),
            State::Waiting(_) | State::Answered(_) | State::Silent => None,
        }
    }

    /// Where a success came from that should have come from elsewhere.
    pub fn elsewhere(&self) -> Option<SocketAddr> {
        self.elsewhere
    }

    /// Whether an answer still changes something: also after silence, for better late than never.
    fn is_open(&self) -> bool {
        matches!(self.state, State::Waiting(_) | State::Silent)
    }

    /// When the transmission with this id was made.
    fn sent_as(&self, id: TransactionId) -> Option<Instant> {
        let (number, transmission) = self.seed.position(id)?;
        let index = usize::from(transmission).checked_sub(1)?;
        (number == self.number).then(|| self.sent.get(index).copied()).flatten()
    }

    fn next_deadline(&self) -> Instant {
        self.sent[self.sent.len() - 1] + self.ladder.wait_after(self.count())
    }

    /// Transmissions so far; the ladder keeps it far below the limit of the type.
    fn count(&self) -> u8 {
        u8::try_from(self.sent.len()).unwrap_or(u8::MAX)
    }
}
