//! What two who have shaken hands seal for each other.
//!
//! Each direction has a key and counts its messages; the counter travels in the clear beside the
//! sealed message and is the nonce of its cipher, so that messages may be lost and overtake each
//! other. Every [`EPOCH`] messages a direction changes its key as section 11.3 of the Noise
//! specification says, and whoever steals a key cannot read what was sealed before. A receiver
//! follows by the counter; what is still on its way from the epoch before is lost, and repeated like
//! anything that gets lost.

use std::fmt;
use std::num::NonZeroU64;

use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};

/// Messages that are sealed with one key.
pub const EPOCH: u64 = 1024;
/// Bytes that sealing adds: the tag of Poly1305 (RFC 8439 section 2.8).
pub const OVERHEAD: usize = 16;
/// Messages behind the newest one that may still come in, each once.
const WINDOW: u64 = 128;
/// Epochs in a row of which no message may have arrived.
const LONGEST_SILENCE: u64 = 16;

/// A sealed message that is not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsealed {
    /// It has come before, or is so old that nobody can say.
    #[error("a message that came before, or too late")]
    Repeated,
    /// It was not sealed with the key of this channel, or was changed.
    #[error("a message that was not sealed for this channel, or was changed")]
    Broken,
}

/// One end of a channel.
///
/// The epoch of each key is that of the newest message of its direction.
#[derive(Clone)]
pub struct Channel {
    sealing: Key,
    opening: Key,
    /// One more than was sent.
    sending: NonZeroU64,
    window: Window,
}

#[derive(Clone)]
struct Key([u8; 32]);

/// Which counters have come.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    /// One more than the newest.
    next: u64,
    /// Bit *n*: the one `n` before the newest. In two halves, the lower one first: a number of 128 bits would be
    /// laid on a boundary of 16 bytes.
    seen: [u64; 2],
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("sending", &self.sending).finish_non_exhaustive()
    }
}

impl Channel {
    /// A channel that seals with the one key and opens with the other.
    pub(super) fn new(sealing: [u8; 32], opening: [u8; 32]) -> Self {
        Self {
            sealing: Key(sealing),
            opening: Key(opening),
            sending: NonZeroU64::MIN,
            window: Window::default(),
        }
    }

    /// Seals `message` in place, and tells its counter. Whoever opens it must name the same
    /// `context`.
    pub fn seal(&mut self, context: &[u8], message: &mut Vec<u8>) -> u64 {
        let counter = self.sending.get() - 1;
        self.sending = self.sending.saturating_add(1);
        self.sealing.advance(epoch_of(counter), counter / EPOCH);
        let sealed = self.sealing.cipher().encrypt_in_place(&nonce(counter), context, message);
        match sealed {
            Ok(()) => counter,
            Err(_) => unreachable!("a message is shorter than the 256 GiB that one nonce seals"),
        }
    }

    /// Opens a message, once.
    ///
    /// # Errors
    ///
    /// [`Unsealed`]; the channel is as before then.
    pub fn open(
        &mut self,
        counter: u64,
        context: &[u8],
        sealed: &[u8],
    ) -> Result<Vec<u8>, Unsealed> {
        let (epoch, reached) = (counter / EPOCH, epoch_of(self.window.next));
        if epoch < reached || !self.window.is_new(counter) {
            return Err(Unsealed::Repeated);
        }
        if epoch - reached > LONGEST_SILENCE || counter == u64::MAX {
            return Err(Unsealed::Broken);
        }
        let mut key = self.opening.clone();
        key.advance(reached, epoch);
        let mut message = sealed.to_vec();
        let opened = key.cipher().decrypt_in_place(&nonce(counter), context, &mut message);
        opened.map_err(|_| Unsealed::Broken)?;
        self.window.note(counter);
        self.opening = key;
        Ok(message)
    }
}

impl Key {
    fn cipher(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new(&self.0.into())
    }

    /// Becomes the key of a later epoch.
    fn advance(&mut self, from: u64, to: u64) {
        for _ in from..to {
            // REKEY (section 4.2): what the last nonce makes of 32 zeros.
            let mut bytes = [0; 32];
            let cipher = self.cipher();
            let Ok(_) = cipher.encrypt_in_place_detached(&nonce(u64::MAX), &[], &mut bytes) else {
                unreachable!("32 bytes can be sealed")
            };
            *self = Self(bytes);
        }
    }
}

/// The epoch of the last of so many messages.
fn epoch_of(messages: u64) -> u64 {
    messages.saturating_sub(1) / EPOCH
}

