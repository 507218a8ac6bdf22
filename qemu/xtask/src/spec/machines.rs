//! Scripts on machines: many in one, and a new machine for the rest when one dies.
//!
//! ```text
//!   files: 0 1 2 3 4 5 6 ..    batch: 0 1 2 3    batch: 4 5 6 ..     as many machines at a time as CPUs here
//!                                machine: begin 0 .. end, begin 1, dies
//!                                         1 has failed; a new machine for 2 3
//! ```

use std::fs;
use std::io::{self, Read, Write};
use std::num::NonZero;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use protocol::options::{self, Strategy};
use protocol::payload::Writer;
use protocol::spec::{COLLECTOR, Collector, Report, SCRIPTS};

use crate::arch::Arch;
use crate::channel::{self, Streams};
use crate::machine::{self, Ended, How, Machine};
use crate::progress::{Step, say};
use crate::setup::{Memory, Setup, Wiring};
use crate::verdict::Verdict;
use crate::{image, symbols, workspace};

/// At most so many files share a machine, so that one that dies costs little.
const FILES: usize = 24;
/// And at most so many bytes of scripts.
const BYTES: usize = 48 << 20;
/// Modules and tables of all files of a machine have room in it, one file after the other.
const MEMORY: Memory = Memory { mebibytes: 1024 };
/// The most machines at a time.
const MACHINES: usize = 4;
/// The end of a console is what tells why a machine died.
const LAST_LINES: usize = 12;

/// What machines to start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind<'a> {
    pub(super) arch: Arch,
    pub(super) strategy: Strategy,
    pub(super) collector: Collector,
    pub(super) kernel: &'a Path,
    /// For each step.
    pub(super) timeout: Duration,
    pub(super) verbose: bool,
}

/// What came of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It came to its end; the lines that failed, and why.
    Done(Vec<(u32, String)>),
    /// The machine did not survive it.
    Died(String),
}

/// Runs all scripts, named for who watches, and returns what came of each.
///
/// # Errors
/// If no machine can be started, or one refuses everything.
pub(super) fn run(kind: Kind<'_>, scripts: &[(&str, &[u8])], step: &Step) -> Result<Vec<Outcome>> {
    let batches = batches(scripts);
    let kernel = fs::read(kind.kernel).with_context(|| format!("cannot read {}", kind.kernel.display()))?;
    let next = AtomicUsize::new(0);
    let watch = Watch { done: AtomicUsize::new(0), of: scripts.len(), step: step.clone() };
    let outcomes = Mutex::new(vec![None; scripts.len()]);
    let work = || -> Result<()> {
        while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut begin = batch.start;
            while begin < batch.end {
                let done = boot(kind, &kernel, &scripts[begin..batch.end], &watch)?;
                let mut outcomes = outcomes.lock().expect("no holder panics");
                for outcome in done {
                    outcomes[begin] = Some(outcome);
                    begin += 1;
                }
            }
        }
        Ok(())
    };
    let machines = thread::available_parallelism().map_or(1, NonZero::get).min(MACHINES).min(batches.len());
    thread::scope(|scope| {
        let workers: Vec<_> = (0..machines).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("workers do not panic"))
    })?;
    let outcomes = outcomes.into_inner().expect("no holder panics");
    outcomes.into_iter().collect::<Option<_>>().context("a script was left out")
}

/// Consecutive files that share a machine.
fn batches(scripts: &[(&str, &[u8])]) -> Vec<core::ops::Range<usize>> {
    let mut batches = Vec::new();
    let (mut begin, mut bytes) = (0, 0);
    for (number, (_, script)) in scripts.iter().enumerate() {
        if number > begin && (number - begin == FILES || bytes + script.len() > BYTES) {
            batches.push(begin..number);
            (begin, bytes) = (number, 0);
        }
        bytes += script.len();
    }
    if begin < scripts.len() {
        batches.push(begin..scripts.len());
    }
    batches
}

