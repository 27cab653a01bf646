//! The nonce that proves a return path, without keeping anything.
//!
//! ```text
//!  8 hexadecimal digits   32 hexadecimal digits
//! ┌──────────────────────┬─────────────────────────────────────────────────────┐
//! │ seconds since start  │ HMAC-SHA256(key, seconds, address, port), 16 bytes  │
//! └──────────────────────┴─────────────────────────────────────────────────────┘
//! ```
//!
//! Whoever shows it has received it at that address within the last minute. One for a stream is good on that
//! stream only, whose number is in the MAC too. The key lives as long
//! as the broker does.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::{Link, StreamId};
use crate::signal::message::Nonce;

/// How long a nonce proves something. It is asked for right before it is used; a minute leaves room
/// for a name conflict, and little for a thief.
pub(super) const LIFE: Duration = Duration::from_secs(60);
/// Bytes of the MAC that are shown: 128 bits, as in a truncated MESSAGE-INTEGRITY-SHA256 (RFC 8489
/// section 14.6).
const SHOWN: usize = 16;
/// Length of the nonce in characters.
const LENGTH: usize = 8 + 2 * SHOWN;

/// Where a nonce is good.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    remote: SocketAddr,
    stream: Option<StreamId>,
}

impl From<SocketAddr> for Place {
    fn from(remote: SocketAddr) -> Self {
        Self { remote, stream: None }
    }
}

impl From<Link> for Place {
    fn from(link: Link) -> Self {
        match link {
            // Nothing is ever proved over letters.
            Link::Udp { remote, .. } | Link::Broker { remote, .. } => remote.into(),
            Link::Tcp { stream, remote } => Self { remote, stream: Some(stream) },
        }
    }
}

/// Makes and checks nonces.
#[derive(Debug)]
pub(super) struct Cookies {
    mac: Hmac<Sha256>,
    start: Instant,
}

impl Cookies {
    pub(super) fn new(key: [u8; 32], start: Instant) -> Self {
        match Hmac::new_from_slice(&key) {
            Ok(mac) => Self { mac, start },
            Err(_) => unreachable!("HMAC takes keys of any length (RFC 2104 section 2)"),
        }
    }

    /// A nonce for `place`.
    pub(super) fn bake(&self, place: impl Into<Place>, now: Instant) -> Nonce {
        let seconds = self.seconds(now);
        let mac = self.mac(seconds, place.into()).finalize().into_bytes();
        let mut text = [0; LENGTH];
        write_hex(&seconds.to_be_bytes(), &mut text[..8]);
        write_hex(&mac[..SHOWN], &mut text[8..]);
        match Nonce::new(&text) {
            Some(nonce) => nonce,
            None => unreachable!("{LENGTH} bytes are a nonce"),
        }
    }

    /// Whether `nonce` was made here for `place`, not too long ago.
    pub(super) fn is_ours(&self, nonce: &Nonce, place: impl Into<Place>, now: Instant) -> bool {
        let Some(bytes) = read_hex::<{ LENGTH / 2 }>(nonce.as_bytes()) else { return false };
        let Some((seconds, shown)) = bytes.split_first_chunk::<4>() else { return false };
        let seconds = u32::from_be_bytes(*seconds);
        let age = self.seconds(now).checked_sub(seconds);
        age.is_some_and(|age| u64::from(age) <= LIFE.as_secs())
            && self.mac(seconds, place.into()).verify_truncated_left(shown).is_ok()
    }

    fn seconds(&self, now: Instant) -> u32 {
        // 136 years of running are enough.
        u32::try_from(now.saturating_duration_since(self.start).as_secs()).unwrap_or(u32::MAX)
    }

    fn mac(&self, seconds: u32, Place { remote, stream }: Place) -> Hmac<Sha256> {
        let ip = match remote.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let mac = self
            .mac
            .clone()
            .chain_update(seconds.to_be_bytes())
            .chain_update(ip.octets())
            .chain_update(remote.port().to_be_bytes());
        match stream {
            None => mac,
            Some(StreamId(stream)) => mac.chain_update(stream.to_be_bytes()),
        }
    }
}

fn write_hex(bytes: &[u8], text: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(text.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 0x0F)];
    }
}

/// `N` bytes from exactly `2 N` lower-case digits.
fn read_hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |character: u8| match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::any_instant;

    #[test]
    fn a_nonce_of_a_stream_proves_nothing_on_another_one_nor_over_udp() {
        let start = any_instant();
        let cookies = Cookies::new([7; 32], start);
        let on = |stream| Link::Tcp { stream: StreamId(stream), remote: remote(1) };
        let nonce = cookies.bake(on(1), start);
        assert!(cookies.is_ours(&nonce, on(1), start));
        assert!(!cookies.is_ours(&nonce, on(2), start));
        assert!(!cookies.is_ours(&nonce, remote(1), start));
        assert!(!cookies.is_ours(&cookies.bake(remote(1), start), on(1), start));
    }

    fn remote(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn a_nonce_proves_its_own_address_for_a_minute() {
        let start = any_instant();
        let cookies = Cookies::new([7; 32], start);
        let at = |seconds| start + Duration::from_secs(seconds);
        let nonce = cookies.bake(remote(1000), at(10));
        assert!(cookies.is_ours(&nonce, remote(1000), at(10)));
        assert!(cookies.is_ours(&nonce, remote(1000), at(70)));
        assert!(!cookies.is_ours(&nonce, remote(1000), at(71)));
        assert!(!cookies.is_ours(&nonce, remote(1001), at(10)));
        assert!(!cookies.is_ours(
            &nonce,
            SocketAddr::from(([0x2001_u16, 0xdb8, 0, 0, 0, 0, 0, 1], 1000)),
            at(10)
        ));
    }

    #[test]
    fn a_nonce_from_the_future_or_of_another_broker_proves_nothing() {
        let start = any_instant();
        let cookies = Cookies::new([7; 32], start);
        let later = cookies.bake(remote(1), start + Duration::from_secs(5));
        assert!(!cookies.is_ours(&later, remote(1), start));
        let others = Cookies::new([8; 32], start).bake(remote(1), start);
        assert!(!cookies.is_ours(&others, remote(1), start));
    }

    #[test]
    fn no_changed_byte_of_a_nonce_is_taken() {
        let start = any_instant();
        let cookies = Cookies::new([7; 32], start);
        let nonce = cookies.bake(remote(1), start);
        for place in 0..nonce.as_bytes().len() {
            for byte in 0..=255u8 {
                let mut bytes = nonce.as_bytes().to_vec();
                bytes[place] = byte;
                let changed = Nonce::new(&bytes).unwrap();
                assert_eq!(cookies.is_ours(&changed, remote(1), start), changed == nonce);
            }
        }
        assert!(!cookies.is_ours(&Nonce::new(b"x").unwrap(), remote(1), start));
        assert!(!cookies.is_ours(&Nonce::new(&nonce.as_bytes()[..39]).unwrap(), remote(1), start));
    }
}
