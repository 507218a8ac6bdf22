//! The program's streams: over the channel, or over the serial console when
//! the machine has no channel (an image that was booted by hand).

use alloc::{boxed::Box, format, string::String};

use kernel::{
    Exit,
    channel::{self, Channel},
    clock, console, println, random,
};
use protocol::{frame::Kind, status::Status};

/// How the program ended, or why it never began.
pub(crate) enum Outcome {
    Exited(u8),
    Trapped(String),
    Refused(String),
}

/// Where bytes come from and go to.
pub(crate) enum Streams {
    Channel(Box<Channel>),
    Console,
}

impl Streams {
    pub(crate) fn open() -> Self {
        channel::open().map_or(Self::Console, |channel| Self::Channel(Box::new(channel)))
    }

    /// Says how the program ended, and ends the machine.
    pub(crate) fn finish(&mut self, outcome: &Outcome) -> ! {
        match self {
            Self::Channel(channel) => channel.exit(outcome.status()),
            Self::Console => match outcome {
                Outcome::Exited(status) => println!("allotment: the program exited with status {status}"),
                Outcome::Trapped(message) => println!("allotment: the program trapped: {message}"),
                Outcome::Refused(message) => println!("allotment: the module was refused: {message}"),
            },
        }
        kernel::exit(Exit::Success)
    }

    fn write(&mut self, kind: Kind, bytes: &[u8]) {
        match self {
            Self::Channel(channel) => channel.write(kind, bytes),
            Self::Console => console::write(bytes),
        }
    }
}

impl Outcome {
    pub(crate) fn refused(what: &str, error: &wasmtime::Error) -> Self {
        Self::Refused(format!("{what}: {error:#}"))
    }

    fn status(&self) -> Status<'_> {
        match self {
            Self::Exited(status) => Status::Exited(*status),
            Self::Trapped(message) => Status::Trapped { message },
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
            Self::Channel(channel) => channel.read_stdin(bytes),
            Self::Console => match bytes.first_mut() {
                Some(first) => {
                    *first = console::read();
                    1
                }
                None => 0,
            },
        }
    }

    fn stdout_write(&mut self, bytes: &[u8]) {
        self.write(Kind::Stdout, bytes);
    }

    fn stderr_write(&mut self, bytes: &[u8]) {
        self.write(Kind::Stderr, bytes);
    }
}
