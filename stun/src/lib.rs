//! ntcp stun.
#![forbid(unsafe_code)]
