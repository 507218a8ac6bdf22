//! Random tenants of an allocator on the emulated MMU, beside models that are
//! too plain to be wrong.
//!
//! ```text
//!   bytes --> Input: a machine, a configuration, operations          input, setup
//!               |
//!               v
//!             World, step by step, each on one of 1 to 4 CPUs         world
//!               |    \--- now and then with few frames left: what fails changes nothing
//!               |
//!      +--------+-------+
//!      v        v       v
//!    Memories  Others  Regions                                       memories, others, regions
//!      |        |       |
//!      +---> Ground: allocator, machine, and what frames are left <--+         ground
//!               answers, bytes, faults, counts: the same as the model's
//! ```
//!
//! Everything is decided by the bytes, so that a failure repeats. Nothing here
//! needs a fuzzer: `cargo test` plays random bytes, and the programs in
//! `fuzz_targets`, built without one, play files.

use std::{fmt, fs, process::ExitCode};

use allotment::arch::{Aarch64, X86_64, emulated::Mmu};
use arbitrary::{Arbitrary, Unstructured};

mod amount;
mod contents;
mod ground;
mod input;
mod memories;
mod others;
mod regions;
mod setup;
mod tally;
mod world;

pub use input::Input;
pub use tally::{Event, Tally};

/// Plays what `data` says, to the end of all tenants, and returns what happened.
///
/// # Panics
///
/// When allocator and model disagree, or the machine finds a rule broken.
pub fn run(data: &[u8]) -> Tally {
    match Input::arbitrary_take_rest(Unstructured::new(data)) {
        Ok(input) => input.play(|_, _| {}),
        // Too few bytes say nothing.
        Err(_) => Tally::default(),
    }
}

/// [`run`], and tells each step on standard error before it is made.
///
/// # Panics
///
/// As [`run`].
pub fn run_and_tell(data: &[u8]) {
    match Input::arbitrary_take_rest(Unstructured::new(data)) {
        Ok(input) => {
            eprintln!("      {:?}", input.setup);
            let tally = input.play(|nth, step| eprintln!("{nth:4}  {step:?}"));
            for event in Event::ALL {
                eprintln!("      {event:?}: {}", tally.of(event));
            }
        }
        Err(_) => eprintln!("      too few bytes to say anything"),
    }
}

impl Input {
    /// Plays it. `tell` hears of each step before it is made.
    ///
    /// # Panics
    ///
    /// As [`run`].
    pub fn play(&self, tell: impl FnMut(usize, &dyn fmt::Debug)) -> Tally {
        if self.setup.is_x86_64() { self.play_on::<X86_64>(tell) } else { self.play_on::<Aarch64>(tell) }
    }

    fn play_on<F: Mmu>(&self, tell: impl FnMut(usize, &dyn fmt::Debug)) -> Tally {
        match self.setup.allocator::<F>() {
            Some(allocator) => world::World::new(&allocator, &self.setup).play(&self.steps, tell),
            None => Tally::default(),
        }
    }
}

/// Plays the files that the command line names, and tells each step: for
/// programs that are built without a fuzzer.
pub fn play_files() -> ExitCode {
    let files: Vec<_> = std::env::args_os().skip(1).collect();
    if files.is_empty() {
        eprintln!("name the files to play; a fuzzer writes them to fuzz/artifacts and fuzz/corpus");
        return ExitCode::from(2);
    }
    for file in files {
        let shown = file.display();
        let data = match fs::read(&file) {
            Ok(data) => data,
            Err(error) => {
                eprintln!("cannot read {shown}: {error}");
                return ExitCode::from(2);
            }
        };
        eprintln!("{shown}:");
        run_and_tell(&data);
    }
    ExitCode::SUCCESS
}
