//! The cookie exchange of DTLS 1.2 (RFC 6347, section 4.2.1), which needs no memory.
//!
//! ```text
//!  client                                server
//!    │ ClientHello ────────────────────────▶ │  nothing is kept
//!    │ ◀──────────────── HelloVerifyRequest  │  a cookie: who asked what, and when, under the server's secret;
//!    │                                       │  60 bytes, never longer than the hello
//!    │ ClientHello with the cookie ────────▶ │  he is where he says: a session begins
//! ```
//!
//! A hello must come in one record that fills its datagram, as those of DTLS 1.2 do; what else there is, is dropped.

use ring::hmac;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Length of a cookie: that of HMAC-SHA256.
use super::cryptography::COOKIE;

/// How long a cookie is good at least; at most twice as long.
const LIFETIME: Duration = Duration::from_secs(30);
/// ContentType handshake (RFC 5246, section 6.2.1).
const HANDSHAKE: u8 = 22;
/// HandshakeType client_hello and hello_verify_request (RFC 6347, section 4.3.2).
const CLIENT_HELLO: u8 = 1;
const HELLO_VERIFY_REQUEST: u8 = 3;
/// DTLS 1.0, which HelloVerifyRequest says whatever is meant, and 1.2.
const DTLS_1_0: [u8; 2] = [0xFE, 0xFF];
const DTLS_1_2: [u8; 2] = [0xFE, 0xFD];
/// Bytes before a record's fragment, and before a handshake message's body.
const RECORD_HEADER: usize = 13;
const MESSAGE_HEADER: usize = 12;
/// Bytes of a HelloVerifyRequest: less than the shortest hello has.
const ANSWER: usize = RECORD_HEADER + MESSAGE_HEADER + 3 + COOKIE;

/// A ClientHello of DTLS 1.2.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hello<'a> {
    /// The number of its record, whose epoch is 0.
    record: [u8; 6],
    /// The number of its message: 0 for the first.
    message: u16,
    pub(super) random: [u8; 32],
    /// The body as far as the length of the cookie, the cookie, and what follows.
    before: &'a [u8],
    cookie: &'a [u8],
    after: &'a [u8],
}

/// Takes bytes from the front.
fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

/// Takes what follows a length of `size` bytes.
fn take_counted<'a>(rest: &mut &'a [u8], size: usize) -> Option<&'a [u8]> {
    let count = take(rest, size)?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    take(rest, count)
}

impl<'a> Hello<'a> {
    /// `None` for whatever is not one whole ClientHello in epoch 0.
    pub(super) fn parse(datagram: &'a [u8]) -> Option<Self> {
        let mut rest = datagram;
        let header = take(&mut rest, 3)?;
        let is_known = [DTLS_1_0, DTLS_1_2].iter().any(|it| *it == header[1..]);
        let is_in_the_clear = take(&mut rest, 2)? == [0, 0];
        let record = take(&mut rest, 6)?.try_into().ok()?;
        let mut message = take_counted(&mut rest, 2)?;
        if header[0] != HANDSHAKE || !is_known || !is_in_the_clear || !rest.is_empty() {
            return None;
        }
        let header = take(&mut message, MESSAGE_HEADER)?;
        let length = [0, header[1], header[2], header[3]];
        // In one piece: no offset, and as long as the whole.
        let is_whole = header[6..9] == [0; 3] && header[9..] == length[1..];
        let is_all = u32::from_be_bytes(length) as usize == message.len();
        if header[0] != CLIENT_HELLO || !is_whole || !is_all {
            return None;
        }
        Self::parse_body(record, u16::from_be_bytes([header[4], header[5]]), message)
    }

