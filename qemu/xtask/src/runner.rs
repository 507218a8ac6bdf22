//! What cargo calls with a kernel that it has built.
//!
//! A test kernel (made by `harness::tests!`) is listed with one boot and then each test runs
//! on a machine of its own, so that a panic, a hang or a reset fails one test. For people
//! and for nextest it looks like libtest. Any other kernel is booted, its console shown.
//!
//! Environment: `ALLOTMENT_TEST_TIMEOUT` (seconds a test may take), `ALLOTMENT_FULL=1` (long
//! stresses), `ALLOTMENT_CPU` (QEMU's CPU model), `ALLOTMENT_SMP` (CPUs per machine),
//! `ALLOTMENT_WORDS` (more words for the kernel's command line).

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, UNIX_EPOCH};
use std::{env, fs};

use anyhow::{Context, Result, bail};
use harness::libtest::{CommandLine, Failed};
use libtest_mimic::Trial;
use protocol::verdict::FULL_WORD;
use sha2::{Digest, Sha256};

use crate::arch::Arch;
use crate::compile::{Compiler, hex};
use crate::error::Usage;
use crate::machine::{self, How, Machine};
use crate::setup::{Setup, Wiring};
use crate::verdict::Verdict;
use crate::{guests, image, install, payload, progress, reset, symbols, workspace};

/// How many machines run at once unless the command line says otherwise.
const MACHINES: usize = 2;

/// How long a test may take, and how much longer with the long stresses.
const DEADLINE: Duration = Duration::from_secs(60);
const FULL_FACTOR: u32 = 10;

/// A symbol that only kernels made by `harness::tests!` have.
const TEST_KERNEL_SYMBOL: &[u8] = b"ALLOTMENT_TEST_KERNEL\0";

/// Boots `elf` or runs its tests. `words` are libtest's, or the kernel's command line.
pub(crate) fn run(elf: &Path, words: &[OsString]) -> Result<u8> {
    let bytes = fs::read(elf).with_context(|| format!("cannot read {}", elf.display()))?;
    let Some(arch) = Arch::of_elf(&bytes) else {
        bail!("{} is no ELF file for x86_64 or aarch64", elf.display());
    };
    install::qemu(arch)?;
    if !contains(&bytes, TEST_KERNEL_SYMBOL) {
        return boot(arch, elf, words);
    }
    let program = [elf.as_os_str().to_owned()];
    let mut line = CommandLine::parse(program.iter().chain(words));
    line.default_threads(MACHINES);
    let kernel = Arc::new(Kernel::new(arch, elf, &bytes, line.nocapture())?);
    let tests = kernel.list()?;
    if line.list() && env::var_os("NEXTEST").is_some() {
        // nextest goes on with one process per test; they find this prepared.
        kernel.prepare()?;
    }
    let trials = tests.into_iter().map(|test| {
        let kernel = Arc::clone(&kernel);
        let name = test.name.clone();
        Trial::test(test.name, move || kernel.test(&name)).with_ignored_flag(test.ignored)
    });
    let code = line.run(trials.collect());
    // `ExitCode` does not say what is in it.
    Ok(if code == std::process::ExitCode::SUCCESS { 0 } else { 101 })
}

/// Boots a kernel that is no test: its console is our standard output.
fn boot(arch: Arch, elf: &Path, words: &[OsString]) -> Result<u8> {
    let mut setup = usual(arch, elf)?;
    setup.words.splice(..0, words.iter().map(|word| word.to_string_lossy().into_owned()));
    let show = |bytes: &[u8]| {
        let mut stdout = io::stdout();
        drop(stdout.write_all(bytes).and_then(|()| stdout.flush()));
    };
    let ended = Machine::start(&setup, None, Box::new(show))?.wait(None)?;
    if ended.how == How::Verdict(Verdict::Well) {
        return Ok(0);
    }
    let backtrace = symbols::symbolise(&ended.console, elf);
    eprint!("{}{}", symbols::backtrace(&backtrace), ended.messages);
    match ended.how {
        How::Verdict(verdict) => bail!("{verdict}"),
        How::Deadline(_) | How::Stopped => bail!("the machine was stopped"),
    }
}

