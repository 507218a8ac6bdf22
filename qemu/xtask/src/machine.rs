//! A running machine: one QEMU process, its console, its channel, its deadline.
//!
//! ```text
//!      QEMU                                     this process
//!   fd 1  serial console ---- socket pair ----> thread: kept, shown if wanted
//!   fd 0  virtio console <--- socket pair ----> thread: channel::serve
//!   fd 2  QEMU's messages --- pipe -----------> thread: kept
//!         its monitor <------ socket pair ----- asked where the CPUs are, at the deadline
//! ```
//!
//! The sockets are inherited, so no name in the file system is ever left behind; and
//! QEMU dies with us, whatever we die of.

use std::io::{self, PipeReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::arch::Arch;
use crate::channel;
use crate::monitor::Monitor;
use crate::setup::{Setup, Wiring};
use crate::verdict::{self, Verdict};

/// How long a machine may take to end after its program has.
const GRACE: Duration = Duration::from_secs(10);

/// How much of a console is kept: a kernel in a loop must not fill our memory.
const CONSOLE_LIMIT: usize = 4 << 20;

/// Serves the channel of a machine on a thread of its own.
pub(crate) type Service = Box<dyn FnOnce(UnixStream) -> channel::End + Send>;

/// Who sees the console while the machine runs.
pub(crate) type Tee = Box<dyn FnMut(&[u8]) + Send>;

/// A QEMU process. Dropped, it is killed.
pub(crate) struct Machine {
    arch: Arch,
    child: Child,
    console: Option<JoinHandle<Vec<u8>>>,
    messages: Option<JoinHandle<String>>,
    events: Receiver<Event>,
    monitor: Option<Monitor>,
}

enum Event {
    ConsoleClosed,
    Channel(channel::End),
}

/// How a machine's run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) how: How,
    /// QEMU's exit status, if it was no signal that ended it.
    pub(crate) status: Option<i32>,
    /// What came over the channel, if anything did.
    pub(crate) channel: Option<channel::End>,
    /// All that was on the serial console. Behind it, where the CPUs were at the deadline.
    pub(crate) console: String,
    /// What QEMU itself had to say.
    pub(crate) messages: String,
}

/// By whom it ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// By itself.
    Verdict(Verdict),
    /// By us: the deadline had passed.
    Deadline(Duration),
    /// By us: the channel came to a bad end.
    Stopped,
}

impl Machine {
    /// Starts a machine. With a `service`, it gets a channel.
    pub(crate) fn start(setup: &Setup, service: Option<Service>, tee: Tee) -> Result<Self> {
        let wiring = if service.is_some() { Wiring::Channel } else { Wiring::Console };
        let (console, console_of_qemu) = UnixStream::pair().context("no socket for the console")?;
        let (channel, channel_of_qemu) = UnixStream::pair().context("no socket for the channel")?;
        let (messages, messages_of_qemu) = io::pipe().context("no pipe for QEMU's messages")?;

        let mut command = Command::new(setup.arch.qemu());
        command
            .args(setup.arguments(wiring))
            .stdin(OwnedFd::from(channel_of_qemu))
            .stdout(OwnedFd::from(console_of_qemu))
            .stderr(Stdio::from(messages_of_qemu));
        let (monitor, monitor_of_qemu) = Monitor::of(&mut command)?;
        die_with_parent(&mut command);
        let child = command.spawn().with_context(|| format!("cannot start {}", setup.arch.qemu()))?;
        // Closes our copies of QEMU's ends, without which we would never see them closed.
        drop((command, monitor_of_qemu));

        let (sender, events) = mpsc::channel();
        let console = {
            let sender = sender.clone();
            thread::spawn(move || keep_console(console, tee, &sender))
        };
        let messages = thread::spawn(move || keep_messages(messages));
        if let Some(service) = service {
            thread::spawn(move || sender.send(Event::Channel(service(channel))));
        }
        let (console, messages, monitor) = (Some(console), Some(messages), Some(monitor));
        Ok(Self { arch: setup.arch, child, console, messages, events, monitor })
    }

