//! The CPU's random number generator.

use x86_64::instructions::random::RdRand;

/// A random number, if the CPU has a generator and it has one ready (SDM Vol. 1, 7.3.17.1).
pub(crate) fn hardware() -> Option<u64> {
    let generator = RdRand::new()?;
    (0..10).find_map(|_| generator.get_u64())
}
