//! What can be typed about the benchmark.

use clap::Args;

use crate::arch::Arch;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask bench                    everything; writes docs/performance.md and its data files
  cargo xtask bench --quick --check    has the machine layer become slower?
  cargo xtask bench --arch aarch64 grow trap
  cargo xtask bench curve              the curves of docs/performance/CURVE.svg alone
  cargo xtask bench --explain pool-warm-clean --arch x86_64
                                       which functions the instructions of this row are in

The numbers are guest instructions under QEMU's `-icount shift=0,sleep=off`: the same on every run of the
same binary. They say nothing about caches and TLBs. `!` marks a row that misses its target.

What was measured goes to docs/performance/ARCH.json, the baseline of the next time, and from there to
docs/performance.md and the pictures that it shows. With other versions of rustc and QEMU than the baseline's,
only a whole run is written.

With --explain each instruction of one row is seen: those of a function itself, and those with all that it calls.
Functions that were inlined are shown below the one that they ended up in, with what of it is theirs. By crate an
instruction counts where it was written, and what was inlined from core and alloc with who calls that. Nothing is
written. It takes a few seconds for each million instructions that the row counts in all of its rounds.

Exit status: 0; with --check 1 if a row is more than 2 % above or below its baseline, unless rustc or QEMU
are other ones, or if a picture does not show what the data files say; 2 if no row has such a name, or
the one to be explained does not count instructions; 125 if something is missing.")]
pub(crate) struct Bench {
    /// The architecture to count on [default: both].
    #[arg(long)]
    pub(crate) arch: Option<Arch>,

    /// Count only what needs no Wasmtime and little time.
    #[arg(long)]
    pub(crate) quick: bool,

    /// Write nothing; fail if a row is more than 2 % above or below its baseline.
    #[arg(long)]
    pub(crate) check: bool,

    /// Attribute the instructions of one row to functions, by its name in the data files.
    #[arg(long, value_name = "CASE", conflicts_with_all = ["quick", "check", "cases"])]
    pub(crate) explain: Option<String>,

    /// Parts of names of rows, as the data files have them [default: all].
    #[arg(value_name = "CASE")]
    pub(crate) cases: Vec<String>,
}
