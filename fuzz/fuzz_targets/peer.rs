//! `cargo fuzz run peer`
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ntcp_fuzz::peer::check(bytes));
