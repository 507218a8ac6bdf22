//! The module of the payload: loaded, or refused in words that help.

use alloc::{
    format,
    string::{String, ToString},
};

use wasmtime::{Engine, Module};

use crate::streams::Outcome;

/// Loads the module `compiled`, called `name`.
pub(crate) fn load(engine: &Engine, name: &str, compiled: &[u8]) -> Result<Module, Outcome> {
    check_header(compiled).map_err(|why| Outcome::Refused(format!("{name}: {why}")))?;
    // SAFETY: whoever made the boot image vouches for its module, as for the
    // kernel itself: compiled code is trusted, not checked.
    unsafe { Module::deserialize(engine, compiled) }.map_err(|error| refuse(name, &error))
}

/// A refusal, with what the allocator had to say about it.
pub(crate) fn refuse(name: &str, error: &wasmtime::Error) -> Outcome {
    let cause = allotment::wasmtime::installed().and_then(allotment::wasmtime::Platform::take_last_error);
    Outcome::Refused(match cause {
        Some(cause) => format!("{name}: {cause} ({error:#})"),
        None => format!("{name}: {error:#}"),
    })
}

/// Says what is wrong with a file that is no module of this machine, before
/// Wasmtime says so less clearly.
fn check_header(compiled: &[u8]) -> Result<(), String> {
    const ELF: &[u8] = b"\x7fELF";
    const EM_X86_64: u16 = 62;
    const EM_AARCH64: u16 = 183;
    let here = if cfg!(target_arch = "x86_64") { EM_X86_64 } else { EM_AARCH64 };
    if !compiled.starts_with(ELF) {
        return Err("not a precompiled module (.cwasm); compile it with `cargo xtask compile`".to_string());
    }
    let Some(&[low, high]) = compiled.get(18..20) else {
        return Err(format!("truncated: {} bytes are not even a header", compiled.len()));
    };
    match u16::from_le_bytes([low, high]) {
        machine if machine == here => {}
        EM_X86_64 => return Err("compiled for x86_64, this machine is aarch64".to_string()),
        EM_AARCH64 => return Err("compiled for aarch64, this machine is x86_64".to_string()),
        machine => return Err(format!("compiled for machine {machine:#x}, not for this one")),
    }
    // The section headers of an ELF file come last: e_shoff and e_shnum.
    let field = |at: usize, len: usize| {
        let bytes = compiled.get(at..at + len)?;
        Some(bytes.iter().rev().fold(0u64, |value, &byte| value << 8 | u64::from(byte)))
    };
    let end = field(40, 8).zip(field(60, 2)).and_then(|(start, count)| start.checked_add(64 * count));
    match end {
        Some(end) if end <= compiled.len() as u64 => Ok(()),
        Some(end) => Err(format!("truncated: {end} bytes were written, {} are here", compiled.len())),
        None => Err(format!("truncated: {} bytes are not even a header", compiled.len())),
    }
}
