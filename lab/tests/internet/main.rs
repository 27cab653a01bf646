//! The real machines in the simulated internet, in virtual time.

mod again;
mod answered;
mod calls;
mod datagrams;
mod doctor;
mod explained;
mod faults;
mod forging;
mod killing;
mod lone;
mod privileges;
mod scene;
mod share;
mod traversal;
