//! Who this node is: one key that signs on QUIC paths and shakes hands everywhere else.
//!
//! It is an Ed25519 key (RFC 8032). On QUIC paths it is shown as a raw public key (RFC 7250) and
//! signs the TLS handshake; the same key on the other form of the curve (RFC 7748 section 4.1) is the
//! X25519 key of the Noise handshakes with brokers and on TCP paths. A peer that knows the one knows the
//! other, so that whoever pins a peer's key has pinned both kinds of path.

use ntcp_proto::secrecy::{PublicKey, SecretKey};
use ntcp_proto::signal::Fingerprint;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha512};
use std::sync::Arc;

use crate::error::{Error, ErrorKind};

/// An Ed25519 private key in PKCS #8 without the public half (RFC 8410 section 7): these bytes, then 32
/// of its own.
const PKCS8: [u8; 16] = [0x30, 0x2E, 2, 1, 0, 0x30, 5, 6, 3, 0x2B, 0x65, 0x70, 4, 0x22, 4, 0x20];
/// An Ed25519 SubjectPublicKeyInfo (RFC 8410 section 4): these bytes, then the 32 of the key.
const SPKI: [u8; 12] = [0x30, 0x2A, 0x30, 5, 6, 3, 0x2B, 0x65, 0x70, 3, 0x21, 0];

/// A node's key.
pub(crate) struct Identity {
    signer: Arc<CertifiedKey>,
    secret: SecretKey,
    /// What it shows as its certificate.
    pub(crate) fingerprint: Fingerprint,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("public", &self.secret.public()).finish_non_exhaustive()
    }
}

impl Identity {
    /// A fresh one.
    pub(crate) fn generate() -> Result<Self, Error> {
        Self::from_seed(crate::node::seed()?.0)
    }

    /// The one with this private key.
    pub(crate) fn from_seed(seed: [u8; 32]) -> Result<Self, Error> {
        let failed = |error: rustls::Error| ErrorKind::System {
            what: "cannot make the key of this node",
            source: std::io::Error::other(error),
        };
        let pkcs8 = PrivateKeyDer::from(PrivatePkcs8KeyDer::from([&PKCS8[..], &seed].concat()));
        let signer = rustls::crypto::ring::sign::any_eddsa_type(match &pkcs8 {
            PrivateKeyDer::Pkcs8(pkcs8) => pkcs8,
            _ => unreachable!("it was made as PKCS #8"),
        })
        .map_err(failed)?;
        let Some(shown) = signer.public_key() else {
            return Err(failed(rustls::Error::General("no public half".into())).into());
        };
        let certificate = CertificateDer::from(shown.as_ref().to_vec());
        let Some(fingerprint) = fingerprint(&certificate) else {
            return Err(failed(rustls::Error::General("an unusual public half".into())).into());
        };
        // The scalar of the signing key (RFC 8032 section 5.1.5); X25519 clamps it alike.
        let scalar = Sha512::digest(seed);
        let scalar = scalar.first_chunk().copied().unwrap_or_default();
        let secret = SecretKey::from_bytes(scalar);
        let signer = Arc::new(CertifiedKey::new(vec![certificate], signer));
        Ok(Self { signer, secret, fingerprint })
    }

    /// What shakes hands.
    pub(crate) fn secret(&self) -> &SecretKey {
        &self.secret
    }

    /// What others may pin.
    pub(crate) fn public(&self) -> PublicKey {
        self.secret.public()
    }

    /// What signs.
    pub(crate) fn signer(&self) -> Arc<CertifiedKey> {
        self.signer.clone()
    }
}

/// The key in what a peer shows as its certificate; `None` if it is no raw Ed25519 key.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> Option<Fingerprint> {
    let key = certificate.as_ref().strip_prefix(&SPKI)?;
    key.try_into().ok().map(Fingerprint)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032 section 7.1, test 1.
    #[test]
    fn what_signs_and_what_shakes_hands_is_one_key() {
        let seed = [
            0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec,
            0x2c, 0xc4, 0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03,
            0x1c, 0xae, 0x7f, 0x60,
        ];
        let identity = Identity::from_seed(seed).unwrap();
        assert_eq!(identity.fingerprint.0[..4], [0xd7, 0x5a, 0x98, 0x01]);
        assert_eq!(identity.fingerprint.identity(), Some(identity.public()));
    }

    #[test]
    fn every_fresh_identity_is_another_one_and_shows_no_secret() {
        let (one, other) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        assert_ne!(one.public(), other.public());
        assert_eq!(one.fingerprint.identity(), Some(one.public()));
        assert!(!format!("{one:?}").contains(&format!("{:?}", one.secret.as_bytes())));
    }

    #[test]
    fn what_is_no_raw_ed25519_key_has_no_fingerprint() {
        for bytes in [&[][..], &SPKI, &[0x30; 44], &[&SPKI[..], &[1; 33]].concat()] {
            assert_eq!(fingerprint(&CertificateDer::from(bytes.to_vec())), None);
        }
    }
}