    /// Waits until the machine ends, or ends it at the deadline.
    pub(crate) fn wait(mut self, deadline: Option<Duration>) -> Result<Ended> {
        let begin = Instant::now();
        let mut until = deadline.map(|deadline| begin + deadline);
        let mut channel = None;
        let stopped = loop {
            match self.next_event(until) {
                Ok(Event::ConsoleClosed) | Err(RecvTimeoutError::Disconnected) => break None,
                Ok(Event::Channel(end)) => {
                    let over = matches!(end, channel::End::Exit(_) | channel::End::HangUp);
                    channel = Some(end);
                    if !over {
                        break Some(How::Stopped);
                    }
                    // The kernel needs a moment to end the machine.
                    until = Some(Instant::now() + GRACE);
                }
                Err(RecvTimeoutError::Timeout) => {
                    break Some(How::Deadline(deadline.unwrap_or(GRACE)));
                }
            }
        };
        let cpus = match stopped {
            Some(How::Deadline(_)) => self.monitor.take().map(Monitor::cpus),
            _ => None,
        };
        if stopped.is_some() {
            self.kill();
        }
        let status = self.child.wait().context("cannot wait for QEMU")?;
        // The channel's last words may come after the console's.
        while channel.is_none()
            && let Ok(event) = self.events.recv_timeout(Duration::from_secs(1))
        {
            if let Event::Channel(end) = event {
                channel = Some(end);
            }
        }
        let mut ended = self.ended(stopped, status, channel);
        if let Some(cpus) = cpus {
            if !ended.console.ends_with('\n') {
                ended.console.push('\n');
            }
            ended.console += &cpus;
        }
        Ok(ended)
    }

    fn next_event(&self, until: Option<Instant>) -> Result<Event, RecvTimeoutError> {
        match until {
            None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(until) => self.events.recv_timeout(until.saturating_duration_since(Instant::now())),
        }
    }

    fn ended(&mut self, stopped: Option<How>, status: ExitStatus, channel: Option<channel::End>) -> Ended {
        let console = self.console.take().and_then(|thread| thread.join().ok());
        let console = String::from_utf8_lossy(&console.unwrap_or_default()).into_owned();
        let messages = self.messages.take().and_then(|thread| thread.join().ok());
        Ended {
            how: stopped.unwrap_or_else(|| How::Verdict(verdict::judge(self.arch, status, &console))),
            status: status.code(),
            channel,
            console,
            messages: messages.unwrap_or_default(),
        }
    }

    fn kill(&mut self) {
        // It fails only for a process that has ended, which is what we want.
        drop(self.child.kill());
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
        drop(self.child.wait());
    }
}

/// Has the process killed when this thread ends in any way. (`Machine::wait` runs on the thread that
/// called `Machine::start`: each machine has a thread that outlives it.)
#[cfg(target_os = "linux")]
pub(crate) fn die_with_parent(command: &mut Command) {
    use std::os::unix::process::CommandExt;

    let parent = rustix::process::getpid();
    let in_child = move || {
        let signal = Some(rustix::process::Signal::KILL);
        rustix::process::set_parent_process_death_signal(signal)?;
        // The parent may have ended before the line above.
        if rustix::process::getppid() == Some(parent) {
            Ok(())
        } else {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    };
    // SAFETY: between fork and exec `in_child` only makes two system calls and neither allocates nor locks.
    unsafe { command.pre_exec(in_child) };
}

/// Elsewhere a QEMU outlives us only if we are killed by force.
#[cfg(not(target_os = "linux"))]
pub(crate) fn die_with_parent(_: &mut Command) {}

fn keep_console(mut from: UnixStream, mut tee: Tee, sender: &Sender<Event>) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        tee(&buffer[..length]);
        kept.extend_from_slice(&buffer[..length]);
        if kept.len() > CONSOLE_LIMIT {
            // The end is what tells what happened.
            kept.drain(..CONSOLE_LIMIT / 2);
        }
    }
    // Nobody listens once the machine is being dropped.
    drop(sender.send(Event::ConsoleClosed));
    kept
}

fn keep_messages(mut from: PipeReader) -> String {
    let mut kept = Vec::new();
    // What came before a failure is still worth showing.
    drop(from.read_to_end(&mut kept));
    String::from_utf8_lossy(&kept).into_owned()
}

/// A tee to nobody.
pub(crate) fn unseen() -> Tee {
    Box::new(|_| {})
}

/// A tee to standard error.
pub(crate) fn to_stderr() -> Tee {
    Box::new(|bytes| drop(io::stderr().write_all(bytes)))
}
