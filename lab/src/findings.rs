//! What was measured on real kernels and netfilter NATs happens here too: the punching matrix, the
//! numbered experiments T1–T25, and what decides success.
//!
//! No machine of ours takes part: the sockets are driven by hand, so that what is proven here is the
//! simulated internet itself. One-way delay is 20 ms throughout. Names of tests say what was seen, and
//! comments give the numbers of the experiments.

mod answers;
mod forged;
mod low_ttl;
mod matrix;
mod shields;
mod skew;
mod topology;

/// Past the own NAT, not to the peer's.
const LOW_TTL: u8 = 3;
