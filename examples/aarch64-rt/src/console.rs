//! Lines on the first serial port.

use core::{fmt, fmt::Write, ptr::NonNull};

use arm_pl011_uart::{PL011Registers, Uart, UniqueMmioPointer};
use spin::Mutex;

/// Where QEMU's `virt` has its registers.
pub(crate) const REGISTERS: usize = 0x0900_0000;

/// Prints a line.
#[macro_export]
macro_rules! println {
    ($($arg:tt)*) => { $crate::console::print(format_args!("{}\n", format_args!($($arg)*))) };
}

pub(crate) fn print(text: fmt::Arguments<'_>) {
    static TAKEN: Mutex<()> = Mutex::new(());
    let _taken = TAKEN.lock();
    let registers = NonNull::new(REGISTERS as *mut PL011Registers).expect("not at 0");
    // SAFETY: the device is there, mapped as such by both page tables, and this is the only place that
    // touches it, one CPU at a time.
    let registers = unsafe { UniqueMmioPointer::new(registers) };
    // QEMU's port never fails.
    let _ = Uart::new(registers).write_fmt(text);
}
