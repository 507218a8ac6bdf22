//! Every instruction of the counted parts of a row, as QEMU executes them.
//!
//! ```text
//!   kernel                          debugger                     QEMU's standard error
//!   bench_explain_begin ..........> stopped: log on, run on ---> Trace 0: .. [../PC/..] ..
//!   clock | operations | clock                                   a line for each instruction
//!   bench_explain_end ............> stopped: log off, run on     nothing
//! ```
//!
//! One instruction a block (`singlestep`), so that a line is one. Elsewhere the machine runs at its usual speed.

use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::debugger::Debugger;
use crate::machine;
use crate::setup::{Setup, Wiring};
use crate::verdict::{self, Verdict};

/// Where the counted parts begin and end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    pub(super) begin: u64,
    pub(super) end: u64,
}

/// Lines of QEMU's own that are kept, the last ones.
const MESSAGES: usize = 20;

/// Runs the machine to its end and shows `stretch` the addresses of the instructions of each counted part, from the
/// mark at its begin on. What `stretch` is, and the console.
pub(super) fn trace<S>(
    setup: &Setup,
    marks: Marks,
    deadline: Duration,
    mut seen: S,
    stretch: impl Fn(&mut S, &[u64]) + Send + 'static,
) -> Result<(S, String)>
where
    S: Send + 'static,
{
    let (debugger, debugger_of_qemu) = UnixStream::pair().context("no socket for the debugger")?;
    let (mut console, console_of_qemu) = UnixStream::pair().context("no socket for the console")?;
    let (log, log_of_qemu) = io::pipe().context("no pipe for QEMU's log")?;
    debugger.set_read_timeout(Some(deadline)).context("no deadline for the debugger")?;

    let mut setup = setup.clone();
    let debugged = ["-chardev", "socket,id=debugger,fd=0", "-gdb", "chardev:debugger", "-S"];
    setup.extra.extend(debugged.map(str::to_owned));
    let mut command = Command::new(setup.arch.qemu());
    command
        .args(setup.arguments(Wiring::Console))
        .stdin(OwnedFd::from(debugger_of_qemu))
        .stdout(OwnedFd::from(console_of_qemu))
        .stderr(Stdio::from(log_of_qemu));
    machine::die_with_parent(&mut command);
    let mut child = command.spawn().with_context(|| format!("cannot start {}", setup.arch.qemu()))?;
    // Closes our copies of QEMU's ends, without which we would never see them closed.
    drop(command);

    let log = thread::spawn(move || {
        let messages =
            follow(BufReader::with_capacity(1 << 20, log), marks.begin, |pcs| stretch(&mut seen, pcs));
        (seen, messages)
    });
    let console = thread::spawn(move || {
        let mut kept = Vec::new();
        // What came before a failure is still worth showing.
        drop(console.read_to_end(&mut kept));
        String::from_utf8_lossy(&kept).into_owned()
    });
    let begin = Instant::now();
    let driven = Debugger::new(debugger).and_then(|debugger| drive(debugger, marks));
    let late = begin.elapsed() >= deadline;
    if driven.is_err() || late {
        // It fails only for a process that has ended, which is what we want.
        drop(child.kill());
    }
    let status = child.wait().context("cannot wait for QEMU")?;
    let console = console.join().unwrap_or_default();
    let Ok((seen, messages)) = log.join() else { bail!("QEMU's log could not be followed") };
    let messages = messages.join("\n");
    if late {
        bail!("stopped after {} s\n{console}{messages}", deadline.as_secs());
    }
    driven.with_context(|| format!("{console}{messages}"))?;
    match verdict::judge(setup.arch, status, &console) {
        Verdict::Well => Ok((seen, console)),
        verdict => bail!("the bench kernel: {verdict}\n{console}{messages}"),
    }
}

/// From mark to mark, until the machine ends.
fn drive(mut debugger: Debugger, marks: Marks) -> Result<()> {
    loop {
        debugger.stop_at(marks.begin, true)?;
        if !debugger.run()? {
            return Ok(());
        }
        // A breakpoint would stop the machine again where it stands.
        debugger.stop_at(marks.begin, false)?;
        debugger.stop_at(marks.end, true)?;
        debugger.monitor("singlestep on")?;
        debugger.monitor("log exec,nochain,int")?;
        if !debugger.run()? {
            return Ok(());
        }
        debugger.monitor("log none")?;
        debugger.monitor("singlestep off")?;
        debugger.stop_at(marks.end, false)?;
    }
}

