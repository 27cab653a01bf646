//! `cargo fuzz run server corpus/message`: the seeds are those of the target `message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ntcp_fuzz::server::check(bytes));
