//! `bench --explain CASE`: which functions the instructions of a row are in.
//!
//! ```text
//!   counted   the machine, and which group counts the row
//!   trace     every instruction that is counted         debugger   stops at marks, speaks to QEMU
//!   profile   counts by function, and with all it calls code       functions, inlined ones, crates
//! ```

use anyhow::{Context, Result};

use super::code::{Code, Function};
use super::counted::{DEADLINE, Group, Kernel, Kernels};
use super::profile::{Profile, Share, by_count};
use super::rows;
use super::trace::{Marks, trace};
use crate::arch::Arch;
use crate::error::Usage;
use crate::progress;
use crate::units::thousands;

/// How many names are proposed for one that does not exist.
const PROPOSED: usize = 10;

/// What is shown of functions: at least so many tenths of a percent of the row.
const LEAST: u64 = 2;
/// And of functions inlined into one.
const LEAST_INLINED: u64 = 10;

/// Explains the row on one architecture, on standard output.
pub(super) fn explain(arch: Arch, case: &str) -> Result<()> {
    let kernels = Kernels::build(arch)?;
    let groups = kernels.groups()?;
    let group = find(case, &groups)?;
    let traced =
        progress::step(&format!("following `{case}` on {arch}"), |_| kernels.of(group).trace(case, group))?;
    print!("{}", text(arch, case, &traced));
    Ok(())
}

/// A row's instructions.
pub(super) struct Traced {
    pub(super) profile: Profile,
    /// What the kernel counted itself meanwhile, and for how many operations.
    pub(super) count: u64,
    pub(super) operations: u64,
    /// The row.
    pub(super) row: u64,
}

/// The group that counts the row.
fn find<'a>(case: &str, groups: &'a [Group]) -> Result<&'a Group> {
    let group = groups.iter().find(|group| group.rows.iter().any(|row| row == case));
    let names = groups.iter().flat_map(|group| &group.rows);
    match group {
        None => {
            let near = near(case, names.map(String::as_str)).join("\n  ");
            Err(Usage(format!("no row is called `{case}`; near it are\n\n  {near}\n")).into())
        }
        Some(_) if !rows::unit(case).is_empty() => {
            let unit = rows::unit(case);
            Err(Usage(format!("row `{case}` counts no instructions ({unit}); choose one that does")).into())
        }
        Some(group) => Ok(group),
    }
}

/// Names like this one: those that contain it, then those that take the fewest changes.
fn near<'a>(case: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names: Vec<_> = names.map(|name| (!name.contains(case), changes(case, name), name)).collect();
    names.sort_unstable();
    names.into_iter().take(PROPOSED).map(|(.., name)| name).collect()
}

/// How many letters are to be put in, taken out or replaced to make one word of the other.
fn changes(from: &str, to: &str) -> usize {
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (row, old) in from.bytes().enumerate() {
        let mut line = vec![row + 1];
        for (column, new) in to.bytes().enumerate() {
            let replaced = above[column] + usize::from(old != new);
            line.push(replaced.min(above[column + 1] + 1).min(line[column] + 1));
        }
        above = line;
    }
    above.last().copied().unwrap_or(0)
}

/// Tables by function and by crate.
fn text(arch: Arch, case: &str, traced: &Traced) -> String {
    let profile = &traced.profile;
    let scale = Scale { all: profile.count(), operations: traced.operations };
    let mut text = format!("{arch}, {case}: {}\n{}\n\n", rows::title(case), agreement(traced));
    text += &format!("  {:>12} {:>8} {:>12}  function\n", "self", "", "total");
    let (shown, rest): (Vec<_>, Vec<_>) =
        profile.functions().into_iter().partition(|(_, share)| scale.tenths(share.count) >= LEAST);
    for (function, share) in &shown {
        text += &of_function(&scale, profile, *function, share);
    }
    if !rest.is_empty() {
        let count = rest.iter().map(|(_, share)| share.count).sum();
        text += &scale.line(count, "", &format!("{} more functions", rest.len()));
    }
    text += "\n  by crate\n";
    for (krate, count) in profile.crates() {
        text += &scale.line(count, "", &krate);
    }
    text + "\n"
}

/// A function, and below it what was inlined there.
fn of_function(scale: &Scale, profile: &Profile, function: Function, share: &Share) -> String {
    let total = scale.per_operation(profile.total(function));
    let mut text = scale.line(share.count, &total, &profile.title(function));
    for ((name, file), (count, line)) in by_count(share.inlined.clone(), |inlined| inlined.0) {
        if scale.tenths(count) >= LEAST_INLINED {
            let count = scale.per_operation(count);
            // Line 0 is none.
            let line = if line == 0 { String::new() } else { format!(":{line}") };
            text += &format!("{:>39} {count:>6}  {name} ({file}{line})\n", "");
        }
    }
    text
}

