//! `cargo fuzz run segment`
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ntcp_fuzz::segment::check(bytes));
