//! ntcp ntcp.
