//! `run`, `image` and `compile`: one program, on a machine, in a file, or just compiled.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use protocol::settings::{self, Settings};
use protocol::{options, payload::Writer, status};

use crate::arch::Arch;
use crate::channel::{self, Streams};
use crate::cli;
use crate::compile::Compiler;
use crate::error::Refusal;
use crate::machine::{self, Ended, How, Machine};
use crate::payload::{self, Program};
use crate::progress::{self, say};
use crate::setup::{Setup, Wiring};
use crate::verdict::Verdict;
use crate::{image, install, kernel, symbols, workspace};

/// The exit status when nobody reads our standard output: as if SIGPIPE had ended the program.
const OUTPUT_CLOSED: u8 = 128 + 13;

/// Images of runs that were killed are removed after this time.
const STALE: Duration = Duration::from_secs(3600);

/// Where QEMU's `-s` listens.
const USUAL_DEBUGGER_PORT: u16 = 1234;

/// How to run a program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options<'a> {
    pub(crate) machine: &'a cli::Machine,
    pub(crate) timeout: Option<Duration>,
    pub(crate) gdb: bool,
    pub(crate) verbose: bool,
    /// What the kernel is told.
    pub(crate) told: options::Options,
    pub(crate) settings: Settings,
}

impl<'a> Options<'a> {
    pub(crate) fn of(words: &'a cli::Run) -> Self {
        let told = options::Options {
            strategy: words.settings.strategy().unwrap_or(words.strategy.told()),
            instances: words.instances,
            slice: words.slice.map(|slice| u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX)),
            plan: words.plan,
            metrics: words.metrics,
            draw: false,
        };
        let cli::Run { machine, timeout, gdb, verbose, .. } = words;
        let settings = words.settings.told();
        Self { machine, timeout: *timeout, gdb: *gdb, verbose: *verbose, told, settings }
    }
}

/// `cargo xtask run MODULE`.
pub(crate) fn run(words: &cli::Run, module: &Path) -> Result<u8> {
    let options = Options::of(words);
    let program =
        Program { module, args: &words.args, env: &words.program.env, directories: &words.program.dir };
    let arch = arch_for(words.machine.arch, module);
    install::qemu(arch)?;
    // The module first: a mistake there shows before the kernel is built.
    let settings = words.settings.clone().with_epochs(words.slice.is_some());
    let payload = payload::of_program(&Compiler::with(arch, &settings)?, &program)?;
    let kernel = words.kernel.clone().map_or_else(|| kernel::build_run(arch), Ok)?;
    boot(arch, &kernel, payload, &options)
}

/// `cargo xtask run --plan`, without a program.
pub(crate) fn plan(words: &cli::Run) -> Result<u8> {
    let arch = words.machine.arch.unwrap_or_else(Arch::host);
    install::qemu(arch)?;
    boot(arch, &kernel::build_run(arch)?, Writer::new(), &Options::of(words))
}

/// Runs one program on a machine of its own and returns the exit status to pass on.
pub(crate) fn boot(arch: Arch, kernel: &Path, payload: Writer<'_>, options: &Options<'_>) -> Result<u8> {
    boot_to(arch, kernel, payload, options, Box::new(io::stdout()))
}

/// The same with the program's output to `output`.
pub(crate) fn boot_to(
    arch: Arch,
    kernel: &Path,
    mut payload: Writer<'_>,
    options: &Options<'_>,
    output: Box<dyn io::Write + Send>,
) -> Result<u8> {
    payload::add_here_and_now(&mut payload)?;
    payload.add(options::ENTRY, options.told.to_string().into_bytes())?;
    payload.add(settings::ENTRY, options.settings.to_string().into_bytes())?;
    let image = TemporaryImage::new()?;
    let end = image::write(&read(kernel)?, &payload, &image.path)?;
    let mut setup = Setup::new(arch, &image.path);
    setup.memory = options.machine.memory;
    setup.smp = options.machine.smp;
    setup.cpu.clone_from(&options.machine.cpu);
    setup.machine.clone_from(&options.machine.machine);
    setup.gdb = if options.gdb { Some(debugger_port()?) } else { None };
    check_memory(&setup, end)?;
    if options.verbose {
        say(setup.line(Wiring::Channel));
    }
    if let Some(port) = setup.gdb {
        say_how_to_debug(arch, kernel, port);
    }
    let tee = if options.verbose { machine::to_stderr() } else { machine::unseen() };
    let machine = Machine::start(&setup, Some(service(&image.path, output)), tee)?;
    let ended = machine.wait(options.timeout.filter(|_| !options.gdb))?;
    Ok(report(&ended, kernel, options.verbose))
}

/// `cargo xtask image`.
pub(crate) fn image(words: &cli::Image) -> Result<u8> {
    let arch = arch_for(words.machine.arch, &words.module);
    let program = Program {
        module: &words.module,
        args: &words.args,
        env: &words.program.env,
        directories: &words.program.dir,
    };
    let mut payload = payload::of_program(&Compiler::with(arch, &words.settings)?, &program)?;
    let strategy = words.settings.strategy().unwrap_or_default();
    let told = options::Options { strategy, ..Default::default() };
    payload.add(options::ENTRY, told.to_string().into_bytes())?;
    payload.add(settings::ENTRY, words.settings.told().to_string().into_bytes())?;
    let kernel = kernel::build_run(arch)?;
    let end = image::write(&read(&kernel)?, &payload, &words.output)?;
    let mut setup = Setup::new(arch, &words.output);
    setup.memory = words.machine.memory;
    setup.smp = words.machine.smp;
    setup.cpu.clone_from(&words.machine.cpu);
    setup.machine.clone_from(&words.machine.machine);
    check_memory(&setup, end)?;
    println!("{}", setup.line(Wiring::Terminal));
    Ok(0)
}

