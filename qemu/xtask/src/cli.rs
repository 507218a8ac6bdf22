//! What can be typed.

mod bench;
mod draw;
mod example;
mod spec;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::arch::Arch;
use crate::files::Directory;
use crate::settings::Given;
use crate::setup::{Cpus, Memory};
use crate::test::Levels;
pub(crate) use bench::Bench;
use draw::parse_instances;
pub(crate) use draw::{Draw, Strategy};
pub(crate) use example::Example;
pub(crate) use spec::Spec;

const EXAMPLES: &str = "\
Examples:
  cargo xtask run                             the demo, on both architectures
  cargo xtask run hello.wasm                  one program
  cargo xtask run --arch aarch64 --dir data jq.wasm -- .name /people.json
  cargo xtask test                            every test: host, x86_64, aarch64
  cargo xtask test aarch64 grow               tests called *grow*, on aarch64
  cargo xtask spec memory                     the specification's tests called *memory*
  cargo xtask image hello.wasm -o hello.elf   one bootable file
  cargo xtask draw                            a picture of a machine with some instances
  cargo xtask bench                           instructions per operation
  cargo xtask example hobby                   a kernel as you might have one, with Allotment in it";

const STATUSES: &str = "\
Exit status of `run`:
  0-255  the program's own
  2      usage error
  124    the deadline (--timeout) passed
  125    the kernel panicked, the machine failed, or something here is missing
  126    the module was refused: not wasm, foreign, an import or memory not to be had
  134    the program trapped
  141    nobody reads standard output any more";

const RUN_EXAMPLES: &str = "\
Examples:
  cargo xtask run
  cargo xtask run hello.wat
  echo '[1,2]' | cargo xtask run --memory 1G jq.wasm -- '.[0]'
  cargo xtask run --dir data::/in --env LANG=C report.wasm -- /in/a.json
  cargo xtask run --gdb --arch x86_64 hello.wasm
  cargo xtask run --instances 1000 hello.wasm     a fresh instance each, and a summary
  cargo xtask run --plan                          what is carved at boot, and nothing else
  cargo xtask run --instances 8 --slice 5 --smp 4 hello.wasm
  cargo xtask run -W fuel=1000000,max-wasm-stack=65536 hello.wasm
  cargo xtask run -W help                         all settings of a group, and those there cannot be

With --slice they run at a time instead, each with its number in ALLOTMENT_INSTANCE; none has a second turn before
every other of its CPU had one. -W timeout ends those that would never end.

With --instances each instance gets the same arguments, environment and files. Standard input is one for all:
each reads on where the one before it stopped. The exit status is the first that is not 0.

The program sees standard input, its arguments and environment, and, read-only, the
directories it is given. Standard output is the program's, byte for byte, and nothing else; plan,
metrics and summary go to standard error, but --plan without a program to standard output.";

/// Runs WebAssembly programs and Allotment's tests on bare metal, in QEMU.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
#[command(after_help = format!("{EXAMPLES}\n\n{STATUSES}"), max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a WebAssembly program on a machine without operating system; the demo if none is given.
    Run(Run),
    /// Compile a module to the `.cwasm` that the kernel of one architecture runs.
    Compile(Compile),
    /// Write one bootable file: kernel, compiled module, arguments and files.
    Image(Image),
    /// Draw a machine with some instances: its window, slots, guards, tables and frames.
    Draw(Draw),
    /// Run the tests: on this computer, and in kernels on both architectures.
    Test(Test),
    /// Run WebAssembly's specification tests, on both architectures.
    Spec(Spec),
    /// Count the instructions of the operations that matter, on both architectures.
    Bench(Bench),
    /// Boot an example: a kernel as others have one, with Allotment in it.
    Example(Example),
    /// Build the guest programs of demo and tests, and print where they are.
    #[command(hide = true)]
    Guests,
    /// Boot a kernel that cargo has built, or run its tests, one machine each.
    #[command(hide = true)]
    Runner(Runner),
}

