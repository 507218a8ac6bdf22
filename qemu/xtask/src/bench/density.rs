//! Densities: how many instances of the demo's modules fit 1 GiB, a table of the page's own.
//!
//! ```text
//!   fit-summarise-per-instance-run     a row of the kernel's, and of the data files
//!          |           |        +- idle, or after a run
//!          |           +---------- how frames are committed
//!          +---------------------- which module
//! ```

use super::data::Data;
use crate::arch::Arch;
use crate::units::thousands;

/// The demo's modules, and what they are.
const MODULES: [(&str, &str); 3] = [
    ("summarise", "`summarise`, which reads 500 kB of JSON"),
    ("sieve", "`sieve`, which grows to some 50 MiB"),
    ("misbehave", "`misbehave`, which has one wasm page"),
];

/// The ways to commit frames, as the kernel names them and as embedders do.
const MODES: [(&str, &str); 3] =
    [("fixed", "`Fixed`"), ("strict", "`Elastic(Strict)`"), ("per-instance", "`Elastic(PerInstance)`")];

/// The row of a density, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fit<'a> {
    module: &'a str,
    mode: &'a str,
    when: &'a str,
}

impl<'a> Fit<'a> {
    /// None if the row is none.
    pub(super) fn of_row(name: &'a str) -> Option<Self> {
        let (module, rest) = name.strip_prefix("fit-")?.split_once('-')?;
        let (mode, when) = rest.rsplit_once('-')?;
        ["idle", "run"].contains(&when).then_some(Self { module, mode, when })
    }
}

/// The table, if there is anything to be in it.
pub(super) fn in_page(files: &[(Arch, Data)]) -> String {
    let mut lines = String::new();
    for (module, title) in MODULES {
        for (mode, way) in MODES {
            let counts = files
                .iter()
                .flat_map(|(_, data)| ["idle", "run"].map(|when| count(data, module, mode, when)));
            let counts: Vec<Option<u64>> = counts.collect();
            if counts.iter().any(Option::is_some) {
                lines += &format!("| {title}; {way} |");
                for count in counts {
                    lines += &format!(" {} |", count.map_or("-".to_owned(), thousands));
                }
                lines.push('\n');
            }
        }
    }
    if lines.is_empty() {
        return lines;
    }
    let columns: String = files.iter().map(|(arch, _)| format!(" {arch}, idle | after a run |")).collect();
    let rule = "---:|".repeat(2 * files.len());
    format!("\n| instances in 1 GiB |{columns}\n|---|{rule}\n{lines}")
}

fn count(data: &Data, module: &str, mode: &str, when: &str) -> Option<u64> {
    data.rows.get(&format!("fit-{module}-{mode}-{when}")).copied()
}

#[cfg(test)]
mod tests {
    use super::super::data::tests::data;
    use super::{Fit, in_page};
    use crate::arch::Arch;

    #[test]
    fn a_row_of_a_density_says_of_what() {
        let fit = Fit { module: "sieve", mode: "per-instance", when: "run" };
        assert_eq!(Fit::of_row("fit-sieve-per-instance-run"), Some(fit));
        for other in ["pool-cold", "fit-sieve", "fit-sieve-fixed", "fit-sieve-fixed-later", ""] {
            assert_eq!(Fit::of_row(other), None, "{other}");
        }
    }

    #[test]
    fn the_table_has_a_line_for_each_mode_that_was_counted() {
        let x86_64 = data(&[("fit-sieve-fixed-idle", 17), ("fit-sieve-fixed-run", 17), ("z", 1)]);
        let aarch64 = data(&[("fit-misbehave-strict-run", 12345)]);
        let table = in_page(&[(Arch::X86_64, x86_64), (Arch::Aarch64, aarch64)]);
        let expected = "
| instances in 1 GiB | x86_64, idle | after a run | aarch64, idle | after a run |
|---|---:|---:|---:|---:|
| `sieve`, which grows to some 50 MiB; `Fixed` | 17 | 17 | - | - |
| `misbehave`, which has one wasm page; `Elastic(Strict)` | - | - | - | 12,345 |
";
        assert_eq!(table, expected);
        assert_eq!(in_page(&[]), "");
    }
}
