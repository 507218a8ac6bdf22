//! `bench`: instructions per operation, beside what they should be and what they were.
//!
//! ```text
//!   counted   one machine per group of rows       the kernel: qemu/run/src/bin/bench
//!   rows      titles, targets, units
//!   data      docs/performance/ARCH.json          what was measured; the baseline
//!   table     on standard output, beside target and baseline
//!   density   how many instances fit 1 GiB
//!   curves    docs/performance/CURVE.svg, from the data files
//!   page      docs/performance.md, from the data files
//!   explain   which functions the instructions of a row are in: trace, debugger, profile, code
//! ```

mod code;
mod counted;
mod curves;
mod data;
mod debugger;
mod density;
mod explain;
mod modules;
mod page;
mod profile;
mod rows;
mod table;
mod trace;

use anyhow::Result;

use self::counted::Kernels;
use self::data::{Conditions, Data};
use crate::arch::Arch;
use crate::cli;
use crate::error::Usage;
use crate::progress::say;

/// `cargo xtask bench`.
pub(crate) fn bench(words: &cli::Bench) -> Result<u8> {
    let arches = words.arch.map_or(Arch::ALL.to_vec(), |arch| vec![arch]);
    if let Some(case) = &words.explain {
        for arch in arches {
            explain::explain(arch, case)?;
        }
        return Ok(0);
    }
    let mut well = true;
    for arch in arches {
        well &= count(arch, words)?;
    }
    if words.check {
        well &= curves_are_drawn()?;
    } else {
        let files = data::all()?;
        curves::write(&files)?;
        page::write(&files)?;
    }
    Ok(u8::from(!well))
}

/// Whether the pictures show what the data files say. Says which do not.
fn curves_are_drawn() -> Result<bool> {
    let stale = curves::stale(&data::all()?);
    for picture in &stale {
        say(format_args!(
            "{} does not show what the data files say; draw it with `cargo xtask bench curve`",
            picture.display()
        ));
    }
    Ok(stale.is_empty())
}

/// Counts on one architecture. False if a check fails.
fn count(arch: Arch, words: &cli::Bench) -> Result<bool> {
    let kernels = Kernels::build(arch)?;
    let groups = kernels.groups()?;
    let asked = |row: &str| words.cases.is_empty() || words.cases.iter().any(|case| row.contains(case));
    let wanted: Vec<_> = groups
        .iter()
        .filter(|group| (group.quick || !words.quick) && group.rows.iter().any(|row| asked(row)))
        .collect();
    if wanted.is_empty() {
        let all: Vec<&str> = groups.iter().flat_map(|group| group.rows.iter().map(String::as_str)).collect();
        let (cases, all) = (words.cases.join("` or `"), all.join("\n  "));
        let quick = if words.quick { " and is quick" } else { "" };
        return Err(
            Usage(format!("no row's name contains `{cases}`{quick}; the rows are\n\n  {all}\n")).into()
        );
    }
    let mut measured = kernels.count(&wanted)?;
    measured.retain(|(row, _)| asked(row));

    let now = Conditions::now(arch, counted::flags(arch))?;
    let baseline = Data::read(arch)?;
    let same = baseline.as_ref().is_none_or(|baseline| baseline.conditions.compare_with(&now));
    let lines = table::lines(arch, &measured, baseline.as_ref());
    print!("{}", table::text(&format!("{arch}, {now}"), &lines));

    let mut moved = lines.iter().any(table::Line::moved);
    if let Some(baseline) = &baseline
        && !same
    {
        say(format_args!("the baseline for {arch} is of {}: not compared", baseline.conditions));
        moved = false;
    }
    if words.check {
        let gone = baseline.as_ref().map(|baseline| baseline.without(&groups)).unwrap_or_default();
        for row in &gone {
            say(format_args!(
                "nobody counts `{row}` any more; write a new baseline with `cargo xtask bench`"
            ));
        }
        if baseline.is_none() {
            say(format_args!("there is no baseline for {arch}; write one with `cargo xtask bench`"));
        }
        if moved {
            say(format_args!(
                "on {arch} rows are more than {} % from their baseline; mend that, or accept it with \
                 `cargo xtask bench` and commit docs/performance",
                table::TOLERANCE
            ));
        }
        return Ok(!moved && gone.is_empty() && baseline.is_some());
    }
    let whole = !words.quick && words.cases.is_empty();
    match baseline.filter(|_| !whole) {
        Some(_) if !same => {
            say(format_args!("not written, since other rows of {arch} would stay: run `cargo xtask bench`"));
        }
        Some(baseline) => baseline.updated(now, measured).write(arch)?,
        None => Data::new(now, measured).write(arch)?,
    }
    Ok(true)
}