    /// ClientHello (RFC 6347, section 4.3.2).
    fn parse_body(record: [u8; 6], message: u16, body: &'a [u8]) -> Option<Self> {
        let mut rest = body;
        let version = take(&mut rest, 2)?;
        let random = take(&mut rest, 32)?.try_into().ok()?;
        let session = take_counted(&mut rest, 1)?;
        let before = &body[..body.len() - rest.len()];
        let cookie = take_counted(&mut rest, 1)?;
        let after = rest;
        let suites = take_counted(&mut rest, 2)?;
        let compressions = take_counted(&mut rest, 1)?;
        let extensions = if rest.is_empty() { rest } else { take_counted(&mut rest, 2)? };
        let is_sound = version == DTLS_1_2
            && session.len() <= 32
            && !suites.is_empty()
            && suites.len().is_multiple_of(2)
            && !compressions.is_empty()
            && rest.is_empty();
        // Without extensions there is no extended master secret, and no handshake (RFC 7627).
        let can_be_served = is_sound && !extensions.is_empty();
        can_be_served.then_some(Self { record, message, random, before, cookie, after })
    }

    /// The hello of the same client before it had a cookie, as it was or could have been.
    pub(super) fn first(&self) -> Vec<u8> {
        let body = [self.before, &[0], self.after].concat();
        let mut bytes = Vec::with_capacity(RECORD_HEADER + MESSAGE_HEADER + body.len());
        write(&mut bytes, CLIENT_HELLO, [0; 6], &body);
        bytes
    }
}

/// Writes a handshake message, the first, in a record of its own.
fn write(bytes: &mut Vec<u8>, kind: u8, record: [u8; 6], body: &[u8]) {
    // Both come from a datagram, or are short.
    let length = (body.len() as u32).to_be_bytes();
    let whole = ((MESSAGE_HEADER + body.len()) as u16).to_be_bytes();
    bytes.extend([HANDSHAKE, DTLS_1_0[0], DTLS_1_0[1], 0, 0]);
    bytes.extend(record);
    bytes.extend(whole);
    bytes.push(kind);
    bytes.extend_from_slice(&length[1..]);
    bytes.extend([0; 5]);
    bytes.extend_from_slice(&length[1..]);
    bytes.extend_from_slice(body);
}

/// What is to be done about a hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The client has this cookie from here, so he is where he says.
    There([u8; COOKIE]),
    /// Send this, and keep nothing.
    Ask(Vec<u8>),
    /// The cookie is wrong or too old.
    Wrong,
}

/// Makes cookies and knows them again.
#[derive(Debug)]
pub(super) struct Baker {
    secret: hmac::Key,
    start: Instant,
}

impl Baker {
    pub(super) fn new(secret: [u8; 32], start: Instant) -> Self {
        Self { secret: hmac::Key::new(hmac::HMAC_SHA256, &secret), start }
    }

    /// Judges a hello that came from `source`.
    pub(super) fn judge(&self, hello: &Hello<'_>, source: SocketAddr, now: Instant) -> Verdict {
        let period = now.saturating_duration_since(self.start).as_secs() / LIFETIME.as_secs();
        if hello.cookie.is_empty() && hello.message == 0 {
            let cookie = self.mix(hello, source, period);
            let mut answer = Vec::with_capacity(ANSWER);
            // With the number of the hello's record, so that no two have the same (RFC 6347, section 4.2.1).
            let body = [&DTLS_1_0[..], &[COOKIE as u8], cookie.as_ref()].concat();
            write(&mut answer, HELLO_VERIFY_REQUEST, hello.record, &body);
            return Verdict::Ask(answer);
        }
        // The hello with the cookie is the second message.
        let periods = [Some(period), period.checked_sub(1)];
        let is_ours = |period| {
            hmac::verify(&self.secret, &self.text(hello, source, period), hello.cookie).is_ok()
        };
        let is_ours = hello.message == 1 && periods.into_iter().flatten().any(is_ours);
        match hello.cookie.try_into() {
            Ok(cookie) if is_ours => Verdict::There(cookie),
            _ => Verdict::Wrong,
        }
    }

    fn mix(&self, hello: &Hello<'_>, source: SocketAddr, period: u64) -> hmac::Tag {
        hmac::sign(&self.secret, &self.text(hello, source, period))
    }

    /// What a cookie is good for: this client, these parameters, this time.
    fn text(&self, hello: &Hello<'_>, source: SocketAddr, period: u64) -> Vec<u8> {
        let ip = match source.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let (port, period) = (source.port().to_be_bytes(), period.to_be_bytes());
        [&period[..], &port, &ip.octets(), hello.before, hello.after].concat()
    }
}
