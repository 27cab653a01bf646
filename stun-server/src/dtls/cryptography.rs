//! The cryptography that `dimpl` asks for, from ring, which the whole project uses: no second one comes with DTLS.
//!
//! `dimpl` tries all of it with known answers whenever a configuration is built. DTLS 1.3 is not spoken here, but a provider
//! must have a suite for it.
//!
//! One thing is not as `dimpl` has it: what it takes for the cookie of a hello ([`with_cookie`]). Its own cookie has a
//! secret of each connection, so a connection would be needed to make one, and a flood of hellos would fill the memory.

use dimpl::crypto::{
    Aad, ActiveKeyExchange, Buf, Cipher, CryptoProvider, Dtls12CipherSuite, Dtls13CipherSuite,
    HashAlgorithm, HashContext, HashProvider, HmacProvider, KeyProvider, NamedGroup, Nonce,
    SecureRandom, SignatureAlgorithm, SignatureVerifier, SigningKey, SupportedDtls12CipherSuite,
    SupportedDtls13CipherSuite, SupportedKxGroup, TmpBuf,
};
use dimpl::{CryptoError, CryptoOperation};
use ring::aead::quic::{CHACHA20, HeaderProtectionKey};
use ring::aead::{self, LessSafeKey, UnboundKey};
use ring::agreement::{self, EphemeralPrivateKey, UnparsedPublicKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::{digest, hmac};
use rustls::SignatureScheme;
use rustls::crypto::ring::sign::any_ecdsa_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, SignatureVerificationAlgorithm};
use std::cell::Cell;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use webpki::EndEntityCert;
use webpki::ring::{ECDSA_P256_SHA256, ECDSA_P256_SHA384, ECDSA_P384_SHA256, ECDSA_P384_SHA384};

/// Length of a cookie.
pub(crate) const COOKIE: usize = 32;

thread_local! {
    /// What HMAC-SHA256 is while a hello is let in.
    static ADMITTED: Cell<Option<[u8; COOKIE]>> = const { Cell::new(None) };
}

/// Does `work`, in which `dimpl` takes this cookie for its own.
pub(crate) fn with_cookie<T>(cookie: [u8; COOKIE], work: impl FnOnce() -> T) -> T {
    /// Forgets the cookie, even if `work` panics.
    struct Forget;
    impl Drop for Forget {
        fn drop(&mut self) {
            ADMITTED.set(None);
        }
    }
    let _forget = Forget;
    ADMITTED.set(Some(cookie));
    work()
}

/// All of it.
pub(crate) fn provider() -> CryptoProvider {
    CryptoProvider {
        kx_groups: GROUPS,
        signature_verification: &Ring,
        key_provider: &Ring,
        secure_random: &Ring,
        hash_provider: &Ring,
        hmac_provider: &Ring,
        cipher_suites: SUITES,
        dtls13_cipher_suites: &[&LATER],
    }
}

/// What needs no more than a name.
#[derive(Debug)]
struct Ring;

/// The suites of DTLS 1.2, best first. Those with AES have four bytes of the nonce from the handshake and eight in each record.
const SUITES: &[&dyn SupportedDtls12CipherSuite] = &[
    &Suite {
        name: Dtls12CipherSuite::ECDHE_ECDSA_AES128_GCM_SHA256,
        hash: HashAlgorithm::SHA256,
        aead: &aead::AES_128_GCM,
        nonce: (4, 8),
    },
    &Suite {
        name: Dtls12CipherSuite::ECDHE_ECDSA_AES256_GCM_SHA384,
        hash: HashAlgorithm::SHA384,
        aead: &aead::AES_256_GCM,
        nonce: (4, 8),
    },
    &Suite {
        name: Dtls12CipherSuite::ECDHE_ECDSA_CHACHA20_POLY1305_SHA256,
        hash: HashAlgorithm::SHA256,
        aead: &aead::CHACHA20_POLY1305,
        nonce: (12, 0),
    },
];

const LATER: Later = Later;

const GROUPS: &[&dyn SupportedKxGroup] = &[
    &Group { name: NamedGroup::X25519, algorithm: &agreement::X25519 },
    &Group { name: NamedGroup::Secp256r1, algorithm: &agreement::ECDH_P256 },
    &Group { name: NamedGroup::Secp384r1, algorithm: &agreement::ECDH_P384 },
];

/// A suite of DTLS 1.2.
#[derive(Debug)]
struct Suite {
    name: Dtls12CipherSuite,
    hash: HashAlgorithm,
    aead: &'static aead::Algorithm,
    /// Bytes of the nonce from the handshake, and in each record.
    nonce: (usize, usize),
}

impl SupportedDtls12CipherSuite for Suite {
    fn suite(&self) -> Dtls12CipherSuite {
        self.name
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        self.hash
    }

    fn key_lengths(&self) -> (usize, usize, usize) {
        (0, self.aead.key_len(), self.nonce.0)
    }

    fn explicit_nonce_len(&self) -> usize {
        self.nonce.1
    }

