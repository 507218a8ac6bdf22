//! What can be typed about instances and where their memories come from.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use protocol::options;

use super::{Machine, parse_seconds};

/// Where linear memories come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Strategy {
    /// From slots that are carved at boot (the default).
    Pooling,
    /// From address space and frames at the time when they are needed.
    OnDemand,
}

impl Strategy {
    /// The same, as the kernel is told.
    pub(crate) fn told(self) -> options::Strategy {
        match self {
            Self::Pooling => options::Strategy::Pooling,
            Self::OnDemand => options::Strategy::OnDemand,
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask draw                                 bundled instances of many sizes
  cargo xtask draw --strategy on-demand -o on-demand.svg
  cargo xtask draw --arch aarch64 --instances 9 hello.wasm

Each program runs to its end; what it writes is not shown, and its standard input is empty. In its environment is
its number, ALLOTMENT_INSTANCE=1 and so on. Then every third instance is given back, the others are kept,
and the picture is taken. It goes to standard output as text, in colour if that is a terminal and NO_COLOR is not
set, and to a file as SVG. The last line is the file's name.

Exit status: 0; 2 usage error, 124 deadline, 125 the machine failed, 126 an instance was not to be had.")]
pub(crate) struct Draw {
    #[command(flatten)]
    pub(crate) machine: Machine,

    /// Where memories come from.
    #[arg(long, value_enum, default_value_t = Strategy::Pooling, hide_default_value = true)]
    pub(crate) strategy: Strategy,

    /// How many instances are made.
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = parse_instances)]
    pub(crate) instances: u32,

    /// Where to write the SVG file [default: target/allotment/draw.svg].
    #[arg(short, long, value_name = "FILE.svg")]
    pub(crate) out: Option<PathBuf>,

    /// Stop after this many seconds.
    #[arg(long, value_name = "S", default_value = "60", value_parser = parse_seconds)]
    pub(crate) timeout: Duration,

    /// Show QEMU's command line and the kernel's console (on standard error).
    #[arg(short, long)]
    pub(crate) verbose: bool,

    /// The program to make instances of: `.wasm`, `.wat` or `.cwasm` [default: one that is bundled].
    #[arg(value_name = "MODULE")]
    pub(crate) module: Option<PathBuf>,
}

/// A number of instances that the kernel takes.
pub(super) fn parse_instances(text: &str) -> Result<u32, String> {
    let (least, most) = (options::INSTANCES.start(), options::INSTANCES.end());
    let count = text.parse().ok().filter(|count| options::INSTANCES.contains(count));
    count.ok_or_else(|| format!("`{text}` is no number of instances, {least} to {most}"))
}
