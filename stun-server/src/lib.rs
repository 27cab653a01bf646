//! ntcp stun-server.
