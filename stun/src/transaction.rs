//! The client's side of one request: when it is sent, what ends it (RFC 8489, section 6.2).
//!
//! ```text
//!                    new                          a response with this id
//!   ───────────────▶ Waiting ───────────────────────────────────────────▶ Answered
//!                     │  ▲
//!     deadline, sends │  │ transmit, next gap
//!     are left        └──┘
//!                     │ deadline, no sends left
//!                     └─────────────────────────────────────────────────▶ TimedOut
//! ```
//!
//! A [`Transaction`] owns the bytes of its request and a [`Schedule`], and nothing else. Its owner
//!
//! 1. sends what [`Transaction::poll_transmit`] yields,
//! 2. hands each received message to [`Transaction::handle_response`], after checking its integrity if the request
//!    was signed, and calls [`Transaction::handle_timeout`] when [`Transaction::poll_timeout`] has passed,
//! 3. takes [`Transaction::poll_event`], which yields one [`Event`] in a transaction's life.
//!
//! To give up early, drop it.

mod rtt;
mod schedule;

pub use rtt::RttEstimator;
pub use schedule::Schedule;

use crate::{Class, Message, Method, ParseError, TransactionId};
use std::time::{Duration, Instant};

/// One request and the wait for its response.
#[derive(Debug)]
pub struct Transaction {
    request: Vec<u8>,
    method: Method,
    transaction_id: TransactionId,
    schedule: Schedule,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The response is still to come.
    Waiting { first_sent: Instant, sends: u32, transmit: bool, deadline: Instant },
    /// The end has come and is still to be told.
    Ended(Event),
    /// The end has been told.
    Told,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A response came, success or error; its owner has it.
    Answered {
        /// How long the request was under way; `None` if it was sent more than once, because then nobody knows which
        /// one was answered (RFC 8489, section 6.2.1; Karn's algorithm).
        rtt: Option<Duration>,
        /// How often the request was sent.
        sends: u32,
    },
    /// No response came.
    TimedOut {
        /// How often the request was sent.
        sends: u32,
    },
}

impl Transaction {
    /// Starts a transaction with the request in `request`; its first transmission is due at once.
    ///
    /// # Errors
    ///
    /// A [`ParseError`] if `request` is not a message.
    pub fn new(request: Vec<u8>, schedule: Schedule, now: Instant) -> Result<Self, ParseError> {
        let message = Message::parse_classic(&request)?;
        let (method, transaction_id) = (message.method(), message.transaction_id());
        let deadline = now + schedule.wait_after(1);
        let state = State::Waiting { first_sent: now, sends: 1, transmit: true, deadline };
        Ok(Self { request, method, transaction_id, schedule, state })
    }

    /// The id of the request and of its response.
    pub fn transaction_id(&self) -> TransactionId {
        self.transaction_id
    }

    /// The bytes of the request.
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// Whether `message` is the response waited for; if so, the transaction ends.
    ///
    /// It is if class, method and the whole id fit. The owner decides beforehand whether to believe its source and its
    /// integrity: a forged message must not come here, since the true one would then be late.
    pub fn handle_response(&mut self, message: &Message<'_>, now: Instant) -> bool {
        let State::Waiting { first_sent, sends, .. } = self.state else { return false };
        if !self.is_answered_by(message) {
            return false;
        }
        let rtt = (sends == 1).then(|| now.saturating_duration_since(first_sent));
        self.state = State::Ended(Event::Answered { rtt, sends });
        true
    }