/// Whether what was seen is what the row says.
fn agreement(traced: &Traced) -> String {
    let Traced { profile, count, operations, row } = traced;
    let seen = profile.count();
    let mut text = format!(
        "{} instructions for each of {} operations",
        thousands(seen / operations),
        thousands(*operations)
    );
    text += &match seen.abs_diff(*count) {
        0 => ", the same as the clock has counted".to_owned(),
        far => format!(" ({} were seen, the clock has counted {}: {} do not agree)", seen, count, far),
    };
    text += &match (count / operations, *row) {
        (each, row) if each == row => ", which is the row".to_owned(),
        (each, row) => format!(
            ";\nthe row says {}: it takes off {} that are not the operation's own",
            thousands(row),
            if each > row { thousands(each - row) } else { format!("-{}", thousands(row - each)) }
        ),
    };
    text
}

/// From counts of all operations to what is shown.
struct Scale {
    all: u64,
    operations: u64,
}

impl Scale {
    /// Tenths of a percent of the row.
    fn tenths(&self, count: u64) -> u64 {
        (count * 1000 + self.all / 2) / self.all.max(1)
    }

    /// With a decimal where it is few.
    fn per_operation(&self, count: u64) -> String {
        let tenths = (count * 10 + self.operations / 2) / self.operations.max(1);
        if tenths < 1000 && !tenths.is_multiple_of(10) {
            return format!("{}.{}", tenths / 10, tenths % 10);
        }
        thousands((tenths + 5) / 10)
    }

    fn line(&self, count: u64, total: &str, name: &str) -> String {
        let (own, tenths) = (self.per_operation(count), self.tenths(count));
        let percent = format!("{}.{} %", tenths / 10, tenths % 10);
        format!("  {own:>12} {percent:>8} {total:>12}  {name}\n")
    }
}

impl Traced {
    /// With what the kernel's console says.
    pub(super) fn new(case: &str, profile: Profile, console: &str) -> Result<Self> {
        let numbers = |first: &str| {
            let line = console.lines().find_map(|line| line.strip_prefix(first)?.strip_prefix(case))?;
            let numbers = line.split_ascii_whitespace().map(str::parse);
            line.starts_with(' ').then(|| numbers.collect::<Result<Vec<u64>, _>>().ok()).flatten()
        };
        let explained = numbers("explained ").context("the bench kernel does not say what it has counted")?;
        let row = numbers("row ").context("the bench kernel has not counted the row")?;
        match (&explained[..], &row[..]) {
            (&[_, 0], _) => Err(Usage(format!(
                "row `{case}` is worked out from the counts of others; explain those of its group instead"
            ))
            .into()),
            (&[count, operations], &[row]) => Ok(Self { profile, count, operations, row }),
            _ => anyhow::bail!("the bench kernel says of `{case}` {explained:?} and {row:?}"),
        }
    }
}

impl Kernel {
    /// Counts the row once more, and follows it.
    fn trace(&self, case: &str, group: &Group) -> Result<Traced> {
        let code = Code::read(self.arch(), self.elf())?;
        let mark = |name: &str| code.address_of(name);
        let marks = Marks { begin: mark("bench_explain_begin")?, end: mark("bench_explain_end")? };
        let setup = self.setup(&["--explain", case, &group.name], group.cpus);
        let (profile, console) = trace(&setup, marks, DEADLINE, Profile::new(code), Profile::add)?;
        Traced::new(case, profile, &console)
    }
}

#[cfg(test)]
mod tests {
    use super::{Scale, changes, find, near};
    use crate::bench::counted::Group;
    use crate::kernel::With;
    use crate::setup::Cpus;

    #[test]
    fn near_names() {
        assert_eq!(changes("image-reset", "image-reset"), 0);
        assert_eq!(changes("reveal", "revael"), 2);
        assert_eq!(changes("", "abc"), 3);
        let names = ["pool-cold", "image-reset-0", "instance-cold", "pool-grow-16"];
        assert_eq!(near("pool-clod", names.into_iter())[0], "pool-cold");
        assert_eq!(near("cold", names.into_iter())[..2], ["pool-cold", "instance-cold"]);
    }

    #[test]
    fn only_rows_of_instructions_are_found() {
        let rows = ["pool-cold", "pool-idle-slot-bytes", "fit-sieve-fixed-idle"].map(str::to_owned).to_vec();
        let groups =
            [Group { name: "pools".to_owned(), kernel: With::Nothing, quick: true, cpus: Cpus::ONE, rows }];
        assert_eq!(find("pool-cold", &groups).unwrap().name, "pools");
        let unknown = find("pool-col", &groups).unwrap_err().to_string();
        assert!(unknown.contains("no row is called `pool-col`; near it are\n\n  pool-cold\n"), "{unknown}");
        assert!(find("pool-idle-slot-bytes", &groups).unwrap_err().to_string().contains("(bytes)"));
        assert!(find("fit-sieve-fixed-idle", &groups).unwrap_err().to_string().contains("(instances)"));
    }

    #[test]
    fn counts_are_shown_for_one_operation() {
        let scale = Scale { all: 2000, operations: 10 };
        assert_eq!(scale.line(1000, "200", "f"), "           100   50.0 %          200  f\n");
        assert_eq!(scale.line(3, "", "f"), "           0.3    0.2 %               f\n");
    }
}
