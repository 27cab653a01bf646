//! The corpus of the fuzz target for segments is replayed by every test run.

use std::path::PathBuf;

use ntcp_proto::segment::Segment;

#[expect(unreachable_pub, reason = "public where the fuzz target calls it")]
#[path = "../../../fuzz/src/segment.rs"]
mod target;

#[test]
fn the_corpus_its_truncations_and_its_flipped_bits_do_no_harm() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/segment");
    let mut understood = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let mut packet = std::fs::read(entry.unwrap().path()).unwrap();
        understood += usize::from(Segment::parse(&packet).is_some());
        for length in 0..=packet.len() {
            target::check(&packet[..length]);
        }
        for bit in 0..packet.len() * 8 {
            packet[bit / 8] ^= 1 << (bit % 8);
            target::check(&packet);
            packet[bit / 8] ^= 1 << (bit % 8);
        }
    }
    assert!(understood >= 12, "the corpus is there");
}
