//! Starting the tool and looking at what it did.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const X86_64: &str = "x86_64";
pub(crate) const AARCH64: &str = "aarch64";
pub(crate) const ARCHES: [&str; 2] = [X86_64, AARCH64];

/// How long any one command may take; a fresh clone has a kernel to build.
const PATIENCE: Duration = Duration::from_secs(600);

/// Lines of progress, which a slow computer shows and a fast one does not.
const PROGRESS: [&str; 6] = [
    "allotment: building ",
    "allotment: compiling ",
    "allotment: preparing ",
    "allotment: still ",
    "allotment: adding ",
    "allotment: running ",
];

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Done {
    /// `None` if a signal ended it.
    pub(crate) status: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    /// Without lines of progress.
    pub(crate) stderr: String,
}

impl Done {
    pub(crate) fn text(&self) -> &str {
        core::str::from_utf8(&self.stdout).expect("output in UTF-8")
    }

    /// Checks the status and all of the output.
    #[track_caller]
    pub(crate) fn is(&self, status: i32, stdout: &str) -> &Self {
        assert_eq!((self.status, self.text()), (Some(status), stdout), "{}", self.stderr);
        self
    }

    /// The same for output that is no text.
    #[track_caller]
    pub(crate) fn is_bytes(&self, status: i32, stdout: &[u8]) -> &Self {
        assert_eq!((self.status, &*self.stdout), (Some(status), stdout), "{}", self.stderr);
        self
    }

    /// Checks that nothing was written, and that a message on standard error has all of `words`.
    #[track_caller]
    pub(crate) fn says(&self, status: i32, words: &[&str]) -> &Self {
        assert_eq!((self.status, self.text()), (Some(status), ""), "{}", self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "no `{word}` in: {}", self.stderr);
        }
        self
    }
}

/// The tool, about to be started.
pub(crate) fn tool<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_allotment-xtask"));
    command.args(words);
    // What the computer's owner has set must not decide.
    for name in ["FULL", "CPU", "SMP", "WORDS", "TEST_TIMEOUT"] {
        command.env_remove(format!("ALLOTMENT_{name}"));
    }
    for name in ["NEXTEST", "NEXTEST_EXECUTION_MODE", "RUST_TEST_THREADS"] {
        command.env_remove(name);
    }
    command
}

/// `run` on `arch`: `words` are options, the module, `--` and arguments. Standard input is empty.
pub(crate) fn run(arch: &str, words: &[&str]) -> Done {
    run_with(arch, words, b"")
}

/// The same with `stdin`.
pub(crate) fn run_with(arch: &str, words: &[&str], stdin: &[u8]) -> Done {
    kernel(arch);
    finish(tool(["run", "--arch", arch].iter().chain(words)), stdin)
}

/// Runs a command to its end, and checks that it leaves nothing behind.
pub(crate) fn finish(mut command: Command, stdin: &[u8]) -> Done {
    let mut child = start(command.stdin(Stdio::piped()));
    let mut to_child = child.stdin.take().expect("a pipe");
    thread::scope(|scope| {
        // A program need not read all of it.
        scope.spawn(move || drop(to_child.write_all(stdin)));
        wait(child)
    })
}

/// Starts a command whose output is kept.
pub(crate) fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the tool starts")
}

/// Waits for a command's end, and checks that it leaves nothing behind.
pub(crate) fn wait(mut child: Child) -> Done {
    let pid = child.id();
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    let done = thread::scope(|scope| {
        let stdout = scope.spawn(|| read_all(stdout.as_mut()));
        let stderr = scope.spawn(|| read_all(stderr.as_mut()));
        let status = wait_for("the tool to end", PATIENCE, || child.try_wait().expect("a child"))
            .unwrap_or_else(|why| {
                drop(child.kill());
                panic!("{why}")
            });
        let stderr = stderr.join().expect("a reader");
        let stderr = String::from_utf8_lossy(&stderr);
        let stderr = stderr.lines().filter(|line| !PROGRESS.iter().any(|word| line.starts_with(word)));
        let stderr = stderr.fold(String::new(), |text, line| text + line + "\n");
        Done { status: status.code(), stdout: stdout.join().expect("a reader"), stderr }
    });
    assert_eq!(machines_of(pid), [0; 0], "QEMU is left over");
    assert!(!image_of(pid).exists(), "{} is left over", image_of(pid).display());
    done
}

