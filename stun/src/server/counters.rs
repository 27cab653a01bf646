//! What a server has done, in numbers.

use super::binding::{Answer, Kind};
use super::{Request, Silence, Transport};
use std::ops::AddAssign;

/// Counts since a server was made. Several servers' counts are added up with `+=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Messages that came over UDP.
    pub udp: u64,
    /// Messages that came over TCP.
    pub tcp: u64,
    /// Messages that came over DTLS.
    pub dtls: u64,
    /// Binding success responses, all kinds.
    pub successes: u64,
    /// Responses, success or error, to clients of RFC 3489.
    pub classic: u64,
    /// Successes that another address than the one asked had to send.
    pub changed: u64,
    /// Errors 400.
    pub bad_requests: u64,
    /// Errors 420.
    pub unknown_attributes: u64,
    /// Errors 401.
    pub unauthenticated: u64,
    /// Errors 438.
    pub stale_nonces: u64,
    /// Errors 300.
    pub redirected: u64,
    /// Errors 500.
    pub server_errors: u64,
    /// Requests forwarded to the partner; counted by whoever forwards them.
    pub forwarded: u64,
    /// Answers to requests that the partner has forwarded.
    pub answered_for_partner: u64,
    /// Dropped: from the partner's address, but not signed, not new or too many; counted by whoever has the link.
    pub link_refused: u64,
    /// Tokens given and reports sent for spoof checks.
    pub spoof_checks: u64,
    /// Successes of the network driver, which are counted among the others too; counted by whoever has it answer.
    pub in_driver: u64,
    /// Dropped: not STUN.
    pub malformed: u64,
    /// Dropped: FINGERPRINT wrong.
    pub wrong_fingerprints: u64,
    /// Dropped: indications and responses.
    pub not_requests: u64,
    /// Dropped: requests of methods other than Binding.
    pub unknown_methods: u64,
    /// Dropped: over the budget of the source.
    pub over_budget: u64,
    /// Streams that were closed because what came was not TLS as it should be; counted by whoever has the streams.
    pub tls_refused: u64,
    /// Cookies given to who wants to speak DTLS; this and the next two are counted by whoever has the sessions.
    pub dtls_cookies: u64,
    /// DTLS handshakes that were finished.
    pub dtls_handshakes: u64,
    /// DTLS hellos with a wrong cookie or beyond the bounds, and sessions that went wrong.
    pub dtls_refused: u64,
    /// Replies that were made but could not be sent; counted by whoever sends them.
    pub lost: u64,
    /// Dropped: no source port, or no room for the reply.
    pub unanswerable: u64,
}

impl Counters {
    pub(super) fn note(&mut self, request: &Request<'_>, outcome: &Result<Answer, Silence>) {
        match request.transport {
            Transport::Udp => self.udp += 1,
            Transport::Tcp => self.tcp += 1,
            Transport::Dtls => self.dtls += 1,
        }
        match outcome {
            Ok(answer) => self.note_answer(answer),
            Err(Silence::Malformed(_)) => self.malformed += 1,
            Err(Silence::WrongFingerprint) => self.wrong_fingerprints += 1,
            Err(Silence::NotARequest(_)) => self.not_requests += 1,
            Err(Silence::UnknownMethod(_)) => self.unknown_methods += 1,
            Err(Silence::OverBudget) => self.over_budget += 1,
            Err(Silence::Unanswerable | Silence::NoRoom(_) | Silence::NotForwardable) => {
                self.unanswerable += 1;
            }
        }
    }

    fn note_answer(&mut self, answer: &Answer) {
        self.classic += u64::from(answer.is_classic);
        match answer.kind {
            Kind::Success => self.successes += 1,
            Kind::Changed => {
                self.successes += 1;
                self.changed += 1;
            }
            Kind::BadRequest => self.bad_requests += 1,
            Kind::UnknownAttributes => self.unknown_attributes += 1,
            Kind::Unauthenticated => self.unauthenticated += 1,
            Kind::StaleNonce => self.stale_nonces += 1,
            Kind::Redirected => self.redirected += 1,
            Kind::ServerError => self.server_errors += 1,
            Kind::SpoofCheck => self.spoof_checks += 1,
        }
    }
}

impl AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        self.udp += other.udp;
        self.tcp += other.tcp;
        self.dtls += other.dtls;
        self.successes += other.successes;
        self.classic += other.classic;
        self.changed += other.changed;
        self.bad_requests += other.bad_requests;
        self.unknown_attributes += other.unknown_attributes;
        self.unauthenticated += other.unauthenticated;
        self.stale_nonces += other.stale_nonces;
        self.redirected += other.redirected;
        self.server_errors += other.server_errors;
        self.forwarded += other.forwarded;
        self.answered_for_partner += other.answered_for_partner;
        self.link_refused += other.link_refused;
        self.spoof_checks += other.spoof_checks;
        self.in_driver += other.in_driver;
        self.malformed += other.malformed;
        self.wrong_fingerprints += other.wrong_fingerprints;
        self.not_requests += other.not_requests;
        self.unknown_methods += other.unknown_methods;
        self.over_budget += other.over_budget;
        self.tls_refused += other.tls_refused;
        self.dtls_cookies += other.dtls_cookies;
        self.dtls_handshakes += other.dtls_handshakes;
        self.dtls_refused += other.dtls_refused;
        self.lost += other.lost;
        self.unanswerable += other.unanswerable;
    }
}
