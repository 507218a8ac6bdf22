//! Sequences of random bytes: what a fuzzer begins with.

use allotment_fuzz::{Event, Tally};

/// Bytes of a sequence.
const LENGTH: usize = 4096;

/// SplitMix64.
fn bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0xd134_2543_de82_ef95);
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    };
    (0..count).map(|_| next().to_le_bytes()[0]).collect()
}

/// The seed of the sequence that is played, for whoever reads of its failure.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}; ALLOTMENT_SEED={0} cargo test plays it alone, and tells each step", self.0);
        }
    }
}

#[test]
fn random_bytes_are_played_to_the_end() {
    if let Ok(seed) = std::env::var("ALLOTMENT_SEED") {
        let seed = seed.parse().expect("ALLOTMENT_SEED is a decimal number, as a failure prints it");
        return allotment_fuzz::run_and_tell(&bytes(seed, LENGTH));
    }
    let (sequences, all) = (300, Tally::default());
    for seed in 0..sequences {
        let playing = Seed(seed);
        all.add(&allotment_fuzz::run(&bytes(seed, LENGTH)));
        drop(playing);
    }
    // Else most would end before they begin, or prove nothing.
    for event in Event::ALL {
        assert!(
            all.of(event) > sequences / 10,
            "{event:?}: {} times in {sequences} sequences",
            all.of(event)
        );
    }
}
