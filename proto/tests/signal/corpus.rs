//! The corpus of the fuzz target is replayed by every test run.
//!
//! With `NTCP_BLESS=1` in the environment the samples in it are rewritten instead of compared.

use std::path::PathBuf;
use std::time::Instant;

use crate::samples;

#[expect(unreachable_pub, reason = "public where the fuzz target calls it")]
#[path = "../../../fuzz/src/signal.rs"]
mod target;

#[expect(unreachable_pub, reason = "public where the fuzz target calls it")]
#[path = "../../../fuzz/src/letter.rs"]
mod letter;

#[expect(unreachable_pub, reason = "public where the fuzz target calls it")]
#[path = "../../../fuzz/src/sealed.rs"]
mod sealed;

#[expect(unreachable_pub, reason = "public where the fuzz target calls it")]
#[path = "../../../fuzz/src/token.rs"]
mod token;

#[expect(unreachable_pub, reason = "public where the fuzz target calls it")]
#[path = "../../../fuzz/src/peer.rs"]
mod peer;

fn folder() -> PathBuf {
    folder_of("signal")
}

fn folder_of(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target)
}

/// Shows a target every seed, whole, cut after each byte, and with each bit flipped; how many seeds there are.
fn replay(folder: &str, mut check: impl FnMut(&[u8])) -> usize {
    let seeds = std::fs::read_dir(folder_of(folder)).unwrap();
    let mut replayed = 0;
    for entry in seeds {
        let seed = std::fs::read(entry.unwrap().path()).unwrap();
        (0..=seed.len()).for_each(|length| check(&seed[..length]));
        for bit in 0..seed.len() * 8 {
            let mut changed = seed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            check(&changed);
        }
        replayed += 1;
    }
    replayed
}

#[test]
fn the_corpus_of_letters_does_no_harm_cut_or_changed() {
    let now = now();
    assert!(replay("letter", |bytes| letter::check(bytes, now)) >= 7);
}

#[test]
fn the_corpus_of_tokens_does_no_harm_cut_or_changed() {
    assert!(replay("token", token::check) >= 16);
}

#[test]
fn the_corpus_of_what_peers_say_does_no_harm_cut_or_changed() {
    assert!(replay("peer", peer::check) >= 10);
}

#[test]
fn the_corpus_does_no_harm_inside_a_handshake_and_after_it() {
    let now = now();
    let mut replayed = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        sealed::check(&std::fs::read(entry.unwrap().path()).unwrap(), now);
        replayed += 1;
    }
    assert!(replayed >= samples::all().len());
}

#[expect(clippy::disallowed_methods, reason = "there is no other way to make an Instant")]
fn now() -> Instant {
    Instant::now()
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
    let now = now();
    let mut replayed = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        target::check(&std::fs::read(entry.unwrap().path()).unwrap(), now);
        replayed += 1;
    }
    assert!(replayed >= samples::all().len());
}