    fn tag_len(&self) -> usize {
        self.aead.tag_len()
    }

    fn create_cipher(&self, key: &[u8]) -> Result<Box<dyn Cipher>, CryptoError> {
        Sealing::boxed(self.aead, key)
    }
}

/// The suite of DTLS 1.3.
#[derive(Debug)]
struct Later;

impl SupportedDtls13CipherSuite for Later {
    fn suite(&self) -> Dtls13CipherSuite {
        Dtls13CipherSuite::CHACHA20_POLY1305_SHA256
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        HashAlgorithm::SHA256
    }

    fn key_len(&self) -> usize {
        aead::CHACHA20_POLY1305.key_len()
    }

    fn iv_len(&self) -> usize {
        aead::NONCE_LEN
    }

    fn tag_len(&self) -> usize {
        aead::CHACHA20_POLY1305.tag_len()
    }

    fn create_cipher(&self, key: &[u8]) -> Result<Box<dyn Cipher>, CryptoError> {
        Sealing::boxed(&aead::CHACHA20_POLY1305, key)
    }

    fn encrypt_sn(&self, key: &[u8], sample: &[u8; 16]) -> [u8; 16] {
        let mut mask = [0; 16];
        // A record number has two bytes at most. A key of another length has no mask, and what it is for is not read.
        let key = HeaderProtectionKey::new(&CHACHA20, key);
        if let Ok(short) = key.and_then(|it| it.new_mask(sample)) {
            mask[..short.len()].copy_from_slice(&short);
        }
        mask
    }
}

/// A key that seals and opens records.
#[derive(Debug)]
struct Sealing(LessSafeKey);

impl Sealing {
    fn boxed(aead: &'static aead::Algorithm, key: &[u8]) -> Result<Box<dyn Cipher>, CryptoError> {
        let key = UnboundKey::new(aead, key).map_err(failed(CryptoOperation::CreateCipher))?;
        Ok(Box::new(Self(LessSafeKey::new(key))))
    }
}

impl Cipher for Sealing {
    fn encrypt(&mut self, text: &mut Buf, aad: Aad, nonce: Nonce) -> Result<(), CryptoError> {
        let nonce = aead::Nonce::assume_unique_for_key(nonce.0);
        let sealed = self.0.seal_in_place_append_tag(nonce, aead::Aad::from(&aad[..]), text);
        sealed.map_err(failed(CryptoOperation::Encrypt))
    }

    fn decrypt(&mut self, text: &mut TmpBuf, aad: Aad, nonce: Nonce) -> Result<(), CryptoError> {
        let nonce = aead::Nonce::assume_unique_for_key(nonce.0);
        let opened = self.0.open_in_place(nonce, aead::Aad::from(&aad[..]), text.as_mut());
        let length = opened.map_err(failed(CryptoOperation::Decrypt))?.len();
        text.truncate(length);
        Ok(())
    }
}

/// A group for ephemeral keys.
#[derive(Debug)]
struct Group {
    name: NamedGroup,
    algorithm: &'static agreement::Algorithm,
}

impl SupportedKxGroup for Group {
    fn name(&self) -> NamedGroup {
        self.name
    }

    fn start_exchange(&self, mut public: Buf) -> Result<Box<dyn ActiveKeyExchange>, CryptoError> {
        let private = EphemeralPrivateKey::generate(self.algorithm, &SystemRandom::new());
        let private = private.map_err(failed(CryptoOperation::GenerateEphemeralKey))?;
        let key = private.compute_public_key();
        let key = key.map_err(failed(CryptoOperation::ComputePublicKey))?;
        public.clear();
        public.extend_from_slice(key.as_ref());
        Ok(Box::new(Exchange { name: self.name, private, public }))
    }
}

/// An ephemeral key.
#[derive(Debug)]
struct Exchange {
    name: NamedGroup,
    private: EphemeralPrivateKey,
    public: Buf,
}

impl ActiveKeyExchange for Exchange {
    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn complete(self: Box<Self>, peer: &[u8], out: &mut Buf) -> Result<(), CryptoError> {
        let Self { name, private, .. } = *self;
        let peer = UnparsedPublicKey::new(private.algorithm(), peer);
        out.clear();
        let agreed = agreement::agree_ephemeral(private, &peer, |it| out.extend_from_slice(it));
        agreed.map_err(|_| CryptoError::InvalidPublicKey(name))
    }

    fn group(&self) -> NamedGroup {
        self.name
    }
}

impl HashProvider for Ring {
    fn create_hash(&self, algorithm: HashAlgorithm) -> Box<dyn HashContext> {
        // The suites above have no other.
        let algorithm = match algorithm {
            HashAlgorithm::SHA384 => &digest::SHA384,
            _ => &digest::SHA256,
        };
        Box::new(Hashing(digest::Context::new(algorithm)))
    }
}

/// What has been said in a handshake.
struct Hashing(digest::Context);

impl fmt::Debug for Hashing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hashing")
    }
}