/// Reads the log; what is not of it are QEMU's own messages.
fn follow(mut log: impl BufRead, begin: u64, mut stretch: impl FnMut(&[u64])) -> Vec<String> {
    let mut pcs = Vec::new();
    let mut messages = Vec::new();
    let mut line = Vec::new();
    while matches!(log.read_until(b'\n', &mut line), Ok(1..)) {
        let text = String::from_utf8_lossy(&line);
        match Logged::of_line(&text) {
            Logged::Executed(pc) => {
                if pc == begin && !pcs.is_empty() {
                    stretch(&pcs);
                    pcs.clear();
                }
                pcs.push(pc);
            }
            Logged::Undone => drop(pcs.pop()),
            Logged::Other if pcs.is_empty() => {
                messages.push(text.trim_end().to_owned());
                messages.drain(..messages.len().saturating_sub(MESSAGES));
            }
            Logged::Other => {}
        }
        line.clear();
    }
    if !pcs.is_empty() {
        stretch(&pcs);
    }
    messages
}

/// A line of QEMU's log.
#[derive(Debug, PartialEq, Eq)]
enum Logged {
    /// The instruction at this address begins.
    Executed(u64),
    /// The one before did not happen: it was put off, or it faulted, and then `-icount` does not count it either.
    Undone,
    Other,
}

impl Logged {
    fn of_line(line: &str) -> Self {
        if let Some(rest) = line.strip_prefix("Trace ") {
            // Trace 0: 0x7fdc58000100 [00000000/0000000000201234/00000040/ff020201] name
            let pc = rest.split('/').nth(1).and_then(|pc| u64::from_str_radix(pc, 16).ok());
            return pc.map_or(Self::Other, Self::Executed);
        }
        let put_off = line.starts_with("Stopped execution of TB chain before ");
        // `     0: v=0e e=0002 ..` or `Taking exception 4 [Data Abort] on CPU 0`.
        let faulted = line.contains(": v=0e ")
            || line.contains("[Data Abort] on CPU")
            || line.contains("[Prefetch Abort] on CPU");
        if put_off || faulted { Self::Undone } else { Self::Other }
    }
}

#[cfg(test)]
mod tests {
    use super::{Logged, follow};

    #[test]
    fn lines_of_the_log() {
        let trace = |pc: &str| format!("Trace 0: 0x7fdc58000100 [00000000/{pc}/00000040/ff020201] name");
        assert_eq!(Logged::of_line(&trace("0000000000201234")), Logged::Executed(0x20_1234));
        assert_eq!(Logged::of_line(&trace("no")), Logged::Other);
        for undone in [
            "Stopped execution of TB chain before 0x7f [0000000000201234] name",
            "     3: v=0e e=0002 i=0 cpl=0 IP=0008:0000000000201234 pc=0000000000201234",
            "Taking exception 4 [Data Abort] on CPU 0",
        ] {
            assert_eq!(Logged::of_line(undone), Logged::Undone, "{undone}");
        }
        assert_eq!(Logged::of_line("     3: v=06 e=0000 i=0 cpl=0"), Logged::Other);
        assert_eq!(Logged::of_line(""), Logged::Other);
    }

    #[test]
    fn a_stretch_begins_at_the_mark() {
        let log = "qemu: a warning\n\
            Trace 0: 0x1 [0/10/0/0] a\nTrace 0: 0x1 [0/14/0/0] a\n     0: v=0e e=2\nRAX=1\nTrace 0: 0x1 [0/20/0/0] b\n\
            Trace 0: 0x1 [0/10/0/0] a\nTrace 0: 0x1 [0/18/0/0] a\n";
        let mut stretches = Vec::new();
        let messages = follow(log.as_bytes(), 0x10, |pcs| stretches.push(pcs.to_vec()));
        assert_eq!(stretches, [[0x10, 0x20], [0x10, 0x18]]);
        assert_eq!(messages, ["qemu: a warning"]);
    }
}
