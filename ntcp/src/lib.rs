//! Direct connections between any two programs, TCP or UDP, through any NAT.

mod driver;
mod io;
mod runtime;
