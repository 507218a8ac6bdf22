//! What can be typed about the specification's tests.

use std::time::Duration;

use clap::{Args, ValueEnum};
use protocol::spec;

use super::{Strategy, parse_seconds};
use crate::arch::Arch;

/// Who looks after the objects of the GC proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Collector {
    /// Counts references (the default).
    Drc,
    /// Frees nothing.
    Null,
    /// Copies what lives.
    Copying,
}

impl Collector {
    /// The same, as the kernel is told.
    pub(crate) fn told(self) -> spec::Collector {
        match self {
            Self::Drc => spec::Collector::Drc,
            Self::Null => spec::Collector::Null,
            Self::Copying => spec::Collector::Copying,
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask spec                              everything, on both architectures, with both strategies
  cargo xtask spec --arch x86_64 memory         files with `memory` in their names, the proposals' included
  cargo xtask spec gc/ --collector copying      the files of one proposal
  cargo xtask spec --strategy on-demand simd/simd_load.wast
  cargo xtask spec mine.wast                    a file of yours
  cargo xtask spec --list                       the files there are

Modules are compiled here, with the settings of the kernel that runs them, and each file has a store of its own in
a machine that many files share. What is wrong with modules that no engine may accept (assert_invalid,
assert_malformed) is found here, without a machine, and counted apart. What is left out is listed with reasons in
qemu/xtask/src/spec/skips.rs; an entry of that list which would pass is a failure.

Exit status: 0 if all that is not left out passes; 1 if something fails; 2 if no file has such a name;
125 if something is missing; 126 if a file cannot be read or is no script.")]
pub(crate) struct Spec {
    /// The architecture [default: both].
    #[arg(long)]
    pub(crate) arch: Option<Arch>,

    /// Where memories come from [default: each, one after the other].
    #[arg(long, value_enum)]
    pub(crate) strategy: Option<Strategy>,

    /// Who collects garbage.
    #[arg(long, value_enum, default_value_t = Collector::Drc, hide_default_value = true)]
    pub(crate) collector: Collector,

    /// Stop a machine that has not done with one step of a file after this many seconds.
    #[arg(long, value_name = "S", default_value = "60", value_parser = parse_seconds)]
    pub(crate) timeout: Duration,

    /// Print the names of the files, and run nothing.
    #[arg(long)]
    pub(crate) list: bool,

    /// Show QEMU's command lines and the kernels' consoles (on standard error).
    #[arg(short, long)]
    pub(crate) verbose: bool,

    /// Parts of names, as --list shows them, or files of yours [default: the suite].
    #[arg(value_name = "FILTER | FILE.wast")]
    pub(crate) words: Vec<String>,
}
