//! [`Mint`]: tokens that prove that what a server sends to an address arrives there.
//!
//! A token goes out in a NONCE and comes back in the next request. It names an instant and carries a MAC over it and the
//! address it was sent to, under a secret of the server's, so the server remembers nothing about it.
//!
//! ```text
//!  AAAA BBBBBBBB            12 characters of base64
//!  └ 24 bits: half minutes since the server's start, modulo 2^24
//!       └ 48 bits of HMAC-SHA256(secret, half minutes, IP, port)
//! ```
//!
//! 48 bits are enough where a guess costs a datagram and is worth one answer of the same size, or an attempt at a password
//! that another MAC protects.

use crate::integrity::Key;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Length of a token.
pub(crate) const TOKEN_LENGTH: usize = 12;
/// What tokens count time in.
const TICK: Duration = Duration::from_secs(30);
/// The digits of base64, by value (RFC 4648, section 4).
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Makes tokens and knows them again.
#[derive(Clone, Debug)]
pub struct Mint {
    secret: Key,
    origin: Instant,
    lifetime: u32,
}

impl Mint {
    /// Servers that share `secret` and `origin` know each other's tokens. The secret is drawn from a cryptographic source by
    /// the caller. A token is fresh for `lifetime`, rounded up to half minutes.
    pub fn new(secret: [u8; 32], origin: Instant, lifetime: Duration) -> Self {
        let lifetime = lifetime.as_secs().div_ceil(TICK.as_secs());
        let lifetime = u32::try_from(lifetime).unwrap_or(u32::MAX >> 9);
        Self { secret: Key::short_term(&secret), origin, lifetime }
    }

    /// When time began for these tokens.
    pub(super) fn origin(&self) -> Instant {
        self.origin
    }

    /// A token for `address`.
    pub(super) fn token(&self, address: SocketAddr, now: Instant) -> [u8; TOKEN_LENGTH] {
        self.of_tick(address, self.tick(now))
    }

    /// Whether `token` was made for `address` and is fresh.
    pub(super) fn knows(&self, token: &[u8], address: SocketAddr, now: Instant) -> bool {
        let Some(digits) = token.first_chunk::<4>() else { return false };
        let mut tick = 0;
        for digit in digits {
            let Some(value) = BASE64.iter().position(|it| it == digit) else { return false };
            tick = tick << 6 | value as u32;
        }
        let age = self.tick(now).wrapping_sub(tick) & 0xFF_FFFF;
        // What is compared is public but for who can see the packets; a timing would tell nothing worth having.
        age <= self.lifetime && token == self.of_tick(address, tick)
    }

    fn tick(&self, now: Instant) -> u32 {
        let ticks = now.saturating_duration_since(self.origin).as_secs() / TICK.as_secs();
        (ticks & 0xFF_FFFF) as u32
    }

    fn of_tick(&self, address: SocketAddr, tick: u32) -> [u8; TOKEN_LENGTH] {
        let mac = self.secret.mac_of(&covered(address, tick));
        let value = u128::from(tick) << 48
            | mac[..6].iter().fold(0, |sum, byte| sum << 8 | u128::from(*byte));
        std::array::from_fn(|place| {
            BASE64[(value >> (6 * (TOKEN_LENGTH - 1 - place)) & 63) as usize]
        })
    }
}

/// What the MAC covers: the tick, the port and the IP in its IPv6 form.
fn covered(address: SocketAddr, tick: u32) -> [u8; 22] {
    let mut covered = [0; 22];
    let ip = match address.ip().to_canonical() {
        std::net::IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        std::net::IpAddr::V6(ip) => ip,
    };
    covered[..4].copy_from_slice(&tick.to_be_bytes());
    covered[4..6].copy_from_slice(&address.port().to_be_bytes());
    covered[6..].copy_from_slice(&ip.octets());
    covered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().expect(text)
    }

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
    fn mint() -> (Mint, Instant) {
        let origin = Instant::now();
        (Mint::new([7; 32], origin, Duration::from_secs(600)), origin)
    }

    #[test]
    fn a_token_is_known_by_its_address_for_its_lifetime() {
        let (mint, origin) = mint();
        for client in [at("192.0.2.1:1000"), at("[2001:db8::1]:1000")] {
            let start = origin + Duration::from_secs(12_345);
            let token = mint.token(client, start);
            assert!(token.iter().all(|it| BASE64.contains(it)));
            for (later, is_fresh) in
                [(0, true), (29, true), (600, true), (660, false), (86_400, false)]
            {
                let now = start + Duration::from_secs(later);
                assert_eq!(mint.knows(&token, client, now), is_fresh, "{later} s later");
            }
            let elsewhere = [at("192.0.2.2:1000"), at("192.0.2.1:1001"), at("[2001:db8::2]:1000")];
            assert!(elsewhere.iter().all(|it| !mint.knows(&token, *it, start)));
            let other = Mint::new([8; 32], origin, Duration::from_secs(600));
            assert!(!other.knows(&token, client, start), "another secret");
        }
    }

    #[test]
    fn a_token_from_the_future_or_with_any_change_is_unknown() {
        let (mint, origin) = mint();
        let client = at("192.0.2.1:1000");
        let token = mint.token(client, origin + Duration::from_secs(90));
        assert!(!mint.knows(&token, client, origin));
        let now = origin + Duration::from_secs(90);
        for place in 0..TOKEN_LENGTH {
            for digit in BASE64.iter().chain(b"-\0\xFF") {
                let mut forged = token;
                forged[place] = *digit;
                assert_eq!(mint.knows(&forged, client, now), forged == token);
            }
        }
        for length in 0..TOKEN_LENGTH {
            assert!(!mint.knows(&token[..length], client, now));
        }
        assert!(!mint.knows(&[&token[..], b"A"].concat(), client, now));
    }
}
