//! The real machines in the simulated internet, in virtual time.

mod calls;
mod doctor;
mod lone;
mod traversal;
