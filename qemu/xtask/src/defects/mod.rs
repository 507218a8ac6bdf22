//! `test defects`: do the tests notice?
//!
//! ```text
//!   table   mistakes: a piece of a file, and what it becomes
//!   tree    a copy of the source below the target directory, in which one is made at a time
//!   tests   the core's tests, built from the copy and run until one fails
//! ```
//!
//! Unchanged, the copy's tests must pass; with each mistake, one must fail. The copy's builds are kept,
//! so that a mistake costs the building of what it touches.

mod table;
mod tests;
mod tree;

use std::time::Instant;

use anyhow::{Context, Result, bail};

use self::tests::{Outcome, Tests};
use self::tree::Tree;
use crate::arch::Arch;
use crate::error::Usage;
use crate::progress;
use crate::{install, workspace};

/// A mistake to be made on purpose.
#[derive(Debug)]
struct Defect {
    name: &'static str,
    what: &'static str,
    file: &'static str,
    /// What occurs exactly once in the file.
    from: &'static str,
    to: &'static str,
    place: Place,
}

/// Where a mistake shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Host,
    Machine(Machine),
}

/// A machine whose tests are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Machine {
    arch: Arch,
    /// The runner's variables, as `cargo xtask test` sets them.
    variables: [(&'static str, &'static str); 3],
}

impl Defect {
    /// A mistake that shows on the host.
    const fn new(
        name: &'static str,
        what: &'static str,
        file: &'static str,
        from: &'static str,
        to: &'static str,
    ) -> Self {
        Self { name, what, file, from, to, place: Place::Host }
    }

    /// The same for one that shows on a machine only.
    const fn on(self, machine: Machine) -> Self {
        Self { place: Place::Machine(machine), ..self }
    }
}

#[allow(dead_code, reason = "for the entries that need them")]
impl Machine {
    /// A machine of the usual kind.
    const fn new(arch: Arch) -> Self {
        let variables = [("ALLOTMENT_CPU", "max"), ("ALLOTMENT_SMP", "1"), ("ALLOTMENT_WORDS", "")];
        Self { arch, variables }
    }

    /// With another CPU model of QEMU's.
    const fn cpu(mut self, model: &'static str) -> Self {
        self.variables[0].1 = model;
        self
    }

    /// With several CPUs.
    const fn smp(mut self, cpus: &'static str) -> Self {
        self.variables[1].1 = cpus;
        self
    }

    /// With more words on the kernel's command line.
    const fn words(mut self, words: &'static str) -> Self {
        self.variables[2].1 = words;
        self
    }
}

/// Makes the mistakes whose names contain one of `names`, or all.
pub(crate) fn defects(names: &[String]) -> Result<u8> {
    let chosen = chosen(names)?;
    let tree = Tree::copy(&workspace::cache("defects")?)?;
    for defect in &chosen {
        tree.check(defect)?;
    }
    for (at, defect) in chosen.iter().enumerate() {
        if !chosen[..at].iter().any(|before| before.place == defect.place) {
            unchanged(&tree, defect.place)?;
        }
    }
    let width = chosen.iter().map(|defect| defect.name.len()).max().unwrap_or(0);
    let mut caught = 0;
    for defect in &chosen {
        let begin = Instant::now();
        let outcome = made(&tree, defect)?;
        caught += usize::from(outcome != Outcome::Passed);
        let by = match outcome {
            Outcome::Passed => "ESCAPED: no test fails".to_owned(),
            Outcome::Failed(test) => format!("caught by {test}"),
            Outcome::Hung => format!("caught: a hang, stopped after {} s", tests::DEADLINE.as_secs()),
        };
        let Defect { name, what, .. } = defect;
        println!(
            "{name:<width$}  {:>5.1} s  {by}\n{:width$}           {what}",
            begin.elapsed().as_secs_f32(),
            ""
        );
    }
    println!("defects: {caught} of {} caught", chosen.len());
    Ok(u8::from(caught != chosen.len()))
}

