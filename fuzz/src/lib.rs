//! What must hold for any bytes, as functions: the fuzz targets call them, and so do the tests that replay the corpus.

pub mod letter;
pub mod message;
pub mod peer;
pub mod sealed;
pub mod segment;
pub mod server;
pub mod signal;
pub mod token;
