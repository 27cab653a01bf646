//! `cargo fuzz run sealed corpus/signal`: the seeds are those of the target `signal`.
#![no_main]

use std::sync::LazyLock;
use std::time::Instant;

static NOW: LazyLock<Instant> = LazyLock::new(Instant::now);

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ntcp_fuzz::sealed::check(bytes, *NOW));