/// Who sees how far it is.
struct Watch {
    done: AtomicUsize,
    of: usize,
    step: Step,
}

/// Boots one machine and returns what came of its first scripts: all of them, or those up to
/// the one that it did not survive.
fn boot(kind: Kind<'_>, kernel: &[u8], scripts: &[(&str, &[u8])], watch: &Watch) -> Result<Vec<Outcome>> {
    let mut payload = Writer::new();
    for (number, (_, script)) in scripts.iter().enumerate() {
        payload.add(format!("{SCRIPTS}{number:05}"), *script)?;
    }
    let told = options::Options { strategy: kind.strategy, ..options::Options::default() };
    payload.add(options::ENTRY, told.to_string().into_bytes())?;
    payload.add(COLLECTOR, kind.collector.name().as_bytes())?;
    let image = Image::new()?;
    image::write(kernel, &payload, &image.0)?;
    let mut setup = Setup::new(kind.arch, &image.0);
    setup.memory = MEMORY;
    if kind.verbose {
        say(setup.line(Wiring::Channel));
    }
    let heard = Arc::new(Mutex::new(Heard::default()));
    let tee = if kind.verbose { machine::to_stderr() } else { machine::unseen() };
    let machine = Machine::start(&setup, Some(listener(&heard, kind.timeout)), tee)?;
    let names: Vec<&str> = scripts.iter().map(|(name, _)| *name).collect();
    let ended = thread::scope(|scope| {
        scope.spawn(|| show(&heard, &names, watch));
        // A machine that is silent is stopped by its listener.
        let ended = machine.wait(None);
        heard.lock().expect("no holder panics").over = true;
        ended
    })?;
    let heard = core::mem::take(&mut *heard.lock().expect("no holder panics"));
    heard.outcomes(&ended, scripts.len(), kind)
}

/// What a machine has said so far.
#[derive(Debug, Default)]
struct Heard {
    /// The script that began last, and what failed in it; none between scripts.
    current: Option<Vec<(u32, String)>>,
    /// The line of its latest step.
    at: u32,
    done: Vec<Outcome>,
    /// The line that is not yet whole.
    partial: Vec<u8>,
    /// Whether the machine is.
    over: bool,
}

impl Heard {
    fn line(&mut self, line: &str) -> io::Result<()> {
        match Report::parse(line).map_err(|error| io::Error::other(error.to_string()))? {
            Report::Begin(_) => (self.current, self.at) = (Some(Vec::new()), 0),
            Report::At(line) => self.at = line,
            Report::Failed { line, why } => {
                self.current.get_or_insert_default().push((line, why.to_owned()));
            }
            Report::End => self.done.push(Outcome::Done(self.current.take().unwrap_or_default())),
        }
        Ok(())
    }

    /// What came of the scripts that began.
    fn outcomes(mut self, ended: &Ended, scripts: usize, kind: Kind<'_>) -> Result<Vec<Outcome>> {
        if self.done.len() == scripts {
            return Ok(self.done);
        }
        let why = why(ended, kind.kernel);
        if self.current.is_none() {
            // It is not a script's fault.
            bail!("a machine of {} ended before it was done: {why}", kind.arch);
        }
        self.done.push(Outcome::Died(format!("at line {}: {why}", self.at)));
        Ok(self.done)
    }
}

