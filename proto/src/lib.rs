//! ntcp proto.
#![forbid(unsafe_code)]
