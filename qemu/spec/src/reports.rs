//! Lines to the host: over the channel, or on the console if the machine has none.

use alloc::format;

use kernel::{
    Exit,
    channel::{self, Channel},
    println,
};
use protocol::{frame::Kind, spec::Report, status::Status};

/// Where reports go.
pub(crate) struct Reports {
    channel: Option<Channel>,
}

impl Reports {
    /// The machine's own. Once per machine.
    pub(crate) fn open() -> Self {
        Self { channel: channel::open() }
    }

    pub(crate) fn say(&mut self, report: &Report<'_>) {
        match &mut self.channel {
            Some(channel) => channel.write(Kind::Stdout, format!("{report}\n").as_bytes()),
            None => println!("{report}"),
        }
    }

    /// Ends the machine, after all scripts or because there are none.
    pub(crate) fn finish(mut self, refused: Option<&str>) -> ! {
        match (&mut self.channel, refused) {
            (Some(channel), Some(message)) => channel.exit(Status::Refused { message }),
            (Some(channel), None) => channel.exit(Status::Exited(0)),
            (None, Some(message)) => println!("allotment: {message}"),
            (None, None) => {}
        }
        kernel::exit(Exit::Success)
    }
}
