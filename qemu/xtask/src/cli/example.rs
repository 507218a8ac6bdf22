//! `cargo xtask example`.

use clap::Args;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask example             their names, and what each shows
  cargo xtask example hobby       build one and boot it; its console is standard output

Each is a workspace of its own in `examples/NAME`, with a README: a kernel as you might have one, and what
there is of Allotment in it. In its directory `cargo build` and `cargo run` do the same.

Exit status: 0 if it printed and ended as it is meant to, 2 for a name that there is not, 125 if not.")]
pub(crate) struct Example {
    /// Which one.
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// Only say which there are.
    #[arg(long)]
    pub(crate) list: bool,

    /// Show QEMU's command line (on standard error).
    #[arg(short, long)]
    pub(crate) verbose: bool,
}
