//! `spec`: WebAssembly's specification tests, in machines.
//!
//! ```text
//!   suite       the files and their names
//!   translate   text -> steps for a machine, modules compiled;   values, compiler
//!               assertions about invalid modules are settled here
//!   machines    steps -> failures, many files in one boot
//!   judge       failures -> passed, failed, skipped;             skips
//!   table       for people
//! ```

mod compiler;
mod judge;
mod machines;
mod skips;
mod suite;
mod table;
mod translate;
mod values;

use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::Result;
use protocol::options::Strategy;

use self::compiler::Compiler;
use self::judge::{Failures, Judged, Tally};
use self::machines::{Kind, Outcome};
use self::suite::Source;
use self::table::Row;
use self::translate::Prepared;
use crate::arch::Arch;
use crate::progress::{self, Step};
use crate::{cli, install, kernel};

/// `cargo xtask spec`.
pub(crate) fn spec(words: &cli::Spec) -> Result<u8> {
    let files = suite::files(&words.words)?;
    if words.list {
        files.iter().for_each(|source| println!("{}", source.name));
        return Ok(0);
    }
    let arches = words.arch.map_or(Arch::ALL.to_vec(), |arch| vec![arch]);
    let strategies = words.strategy.map_or(Strategy::ALL.to_vec(), |strategy| vec![strategy.told()]);
    for arch in &arches {
        install::qemu(*arch)?;
    }
    let mut sums = Sums::new(&files);
    for arch in arches {
        let prepared = prepare(arch, words, &files)?;
        let kernel = kernel::build_spec(arch)?;
        for strategy in &strategies {
            let kind = Kind {
                arch,
                strategy: *strategy,
                collector: words.collector.told(),
                kernel: &kernel,
                timeout: words.timeout,
                verbose: words.verbose,
            };
            sums.add(&format!("{arch}, {strategy}"), &files, run(kind, &files, &prepared)?);
        }
    }
    print!("{}", table::table(&sums.groups, &sums.machines));
    Ok(u8::from(sums.has_failures()))
}

/// Compiles every file, several at a time.
fn prepare(arch: Arch, words: &cli::Spec, files: &[Source]) -> Result<Vec<Prepared>> {
    let compiler = Compiler::new(arch, words.collector.told())?;
    let count = files.len();
    progress::step(&format!("compiling {count} files for {arch}"), |step| {
        let next = AtomicUsize::new(0);
        let prepared = Mutex::new(files.iter().map(|_| None).collect::<Vec<_>>());
        let work = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(source) = files.get(number) else { return };
                step.detail(&format!("file {} of {count}: {}", number + 1, source.name));
                let one = translate::prepare(&source.name, &source.text, &compiler);
                prepared.lock().expect("no holder panics")[number] = Some(one);
            }
        };
        let workers = thread::available_parallelism().map_or(1, NonZero::get).min(count.max(1));
        thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
        let prepared = prepared.into_inner().expect("no holder panics");
        prepared.into_iter().flatten().zip(files).map(|(one, source)| source.unless_ours(one)).collect()
    })
}

/// Runs every file on one kind of machine.
fn run(kind: Kind<'_>, files: &[Source], prepared: &[Prepared]) -> Result<Vec<Judged>> {
    let with_steps: Vec<usize> = (0..files.len()).filter(|&one| !prepared[one].script.is_empty()).collect();
    let scripts: Vec<(&str, &[u8])> =
        with_steps.iter().map(|&one| (files[one].name.as_str(), prepared[one].script.as_slice())).collect();
    let what = format!("running {} files on {} ({})", scripts.len(), kind.arch, kind.strategy);
    let ran = progress::step(&what, |step: &Step| machines::run(kind, &scripts, step))?;
    let mut outcomes = vec![Outcome::Done(Vec::new()); files.len()];
    for (one, outcome) in with_steps.into_iter().zip(ran) {
        outcomes[one] = outcome;
    }
    let all = files.iter().zip(prepared).zip(&outcomes);
    Ok(all.map(|((source, prepared), outcome)| judge::judge(&source.name, prepared, outcome)).collect())
}

/// What came of everything so far.
struct Sums {
    groups: Vec<Row>,
    machines: Vec<(String, Tally)>,
}

impl Sums {
    fn new(files: &[Source]) -> Self {
        let mut groups: Vec<Row> = Vec::new();
        for source in files {
            match groups.iter_mut().find(|row| row.name == source.group) {
                Some(row) => row.files += 1,
                None => groups.push(Row { name: source.group.clone(), files: 1, ..Row::default() }),
            }
        }
        Self { groups, machines: Vec::new() }
    }

    /// Adds what came of the files on a machine, and shows what failed.
    fn add(&mut self, machine: &str, files: &[Source], judged: Vec<Judged>) {
        // What is settled on this computer is the same for all machines.
        let first = self.machines.is_empty();
        let mut all = Tally::default();
        for (source, judged) in files.iter().zip(judged) {
            let Some(row) = self.groups.iter_mut().find(|row| row.name == source.group) else { continue };
            row.there.add(judged.there);
            all.add(judged.there);
            if first {
                row.here.add(judged.here);
                show("on this computer", source, &judged.failed_here);
            }
            show(machine, source, &judged.failed_there);
        }
        self.machines.push((machine.to_owned(), all));
    }

    fn has_failures(&self) -> bool {
        self.groups.iter().any(|row| row.here.failed + row.there.failed > 0)
    }
}

fn show(place: &str, source: &Source, failures: &Failures) {
    for (line, why) in failures {
        match line {
            0 => println!("{}: {place}: {why}", source.name),
            _ => println!("{}:{line}: {place}: {why}", source.name),
        }
    }
}