/// A machine as the environment wants it.
fn usual(arch: Arch, image: &Path) -> Result<Setup> {
    let mut setup = Setup::new(arch, image);
    setup.cpu = env::var("ALLOTMENT_CPU").ok();
    if let Ok(cpus) = env::var("ALLOTMENT_SMP") {
        setup.smp = cpus.parse().map_err(|error| Usage(format!("ALLOTMENT_SMP: {error}")))?;
    }
    let words = env::var("ALLOTMENT_WORDS").unwrap_or_default();
    setup.words = words.split_whitespace().map(str::to_owned).collect();
    Ok(setup)
}

/// A test as a kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listed {
    name: String,
    ignored: bool,
}

/// A test kernel.
struct Kernel {
    arch: Arch,
    elf: PathBuf,
    machine: Setup,
    /// Changes when the file does.
    key: String,
    takes_payload: bool,
    nocapture: bool,
    full: bool,
    deadline: Duration,
    image: OnceLock<Result<PathBuf, String>>,
}

impl Kernel {
    fn new(arch: Arch, elf: &Path, bytes: &[u8], nocapture: bool) -> Result<Self> {
        let full = env::var_os("ALLOTMENT_FULL").is_some_and(|value| value == "1");
        let deadline = match env::var("ALLOTMENT_TEST_TIMEOUT") {
            Ok(seconds) => Duration::from_secs(seconds.parse().with_context(|| {
                format!("ALLOTMENT_TEST_TIMEOUT is `{seconds}`, not a number of seconds")
            })?),
            Err(_) if full => DEADLINE * FULL_FACTOR,
            Err(_) => DEADLINE,
        };
        let modified = fs::metadata(elf)?.modified()?.duration_since(UNIX_EPOCH)?;
        let mut hash = Sha256::new();
        hash.update(elf.as_os_str().as_encoded_bytes());
        hash.update(modified.as_nanos().to_le_bytes());
        hash.update(bytes.len().to_le_bytes());
        Ok(Self {
            arch,
            elf: elf.to_owned(),
            machine: usual(arch, elf)?,
            key: hex(&hash.finalize()[..8]),
            takes_payload: image::takes_payload(bytes),
            nocapture,
            full,
            deadline,
            image: OnceLock::new(),
        })
    }

    fn setup(&self, image: &Path, words: &[&str]) -> Setup {
        let mut setup = self.machine.clone();
        image.clone_into(&mut setup.image);
        setup.words.splice(..0, words.iter().map(|word| (*word).to_owned()));
        setup
    }

    /// Asks the kernel for its tests, or remembers them.
    fn list(&self) -> Result<Vec<Listed>> {
        let kept = workspace::cache("lists")?.join(&self.key);
        if let Ok(text) = fs::read_to_string(&kept) {
            return Ok(parse_list(&text));
        }
        let setup = self.setup(&self.elf, &["--list"]);
        let ended = Machine::start(&setup, None, machine::unseen())?.wait(Some(self.deadline))?;
        if ended.how != How::Verdict(Verdict::Well) {
            let line = setup.line(Wiring::Console);
            bail!(
                "{} does not list its tests: {}\n{}{}{line}",
                self.elf.display(),
                describe(&ended.how),
                symbols::symbolise(&ended.console, &self.elf),
                ended.messages
            );
        }
        workspace::write_atomically(&kept, |file| Ok(file.write_all(ended.console.as_bytes())?))?;
        Ok(parse_list(&ended.console))
    }

    /// The image to boot: the kernel and all guests. Made once for all tests.
    fn prepare(&self) -> Result<PathBuf> {
        let made = self.image.get_or_init(|| self.make_image().map_err(|error| format!("{error:#}")));
        made.clone().map_err(anyhow::Error::msg)
    }

