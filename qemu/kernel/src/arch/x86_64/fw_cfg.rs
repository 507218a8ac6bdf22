//! What QEMU says about the machine (its docs/specs/fw_cfg).

use x86_64::instructions::port::Port;

const SELECTOR: u16 = 0x510;
const DATA: u16 = 0x511;

const SIGNATURE: u16 = 0;
const CPUS: u16 = 5;

/// CPUs that the machine starts with, if this is QEMU.
pub(super) fn cpus() -> Option<usize> {
    (read(SIGNATURE) == *b"QEMU").then(|| u16::from_le_bytes(read(CPUS)).into())
}

/// The first bytes of an item. Where there is no such device, they are ones.
fn read<const BYTES: usize>(item: u16) -> [u8; BYTES] {
    // SAFETY: the device's ports touch no memory, and nothing else where it is missing.
    unsafe { Port::new(SELECTOR).write(item) };
    core::array::from_fn(|_| {
        // SAFETY: as above.
        unsafe { Port::new(DATA).read() }
    })
}
