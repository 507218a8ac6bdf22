//! `cargo xtask bench`: instructions per operation, beside what they should be.
//!
//! Under `-icount shift=0,sleep=off` one guest instruction takes one virtual nanosecond,
//! so that the guest's time stamp counts instructions: the same number on every run of the
//! same binary, on any host. The machine is the one that the targets were measured on.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::arch::Arch;
use crate::cli;
use crate::compile::Compiler;
use crate::machine::{self, How, Machine};
use crate::progress::say;
use crate::setup::{Memory, Setup};
use crate::verdict::Verdict;
use crate::{guests, image, install, kernel, payload, workspace};

/// A row: its name in the kernel, what it is, and what Allotment must reach on x86_64.
struct Row {
    name: &'static str,
    title: &'static str,
    target: Option<u64>,
}

const ROWS: &[Row] = &[
    row("entry-to-first-result", "kernel entry to the first wasm result", Some(10_000_000)),
    row("main-to-first-result", "of which after boot: carve, engine, module, instance, call", None),
    row("a0-cycle-without-memory", "a0. store, instantiate, drop; no memory", Some(5_100)),
    row("a-cycle-one-page", "a. the same with one page of memory", Some(6_700)),
    row("a-share-platform-calls", "our share of a: reserve, 64 KiB accessible, release", Some(650)),
    row("d-grow-one-page-warm", "d. memory.grow by one wasm page, warm slot", Some(600)),
    row("d-grow-one-page-cold", "d. the same, cold slot: 16 frames cleared", None),
    row("d-share-mprotect", "our share of d: 64 KiB made accessible", Some(150)),
    row("e-trap-with-backtrace", "e. out-of-bounds load to Err, with backtrace", Some(4_700)),
    row("e-trap-without-backtrace", "e. the same without backtrace", Some(1_900)),
    row("e-share-fault", "our share of e: exception entry, verdict, exception exit", None),
];

const fn row(name: &'static str, title: &'static str, target: Option<u64>) -> Row {
    Row { name, title, target }
}

/// Boots the bench kernel and prints a table for each architecture.
pub(crate) fn bench(words: &cli::Bench) -> Result<u8> {
    let arches = words.arch.map_or(Arch::ALL.to_vec(), |arch| vec![arch]);
    let guests: Vec<_> = guests::all()?
        .into_iter()
        .filter(|guest| ["bench", "empty"].contains(&guest.name.as_str()))
        .collect();
    for arch in arches {
        install::qemu(arch)?;
        let payload = payload::of_tests(&Compiler::new(arch)?, &guests)?;
        let elf = kernel::build(arch, "bench")?;
        let file = workspace::cache("bench")?.join(format!("{arch}.elf"));
        image::write(&std::fs::read(&elf).context("cannot read the bench kernel")?, &payload, &file)?;
        let console = count(arch, &file)?;
        println!("| {arch}, instructions | measured | target |\n|---|---:|---:|");
        for row in ROWS {
            let Some(count) = find(&console, row.name) else { continue };
            let target = row.target.map_or("-".to_owned(), |target| target.to_string());
            println!("| {} | {count} | {target} |", row.title);
        }
        println!();
    }
    Ok(0)
}

/// The console of the bench kernel.
fn count(arch: Arch, file: &Path) -> Result<String> {
    let mut setup = Setup::new(arch, file);
    setup.memory = Memory { mebibytes: 4096 };
    let (machine, cpu) = match arch {
        Arch::X86_64 => ("q35", "max,-erms,-fsrm"),
        Arch::Aarch64 => ("virt", "max"),
    };
    setup.machine = Some(machine.to_owned());
    setup.cpu = Some(cpu.to_owned());
    let flags = "-accel tcg,thread=single -smp 1 -seed 1 -rtc base=2026-01-01T00:00:00,clock=vm -icount shift=0,sleep=off";
    setup.extra = flags.split(' ').map(str::to_owned).collect();
    say(format_args!("counting on {arch} ..."));
    let ended = Machine::start(&setup, None, machine::unseen())?.wait(None)?;
    if ended.how != How::Verdict(Verdict::Well) {
        bail!("the bench kernel failed on {arch}:\n{}{}", ended.console, ended.messages);
    }
    Ok(ended.console)
}

/// The number in the line `row NAME NUMBER`.
fn find(console: &str, name: &str) -> Option<u64> {
    let mut lines = console.lines().map(str::split_ascii_whitespace);
    lines.find_map(|mut words| {
        let found = words.next() == Some("row") && words.next() == Some(name);
        found.then(|| words.next()?.parse().ok())?
    })
}
