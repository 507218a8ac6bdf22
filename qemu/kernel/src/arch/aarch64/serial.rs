//! The console: a PL011 (DDI 0183), as the firmware or QEMU has set it up.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::ranges::pointer;

/// UARTDR: the next byte, out or in.
const DATA: u64 = 0x00;
/// UARTFR: what waits.
const FLAGS: u64 = 0x18;
/// UARTFR.RXFE: nothing has come in.
const RECEIVE_EMPTY: u32 = 1 << 4;
/// UARTFR.TXFF: no room.
const TRANSMIT_FULL: u32 = 1 << 5;

/// Where the registers are. Until the device tree has been read, where `virt` has them: that there
/// is no device tree must be said somewhere.
static BASE: AtomicU64 = AtomicU64::new(0x0900_0000);

/// Uses the PL011 at `base` from now on.
///
/// # Safety
/// There is one, and it is mapped, now and in every later map.
pub(super) unsafe fn init(base: u64) {
    BASE.store(base, Ordering::Relaxed);
}

/// Writes one byte, waiting for room.
pub(crate) fn write_byte(byte: u8) {
    while flags() & TRANSMIT_FULL != 0 {
        core::hint::spin_loop();
    }
    // SAFETY: UARTDR of the console; that sends a byte and nothing else.
    unsafe { register(DATA).write_volatile(u32::from(byte)) };
}

/// Reads one byte if one has come in.
pub(crate) fn read_byte() -> Option<u8> {
    if flags() & RECEIVE_EMPTY != 0 {
        return None;
    }
    // SAFETY: UARTDR of the console; that takes the byte that is there.
    let received = unsafe { register(DATA).read_volatile() };
    Some(received.to_le_bytes()[0])
}

fn flags() -> u32 {
    // SAFETY: reading UARTFR has no effect.
    unsafe { register(FLAGS).read_volatile() }
}

fn register(offset: u64) -> *mut u32 {
    pointer(BASE.load(Ordering::Relaxed) + offset)
}
