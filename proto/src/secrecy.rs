//! Keys, handshakes and sealed messages: who is who, and who may read along.
//!
//! Every peer and every broker has an X25519 key pair ([`SecretKey`], [`PublicKey`]). Two of them
//! shake hands by the pattern IK of the Noise protocol framework (revision 34, section 7.5): the one
//! who begins knows the other one's key, and says its own inside the first message, where nobody
//! else can read it.
//!
//! ```text
//!   who begins                                     who answers
//!     ← s                                            (its key is known before)
//!     │ e, es, s, ss, payload ──────────────────────▶│ Initiation::begin, Reception::read
//!     │◀────────────────────────── e, ee, se, payload ┤ Reception::answer, Initiation::finish
//!     │ sealed ◀────────────────────────────▶ sealed │ Channel
//! ```
//!
//! The suite is `Noise_IK_25519_ChaChaPoly_SHA256`. The handshake is `snow`'s; its outcome is a
//! [`Channel`] of two keys, small enough to be kept for a million peers, with explicit counters, a
//! window against replays and the rekeying of section 11.3. Nothing here draws entropy: who begins
//! or answers a handshake brings the [`Seed`](crate::entropy::Seed) of its ephemeral key.

mod channel;
mod handshake;
mod key;

pub use channel::{Channel, EPOCH, OVERHEAD, Unsealed};
pub use handshake::{Broken, Initiation, Reception};
pub(crate) use key::parse_hex;
pub use key::{KeyError, PublicKey, SecretKey};