    /// The instant of [`Transaction::poll_timeout`] has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        let State::Waiting { sends, transmit, deadline, .. } = &mut self.state else { return };
        if now < *deadline {
            return;
        }
        if *sends == self.schedule.sends() {
            self.state = State::Ended(Event::TimedOut { sends: *sends });
            return;
        }
        *sends += 1;
        *transmit = true;
        *deadline = now + self.schedule.wait_after(*sends);
    }

    /// The request, if it is to be sent now.
    pub fn poll_transmit(&mut self) -> Option<&[u8]> {
        match &mut self.state {
            State::Waiting { transmit, .. } => std::mem::take(transmit).then_some(&self.request),
            State::Ended(_) | State::Told => None,
        }
    }

    /// How the transaction ended, once.
    pub fn poll_event(&mut self) -> Option<Event> {
        let State::Ended(event) = self.state else { return None };
        self.state = State::Told;
        Some(event)
    }

    /// When to call [`Transaction::handle_timeout`], and why; `None` once the transaction has ended.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        match self.state {
            State::Waiting { sends, deadline, .. } if sends == self.schedule.sends() => {
                Some((deadline, "STUN transaction: give up"))
            }
            State::Waiting { deadline, .. } => Some((deadline, "STUN transaction: send again")),
            State::Ended(_) | State::Told => None,
        }
    }

    fn is_answered_by(&self, message: &Message<'_>) -> bool {
        matches!(message.class(), Class::Success | Class::Error)
            && message.method() == self.method
            && message.as_bytes().get(4..20) == self.request.get(4..20)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Writer;

    #[expect(clippy::disallowed_methods, reason = "a test needs some origin of its instants")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn message(class: Class, method: Method, id: u8) -> Vec<u8> {
        let mut buffer = vec![0; 20];
        Writer::new(&mut buffer, class, method, TransactionId::new([id; 12])).expect("room");
        buffer
    }

    fn transaction(schedule: Schedule, now: Instant) -> Transaction {
        let request = message(Class::Request, Method::BINDING, 1);
        Transaction::new(request, schedule, now).expect("a message")
    }

    /// When the request is sent, and when silence is believed, in ms; every deadline is met exactly.
    fn ladder(schedule: Schedule) -> (Vec<u128>, u128) {
        let start = origin();
        let mut transaction = transaction(schedule, start);
        let (mut now, mut sent) = (start, Vec::new());
        loop {
            while let Some(request) = transaction.poll_transmit() {
                assert_eq!(request, message(Class::Request, Method::BINDING, 1));
                sent.push((now - start).as_millis());
            }
            if let Some(event) = transaction.poll_event() {
                assert_eq!(event, Event::TimedOut { sends: sent.len() as u32 });
                assert_eq!(transaction.poll_timeout(), None);
                assert_eq!(transaction.poll_event(), None, "told once");
                return (sent, (now - start).as_millis());
            }
            let (deadline, _) = transaction.poll_timeout().expect("waiting");
            transaction.handle_timeout(deadline - Duration::from_nanos(1));
            assert_eq!(transaction.poll_transmit(), None, "too early");
            now = deadline;
            transaction.handle_timeout(now);
        }
    }

    #[test]
    fn the_ladder_of_rfc_8489() {
        let sent = vec![0, 500, 1_500, 3_500, 7_500, 15_500, 31_500];
        assert_eq!(ladder(Schedule::default()), (sent, 39_500));
    }

    #[test]
    fn the_ladder_of_rfc_3489() {
        let sent = vec![0, 100, 300, 700, 1_500, 3_100, 4_700, 6_300, 7_900];
        assert_eq!(ladder(Schedule::rfc3489()), (sent, 9_500));
    }

    #[test]
    fn over_a_reliable_transport_the_request_is_sent_once() {
        assert_eq!(ladder(Schedule::reliable()), (vec![0], 39_500));
    }

    #[test]
    fn rto_rc_and_rm_shape_the_ladder() {
        let schedule = Schedule::unreliable(Duration::from_millis(100), 4, 3);
        assert_eq!(ladder(schedule), (vec![0, 100, 300, 700], 1_000));
        let once = Schedule::unreliable(Duration::from_millis(100), 1, 16);
        assert_eq!(ladder(once), (vec![0], 1_600));
        let none = Schedule::unreliable(Duration::from_millis(100), 0, 16);
        assert_eq!(ladder(none), (vec![0], 1_600), "a request is sent at least once");
    }

    #[test]
    fn an_absurd_schedule_neither_overflows_nor_spins() {
        let schedule = Schedule::unreliable(Duration::from_secs(86_400), 40, u32::MAX);
        let start = origin();
        let mut transaction = transaction(schedule, start);
        let mut sends = 0;
        while let Some((deadline, _)) = transaction.poll_timeout() {
            sends += u32::from(transaction.poll_transmit().is_some());
            assert!(deadline <= start + Duration::from_secs(3_600) * 42);
            transaction.handle_timeout(deadline);
        }
        assert_eq!(sends, 40);
    }

    #[test]
    fn a_late_owner_causes_no_burst() {
        let start = origin();
        let mut transaction = transaction(Schedule::default(), start);
        assert!(transaction.poll_transmit().is_some());
        let woken = start + Duration::from_secs(20);
        transaction.handle_timeout(woken);
        assert!(transaction.poll_transmit().is_some());
        transaction.handle_timeout(woken);
        assert!(transaction.poll_transmit().is_none());
        assert_eq!(transaction.poll_timeout().map(|it| it.0), Some(woken + Duration::from_secs(1)));
    }

    #[test]
    fn a_response_ends_the_transaction_and_measures_the_round_trip() {
        for class in [Class::Success, Class::Error] {
            let start = origin();
            let mut transaction = transaction(Schedule::default(), start);
            transaction.poll_transmit();
            let bytes = message(class, Method::BINDING, 1);
            let response = Message::parse(&bytes).expect("well-formed");
            let rtt = Duration::from_millis(40);
            assert!(transaction.handle_response(&response, start + rtt));
            assert!(!transaction.handle_response(&response, start + rtt), "a duplicate");
            let answered = Event::Answered { rtt: Some(rtt), sends: 1 };
            assert_eq!(transaction.poll_event(), Some(answered));
            assert_eq!(transaction.poll_event(), None);
            assert_eq!((transaction.poll_timeout(), transaction.poll_transmit()), (None, None));
            transaction.handle_timeout(start + Duration::from_secs(60));
            assert_eq!(transaction.poll_event(), None, "a late timeout changes nothing");
        }
    }

    #[test]
    fn a_repeated_request_measures_nothing() {
        let start = origin();
        let mut transaction = transaction(Schedule::default(), start);
        let (deadline, _) = transaction.poll_timeout().expect("waiting");
        transaction.handle_timeout(deadline);
        let bytes = message(Class::Success, Method::BINDING, 1);
        let response = Message::parse(&bytes).expect("well-formed");
        assert!(transaction.handle_response(&response, deadline));
        let answered = Event::Answered { rtt: None, sends: 2 };
        assert_eq!(transaction.poll_event(), Some(answered));
    }

    #[test]
    fn what_is_not_the_response_is_ignored() {
        let start = origin();
        let mut transaction = transaction(Schedule::default(), start);
        let other = Method::new(0x123).expect("within 12 bits");
        let mut classic = message(Class::Success, Method::BINDING, 1);
        classic[4..8].fill(0);
        for bytes in [
            message(Class::Success, Method::BINDING, 2),
            message(Class::Success, other, 1),
            message(Class::Request, Method::BINDING, 1),
            message(Class::Indication, Method::BINDING, 1),
            classic,
        ] {
            let message = Message::parse_classic(&bytes).expect("well-formed");
            assert!(!transaction.handle_response(&message, start), "{message:?}");
        }
        assert_eq!(transaction.poll_event(), None);
    }

    #[test]
    fn a_classic_transaction_compares_all_sixteen_bytes() {
        let start = origin();
        let mut request = message(Class::Request, Method::BINDING, 1);
        request[4..8].copy_from_slice(b"1234");
        let mut response = message(Class::Success, Method::BINDING, 1);
        let schedule = Schedule::rfc3489();
        let mut transaction = Transaction::new(request, schedule, start).expect("a message");
        let message = Message::parse_classic(&response).expect("well-formed");
        assert!(!transaction.handle_response(&message, start));
        response[4..8].copy_from_slice(b"1234");
        let message = Message::parse_classic(&response).expect("well-formed");
        assert!(transaction.handle_response(&message, start));
    }
}