/// `cargo xtask compile`.
pub(crate) fn compile(words: &cli::Compile) -> Result<u8> {
    let compiled = Compiler::with(words.arch, &words.settings)?.load(&words.module)?;
    workspace::write_atomically(&words.output, |file| Ok(io::Write::write_all(file, &compiled)?))?;
    Ok(0)
}

/// The architecture to run `module` on.
pub(crate) fn arch_for(asked: Option<Arch>, module: &Path) -> Arch {
    let of_module = || fs::read(module).ok().and_then(|bytes| Arch::of_elf(&bytes));
    asked.or_else(of_module).unwrap_or_else(Arch::host)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Refuses a payload that does not fit before QEMU does so in words of its own.
fn check_memory(setup: &Setup, end: u64) -> Result<()> {
    let begin = match setup.arch {
        Arch::X86_64 => 0,
        // Where QEMU's `virt` has its memory.
        Arch::Aarch64 => 0x4000_0000,
    };
    // A quarter more, and 16 MiB, for page tables, heap and the program's own memory.
    let least = ((end - begin) + (end - begin) / 4 + (16 << 20)).div_ceil(1 << 20);
    if setup.memory.bytes() >> 20 >= least {
        return Ok(());
    }
    let memory = setup.memory;
    Err(Refusal(format!(
        "the kernel, the module and the files need {least}M of memory, the machine has {memory}; \
         give it more with --memory"
    ))
    .into())
}

/// Where a machine waits for a debugger: on the usual port, or on any if that is taken.
fn debugger_port() -> Result<u16> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, USUAL_DEBUGGER_PORT))
        .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .and_then(|free| free.local_addr())
        .map(|address| address.port())
        .context("no port is free for a debugger")
}

fn say_how_to_debug(arch: Arch, kernel: &Path, port: u16) {
    let gdb = if arch == Arch::host() { "gdb" } else { "gdb-multiarch" };
    let kernel = kernel.display();
    say(format_args!(
        "the machine waits for a debugger on port {port}; attach with\n\n    \
         {gdb} {kernel} -ex 'target remote localhost:{port}'\n\nor\n\n    \
         lldb {kernel} -o 'gdb-remote localhost:{port}'\n"
    ));
}

/// Serves the channel with this process's own streams, but for standard output. Once the kernel speaks, QEMU has read `image`: it
/// is removed then, so that nothing is left if we are interrupted.
fn service(image: &Path, mut output: Box<dyn io::Write + Send>) -> machine::Service {
    let image = image.to_owned();
    Box::new(move |mut channel| {
        let mut streams = Streams {
            // Not `std::io::stdin`, which reads ahead: what the program leaves is the next one's.
            stdin: &mut |buffer| loop {
                match rustix::io::read(rustix::stdio::stdin(), &mut *buffer) {
                    Err(rustix::io::Errno::INTR) => {}
                    other => return Ok(other?),
                }
            },
            stdout: &mut output,
            stderr: &mut io::stderr(),
        };
        // If it stays, a later run removes it.
        channel::serve(&mut channel, &mut streams, || drop(fs::remove_file(image)))
    })
}

/// Says what there is to say about the end of a program, and returns its exit status.
fn report(ended: &Ended, kernel: &Path, verbose: bool) -> u8 {
    let why = match (&ended.how, &ended.channel) {
        (_, Some(channel::End::OutputClosed)) => return OUTPUT_CLOSED,
        (How::Verdict(Verdict::Well), Some(channel::End::Exit(exit))) if !exit.panicked => {
            if let Some(message) = &exit.message {
                say(message);
            }
            return exit.status;
        }
        (How::Deadline(deadline), None | Some(channel::End::HangUp)) => {
            say(format_args!("the deadline of {} s passed", deadline.as_secs_f32()));
            return status::DEADLINE;
        }
        (How::Stopped, Some(channel::End::Broken(why))) => why.clone(),
        (How::Verdict(Verdict::Well), _) => "the machine ended without a word from the program".into(),
        (How::Verdict(verdict), _) => verdict.to_string(),
        (How::Deadline(_) | How::Stopped, _) => "the machine did not end after its program".into(),
    };
    say(why);
    let console = symbols::symbolise(&ended.console, kernel);
    if verbose {
        // The rest has been seen.
        progress::show(symbols::backtrace(&console));
    } else {
        progress::show(console);
    }
    progress::show(&ended.messages);
    status::MACHINE
}

/// An image that goes away with us.
struct TemporaryImage {
    path: PathBuf,
}

impl TemporaryImage {
    fn new() -> Result<Self> {
        let directory = workspace::cache("run")?;
        remove_stale(&directory);
        Ok(Self { path: directory.join(format!("{}.elf", std::process::id())) })
    }
}

impl Drop for TemporaryImage {
    fn drop(&mut self) {
        // The next run will find it stale.
        drop(fs::remove_file(&self.path));
    }
}

/// Removes what runs left that did not come to their end.
fn remove_stale(directory: &Path) {
    let now = SystemTime::now();
    let is_stale = |entry: &fs::DirEntry| {
        let modified = entry.metadata().and_then(|metadata| metadata.modified()).ok();
        modified.and_then(|modified| now.duration_since(modified).ok()).is_some_and(|age| age > STALE)
    };
    for entry in fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok) {
        if is_stale(&entry) {
            // Somebody else may be removing it as well.
            drop(fs::remove_file(entry.path()));
        }
    }
}
