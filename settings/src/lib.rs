//! ntcp settings.
