//! Instructions per operation. Boot it with `cargo xtask bench`, under QEMU's
//! `-icount shift=0`.
//!
//! ```text
//!   command line     console
//!   --list           group NAME quick|whole CPUS ROW ROW ..    for each group there is
//!   NAME ..          row NAME COUNT                            for each row of these groups
//!   --explain ROW    explained ROW INSTRUCTIONS OPERATIONS     at the end; what that shows is in `count`
//! ```
//!
//! `cargo xtask bench` gives each group a machine of its own, so that a number does not
//! depend on what else was asked for. To add rows: count them in a group, name them in its
//! `GROUPS`, and give them titles and targets in `qemu/xtask/src/bench/rows.rs`. The points of a
//! curve are rows as well; what its picture says is in `qemu/xtask/src/bench/curves.rs`.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(all(target_os = "none", feature = "async"))]
mod asynchronous;
#[cfg(target_os = "none")]
mod count;
#[cfg(target_os = "none")]
mod curves;
#[cfg(target_os = "none")]
mod density;
#[cfg(target_os = "none")]
mod edits;
#[cfg(target_os = "none")]
mod group;
#[cfg(target_os = "none")]
mod images;
#[cfg(target_os = "none")]
mod instances;
#[cfg(target_os = "none")]
mod machine;
#[cfg(target_os = "none")]
mod pools;
#[cfg(target_os = "none")]
mod wasm;

#[cfg(not(target_os = "none"))]
fn main() -> std::process::ExitCode {
    eprintln!("this program is a kernel; boot it with `cargo xtask bench`");
    std::process::ExitCode::from(2)
}

#[cfg(target_os = "none")]
kernel::entry!(bare::main);

#[cfg(target_os = "none")]
mod bare {
    use kernel::{BootInfo, Exit};

    #[cfg(feature = "async")]
    use crate::asynchronous;
    use crate::{count, curves, density, edits, group::Group, images, instances, machine, pools, wasm};

    const GROUPS: &[&[Group]] = &[
        #[cfg(feature = "async")]
        asynchronous::GROUPS,
        wasm::GROUPS,
        machine::GROUPS,
        edits::GROUPS,
        pools::GROUPS,
        images::GROUPS,
        instances::GROUPS,
        density::GROUPS,
        curves::GROUPS,
    ];

    pub(crate) fn main(boot: &'static BootInfo) -> ! {
        let groups = || GROUPS.iter().copied().flatten();
        // QEMU's microvm adds words of its own, with a `=`.
        let mut words = boot.command_line.split_ascii_whitespace().filter(|word| !word.contains('='));
        while let Some(word) = words.next() {
            if word == "--list" {
                groups().for_each(Group::list);
                continue;
            }
            if word == "--explain" {
                count::explain(words.next().expect("the name of a row behind `--explain`"));
                continue;
            }
            let group = groups().find(|group| group.name == word);
            let group = group.unwrap_or_else(|| panic!("no group is called `{word}`; give `--list`"));
            (group.run)(boot);
        }
        count::say_explained();
        kernel::exit(Exit::Success)
    }
}
