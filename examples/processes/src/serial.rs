//! The serial port, and the end of the machine.

use core::fmt::{self, Write};

use spin::Mutex;
use x86_64::instructions::port::Port;

/// Prints a line.
#[macro_export]
macro_rules! println {
    ($($arg:tt)*) => {
        $crate::serial::print(format_args!("{}\n", format_args!($($arg)*)))
    };
}

/// One CPU's line after the other's. No interrupt handler prints but to panic.
static PORT: Mutex<Serial> = Mutex::new(Serial);

/// The first serial port of a PC.
struct Serial;

impl Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let (mut data, mut status) = (Port::<u8>::new(0x3f8), Port::<u8>::new(0x3fd));
        for byte in text.bytes() {
            // SAFETY: reading the line status has no effect beyond the port's own.
            while unsafe { status.read() } & 1 << 5 == 0 {}
            // SAFETY: the port sends the byte.
            unsafe { data.write(byte) };
        }
        Ok(())
    }
}

pub fn print(arguments: fmt::Arguments<'_>) {
    let _ = PORT.lock().write_fmt(arguments);
}

/// For a panic: whoever holds the port does not come back.
pub fn print_last(arguments: fmt::Arguments<'_>) {
    let _ = Serial.write_fmt(arguments);
}

/// Ends the machine. QEMU's status is 33 for success, and 35 otherwise.
pub fn exit(success: bool) -> ! {
    // SAFETY: QEMU's `isa-debug-exit`; a machine without it ignores the write.
    unsafe { Port::<u32>::new(0xf4).write(if success { 0x10 } else { 0x11 }) };
    loop {
        x86_64::instructions::hlt();
    }
}