impl HashContext for Hashing {
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn clone_and_finalize(&self, out: &mut Buf) {
        out.clear();
        out.extend_from_slice(self.0.clone().finish().as_ref());
    }
}

impl HmacProvider for Ring {
    /// `dimpl` has this for cookies alone.
    fn hmac_sha256(&self, key: &[u8], data: &[u8]) -> Result<[u8; COOKIE], CryptoError> {
        if let Some(cookie) = ADMITTED.get() {
            return Ok(cookie);
        }
        let mut out = [0; COOKIE];
        self.hmac(HashAlgorithm::SHA256, key, data, &mut out)?;
        Ok(out)
    }

    fn hmac(
        &self,
        hash: HashAlgorithm,
        key: &[u8],
        data: &[u8],
        out: &mut [u8],
    ) -> Result<usize, CryptoError> {
        let algorithm = match hash {
            HashAlgorithm::SHA256 => hmac::HMAC_SHA256,
            HashAlgorithm::SHA384 => hmac::HMAC_SHA384,
            _ => return Err(CryptoError::UnsupportedHmacHash(hash)),
        };
        let tag = hmac::sign(&hmac::Key::new(algorithm, key), data);
        let (tag, failure) = (tag.as_ref(), CryptoOperation::ComputeHmac);
        let room = out.get_mut(..tag.len()).ok_or(CryptoError::OperationFailed(failure))?;
        room.copy_from_slice(tag);
        Ok(tag.len())
    }
}

impl SecureRandom for Ring {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), CryptoError> {
        SystemRandom::new().fill(buffer).map_err(failed(CryptoOperation::FillRandom))
    }
}

impl KeyProvider for Ring {
    fn load_private_key(&self, key: &[u8]) -> Result<Box<dyn SigningKey>, CryptoError> {
        let key = PrivateKeyDer::try_from(key).map_err(|_| CryptoError::InvalidPrivateKey)?;
        let key = any_ecdsa_type(&key).map_err(|_| CryptoError::InvalidPrivateKey)?;
        for (scheme, hash) in [
            (SignatureScheme::ECDSA_NISTP256_SHA256, [HashAlgorithm::SHA256]),
            (SignatureScheme::ECDSA_NISTP384_SHA384, [HashAlgorithm::SHA384]),
        ] {
            if key.choose_scheme(&[scheme]).is_some() {
                return Ok(Box::new(Signing { key: AssertUnwindSafe(key), scheme, hash }));
            }
        }
        Err(CryptoError::InvalidPrivateKey)
    }
}

/// The key of the certificate.
struct Signing {
    /// It has no state.
    key: AssertUnwindSafe<Arc<dyn rustls::sign::SigningKey>>,
    scheme: SignatureScheme,
    hash: [HashAlgorithm; 1],
}

impl fmt::Debug for Signing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signing({:?})", self.scheme)
    }
}

impl SigningKey for Signing {
    fn sign(&mut self, data: &[u8], hash: HashAlgorithm, out: &mut Buf) -> Result<(), CryptoError> {
        let signer = self.key.choose_scheme(&[self.scheme]).filter(|_| self.hash == [hash]);
        let failure = CryptoError::OperationFailed(CryptoOperation::Sign);
        let signature = signer.and_then(|it| it.sign(data).ok()).ok_or(failure)?;
        out.clear();
        out.extend_from_slice(&signature);
        Ok(())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        self.hash[0]
    }

    fn supported_hash_algorithms(&self) -> &[HashAlgorithm] {
        &self.hash
    }
}

impl SignatureVerifier for Ring {
    fn verify_signature(
        &self,
        certificate: &[u8],
        data: &[u8],
        signature: &[u8],
        hash: HashAlgorithm,
        algorithm: SignatureAlgorithm,
    ) -> Result<(), CryptoError> {
        let algorithms: [&dyn SignatureVerificationAlgorithm; 2] = match (algorithm, hash) {
            (SignatureAlgorithm::ECDSA, HashAlgorithm::SHA256) => {
                [ECDSA_P256_SHA256, ECDSA_P384_SHA256]
            }
            (SignatureAlgorithm::ECDSA, HashAlgorithm::SHA384) => {
                [ECDSA_P256_SHA384, ECDSA_P384_SHA384]
            }
            _ => return Err(CryptoError::UnsupportedSignatureAlgorithm(algorithm)),
        };
        let certificate = CertificateDer::from(certificate);
        let certificate = EndEntityCert::try_from(&certificate);
        let certificate = certificate.map_err(|_| CryptoError::CertificateParseFailed)?;
        // Each is for one curve, and refuses keys on another.
        let verifies = |it: &&dyn SignatureVerificationAlgorithm| {
            certificate.verify_signature(*it, data, signature).is_ok()
        };
        let failure = CryptoError::OperationFailed(CryptoOperation::VerifySignature);
        algorithms.iter().any(verifies).then_some(()).ok_or(failure)
    }
}

fn failed<E>(operation: CryptoOperation) -> impl FnOnce(E) -> CryptoError {
    move |_| CryptoError::OperationFailed(operation)
}
