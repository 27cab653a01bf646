//! The certificate a node shows on QUIC paths.
//!
//! It is made anew for each node and signed by itself. Peers trust it because its fingerprint came
//! to them through the broker, not because of anything written in it.

use ntcp_proto::signal::Fingerprint;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind};

/// A key, its certificate, and the certificate's fingerprint.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
    pub(crate) fingerprint: Fingerprint,
}

impl Identity {
    /// A fresh one.
    pub(crate) fn generate() -> Result<Self, Error> {
        let failed = |error: rcgen::Error| ErrorKind::System {
            what: "cannot make a certificate",
            source: std::io::Error::other(error),
        };
        let made = rcgen::generate_simple_self_signed(["ntcp".to_owned()]).map_err(failed)?;
        let certificate = made.cert.der().clone();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let fingerprint = fingerprint(&certificate);
        Ok(Self { certificate, key, fingerprint })
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key().into()
    }
}

/// The SHA-256 of a certificate.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> Fingerprint {
    Fingerprint(Sha256::digest(certificate).into())
}
