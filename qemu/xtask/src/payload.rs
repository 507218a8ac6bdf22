//! What a machine is given at boot: a program and its surroundings, or the tests' guests.

use std::ffi::OsString;
use std::io::Read;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use protocol::payload::Writer;

use crate::arch::Arch;
use crate::compile::Compiler;
use crate::files::{self, Directory};
use crate::guests::Guest;

/// A program to run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Program<'a> {
    pub(crate) module: &'a Path,
    pub(crate) args: &'a [OsString],
    /// `KEY=VALUE`.
    pub(crate) env: &'a [String],
    pub(crate) directories: &'a [Directory],
}

/// The payload of a machine that runs `program`.
pub(crate) fn of_program(compiler: &Compiler, program: &Program<'_>) -> Result<Writer<'static>> {
    let mut payload = Writer::new();
    payload.add("module", compiler.load(program.module)?)?;
    let name = program.module.file_name().unwrap_or_default();
    let name = name.to_string_lossy().into_owned();
    let args = program.args.iter().map(|word| word.as_encoded_bytes());
    payload.add_strings("args", std::iter::once(name.as_bytes()).chain(args))?;
    payload.add_strings("env", program.env)?;
    payload.add("module-name", name.into_bytes())?;
    files::pack(&mut payload, program.directories)?;
    Ok(payload)
}

/// Adds what only a machine that is started now can be given: the time, and randomness.
pub(crate) fn add_here_and_now(payload: &mut Writer<'_>) -> Result<()> {
    let mut seed = [0; 32];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut seed))
        .context("cannot read /dev/urandom")?;
    payload.add("seed", seed.to_vec())?;
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    let time = since_1970.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
    payload.add("time", time.to_le_bytes().to_vec())?;
    Ok(())
}

/// A guest for engines whose memories reserve less than usual, the name that it has then, and how
/// many bytes that is.
const RESERVING: (&str, &str, usize) = ("image", "image-64MiB", 64 << 20);

/// Adds the guest for engines of another reservation.
pub(crate) fn add_reserving(payload: &mut Writer<'_>, arch: Arch, guests: &[Guest]) -> Result<()> {
    let (name, to, bytes) = RESERVING;
    for guest in guests.iter().filter(|guest| guest.name == name) {
        payload.add(format!("guest/{to}"), Compiler::reserving(arch, bytes)?.load(&guest.module)?)?;
    }
    Ok(())
}

/// The payload of a test kernel: every guest, compiled.
pub(crate) fn of_tests(compiler: &Compiler, guests: &[Guest]) -> Result<Writer<'static>> {
    let mut payload = Writer::new();
    for guest in guests {
        payload.add(format!("guest/{}", guest.name), compiler.load(&guest.module)?)?;
    }
    Ok(payload)
}
