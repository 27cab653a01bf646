//! ntcp lab.
