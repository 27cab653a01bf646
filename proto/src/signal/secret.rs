//! Names and secrets of fixed length.

use std::fmt;

use crate::secrecy::PublicKey;

/// Writes bytes as lower-case hexadecimal digits.
fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// Defines a public value of fixed length, shown in hexadecimal.
macro_rules! public_bytes {
    ($(#[$doc:meta])* $name:ident, $length:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $length]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

/// Defines a secret of fixed length, never shown.
macro_rules! secret_bytes {
    ($(#[$doc:meta])* $name:ident, $length:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub struct $name(pub [u8; $length]);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    };
}

public_bytes! {
    /// The Ed25519 public key that a peer shows as its certificate (RFC 7250, RFC 8410), by which the
    /// other end recognises it.
    Fingerprint, 32
}

public_bytes! {
    /// Names one meeting of two peers; drawn by the broker.
    SessionId, 16
}

public_bytes! {
    /// Names one registration at a broker; drawn by the broker, never reused.
    RegistrationId, 8
}

secret_bytes! {
    /// What only the two peers of a session and their broker know: it authenticates their checks.
    SessionSecret, 32
}

secret_bytes! {
    /// What only a registered peer and its broker know: the key of MESSAGE-INTEGRITY-SHA256.
    RegistrationKey, 32
}

impl Fingerprint {
    /// The key that its owner shakes hands with; `None` if it can be nobody's.
    pub fn identity(&self) -> Option<PublicKey> {
        PublicKey::of_signer(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        assert_eq!(format!("{:?}", SessionSecret([0xAB; 32])), "SessionSecret(…)");
        assert_eq!(format!("{:?}", RegistrationKey([0xAB; 32])), "RegistrationKey(…)");
    }

    #[test]
    fn a_public_value_is_shown_in_hexadecimal() {
        assert_eq!(
            format!("{:?}", RegistrationId([0xAB, 1, 2, 3, 4, 5, 6, 7])),
            "RegistrationId(ab01020304050607)"
        );
    }
}
