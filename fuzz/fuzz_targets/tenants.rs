//! Tenants of an allocator, by either strategy.
//!
//! Built by `cargo fuzz` this is the fuzzer. Built by plain cargo it plays the
//! files that it is given, and tells each step:
//!
//! ```text
//! cargo run --manifest-path fuzz/Cargo.toml --bin tenants -- fuzz/artifacts/tenants/crash-...
//! ```

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|input: allotment_fuzz::Input| {
    input.play(|_, _| {});
});

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    allotment_fuzz::play_files()
}
