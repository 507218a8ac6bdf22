//! `example`: kernels with Allotment in them as others would write them, built and booted.
//!
//! ```text
//!   examples/NAME      a workspace of its own      cargo build ----> kernel -----.
//!   examples/NAME/*.wat                            compile --------> .cwasm -----+--> QEMU -> console, status
//!   examples/NAME/loader   (if it boots by UEFI)   cargo build ----> loader -----'            as in `table`?
//! ```

mod disk;
mod judge;
mod plain;
mod table;

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use self::plain::Plain;
use self::table::{Boot, EXAMPLES, Example};
use crate::arch::Arch;
use crate::compile::Compiler;
use crate::error::Usage;
use crate::machine::{self, Ended, Machine, Tee};
use crate::progress::{self, say};
use crate::setup::{Setup, Wiring};
use crate::{cargo, cli, install, symbols, workspace};

/// How long an example may take, the firmware included.
const DEADLINE: Duration = Duration::from_secs(180);

/// `cargo xtask example`.
pub(crate) fn example(words: &cli::Example) -> Result<u8> {
    let Some(name) = words.name.as_ref().filter(|_| !words.list) else {
        list()?;
        return Ok(0);
    };
    let Some(example) = EXAMPLES.iter().find(|example| example.name == name) else {
        let names: Vec<&str> = EXAMPLES.iter().map(|example| example.name).collect();
        let message = format!("`{name}` is no example that boots; there are: {}", names.join(", "));
        return Err(Usage(message).into());
    };
    let kernel = build(example)?;
    let setup = set_up(example, &kernel)?;
    if words.verbose {
        say(setup.line(Wiring::Console));
    }
    let mut plain = Plain::default();
    let show = move |bytes: &[u8]| {
        let mut stdout = io::stdout();
        drop(stdout.write_all(&plain.text(bytes)).and_then(|()| stdout.flush()));
    };
    let ended = boot(&setup, Box::new(show))?;
    match judge::judge(example, &ended) {
        Ok(()) => Ok(0),
        Err(why) => {
            progress::show(symbols::backtrace(&symbols::symbolise(&ended.console, &kernel)));
            progress::show(&ended.messages);
            bail!("{name}: {why}")
        }
    }
}

/// How the examples went, as `test` counts them.
pub(crate) struct Tested {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) took: Duration,
}

/// Boots the examples of `arch`, or of all, whose names contain one of `filters`; `None` if there are none.
pub(crate) fn test(arch: Option<Arch>, filters: &[String]) -> Result<Option<Tested>> {
    let is_wanted = |example: &&Example| {
        arch.is_none_or(|arch| arch == example.arch)
            && (filters.is_empty() || filters.iter().any(|filter| test_name(example).contains(filter)))
    };
    let wanted: Vec<&Example> = EXAMPLES.iter().filter(is_wanted).collect();
    if wanted.is_empty() {
        return Ok(None);
    }
    say("testing: examples");
    let begin = Instant::now();
    let (mut passed, mut failed) = (0, 0);
    for example in wanted {
        match boots_as_expected(example) {
            Ok(()) => passed += 1,
            Err(_) => failed += 1,
        }
    }
    Ok(Some(Tested { passed, failed, took: begin.elapsed() }))
}

/// Boots one and says how it went, as libtest does.
fn boots_as_expected(example: &Example) -> Result<()> {
    let boot = || {
        let kernel = build(example)?;
        let ended = boot(&set_up(example, &kernel)?, machine::unseen())?;
        judge::judge(example, &ended).map_err(|why| {
            let console = symbols::symbolise(&ended.console, &kernel);
            anyhow::anyhow!("{why}\n{console}{}", ended.messages)
        })
    };
    let result = boot();
    let how = if result.is_ok() { "ok" } else { "FAILED" };
    writeln!(io::stdout(), "test {} ... {how}", test_name(example))
        .context("cannot write standard output")?;
    if let Err(error) = &result {
        say(format_args!("{}: {error:#}", example.name));
    }
    result
}

fn test_name(example: &Example) -> String {
    format!("examples::{}", example.name)
}

fn list() -> Result<()> {
    let width = EXAMPLES.iter().map(|example| example.name.len()).max().unwrap_or(0);
    let mut stdout = io::stdout();
    for Example { name, shows, arch, .. } in EXAMPLES {
        writeln!(stdout, "{name:<width$}  {:<7}  {shows}", arch.name())
            .context("cannot write standard output")?;
    }
    Ok(())
}

/// Builds the kernel as `cargo build` in its directory does, with dependencies that examples share.
fn build(example: &Example) -> Result<PathBuf> {
    let Example { name, arch, .. } = example;
    install::rust_target(arch.triple())?;
    let mut command = cargo::command();
    command
        .current_dir(workspace::root().join("examples").join(name))
        .args(["build", "--target", arch.triple()])
        .env("CARGO_TARGET_DIR", target());
    let made =
        progress::step(&format!("building the example {name}"), |step| cargo::build(step, &mut command))?;
    made.into_iter()
        .find(|made| made.name == *name)
        .map(|made| made.path)
        .with_context(|| format!("cargo has built no program `{name}` in examples/{name}"))
}

/// One for all, so that what they share is built once.
fn target() -> PathBuf {
    workspace::target().join("examples")
}

/// The machine that boots `kernel`.
fn set_up(example: &Example, kernel: &std::path::Path) -> Result<Setup> {
    install::qemu(example.arch)?;
    let compiler = Compiler::for_plain_kernel(example.arch)?;
    let mut programs = Vec::new();
    for program in example.programs {
        let text = workspace::root().join("examples").join(example.name).join(program);
        let name = program.trim_end_matches(".wat");
        let compiled = workspace::cache("examples")?.join(format!("{}-{name}.cwasm", example.name));
        let code = compiler.load(&text)?;
        workspace::write_atomically(&compiled, |file| Ok(file.write_all(&code)?))?;
        programs.push((name, compiled));
    }
    let mut setup = Setup::new(example.arch, kernel);
    setup.machine = Some(example.machine.to_owned());
    setup.smp = example.smp;
    match example.boot {
        Boot::Uefi => {
            setup.firmware = Some(install::uefi()?);
            setup.image = disk::disk(example, kernel, programs.first().map(|(_, file)| file.as_path()))?;
        }
        Boot::Kernel(words) => setup.extra.extend(words.iter().map(|word| {
            programs.iter().fold((*word).to_owned(), |word, (name, file)| {
                word.replace(&format!("{{{name}}}"), &file.to_string_lossy().replace(',', ",,"))
            })
        })),
    }
    Ok(setup)
}

fn boot(setup: &Setup, tee: Tee) -> Result<Ended> {
    Machine::start(setup, None, tee)?.wait(Some(DEADLINE))
}
