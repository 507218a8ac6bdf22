//! The end of the machine.

use protocol::verdict::debug_exit;
use x86_64::instructions::hlt;
use x86_64::instructions::port::Port;

use crate::Exit;

/// QEMU's q35 and pc: the ACPI control register where firmware puts it, and "sleep state 5".
const ACPI_CONTROL: u16 = 0x604;
const ACPI_OFF: u16 = 0x2000;

/// The keyboard controller's command to pulse the CPU's reset line.
const KEYBOARD: u16 = 0x64;
const KEYBOARD_RESET: u8 = 0xfe;

/// Ends the machine: by the device made for it, else by what machines commonly have.
pub(crate) fn end(exit: Exit) -> ! {
    let value = match exit {
        Exit::Success => debug_exit::ENDED_WELL,
        Exit::Failure => debug_exit::FAILED,
    };
    super::serial::drain();
    // SAFETY: ends QEMU, or reaches no device.
    unsafe { Port::new(debug_exit::PORT).write(value) };
    // SAFETY: as above.
    unsafe { Port::new(ACPI_CONTROL).write(ACPI_OFF) };
    // SAFETY: as above.
    unsafe { Port::new(KEYBOARD).write(KEYBOARD_RESET) };
    loop {
        hlt();
    }
}
