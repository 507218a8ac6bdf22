//! The console: the serial line, for messages and the verdict.
//!
//! What one CPU prints with one call stays together. A CPU that holds the line may print again, in an
//! exception, and one that panics does not wait for long: messages are never lost for a lock.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::{arch, cpus, panic};

/// The CPU that prints, and one more; 0 if none does.
static OWNER: AtomicUsize = AtomicUsize::new(0);

/// How often a CPU that panics tries to get the line.
const TRIES: u32 = 1_000_000;

/// The serial line as a [`Write`]r.
struct Serial;

impl Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        send(text.as_bytes());
        Ok(())
    }
}

/// Prints formatted text.
#[doc(hidden)]
pub fn print(arguments: fmt::Arguments<'_>) {
    // An error can only come from a `Display` that made it up.
    alone(|| {
        let _ = Serial.write_fmt(arguments);
    });
}

/// Writes bytes as they are.
pub fn write(bytes: &[u8]) {
    alone(|| send(bytes));
}

fn send(bytes: &[u8]) {
    for byte in bytes {
        arch::serial::write_byte(*byte);
    }
}

/// Runs `print` while no other CPU prints.
fn alone(print: impl FnOnce()) {
    let me = cpus::current() + 1;
    let mut tries = 0;
    let mine = loop {
        let panics = panic::here();
        match OWNER.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => break true,
            Err(owner) if owner == me => break false,
            Err(_) if panics && tries == TRIES => break false,
            Err(_) if panics => tries += 1,
            Err(_) => {}
        }
        arch::cpu::relax();
    };
    print();
    if mine {
        OWNER.store(0, Ordering::Release);
    }
}

/// The next byte that came in on the serial line, waiting for it. The line has no end. For one CPU at a time.
#[must_use]
pub fn read() -> u8 {
    loop {
        if let Some(byte) = arch::serial::read_byte() {
            return byte;
        }
        arch::cpu::relax();
    }
}

/// Prints to the console.
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => { $crate::console::print(::core::format_args!($($argument)*)) };
}

/// Prints a line to the console.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($argument:tt)*) => { $crate::print!("{}\n", ::core::format_args!($($argument)*)) };
}
