//! The machines that count: those on which the targets were measured.
//!
//! Under `-icount shift=0,sleep=off` one guest instruction takes one virtual nanosecond, so that
//! the guest's time stamp counts instructions: the same number on every run of the same binary, on
//! any host.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::modules;
use crate::arch::Arch;
use crate::compile::Compiler;
use crate::kernel::With;
use crate::machine::{self, How, Machine};
use crate::progress;
use crate::setup::{Cpus, Memory, Setup};
use crate::verdict::Verdict;
use crate::{demo, guests, image, install, kernel, payload, symbols, workspace};

/// How long a group may take on a busy host.
pub(super) const DEADLINE: Duration = Duration::from_secs(600);

/// The guests that the kernel runs.
const GUESTS: [&str; 5] = ["bench", "empty", "misbehave", "sieve", "summarise"];

/// What makes numbers repeat, apart from the memory's size and the number of CPUs.
const FLAGS: &str =
    "-accel tcg,thread=single -seed 1 -rtc base=2026-01-01T00:00:00,clock=vm -icount shift=0,sleep=off";

/// The machine's type and its CPU.
fn model(arch: Arch) -> (&'static str, &'static str) {
    match arch {
        // Without `-erms,-fsrm` an operating system would clear pages byte by byte, one instruction each:
        // that comparison would flatter us.
        Arch::X86_64 => ("q35", "max,-erms,-fsrm"),
        Arch::Aarch64 => ("virt", "max"),
    }
}

/// What of QEMU's line decides about the numbers.
pub(super) fn flags(arch: Arch) -> String {
    let (machine, cpu) = model(arch);
    format!("-M {machine} -cpu {cpu} -m 4096M {FLAGS}")
}

/// The rows that the kernel counts on one machine.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) name: String,
    /// The kernel that counts it.
    pub(super) kernel: With,
    pub(super) quick: bool,
    pub(super) cpus: Cpus,
    pub(super) rows: Vec<String>,
}

impl Group {
    /// Reads a line `group NAME quick|whole CPUS ROW ..` of a kernel.
    fn of_line(kernel: With, line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("group") {
            return None;
        }
        let name = words.next()?.to_owned();
        let quick = words.next()? == "quick";
        let cpus = words.next()?.parse().ok()?;
        Some(Self { name, kernel, quick, cpus, rows: words.map(str::to_owned).collect() })
    }
}

/// The bench kernel without asynchronous calls, and the one with them.
pub(super) struct Kernels([Kernel; 2]);

impl Kernels {
    pub(super) fn build(arch: Arch) -> Result<Self> {
        Ok(Self([Kernel::build(arch, With::Nothing)?, Kernel::build(arch, With::Async)?]))
    }

    /// All groups there are. What both kernels can count, that without asynchronous calls does.
    pub(super) fn groups(&self) -> Result<Vec<Group>> {
        let [plain, with_async] = &self.0;
        let mut groups = plain.groups()?;
        let mut more = with_async.groups()?;
        more.retain(|group| groups.iter().all(|plain| plain.name != group.name));
        groups.append(&mut more);
        Ok(groups)
    }

    /// Counts the rows of `groups`, in their order.
    pub(super) fn count(&self, groups: &[&Group]) -> Result<Vec<(String, u64)>> {
        let mut measured = Vec::new();
        progress::step(&format!("counting on {}", self.0[0].arch), |step| {
            for group in groups {
                step.detail(&group.name);
                measured.append(&mut self.of(group).count(group)?);
            }
            Ok(())
        })?;
        Ok(measured)
    }

    /// The kernel that counts this group.
    pub(super) fn of(&self, group: &Group) -> &Kernel {
        &self.0[usize::from(group.kernel == With::Async)]
    }
}

/// A bench kernel and all that it needs.
pub(super) struct Kernel {
    arch: Arch,
    with: With,
    elf: PathBuf,
    image: PathBuf,
}

