//! `cargo fuzz run message`
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ntcp_fuzz::message::check(bytes));
