//! The two messages of a handshake, from either side.

use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};

use super::channel::Channel;
use super::{PublicKey, SecretKey};
use crate::entropy::{Entropy, Seed};

/// The pattern and the suite: those that `snow`, WireGuard's relatives and libp2p have in common,
/// with the hash that the rest of this protocol uses.
const SUITE: &str = "Noise_IK_25519_ChaChaPoly_SHA256";
/// Most bytes that a handshake adds to its payload: an ephemeral key (32), and in the first message
/// a sealed static key (48) and the payload's tag (16).
const MOST_ADDED: usize = 96;

/// A message that was not made for this handshake with the keys it claims, or was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the handshake message was not made with the right keys, or was changed on its way")]
pub struct Broken;

/// A handshake begun by us.
#[derive(Debug)]
pub struct Initiation(HandshakeState);

impl Initiation {
    /// Begins with the owner of `remote`: the first message, with `payload` in it. Both sides must
    /// name the same `prologue`.
    pub fn begin(
        identity: &SecretKey,
        remote: &PublicKey,
        prologue: &[u8],
        payload: &[u8],
        ephemeral: Seed,
    ) -> (Self, Vec<u8>) {
        let builder = builder(ephemeral)
            .local_private_key(identity.as_bytes())
            .and_then(|it| it.remote_public_key(&remote.0))
            .and_then(|it| it.prologue(prologue));
        let mut state = match builder.and_then(Builder::build_initiator) {
            Ok(state) => state,
            Err(error) => unreachable!("everything that IK needs is there: {error}"),
        };
        let message = write(&mut state, payload);
        (Self(state), message)
    }

    /// Takes the answer: the payload in it, and the channel. A broken one changes nothing.
    ///
    /// # Errors
    ///
    /// [`Broken`].
    pub fn finish(&mut self, message: &[u8]) -> Result<(Vec<u8>, Channel), Broken> {
        let payload = read(&mut self.0, message)?;
        let (ours, theirs) = self.0.dangerously_get_raw_split();
        Ok((payload, Channel::new(ours, theirs)))
    }
}

/// A handshake begun by somebody else, not answered yet.
#[derive(Debug)]
pub struct Reception {
    state: HandshakeState,
    remote: PublicKey,
    payload: Vec<u8>,
}

impl Reception {
    /// Takes the first message, which was made for `identity`.
    ///
    /// # Errors
    ///
    /// [`Broken`].
    pub fn read(
        identity: &SecretKey,
        prologue: &[u8],
        message: &[u8],
        ephemeral: Seed,
    ) -> Result<Self, Broken> {
        let builder = builder(ephemeral)
            .local_private_key(identity.as_bytes())
            .and_then(|it| it.prologue(prologue));
        let mut state = builder.and_then(Builder::build_responder).map_err(|_| Broken)?;
        let payload = read(&mut state, message)?;
        let remote = state.get_remote_static().and_then(|it| it.try_into().ok());
        Ok(Self { remote: PublicKey(remote.ok_or(Broken)?), state, payload })
    }

    /// Who began it: it has the private half of this key.
    pub fn remote(&self) -> PublicKey {
        self.remote
    }

    /// What it said.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The answer, with `payload` in it, and the channel.
    pub fn answer(mut self, payload: &[u8]) -> (Vec<u8>, Channel) {
        let message = write(&mut self.state, payload);
        let (theirs, ours) = self.state.dangerously_get_raw_split();
        (message, Channel::new(ours, theirs))
    }
}

fn builder<'a>(ephemeral: Seed) -> Builder<'a> {
    let suite: NoiseParams = match SUITE.parse() {
        Ok(suite) => suite,
        Err(error) => unreachable!("the name of a Noise protocol: {error}"),
    };
    Builder::with_resolver(suite, Box::new(Primitives(ephemeral)))
}

fn write(state: &mut HandshakeState, payload: &[u8]) -> Vec<u8> {
    let mut message = vec![0; payload.len() + MOST_ADDED];
    match state.write_message(payload, &mut message) {
        Ok(length) => message.truncate(length),
        Err(error) => unreachable!("there is room, and it is our turn: {error}"),
    }
    message
}

fn read(state: &mut HandshakeState, message: &[u8]) -> Result<Vec<u8>, Broken> {
    let mut payload = vec![0; message.len()];
    let length = state.read_message(message, &mut payload).map_err(|_| Broken)?;
    payload.truncate(length);
    Ok(payload)
}

/// Snow's own primitives, with randomness from a seed.
struct Primitives(Seed);

struct Drawn(Entropy);

impl Random for Drawn {
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), snow::Error> {
        self.0.fill(bytes);
        Ok(())
    }
}

impl CryptoResolver for Primitives {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Drawn(Entropy::new(self.0))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

#[cfg(test)]
mod tests;