    fn make_image(&self) -> Result<PathBuf> {
        if !self.takes_payload {
            return Ok(self.elf.clone());
        }
        let directory = workspace::cache("images")?;
        let name = self.elf.file_name().unwrap_or_default().to_string_lossy();
        let path = directory.join(format!("{}-{name}.elf", self.arch));
        let note = path.with_extension("key");
        let prepared =
            |key: &str| path.is_file() && fs::read_to_string(&note).is_ok_and(|kept| kept.starts_with(key));
        if env::var_os("NEXTEST_EXECUTION_MODE").is_some() && prepared(&self.key) {
            return Ok(path);
        }
        let guests = guests::all()?;
        let compiler = Compiler::for_tests(self.arch)?;
        let mut payload = payload::of_tests(&compiler, &guests)?;
        payload::add_reserving(&mut payload, self.arch, &guests)?;
        let mut hash = Sha256::new();
        payload.write_to(&mut hash)?;
        let key = format!("{} {}", self.key, hex(&hash.finalize()[..8]));
        if !prepared(&key) {
            progress::step("preparing the machine's image", |_| {
                image::write(&fs::read(&self.elf)?, &payload, &path)
            })?;
            workspace::write_atomically(&note, |file| Ok(file.write_all(key.as_bytes())?))?;
        }
        Ok(path)
    }

    /// Runs one test on a machine of its own.
    fn test(&self, name: &str) -> Result<(), Failed> {
        let image = self.prepare().map_err(|error| format!("{error:#}"))?;
        let full = if self.full { FULL_WORD } else { "--nocapture" };
        let setup = self.setup(&image, &[name, "--exact", "--include-ignored", full]);
        let tee = if self.nocapture { machine::to_stderr() } else { machine::unseen() };
        let ended = Machine::start(&setup, None, tee)
            .and_then(|machine| machine.wait(Some(self.deadline)))
            .map_err(|error| format!("{error:#}"))?;
        let well = ended.how == How::Verdict(Verdict::Well);
        if well && says_passed(&ended.console, name) {
            return Ok(());
        }
        let mut report = if well {
            format!("the machine ended well but never said that `{name}` passed")
        } else {
            describe(&ended.how)
        };
        let console = symbols::symbolise(&ended.console, &self.elf);
        if self.nocapture {
            report = format!("{report}\n{}", symbols::backtrace(&console));
        } else {
            report = format!("{report}\n--- console ---\n{console}--- end of console ---\n");
        }
        report.push_str(&ended.messages);
        if ended.how == How::Verdict(Verdict::Reset) {
            let exceptions = reset::explain(&setup, &self.elf, self.deadline);
            let exceptions = exceptions.unwrap_or_else(|error| format!("{error:#}\n"));
            report = format!("{report}the last exceptions, in a second run:\n{exceptions}");
        }
        Err(report.trim_end().into())
    }
}

fn describe(how: &How) -> String {
    match how {
        How::Verdict(verdict) => verdict.to_string(),
        How::Deadline(deadline) => format!("stopped after {} s", deadline.as_secs()),
        How::Stopped => "stopped".into(),
    }
}

/// Lines `NAME: test` or `NAME: test, ignored`; a kernel may say other things too.
fn parse_list(console: &str) -> Vec<Listed> {
    console
        .lines()
        .filter_map(|line| {
            let (name, kind) = line.trim_end().rsplit_once(": ")?;
            let ignored = match kind {
                "test" => false,
                "test, ignored" => true,
                _ => return None,
            };
            (!name.contains(' ')).then(|| Listed { name: name.to_owned(), ignored })
        })
        .collect()
}

/// Whether the kernel has said that the test passed, on a line of its own.
fn says_passed(console: &str, name: &str) -> bool {
    console.lines().any(|line| {
        line.trim_end().strip_prefix("test ").and_then(|line| line.strip_suffix(" ... ok")) == Some(name)
    })
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::{contains, parse_list, says_passed};

    #[test]
    fn a_listing_is_read_among_other_lines() {
        let list = parse_list(
            "booting\r\ngrow: test\r\nlong: test, ignored\r\nsay: hello\nallotment: machine ended well\n",
        );
        let names: Vec<(&str, bool)> = list.iter().map(|test| (&*test.name, test.ignored)).collect();
        assert_eq!(names, [("grow", false), ("long", true)]);
    }

    #[test]
    fn only_its_own_line_says_that_a_test_passed() {
        assert!(says_passed("x\r\ntest grow ... ok\r\n", "grow"));
        assert!(!says_passed("test grow ...\n ok\n", "grow"));
        assert!(!says_passed("test grow_far ... ok\n", "grow"));
        assert!(!says_passed("test  ... ok\n", "grow"));
    }

    #[test]
    fn parts_are_found() {
        assert!(contains(b"xxabc", b"abc"));
        assert!(!contains(b"xxab", b"abc"));
        assert!(!contains(b"", b"abc"));
    }
}