/// Lines as they come.
struct Lines(Arc<Mutex<Heard>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut heard = self.0.lock().expect("no holder panics");
        heard.partial.extend_from_slice(bytes);
        while let Some(end) = heard.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = heard.partial.drain(..=end).collect();
            heard.line(String::from_utf8_lossy(&line[..end]).as_ref())?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn listener(heard: &Arc<Mutex<Heard>>, timeout: Duration) -> machine::Service {
    let mut lines = Lines(Arc::clone(heard));
    Box::new(move |channel| {
        let mut channel = Patient { channel, timeout };
        if let Err(error) = channel.channel.set_read_timeout(Some(timeout)) {
            return channel::End::Broken(format!("no deadline can be set: {error}"));
        }
        let mut streams = Streams { stdin: &mut |_| Ok(0), stdout: &mut lines, stderr: &mut io::stderr() };
        channel::serve(&mut channel, &mut streams, || {})
    })
}

/// A channel on which each step is announced: silence means that one takes too long.
struct Patient {
    channel: UnixStream,
    timeout: Duration,
}

impl Read for Patient {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.channel.read(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                let seconds = self.timeout.as_secs_f32();
                io::Error::other(format!("the step was not done after {seconds} s (--timeout)"))
            }
            _ => error,
        })
    }
}

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.channel.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.channel.flush()
    }
}

/// Says now and then which script is the latest, until the machine is over.
fn show(heard: &Mutex<Heard>, names: &[&str], watch: &Watch) {
    let mut seen = 0;
    loop {
        let (done, over) = {
            let heard = heard.lock().expect("no holder panics");
            (heard.done.len(), heard.over)
        };
        let all = watch.done.fetch_add(done - seen, Ordering::Relaxed) + (done - seen);
        seen = done;
        if over {
            return;
        }
        if let Some(name) = names.get(done) {
            watch.step.detail(&format!("file {} of {}: {name}", (all + 1).min(watch.of), watch.of));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Why a machine ended too early.
fn why(ended: &Ended, kernel: &Path) -> String {
    let what = match (&ended.how, &ended.channel) {
        (_, Some(channel::End::Broken(why))) => why.clone(),
        (_, Some(channel::End::Exit(channel::Exit { message: Some(message), .. }))) => message.clone(),
        (How::Deadline(_) | How::Stopped, _) => "the machine had to be stopped".to_owned(),
        (How::Verdict(Verdict::Well), _) => "the machine ended without a word".to_owned(),
        (How::Verdict(verdict), _) => verdict.to_string(),
    };
    let console = symbols::symbolise(&ended.console, kernel);
    let lines: Vec<&str> = console.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n    ");
    let messages = ended.messages.trim();
    format!("{what}\n    {last}{}{messages}", if messages.is_empty() { "" } else { "\n    " })
}

/// A bootable file that goes away with us.
struct Image(PathBuf);

impl Image {
    fn new() -> Result<Self> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Ok(Self(workspace::cache("spec")?.join(format!("{}-{number}.elf", std::process::id()))))
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // Nothing needs it to be gone.
        drop(fs::remove_file(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::{FILES, Heard, Lines, Outcome, batches};
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[test]
    fn batches_have_every_file_once_and_in_order() {
        let small = vec![("a", [0_u8; 1].as_slice()); 2 * FILES + 1];
        assert_eq!(batches(&small), [0..FILES, FILES..2 * FILES, 2 * FILES..2 * FILES + 1]);
        let big = vec![0; super::BYTES];
        let files = [("a", [0].as_slice()), ("b", &big), ("c", &[0]), ("d", &big)];
        assert_eq!(batches(&files), [0..1, 1..2, 2..3, 3..4]);
        let half = &big[super::BYTES / 2..];
        assert_eq!(batches(&[("a", half), ("b", half), ("c", &[0])]), [0..2, 2..3]);
        assert_eq!(batches(&[]), [0..0; 0]);
    }

    #[test]
    fn lines_come_in_any_pieces() {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let mut lines = Lines(Arc::clone(&heard));
        for piece in ["beg", "in 0\nat 3\nfailed 3 x\nen", "d\nbegin 1\nat", " 12\n"] {
            lines.write_all(piece.as_bytes()).unwrap();
        }
        assert!(lines.write_all(b"nonsense\n").is_err());
        let heard = heard.lock().unwrap();
        assert_eq!(heard.done, [Outcome::Done(vec![(3, "x".to_owned())])]);
        assert_eq!((&heard.current, heard.at), (&Some(Vec::new()), 12));
    }
}
