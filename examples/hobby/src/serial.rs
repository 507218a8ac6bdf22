//! `println!` on the first serial port.

use core::fmt::{self, Write};

use spin::{LazyLock, Mutex};
use uart_16550::SerialPort;
use x86_64::instructions::interrupts::without_interrupts;

static SERIAL: LazyLock<Mutex<SerialPort>> = LazyLock::new(|| {
    // SAFETY: a PC has its first serial port there.
    let mut port = unsafe { SerialPort::new(0x3f8) };
    port.init();
    Mutex::new(port)
});

#[doc(hidden)]
pub fn print(text: fmt::Arguments<'_>) {
    // A serial port takes everything.
    without_interrupts(|| SERIAL.lock().write_fmt(text).unwrap_or_default());
}

#[macro_export]
macro_rules! println {
    ($($text:tt)*) => {
        $crate::serial::print(format_args!("{}\n", format_args!($($text)*)))
    };
}
