//! The demo: what `cargo xtask run` shows when it is given no module.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::arch::Arch;
use crate::compile::Compiler;
use crate::files::Directory;
use crate::guests::{self, Guest};
use crate::payload::{self, Program};
use crate::progress::say;
use crate::run::{self, Options};
use crate::{install, kernel, workspace};

/// How long one program of the demo may take.
const DEADLINE: Duration = Duration::from_secs(300);

/// One guest of the demo, run once or more.
struct Demo {
    /// Its name in `qemu/guests`.
    guest: &'static str,
    /// What it shows.
    title: &'static str,
    /// The arguments of each run.
    runs: &'static [&'static [&'static str]],
    /// How each run ends.
    status: u8,
}

/// All of it, in order.
const DEMOS: &[Demo] = &[
    Demo {
        guest: "summarise",
        title: "a Rust program with std reads 500 kB of JSON from a file and summarises it",
        runs: &[&["/orders.json"]],
        status: 0,
    },
    Demo {
        guest: "sieve",
        title: "a computation grows its memory to tens of MiB and checks its result",
        runs: &[&[]],
        status: 0,
    },
    Demo {
        guest: "misbehave",
        title: "a module does what it must not, and each time is contained (status 134)",
        runs: &[
            &["load-past-the-end"],
            &["load-straddling-the-end"],
            &["load-at-the-end-of-the-guard"],
            &["load-beyond-the-guard"],
            &["store-past-the-end"],
            &["fill-past-the-end"],
            &["copy-past-the-end"],
            &["divide-by-zero"],
            &["divide-overflow"],
            &["convert-nan"],
            &["unreachable"],
            &["call-null"],
            &["call-mismatched"],
            &["call-past-the-table"],
            &["table-get-past-the-end"],
            &["table-copy-past-the-end"],
            &["overflow-the-stack"],
        ],
        status: protocol::status::TRAPPED,
    },
];

/// How many orders of a shop the first program is given.
pub(crate) const ORDERS: u32 = 2000;

/// Runs each program on each architecture, or on the one asked for.
pub(crate) fn run(options: &Options<'_>) -> Result<u8> {
    let options = Options { timeout: options.timeout.or(Some(DEADLINE)), ..*options };
    let guests = guests::all()?;
    let files = workspace::cache("demo")?;
    std::fs::write(files.join("orders.json"), guest_data::orders(ORDERS))
        .context("cannot write the demo's input")?;
    let directory = Directory { host: files, guest: "/".into() };

    let arches = options.machine.arch.map_or(Arch::ALL.to_vec(), |arch| vec![arch]);
    let mut unexpected = Vec::new();
    for arch in arches {
        install::qemu(arch)?;
        let stage = Stage {
            arch,
            compiler: Compiler::new(arch)?,
            kernel: kernel::build_run(arch)?,
            directory: directory.clone(),
            options,
        };
        for demo in DEMOS {
            unexpected.extend(stage.show(demo, &guests)?);
        }
    }
    if unexpected.is_empty() {
        say("all programs ended as expected");
        return Ok(0);
    }
    for what in unexpected {
        say(format_args!("not as expected: {what}"));
    }
    Ok(1)
}

/// One architecture, ready to run programs.
struct Stage<'a> {
    arch: Arch,
    compiler: Compiler,
    kernel: std::path::PathBuf,
    directory: Directory,
    options: Options<'a>,
}

impl Stage<'_> {
    /// Runs one guest as often as it says, and returns what was not as expected.
    fn show(&self, demo: &Demo, guests: &[Guest]) -> Result<Vec<String>> {
        let guest = guests
            .iter()
            .find(|guest| guest.name == demo.guest)
            .with_context(|| format!("qemu/guests has no guest `{}`", demo.guest))?;
        say(format_args!("{}: {}", self.arch, demo.title));
        let begin = Instant::now();
        let mut unexpected = Vec::new();
        for arguments in demo.runs {
            let line = format!("{} {}", demo.guest, arguments.join(" "));
            eprintln!("$ {line}");
            let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
            let program = Program {
                module: &guest.module,
                args: &arguments,
                env: &[],
                directories: core::slice::from_ref(&self.directory),
            };
            let payload = payload::of_program(&self.compiler, &program)?;
            let status = run::boot(self.arch, &self.kernel, payload, &self.options)?;
            if status != demo.status {
                let (arch, expected) = (self.arch, demo.status);
                unexpected.push(format!("{line} on {arch} ended with status {status}, not {expected}"));
            }
        }
        let (runs, seconds) = (demo.runs.len(), begin.elapsed().as_secs_f32());
        let machines = if runs == 1 { "one machine".to_owned() } else { format!("{runs} machines") };
        say(format_args!("{}: took {machines} and {seconds:.1} s\n", self.arch));
        Ok(unexpected)
    }
}