#[derive(Debug, Args)]
#[command(after_help = format!("{RUN_EXAMPLES}\n\n{STATUSES}"))]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) program: Program,

    #[command(flatten)]
    pub(crate) machine: Machine,

    #[command(flatten)]
    pub(crate) settings: Given,

    /// Where memories come from.
    #[arg(long, value_enum, default_value_t = Strategy::Pooling, hide_default_value = true)]
    pub(crate) strategy: Strategy,

    /// Run the program N times, one after another, a fresh instance each, and sum up.
    #[arg(long, value_name = "N", requires = "module", value_parser = parse_instances)]
    pub(crate) instances: Option<u32>,

    /// With --instances: have them all live at a time and take turns of so many milliseconds, on all CPUs (--smp).
    #[arg(long, value_name = "MS", requires = "instances", value_parser = parse_slice)]
    pub(crate) slice: Option<Duration>,

    /// Say first what was carved: addresses, slots, bytes, and what limits them.
    #[arg(long)]
    pub(crate) plan: bool,

    /// Say last what is in use, and how often translations were invalidated.
    #[arg(long)]
    pub(crate) metrics: bool,

    /// Stop after this many seconds [default: never; for the demo, 300 a program].
    #[arg(long, value_name = "S", value_parser = parse_seconds)]
    pub(crate) timeout: Option<Duration>,

    /// Wait for a debugger before the first instruction, and say how to attach one.
    #[arg(long, requires = "module")]
    pub(crate) gdb: bool,

    /// Show QEMU's command line and the kernel's console (on standard error).
    #[arg(short, long)]
    pub(crate) verbose: bool,

    /// Boot this kernel (an ELF file with a payload slot) instead of building the usual one.
    #[arg(long, value_name = "ELF", requires = "module", hide_short_help = true)]
    pub(crate) kernel: Option<PathBuf>,

    /// The program: `.wasm` or `.wat`, or `.cwasm` as `cargo xtask compile` makes it.
    #[arg(value_name = "MODULE")]
    pub(crate) module: Option<PathBuf>,

    /// The program's arguments.
    #[arg(last = true, requires = "module")]
    pub(crate) args: Vec<OsString>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  cargo xtask compile hello.wasm --arch aarch64 -o hello.cwasm

Exit status: 0, or 126 if the module is refused.")]
pub(crate) struct Compile {
    /// The module: `.wasm` or `.wat`.
    pub(crate) module: PathBuf,

    #[command(flatten)]
    pub(crate) settings: Given,

    /// The architecture it is to run on.
    #[arg(long)]
    pub(crate) arch: Arch,

    /// Where to write the result.
    #[arg(short, long, value_name = "OUT.cwasm")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  cargo xtask image hello.wasm --arch x86_64 -o hello.elf -- an-argument

Prints the QEMU line that boots the file. The program's standard streams are then the serial console.
Exit status: 0, or 126 if the module is refused.")]
pub(crate) struct Image {
    /// The program: `.wasm`, `.wat` or `.cwasm`.
    pub(crate) module: PathBuf,

    #[command(flatten)]
    pub(crate) program: Program,

    #[command(flatten)]
    pub(crate) machine: Machine,

    #[command(flatten)]
    pub(crate) settings: Given,

    /// Where to write the bootable file.
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: PathBuf,

    /// The program's arguments.
    #[arg(last = true)]
    pub(crate) args: Vec<OsString>,
}

/// What a program is given.
#[derive(Debug, Args)]
pub(crate) struct Program {
    /// A directory that the program can read, packed as it is now [GUEST default: /].
    #[arg(long, value_name = "HOST[::GUEST]", value_parser = Directory::parse)]
    pub(crate) dir: Vec<Directory>,

    /// A variable of the program's environment; without `=V`, as it is here.
    #[arg(long, value_name = "K=V", value_parser = parse_variable)]
    pub(crate) env: Vec<String>,
}

/// What machine to start.
#[derive(Debug, Args)]
pub(crate) struct Machine {
    /// The machine's architecture [default: a `.cwasm`'s own, else this computer's].
    #[arg(long)]
    pub(crate) arch: Option<Arch>,

    /// The machine's memory, such as 512M or 2G.
    #[arg(long, value_name = "SIZE", default_value_t = Memory::DEFAULT)]
    pub(crate) memory: Memory,

    /// How many CPUs the machine has, 1 to 8; the program runs on the first.
    #[arg(long, value_name = "N", default_value_t = Cpus::ONE)]
    pub(crate) smp: Cpus,

    /// QEMU's CPU model.
    #[arg(long, value_name = "MODEL", hide_short_help = true)]
    pub(crate) cpu: Option<String>,

    /// QEMU's machine type; without virtio-mmio there is no channel, and nothing but the console.
    #[arg(long, value_name = "TYPE", hide = true)]
    pub(crate) machine: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask test                 everything
  cargo xtask test host
  cargo xtask test x86_64 grow     tests whose names contain `grow`
  cargo xtask test --full          with the long stresses, on every kind of machine
  cargo xtask test aarch64 --smp 4 --cpu cortex-a53
  cargo xtask test examples        the kernels in `examples`, booted
  cargo xtask test miri            what Miri can run, which finds undefined behaviour
  cargo xtask test defects         do the tests notice mistakes made on purpose?
  cargo xtask test fuzz            a minute of random sequences for each fuzz target
  cargo xtask test fuzz --seconds 3600 tenants

Plain cargo runs the same tests:
  cargo test --workspace
  cargo test --target x86_64-unknown-none
  cargo test --target aarch64-unknown-none

Exit status: 0 if all tests pass (or all defects are caught), 1 if not, 125 if something is missing.")]
pub(crate) struct Test {
    /// `host`, `x86_64`, `aarch64` or `all` (the default), or `examples`, `miri`, `defects` or `fuzz`; then
    /// parts of names.
    #[arg(value_name = "TARGET | FILTER")]
    pub(crate) words: Vec<String>,