fn read_all(from: Option<&mut impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        from.read_to_end(&mut bytes).expect("output that can be read");
    }
    bytes
}

/// Asks again and again until there is an answer.
pub(crate) fn wait_for<T>(
    what: &str,
    patience: Duration,
    mut ask: impl FnMut() -> Option<T>,
) -> Result<T, String> {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if begin.elapsed() > patience {
            return Err(format!("waited {} s for {what}", patience.as_secs()));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// The file that a `run` with this process number boots.
pub(crate) fn image_of(pid: u32) -> PathBuf {
    target().join(format!("allotment/run/{pid}.elf"))
}

/// The QEMU processes that boot it.
pub(crate) fn machines_of(pid: u32) -> Vec<u32> {
    let image = image_of(pid).into_os_string().into_encoded_bytes();
    let boots_it = |pid: &u32| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.split(|&byte| byte == 0).any(|word| word == image))
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(boots_it).collect()
}

/// The target directory.
pub(crate) fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is a directory in the target directory")
}

/// The kernel of `run`, built by the tool.
pub(crate) fn kernel(arch: &str) -> PathBuf {
    static BUILT: [OnceLock<()>; 2] = [const { OnceLock::new() }; 2];
    BUILT[usize::from(arch == AARCH64)].get_or_init(|| {
        let scratch = Scratch::new("kernel");
        let module = scratch.module("empty.wat", "(module (func (export \"_start\")))");
        finish(tool(["run", "--arch", arch, &module]), b"").is(0, "");
    });
    target().join(format!("{arch}-unknown-none/release/run"))
}

/// A kernel that only these tests boot, an example of `package`.
pub(crate) fn example(arch: &str, package: &str, name: &str) -> PathBuf {
    let triple = format!("{arch}-unknown-none");
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command.args(["build", "--quiet", "--package", package, "--example", name, "--target", &triple]);
    finish(command, b"").is(0, "");
    target().join(triple).join("debug/examples").join(name)
}

/// The file of a guest program, built by the tool.
pub(crate) fn guest(name: &str) -> &'static str {
    static FILES: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
        let listed = finish(tool(["guests"]), b"");
        assert_eq!(listed.status, Some(0), "{}", listed.stderr);
        let name = |path: &str| Path::new(path).file_stem().and_then(OsStr::to_str).map(str::to_owned);
        listed.text().lines().filter_map(|path| Some((name(path)?, path.to_owned()))).collect()
    });
    FILES.get(name).unwrap_or_else(|| panic!("no guest is called {name}"))
}

/// A directory of a test's own, removed at its end.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{name}-{}-{number}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    pub(crate) fn path(&self) -> &str {
        text(&self.0)
    }

    pub(crate) fn file(&self, name: &str) -> String {
        text(&self.0.join(name)).to_owned()
    }

    /// Writes a file, and the directories it is in.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("it is in a directory")).expect("a directory");
        File::create(&path).and_then(|mut file| file.write_all(content)).expect("a file");
        path
    }

    /// The same for a module, as the command line wants it.
    pub(crate) fn module(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        text(&self.write(name, content.as_ref())).to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // If it stays, `cargo clean` removes it.
        drop(fs::remove_dir_all(&self.0));
    }
}

/// A path of these tests, which are all in UTF-8.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Bytes in which no part is like another.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Whether two long strings of bytes are equal, without printing them if not.
#[track_caller]
pub(crate) fn assert_same(got: &[u8], expected: &[u8]) {
    let differ = got.iter().zip(expected).position(|(got, expected)| got != expected);
    assert_eq!((got.len(), differ), (expected.len(), None), "(length, first difference)");
}