impl Kernel {
    fn build(arch: Arch, with: With) -> Result<Self> {
        install::qemu(arch)?;
        let mut guests: Vec<_> =
            guests::all()?.into_iter().filter(|guest| GUESTS.contains(&guest.name.as_str())).collect();
        guests.extend(modules::write_all()?);
        let mut payload = payload::of_tests(&Compiler::for_plain_kernel(arch)?, &guests)?;
        payload.add("orders.json", guest_data::orders(demo::ORDERS).into_bytes())?;
        let kernel =
            std::fs::read(kernel::build_bench(arch, with)?).context("cannot read the bench kernel")?;
        let name = match with {
            With::Nothing => "plain",
            With::Async => "async",
        };
        let cache = workspace::cache("bench")?;
        // The other kernel takes its file's place.
        let elf = cache.join(format!("{arch}-{name}-kernel.elf"));
        workspace::write_atomically(&elf, |file| {
            std::io::Write::write_all(file, &kernel).context("cannot keep the bench kernel")
        })?;
        let image = cache.join(format!("{arch}-{name}.elf"));
        image::write(&kernel, &payload, &image)?;
        Ok(Self { arch, with, elf, image })
    }

    fn groups(&self) -> Result<Vec<Group>> {
        let console = self.boot("--list", Cpus::ONE)?;
        let groups: Vec<Group> = console.lines().filter_map(|line| Group::of_line(self.with, line)).collect();
        ensure!(!groups.is_empty(), "the bench kernel lists no groups:\n{console}");
        Ok(groups)
    }

    fn count(&self, group: &Group) -> Result<Vec<(String, u64)>> {
        let rows = rows(&self.boot(&group.name, group.cpus)?);
        let names: Vec<&String> = rows.iter().map(|(name, _)| name).collect();
        ensure!(
            names == group.rows.iter().collect::<Vec<_>>(),
            "group `{}` of the bench kernel says that it counts {:?}, and counts {names:?}",
            group.name,
            group.rows
        );
        Ok(rows)
    }

    pub(super) fn arch(&self) -> Arch {
        self.arch
    }

    /// Its file, with symbols.
    pub(super) fn elf(&self) -> &Path {
        &self.elf
    }

    /// A machine of the kernel's own, with words for it.
    pub(super) fn setup(&self, words: &[&str], cpus: Cpus) -> Setup {
        let (machine, cpu) = model(self.arch);
        let mut setup = Setup::new(self.arch, &self.image);
        setup.memory = Memory { mebibytes: 4096 };
        setup.smp = cpus;
        setup.machine = Some(machine.to_owned());
        setup.cpu = Some(cpu.to_owned());
        setup.words = words.iter().map(|word| (*word).to_owned()).collect();
        setup.extra = FLAGS.split(' ').map(str::to_owned).collect();
        setup
    }

    /// The console of such a machine.
    fn boot(&self, word: &str, cpus: Cpus) -> Result<String> {
        let setup = self.setup(&[word], cpus);
        let ended = Machine::start(&setup, None, machine::unseen())?.wait(Some(DEADLINE))?;
        let how = match ended.how {
            How::Verdict(Verdict::Well) => return Ok(ended.console),
            How::Verdict(verdict) => verdict.to_string(),
            How::Deadline(deadline) => format!("stopped after {} s", deadline.as_secs()),
            How::Stopped => "stopped".to_owned(),
        };
        let console = symbols::symbolise(&ended.console, &self.elf);
        bail!("the bench kernel (`{word}`, on {}): {how}\n{console}{}", self.arch, ended.messages)
    }
}

/// What the lines `row NAME COUNT` say.
fn rows(console: &str) -> Vec<(String, u64)> {
    let row = |line: &str| match *line.split_ascii_whitespace().collect::<Vec<_>>() {
        ["row", name, count] => Some((name.to_owned(), count.parse().ok()?)),
        _ => None,
    };
    console.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::{Group, rows};
    use crate::kernel::With;
    use crate::setup::Cpus;

    #[test]
    fn groups_and_rows_are_read_among_other_lines() {
        let group = Group::of_line(With::Nothing, "group machine quick 4 a-share d-share\r").unwrap();
        let rows_of_it = vec!["a-share".to_owned(), "d-share".to_owned()];
        let name = "machine".to_owned();
        assert_eq!(
            group,
            Group { name, kernel: With::Nothing, quick: true, cpus: Cpus::FOUR, rows: rows_of_it }
        );
        assert!(!Group::of_line(With::Async, "group start whole 1 x").unwrap().quick);
        assert_eq!(Group::of_line(With::Nothing, "group start whole many x"), None);
        assert_eq!(Group::of_line(With::Nothing, "a group of words"), None);
        let console =
            "booting\r\nrow a 12\r\nrow b nothing\nrow c\nrows d 3\nallotment: machine ended well\n";
        assert_eq!(rows(console), [("a".to_owned(), 12)]);
    }
}
