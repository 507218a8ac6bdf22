//! The program's streams: over the channel, or over the serial console when
//! the machine has no channel (an image that was booted by hand).

use alloc::{string::String, sync::Arc};

use kernel::{
    Exit,
    channel::{self, Channel},
    clock, console, println, random,
};
use protocol::{frame::Kind, status::Status};
use spin::Mutex;

/// How the program ended, or why it never began.
pub(crate) enum Outcome {
    Exited(u8),
    Trapped {
        /// The trap, in a few words.
        cause: String,
        /// What happened and where.
        message: String,
    },
    Refused(String),
}

/// Where bytes come from and go to. Clones are the same streams: an instance
/// reads on where the one before it stopped.
#[derive(Clone)]
pub(crate) enum Streams {
    Channel(Arc<Mutex<Channel>>),
    Console,
    /// Nothing to read, and nobody listens.
    Silent,
}

impl Streams {
    /// The machine's own. Once per machine.
    pub(crate) fn open() -> Self {
        channel::open().map_or(Self::Console, |channel| Self::Channel(Arc::new(Mutex::new(channel))))
    }

    /// A message of the kernel's, not of its program.
    pub(crate) fn say(&self, message: &str) {
        let text = alloc::format!("allotment: {message}\n");
        self.write(Kind::Stderr, text.as_bytes());
    }

    /// What was asked for instead of a program's output.
    pub(crate) fn print(&self, text: &str) {
        self.write(Kind::Stdout, text.as_bytes());
    }

    /// Says how the program ended, and ends the machine.
    pub(crate) fn finish(&self, outcome: &Outcome) -> ! {
        match self {
            Self::Channel(channel) => channel.lock().exit(outcome.status()),
            Self::Console => match outcome {
                Outcome::Exited(status) => println!("allotment: the program exited with status {status}"),
                Outcome::Trapped { message, .. } => println!("allotment: the program trapped: {message}"),
                Outcome::Refused(message) => println!("allotment: the module was refused: {message}"),
            },
            Self::Silent => {}
        }
        kernel::exit(Exit::Success)
    }

    fn write(&self, kind: Kind, bytes: &[u8]) {
        match self {
            Self::Channel(channel) => channel.lock().write(kind, bytes),
            Self::Console => console::write(bytes),
            Self::Silent => {}
        }
    }
}

impl Outcome {
    fn status(&self) -> Status<'_> {
        match self {
            Self::Exited(status) => Status::Exited(*status),
            Self::Trapped { message, .. } => Status::Trapped { message },
            Self::Refused(message) => Status::Refused { message },
        }
    }
}

impl wasi::Host for Streams {
    fn monotonic_ns(&mut self) -> u64 {
        clock::monotonic_ns()
    }

    fn realtime_ns(&mut self) -> u64 {
        clock::realtime_ns()
    }

    // Nothing else wants the CPU, and no interrupt would wake it.
    fn sleep_until(&mut self, deadline: u64) {
        while clock::monotonic_ns() < deadline {
            core::hint::spin_loop();
        }
    }

    fn fill_random(&mut self, bytes: &mut [u8]) {
        random::fill(bytes);
    }

    fn stdin_read(&mut self, bytes: &mut [u8]) -> usize {
        match self {
            Self::Channel(channel) => channel.lock().read_stdin(bytes),
            Self::Console => match bytes.first_mut() {
                Some(first) => {
                    *first = console::read();
                    1
                }
                None => 0,
            },
            Self::Silent => 0,
        }
    }

    fn stdout_write(&mut self, bytes: &[u8]) {
        self.write(Kind::Stdout, bytes);
    }

    fn stderr_write(&mut self, bytes: &[u8]) {
        self.write(Kind::Stderr, bytes);
    }
}
