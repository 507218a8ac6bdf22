//! `cargo xtask draw`: a picture of a machine in which some instances live.
//!
//! ```text
//!   kernel -- dump, over the channel --> picture   what is to be seen, without a form
//!                                          |-- svg    as a file
//!                                          '-- text   for the terminal, or a pipe
//! ```

mod picture;
mod scale;
mod svg;
mod terminal;
#[cfg(test)]
mod tests;
mod text;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use protocol::dump::Dump;
use protocol::{options, settings::Settings};

use crate::arch::Arch;
use crate::cli;
use crate::compile::Compiler;
use crate::payload::{self, Program};
use crate::run::{self, Options};
use crate::{guests, install, kernel, workspace};
use picture::Picture;
use terminal::Style;

/// The program if none is given.
const BUNDLED: &str = "draw";

/// Boots, draws, and returns the exit status to pass on.
pub(crate) fn draw(words: &cli::Draw) -> Result<u8> {
    let module = words.module.clone().unwrap_or_else(|| guests::text(BUNDLED));
    let arch = run::arch_for(words.machine.arch, &module);
    install::qemu(arch)?;
    let (status, dump) = dump(words, arch, &module)?;
    if status != 0 {
        return Ok(status);
    }
    let dump = Dump::parse(&dump).context("the kernel's dump cannot be read")?;
    let name = module.file_name().unwrap_or_default().to_string_lossy();
    let picture = Picture::of(&dump, &format!("{name} on {arch}, {}", words.strategy.told()));

    let out = words.out.clone().map_or_else(default_file, Ok)?;
    workspace::write_atomically(&out, |file| Ok(file.write_all(svg::write(&picture).as_bytes())?))?;
    let text = text::write(&picture, &Style::of_output());
    // A reader that has seen enough is no failure.
    drop(write!(io::stdout(), "{text}\n{}\n", out.display()));
    Ok(0)
}

/// Runs the instances, and returns the exit status and what the kernel had to show.
fn dump(words: &cli::Draw, arch: Arch, module: &Path) -> Result<(u8, String)> {
    let options = Options {
        machine: &words.machine,
        timeout: Some(words.timeout),
        gdb: false,
        verbose: words.verbose,
        told: options::Options {
            strategy: words.strategy.told(),
            instances: Some(words.instances),
            draw: true,
            ..options::Options::default()
        },
        settings: Settings::default(),
    };
    let program = Program { module, args: &[], env: &[], directories: &[] };
    let payload = payload::of_program(&Compiler::new(arch)?, &program)?;
    let kernel = kernel::build_run(arch)?;
    let output = Kept::default();
    let status = run::boot_to(arch, &kernel, payload, &options, Box::new(output.clone()))?;
    let bytes = output.0.lock().expect("no holder panics");
    Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
}

fn default_file() -> Result<PathBuf> {
    let directory = workspace::target().join("allotment");
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    Ok(directory.join("draw.svg"))
}

/// What the machine's program writes, for us.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no holder panics").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
