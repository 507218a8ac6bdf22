//! `test fuzz`: random sequences of calls, grown by a fuzzer from those that reach something new.

use std::path::PathBuf;
use std::process::Command;
use std::{fs, iter};

use anyhow::{Context, Result};

use super::tally::{run, run_as_one, summary};
use crate::error::Usage;
use crate::progress::say;
use crate::{cargo, install, workspace};

/// How long each target is fuzzed if nobody says.
const SECONDS: u64 = 60;

/// Random sequences to begin with.
const SEEDS: usize = 200;
/// Bytes of each: about a hundred steps.
const SEED_BYTES: usize = 1024;

/// Sequences of so many bytes, from the beginning: short ones find little.
const LENGTH: [&str; 2] = ["-max_len=2048", "-len_control=0"];

/// Seconds after which one sequence counts as hanging.
const HANGS_AFTER: &str = "-timeout=30";

/// Plays random bytes without a fuzzer, and then fuzzes the targets in `names`, or all.
pub(super) fn fuzz(names: &[String], seconds: Option<u64>) -> Result<u8> {
    let targets = targets()?;
    if let Some(unknown) = names.iter().find(|name| !targets.contains(name)) {
        let message = format!("`{unknown}` is no fuzz target; there are: {}", targets.join(", "));
        return Err(Usage(message).into());
    }
    install::fuzz()?;
    // Beside the kernels' and the host's, whose flags are other ones.
    let directory = workspace::target().join("fuzz");
    let mut command = cargo::command();
    command.args(["test", "--manifest-path", "fuzz/Cargo.toml", "--target-dir"]).arg(&directory);
    let seeds = seeds()?;
    let mut outcomes = vec![run("fuzz, random bytes".to_owned(), &mut command)?];
    for target in targets.iter().filter(|target| names.is_empty() || names.contains(target)) {
        let mut command = Command::new("rustup");
        command
            .current_dir(workspace::root())
            .args(["run", install::NIGHTLY, "cargo", "fuzz", "run"])
            // There is one big allocation, the machine's memory: nothing for a sanitizer to see. And
            // nothing hangs on a comparison with a number that had to be guessed.
            .args(["--sanitizer", "none", "--no-trace-compares", "--target-dir"])
            .arg(&directory)
            .arg(target)
            .arg(corpus(target)?)
            .arg(&seeds)
            .args(["--", HANGS_AFTER])
            .args(LENGTH)
            .arg(format!("-max_total_time={}", seconds.unwrap_or(SECONDS)))
            // The cargo that runs us has told its own compiler to its children.
            .env_remove("CARGO")
            .env_remove("RUSTC")
            .env_remove("RUSTUP_TOOLCHAIN");
        let outcome = run_as_one(format!("fuzz, {target}"), &mut command)?;
        if !outcome.ended_well() {
            say(format_args!(
                "step by step: cargo run --manifest-path fuzz/Cargo.toml --bin {target} -- \
                 fuzz/artifacts/{target}/(the failing input, see above)"
            ));
        }
        outcomes.push(outcome);
    }
    Ok(summary(&outcomes))
}

/// Where a target's sequences stay that reached something new.
fn corpus(target: &str) -> Result<PathBuf> {
    let directory = workspace::root().join("fuzz/corpus").join(target);
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    Ok(directory)
}

/// A directory with sequences to begin with. From nothing a fuzzer would need minutes to get to such.
fn seeds() -> Result<PathBuf> {
    let directory = workspace::cache("fuzz-seeds")?;
    let mut state = 0_u64;
    for nth in 0..SEEDS {
        // SplitMix64.
        let bytes = iter::repeat_with(|| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let word = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            (word ^ word >> 31).to_le_bytes()
        });
        let bytes: Vec<u8> = bytes.flatten().take(SEED_BYTES).collect();
        let path = directory.join(nth.to_string());
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(directory)
}

/// The names of all fuzz targets.
fn targets() -> Result<Vec<String>> {
    let directory = workspace::root().join("fuzz/fuzz_targets");
    let cannot = || format!("cannot read {}", directory.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&directory).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}
