//! The nonce cookie: features of a server that an attacker in between cannot hide (RFC 8489, section 9.2).
//!
//! A NONCE that begins with `obMatJos2` and four characters of base64 announces a set of security features. The
//! nonce is repeated in the request under its integrity, so taking features away from it makes the request fail.
//!
//! ```text
//! obMatJos2 gAAA rest-of-the-nonce
//! └ cookie  └ 24 bits of features
//! ```

/// What such a nonce begins with.
const COOKIE: &[u8; 9] = b"obMatJos2";
/// The digits of base64, by value (RFC 4648, section 4).
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Length of the cookie and the features together.
pub const NONCE_COOKIE_LENGTH: usize = 13;

/// A set of security features (RFC 8489, section 18.1). Bits are counted from the most significant of 24.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SecurityFeatures(u32);

impl SecurityFeatures {
    /// No feature.
    pub const NONE: Self = Self(0);
    /// Bit 0: the server sends PASSWORD-ALGORITHMS, so a client must not do without.
    pub const PASSWORD_ALGORITHMS: Self = Self(1 << 23);
    /// Bit 1: the server takes USERHASH.
    pub const USERNAME_ANONYMITY: Self = Self(1 << 22);

    /// Both sets together.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// What a nonce that announces these features begins with.
    pub fn nonce_prefix(self) -> [u8; NONCE_COOKIE_LENGTH] {
        let mut prefix = [0; NONCE_COOKIE_LENGTH];
        prefix[..COOKIE.len()].copy_from_slice(COOKIE);
        for (place, shift) in prefix[COOKIE.len()..].iter_mut().zip([18, 12, 6, 0]) {
            *place = BASE64[(self.0 >> shift) as usize & 63];
        }
        prefix
    }

    /// The features that a nonce announces, or `None` if it does not begin with a cookie.
    ///
    /// The example of RFC 8489, appendix B.1 counts bits from the other end (`AAAC` for USERHASH); both ways are
    /// read, the registered one is written.
    pub fn of_nonce(nonce: &[u8]) -> Option<Self> {
        let digits = nonce.strip_prefix(COOKIE)?.first_chunk::<4>()?;
        let mut bits = 0;
        for digit in digits {
            bits = bits << 6 | BASE64.iter().position(|it| it == digit)? as u32;
        }
        Some(Self(bits | (bits & 1) << 23 | (bits & 2) << 21))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: SecurityFeatures =
        SecurityFeatures::PASSWORD_ALGORITHMS.with(SecurityFeatures::USERNAME_ANONYMITY);

    #[test]
    fn features_are_written_from_the_most_significant_bit_on() {
        assert_eq!(&SecurityFeatures::NONE.nonce_prefix(), b"obMatJos2AAAA");
        assert_eq!(&SecurityFeatures::PASSWORD_ALGORITHMS.nonce_prefix(), b"obMatJos2gAAA");
        assert_eq!(&SecurityFeatures::USERNAME_ANONYMITY.nonce_prefix(), b"obMatJos2QAAA");
        assert_eq!(&BOTH.nonce_prefix(), b"obMatJos2wAAA");
    }

    #[test]
    fn what_is_written_is_read() {
        for features in [
            SecurityFeatures::NONE,
            SecurityFeatures::PASSWORD_ALGORITHMS,
            SecurityFeatures::USERNAME_ANONYMITY,
            BOTH,
        ] {
            let mut nonce = features.nonce_prefix().to_vec();
            assert_eq!(SecurityFeatures::of_nonce(&nonce), Some(features));
            nonce.extend(b"anything");
            assert_eq!(SecurityFeatures::of_nonce(&nonce), Some(features));
        }
    }

    #[test]
    fn the_nonce_of_appendix_b_announces_username_anonymity() {
        let nonce = b"obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA";
        let features = SecurityFeatures::of_nonce(nonce).expect("a cookie");
        assert!(features.contains(SecurityFeatures::USERNAME_ANONYMITY));
        assert!(!features.contains(SecurityFeatures::PASSWORD_ALGORITHMS));
    }

    #[test]
    fn other_nonces_announce_nothing() {
        for nonce in [&b""[..], b"obMatJos2", b"obMatJos2gAA", b"obMatJos2gA-A", b"f//499k954d6"] {
            assert_eq!(SecurityFeatures::of_nonce(nonce), None);
        }
    }
}
