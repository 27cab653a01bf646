//! The signalling messages from outside: their bytes, their document, and bytes that are not
//! messages.

mod corpus;
mod document;
mod properties;
mod samples;
