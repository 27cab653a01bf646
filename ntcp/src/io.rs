//! Sockets as the traversal strategies need them.

pub(crate) mod failure;
pub(crate) mod interfaces;
pub(crate) mod privileged;
pub(crate) mod socket;