    /// Run the long stresses at full length, and the core's tests on every kind of machine.
    #[arg(long)]
    pub(crate) full: bool,

    /// Seconds after which a machine is stopped and its test fails [default: 60, with --full 600].
    #[arg(long, value_name = "S")]
    pub(crate) timeout: Option<u64>,

    /// Only machines with this CPU model of QEMU's, such as `cortex-a72`.
    #[arg(long, value_name = "MODEL")]
    pub(crate) cpu: Option<String>,

    /// Only machines with this many CPUs, 1 to 8.
    #[arg(long, value_name = "N")]
    pub(crate) smp: Option<Cpus>,

    /// How long `fuzz` takes for each target [default: 60].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seconds: Option<u64>,

    /// Only machines whose page tables have 4 or 5 levels (x86_64).
    #[arg(long, value_name = "LEVELS", hide_possible_values = true)]
    pub(crate) paging: Option<Levels>,
}

#[derive(Debug, Args)]
pub(crate) struct Runner {
    /// The kernel.
    pub(crate) elf: PathBuf,

    /// libtest's words for a test kernel, the kernel's command line for any other.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) words: Vec<OsString>,
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .ok()
        .filter(|seconds| *seconds > 0.0)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| format!("`{text}` is no number of seconds above 0"))
}

fn parse_slice(text: &str) -> Result<Duration, String> {
    let slice = text.parse::<f64>().ok().map(|ms| Duration::try_from_secs_f64(ms / 1000.0));
    let allowed = Duration::from_micros(100)..=Duration::from_secs(1);
    let slice = slice.and_then(Result::ok).filter(|slice| allowed.contains(slice));
    slice.ok_or_else(|| format!("`{text}` is no number of milliseconds from 0.1 to 1000"))
}

fn parse_variable(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some(("", _)) => Err(format!("`{text}` has no name in front of the `=`")),
        Some(_) => Ok(text.to_owned()),
        None => std::env::var(text)
            .map(|value| format!("{text}={value}"))
            .map_err(|error| format!("`{text}` cannot be handed on: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Cli, Command, parse_seconds, parse_variable};
    use clap::{CommandFactory, Parser};
    use std::time::Duration;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_program_has_its_arguments_behind_two_dashes() {
        let line = "xtask run --arch aarch64 --dir a::/b -v m.wasm -- --arch -- x";
        let Command::Run(run) = Cli::try_parse_from(line.split(' ')).unwrap().command else {
            panic!("not run");
        };
        assert_eq!(run.args, ["--arch", "--", "x"]);
        assert!(run.verbose && !run.gdb);
        assert_eq!(run.program.dir[0].guest, "/b");
    }

    #[test]
    fn mistakes_are_usage_errors() {
        for line in [
            "xtask run --memory lots m.wasm",
            "xtask run --timeout 0 m.wasm",
            "xtask run --timeout -1 m.wasm",
            "xtask run --gdb",
            "xtask run --env =v m.wasm",
            "xtask run m.wasm argument",
            "xtask compile m.wasm -o out",
            "xtask run --arch riscv64 m.wasm",
            "xtask run --instances 0 m.wasm",
            "xtask run --instances 2",
            "xtask run --slice 5 m.wasm",
            "xtask run --instances 2 --slice 0 m.wasm",
            "xtask run --instances 2 --slice -1 m.wasm",
            "xtask run --instances 2 --slice 2000 m.wasm",
            "xtask run --strategy slots m.wasm",
            "xtask draw --instances many",
            "xtask draw a.wasm b.wasm",
            "xtask test fuzz --seconds 0",
            "xtask bench --explain",
            "xtask bench --explain pool-cold --check",
            "xtask bench --explain pool-cold pool",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn a_runner_takes_every_word() {
        let line = "xtask runner elf --list --format terse --exact name";
        let Command::Runner(runner) = Cli::try_parse_from(line.split(' ')).unwrap().command else {
            panic!("not runner");
        };
        assert_eq!(runner.words.len(), 5);
    }

    #[test]
    fn seconds_and_variables() {
        assert_eq!(parse_seconds("0.5"), Ok(Duration::from_millis(500)));
        assert!(parse_seconds("inf").is_err() && parse_seconds("nan").is_err());
        assert_eq!(parse_variable("A=b=c").as_deref(), Ok("A=b=c"));
        assert_eq!(parse_variable("A=").as_deref(), Ok("A="));
        assert!(parse_variable("SURELY_NOT_SET_ANYWHERE").is_err());
    }
}
