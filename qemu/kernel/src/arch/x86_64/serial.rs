//! COM1, a 16550.

use x86_64::instructions::port::Port;

const BASE: u16 = 0x3f8;
const DATA: u16 = BASE;
const INTERRUPTS: u16 = BASE + 1;
const LINE_CONTROL: u16 = BASE + 3;
const MODEM_CONTROL: u16 = BASE + 4;
const LINE_STATUS: u16 = BASE + 5;

/// Line status: a byte has come in.
const RECEIVED: u8 = 1;
/// Line status: there is room for a byte to send.
const ROOM: u8 = 1 << 5;

/// 115200 baud, eight bits, no parity, no interrupts. The FIFOs stay as they are: switching them on would
/// empty them, of input that came while the machine was starting.
pub(crate) fn init() {
    const DIVISOR_LATCH: u8 = 0x80;
    const EIGHT_BITS: u8 = 3;
    for (port, value) in [
        (INTERRUPTS, 0),
        (LINE_CONTROL, DIVISOR_LATCH),
        (DATA, 1),
        (INTERRUPTS, 0),
        (LINE_CONTROL, EIGHT_BITS),
        (MODEM_CONTROL, 3),
    ] {
        write(port, value);
    }
}

/// Line status: everything has left.
const EMPTY: u8 = 1 << 6;

/// Waits until everything has left: a machine that ends takes unsent bytes with it.
pub(crate) fn drain() {
    while read(LINE_STATUS) & EMPTY == 0 {
        core::hint::spin_loop();
    }
}

/// Sends a byte, waiting for room.
pub(crate) fn write_byte(byte: u8) {
    while read(LINE_STATUS) & ROOM == 0 {
        core::hint::spin_loop();
    }
    write(DATA, byte);
}

/// A byte that has come in.
pub(crate) fn read_byte() -> Option<u8> {
    (read(LINE_STATUS) & RECEIVED != 0).then(|| read(DATA))
}

fn write(port: u16, value: u8) {
    // SAFETY: the ports of COM1 reach nothing but the serial line.
    unsafe { Port::new(port).write(value) };
}

fn read(port: u16) -> u8 {
    // SAFETY: as in `write`.
    unsafe { Port::new(port).read() }
}
