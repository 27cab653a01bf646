//! The corpus of the fuzz target is replayed by every test run.
//!
//! With `NTCP_BLESS=1` in the environment the samples in it are rewritten instead of compared.

use std::path::PathBuf;
use std::time::Instant;

use crate::samples;

#[expect(unreachable_pub, reason = "public where the fuzz target calls it")]
#[path = "../../../fuzz/src/signal.rs"]
mod target;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/signal")
}

#[test]
fn the_corpus_holds_every_sample() {
    let is_blessing = std::env::var_os("NTCP_BLESS").is_some();
    for sample in samples::all() {
        let path = folder().join(sample.name);
        if is_blessing {
            std::fs::write(&path, sample.bytes()).unwrap();
        }
        assert_eq!(std::fs::read(&path).unwrap(), sample.bytes(), "{}", path.display());
    }
}

#[test]
fn the_corpus_does_no_harm() {
    #[expect(clippy::disallowed_methods, reason = "there is no other way to make an Instant")]
    let now = Instant::now();
    let mut replayed = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        target::check(&std::fs::read(entry.unwrap().path()).unwrap(), now);
        replayed += 1;
    }
    assert!(replayed >= samples::all().len());
}
