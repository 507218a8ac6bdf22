//! What `cargo xtask` starts: builds the real program if need be, and becomes it.
//!
//! The real program contains a WebAssembly compiler for two architectures and takes minutes to
//! build. `cargo xtask` is `cargo run --quiet`, so that a program run in a machine can have
//! standard error for itself; but quiet minutes look like a hang. This launcher is built
//! in a second and shows cargo's progress when, and only when, there is something to build.

use std::env;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// The real program, another one of this package.
const PROGRAM: &str = "allotment-xtask";

/// Status for failures of ours, as documented in the real program's `--help`.
const FAILED: u8 = 125;

fn main() -> ExitCode {
    let words = env::args_os().skip(1);
    let started = built().and_then(|program| {
        // Returns only if it fails.
        let error = Command::new(&program).args(words).exec();
        Err(format!("cannot start {}: {error}", program.display()))
    });
    match started {
        Ok(never) => never,
        Err(message) => {
            eprintln!("allotment: {message}");
            ExitCode::from(FAILED)
        }
    }
}

/// The path of the real program, which is up to date.
fn built() -> Result<PathBuf, String> {
    let beside = env::current_exe()
        .map_err(|error| format!("cannot tell where this program is: {error}"))?
        .with_file_name(PROGRAM);
    // nextest starts a process for each test. It has just listed them through us.
    if env::var_os("NEXTEST_EXECUTION_MODE").is_some() && beside.is_file() {
        return Ok(beside);
    }
    build()?;
    if !beside.is_file() {
        return Err(format!("cargo has not built {}", beside.display()));
    }
    Ok(beside)
}

fn build() -> Result<(), String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command
        .args(["build", "--package", "xtask", "--bin", PROGRAM])
        .current_dir(package())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    if io::stderr().is_terminal() {
        // cargo draws no progress bar into a pipe unless told so.
        command.env("CARGO_TERM_PROGRESS_WHEN", "always");
        command.env("CARGO_TERM_PROGRESS_WIDTH", "80");
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut child = command.spawn().map_err(|error| format!("cannot start cargo: {error}"))?;
    let said = child.stderr.take().map(show_work);
    let status = child.wait().map_err(|error| format!("cannot wait for cargo: {error}"))?;
    if status.success() {
        return Ok(());
    }
    // What was shown already need not be said again.
    let said = said.filter(|said| !said.shown).map(|said| said.text);
    Err(format!("building xtask failed ({status})\n{}", said.unwrap_or_default()))
}

/// This package, from cargo which runs us, else from when we were built.
fn package() -> PathBuf {
    env::var_os("CARGO_MANIFEST_DIR")
        .map(PathBuf::from)
        .filter(|package| package.join("src/launcher.rs").is_file())
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).to_owned())
}

/// What cargo has said, and whether people have seen it.
struct Said {
    text: String,
    shown: bool,
}

/// Passes cargo's output on from the moment at which it has something to compile.
fn show_work(from: impl Read) -> Said {
    let mut from = BufReader::new(from);
    let mut said = Said { text: String::new(), shown: false };
    let mut stderr = io::stderr();
    while let Ok(bytes) = from.fill_buf()
        && !bytes.is_empty()
    {
        let length = bytes.len();
        if said.shown {
            // If nobody can see it, cargo's work still gets done.
            drop(stderr.write_all(bytes));
        } else {
            said.text.push_str(&String::from_utf8_lossy(bytes));
            if is_work(&said.text) {
                eprintln!("allotment: building its tools; the first time takes some minutes");
                drop(stderr.write_all(said.text.as_bytes()));
                said.shown = true;
            }
        }
        from.consume(length);
    }
    said
}

/// Whether cargo has something to build, and is not only waiting for another cargo's lock.
fn is_work(text: &str) -> bool {
    ["Compiling", "Downloading", "Updating"].iter().any(|word| text.contains(word))
}
