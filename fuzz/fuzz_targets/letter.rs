//! `cargo fuzz run letter`
#![no_main]

use std::sync::LazyLock;
use std::time::Instant;

static NOW: LazyLock<Instant> = LazyLock::new(Instant::now);

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ntcp_fuzz::letter::check(bytes, *NOW));