fn chosen(names: &[String]) -> Result<Vec<&'static Defect>, Usage> {
    let is_wanted =
        |defect: &&Defect| names.is_empty() || names.iter().any(|name| defect.name.contains(name));
    let chosen: Vec<_> = table::DEFECTS.iter().filter(is_wanted).collect();
    if chosen.is_empty() {
        let all: Vec<&str> = table::DEFECTS.iter().map(|defect| defect.name).collect();
        let (names, all) = (names.join("` or `"), all.join("\n  "));
        return Err(Usage(format!("no defect's name contains `{names}`; there are\n\n  {all}\n")));
    }
    Ok(chosen)
}

/// Runs the tests without any mistake: they prove nothing unless they pass then.
fn unchanged(tree: &Tree, place: Place) -> Result<()> {
    let tests = progress::step("building the tests unchanged", |step| Tests::build(tree, place, step))?;
    let outcome = progress::step("running the tests unchanged", |_| tests.run())?;
    match outcome {
        Outcome::Passed => Ok(()),
        Outcome::Failed(test) => bail!("`{test}` fails without any defect; mend that first"),
        Outcome::Hung => bail!("the tests hang without any defect; mend that first"),
    }
}

/// Runs the tests with one mistake.
fn made(tree: &Tree, defect: &Defect) -> Result<Outcome> {
    let applied = tree.apply(defect)?;
    let what = format!("making the mistake `{}`", defect.name);
    let outcome = progress::step(&what, |step| {
        let tests = Tests::build(tree, defect.place, step).with_context(|| {
            format!("the defect `{}` does not compile; mend qemu/xtask/src/defects/table.rs", defect.name)
        })?;
        tests.run()
    });
    applied.undo()?;
    outcome
}

/// What building for the place needs.
fn prepare(place: Place) -> Result<()> {
    match place {
        Place::Host => Ok(()),
        Place::Machine(machine) => {
            install::rust_target(machine.arch.triple())?;
            install::qemu(machine.arch)
        }
    }
}

#[cfg(test)]
mod unit_tests {
    use super::{Defect, Machine, Place, chosen, table::DEFECTS, tree};
    use crate::arch::Arch;
    use crate::workspace;

    #[test]
    fn every_entry_fits_the_source() {
        for defect in DEFECTS {
            let text = std::fs::read_to_string(workspace::root().join(defect.file)).unwrap();
            tree::changed(&text, defect).unwrap();
            let same_name = DEFECTS.iter().filter(|other| other.name == defect.name).count();
            assert_eq!(same_name, 1, "{}", defect.name);
        }
    }

    #[test]
    fn a_part_of_a_name_chooses() {
        let names = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            chosen(&words).map(|chosen| chosen.len()).map_err(|error| error.to_string())
        };
        assert_eq!(names(&[]), Ok(DEFECTS.len()));
        assert_eq!(names(&[DEFECTS[0].name]), Ok(1));
        assert!(names(&["nonsense"]).unwrap_err().contains(DEFECTS[0].name));
    }

    #[test]
    fn what_is_no_longer_there_is_an_error() {
        let defect = Defect::new("n", "", "src/f.rs", "a", "b").on(Machine::new(Arch::X86_64));
        assert_eq!(defect.place, Place::Machine(Machine::new(Arch::X86_64)));
        assert_eq!(tree::changed("xay", &defect).unwrap(), "xby");
        for (text, count) in [("xy", "0 times"), ("aa", "2 times")] {
            let error = tree::changed(text, &defect).unwrap_err().to_string();
            assert!(error.contains(count) && error.contains("src/f.rs"), "{error}");
        }
    }

    #[test]
    fn a_machine_is_told_to_the_runner() {
        let machine = Machine::new(Arch::Aarch64).cpu("cortex-a72").smp("4").words("word");
        let values = machine.variables.map(|(_, value)| value);
        assert_eq!(values, ["cortex-a72", "4", "word"]);
    }
}
