//! The seeded generator every machine draws from.
//!
//! A machine never draws entropy itself: whoever builds it passes a [`Seed`], from the operating
//! system in production and from a number in the lab. ChaCha20 keeps what is drawn unpredictable to
//! others (transaction ids, nonces, secrets), and equal seeds give equal runs.

use std::time::Duration;

use ntcp_stun::TransactionId;
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};

/// 32 bytes that decide all randomness of one machine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub [u8; 32]);

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(…)")
    }
}

impl Seed {
    /// The seed of run number `number`, for tests and the lab.
    pub fn from_number(number: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        Self(bytes)
    }
}

/// The generator.
#[derive(Debug, Clone)]
pub struct Entropy(ChaCha20Rng);

impl Entropy {
    /// A generator that yields the sequence of `seed`.
    pub fn new(seed: Seed) -> Self {
        Self(ChaCha20Rng::from_seed(seed.0))
    }

    /// `N` random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// Fills `bytes` with random ones.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    /// 64 random bits.
    pub fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The bias of a 64-bit remainder is far below anything a jitter or a port choice can show.
        self.number() % bound.max(1)
    }

    /// A duration in `0..=most`.
    pub fn jitter(&mut self, most: Duration) -> Duration {
        let nanos = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX - 1);
        Duration::from_nanos(self.below(nanos + 1))
    }

    /// A fresh STUN transaction id (RFC 8489 section 5: 96 bits, unpredictable).
    pub fn transaction_id(&mut self) -> TransactionId {
        TransactionId::new(self.bytes())
    }

    /// A seed for a part of this machine.
    pub fn seed(&mut self) -> Seed {
        Seed(self.bytes())
    }
}
