//! Sequences by number: the same number is the same sequence, everywhere.

use alloc::{collections::VecDeque, format, string::String};
use core::fmt::Debug;

/// SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        // So that neighbours have nothing in common.
        Self(seed.wrapping_mul(0xd134_2543_de82_ef95))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    /// A number below `limit`, which is not 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    /// True `times` times out of a hundred.
    pub(crate) fn percent(&mut self, times: usize) -> bool {
        self.below(100) < times
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// Runs `sequence` with as many seeds as this world has time for, or with the
/// one that the environment asks for.
pub(crate) fn for_each_seed(rounds: Rounds, mut sequence: impl FnMut(u64)) {
    #[cfg(not(target_os = "none"))]
    if let Some(seed) = std::env::var_os("ALLOTMENT_SEED") {
        let seed = seed.to_str().and_then(|seed| seed.parse().ok());
        return sequence(seed.expect("ALLOTMENT_SEED is a decimal number, as a failure prints it"));
    }
    (0..rounds.here()).for_each(&mut sequence);
}

/// How many sequences to run on each machine.
#[derive(Clone, Copy)]
pub(crate) struct Rounds {
    pub(crate) host: u64,
    pub(crate) host_full: u64,
    pub(crate) bare: u64,
}

impl Rounds {
    fn here(self) -> u64 {
        // An interpreter needs as long for one as a test has for all.
        match (cfg!(miri), cfg!(target_os = "none"), harness::full()) {
            (true, ..) => 1,
            (_, true, false) => self.bare,
            (_, true, true) => 10 * self.bare,
            (.., false) => self.host,
            (.., true) => self.host_full,
        }
    }
}

/// What a sequence did last. Tells it when the sequence fails.
pub(crate) struct Trace {
    machine: &'static str,
    seed: u64,
    step: usize,
    last: VecDeque<String>,
}

impl Trace {
    const LENGTH: usize = 10;

    pub(crate) fn new(machine: &'static str, seed: u64) -> Self {
        Self { machine, seed, step: 0, last: VecDeque::new() }
    }

    pub(crate) fn note(&mut self, operation: &impl Debug, cpu: usize) {
        self.step += 1;
        if self.last.len() == Self::LENGTH {
            self.last.pop_front();
        }
        self.last.push_back(format!("{:4}  CPU {cpu}: {operation:?}", self.step));
    }

    fn story(&self) -> String {
        let Self { machine, seed, step, .. } = self;
        let mut story = format!("seed {seed} on {machine}, step {step}; ALLOTMENT_SEED={seed} runs it alone");
        for operation in &self.last {
            story.push('\n');
            story.push_str(operation);
        }
        story
    }

    /// Asserts that model and machine agree.
    pub(crate) fn agree<T: PartialEq + Debug>(&self, what: &str, real: &T, model: &T) {
        if real != model {
            self.fail(&format!("{what} is {real:?}, the model says {model:?}"));
        }
    }

    pub(crate) fn fail(&self, message: &str) -> ! {
        // On the host the story follows when this is dropped.
        if cfg!(target_os = "none") { panic!("{message}\n{}", self.story()) } else { panic!("{message}") }
    }
}

/// The machine may find something wrong by itself, and panics then.
#[cfg(not(target_os = "none"))]
impl Drop for Trace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::eprintln!("{}", self.story());
        }
    }
}
