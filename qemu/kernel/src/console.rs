//! The console: the serial line, for messages and the verdict.
//!
//! It has no lock: there is one CPU, interrupts are masked, and what an exception prints is
//! printed before the machine ends.

use core::fmt::{self, Write};

use crate::arch;

/// The serial line as a [`Write`]r.
struct Serial;

impl Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write(text.as_bytes());
        Ok(())
    }
}

/// Prints formatted text.
#[doc(hidden)]
pub fn print(arguments: fmt::Arguments<'_>) {
    // An error can only come from a `Display` that made it up.
    let _ = Serial.write_fmt(arguments);
}

/// Writes bytes as they are.
pub fn write(bytes: &[u8]) {
    for byte in bytes {
        arch::serial::write_byte(*byte);
    }
}

/// The next byte that came in on the serial line, waiting for it. The line has no end.
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
