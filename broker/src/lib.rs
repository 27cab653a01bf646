//! ntcp broker.
