//! Random bytes: ChaCha20, seeded when first asked from everything the machine offers.

use protocol::payload::Payload;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use spin::mutex::TicketMutex;

use crate::{arch, boot};

static GENERATOR: TicketMutex<Option<ChaCha20Rng>> = TicketMutex::new(None);

/// Fills `bytes`.
///
/// As good as its best seed: the host's entropy in the payload, or the CPU's generator. With
/// neither it is only different from boot to boot.
pub fn fill(bytes: &mut [u8]) {
    let mut generator = GENERATOR.lock();
    generator.get_or_insert_with(|| ChaCha20Rng::from_seed(seed())).fill_bytes(bytes);
}

/// All sources, xored: none can spoil another.
fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    if let Some(host) = payload_seed() {
        mix(&mut seed, host);
    }
    for word in seed.chunks_exact_mut(8) {
        if let Some(hardware) = arch::random::hardware() {
            mix(word, &hardware.to_le_bytes());
        }
    }
    mix(&mut seed[..8], &arch::clock::ticks().to_le_bytes());
    mix(&mut seed[8..16], &arch::clock::wall_clock_seconds().unwrap_or(0).to_le_bytes());
    seed
}

fn payload_seed() -> Option<&'static [u8]> {
    Payload::parse(boot::info()?.payload?).ok()?.get("seed")
}

fn mix(into: &mut [u8], from: &[u8]) {
    for (into, from) in into.iter_mut().zip(from) {
        *into ^= from;
    }
}