/// The nonce of ChaChaPoly in Noise (section 12.3): 32 bits of zeros and the counter.
fn nonce(counter: u64) -> chacha20poly1305::Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce.into()
}

impl Window {
    fn seen(self) -> u128 {
        u128::from(self.seen[0]) | u128::from(self.seen[1]) << 64
    }

    fn is_new(self, counter: u64) -> bool {
        if counter >= self.next {
            return true;
        }
        let behind = self.next - 1 - counter;
        behind < WINDOW && self.seen() >> behind & 1 == 0
    }

    fn note(&mut self, counter: u64) {
        let seen = if counter >= self.next {
            let ahead = counter + 1 - self.next;
            let shifted = u32::try_from(ahead).ok().and_then(|it| self.seen().checked_shl(it));
            self.next = counter + 1;
            shifted.unwrap_or(0) | 1
        } else {
            self.seen() | 1 << (self.next - counter - 1)
        };
        self.seen = [seen as u64, (seen >> 64) as u64];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Channel, Channel) {
        (Channel::new([1; 32], [2; 32]), Channel::new([2; 32], [1; 32]))
    }

    fn sealed(channel: &mut Channel, text: &[u8]) -> (u64, Vec<u8>) {
        let mut message = text.to_vec();
        (channel.seal(b"ctx", &mut message), message)
    }

    #[test]
    fn what_one_seals_only_the_other_opens_and_only_once() {
        let (mut one, mut other) = pair();
        let (counter, message) = sealed(&mut one, b"hello");
        assert_eq!(message.len(), 5 + OVERHEAD);
        assert_eq!(one.clone().open(counter, b"ctx", &message), Err(Unsealed::Broken));
        assert_eq!(other.open(counter, b"another", &message), Err(Unsealed::Broken));
        assert_eq!(other.open(counter, b"ctx", &message).as_deref(), Ok(&b"hello"[..]));
        assert_eq!(other.open(counter, b"ctx", &message), Err(Unsealed::Repeated));
    }

    #[test]
    fn no_changed_bit_and_no_shorter_message_is_opened() {
        let (mut one, mut other) = pair();
        let (counter, message) = sealed(&mut one, b"hello");
        for bit in 0..message.len() * 8 {
            let mut changed = message.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(other.open(counter, b"ctx", &changed), Err(Unsealed::Broken));
        }
        for length in 0..message.len() {
            assert_eq!(other.open(counter, b"ctx", &message[..length]), Err(Unsealed::Broken));
        }
        assert_eq!(other.open(counter + 1, b"ctx", &message), Err(Unsealed::Broken));
        assert!(other.open(counter, b"ctx", &message).is_ok(), "nothing was harmed by that");
    }

    #[test]
    fn messages_may_overtake_each_other_within_the_window() {
        let (mut one, mut other) = pair();
        let all: Vec<_> = (0..300).map(|_| sealed(&mut one, b"x")).collect();
        let mut open = |place: usize| other.open(all[place].0, b"ctx", &all[place].1).map(drop);
        assert_eq!(open(299), Ok(()));
        assert_eq!(open(299 - 127), Ok(()));
        assert_eq!(open(299 - 128), Err(Unsealed::Repeated));
        assert_eq!(open(250), Ok(()));
        assert_eq!(open(250), Err(Unsealed::Repeated));
        assert_eq!(open(0), Err(Unsealed::Repeated));
    }

    #[test]
    fn the_key_changes_with_the_epoch_and_the_receiver_follows() {
        let (mut one, mut other) = pair();
        let first = one.sealing.0;
        let all: Vec<_> = (0..3 * EPOCH).map(|_| sealed(&mut one, b"x")).collect();
        assert_ne!(one.sealing.0, first);
        // A whole epoch gets lost.
        let place = usize::try_from(2 * EPOCH).unwrap();
        for (counter, message) in [&all[0], &all[place + 1], &all[place]] {
            assert!(other.open(*counter, b"ctx", message).is_ok(), "{counter}");
        }
        let (counter, message) = &all[place - 1];
        assert_eq!(other.open(*counter, b"ctx", message), Err(Unsealed::Repeated));
        assert_eq!(other.opening.0, one.sealing.0);
    }

    #[test]
    fn a_counter_out_of_all_proportion_costs_nothing_and_changes_nothing() {
        let (mut one, mut other) = pair();
        let (counter, message) = sealed(&mut one, b"x");
        for wrong in [u64::MAX, u64::MAX - 1, EPOCH * (LONGEST_SILENCE + 1)] {
            assert_eq!(other.open(wrong, b"ctx", &message), Err(Unsealed::Broken));
        }
        assert!(other.open(counter, b"ctx", &message).is_ok());
    }
}
