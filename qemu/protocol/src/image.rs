//! Where a boot image keeps its payload.
//!
//! The kernel's ELF file holds one [`PayloadSlot`], empty as the linker left it. The
//! host appends the payload archive as one more loadable segment and fills the slot
//! with its physical address and length:
//!
//! ```text
//!   kernel ELF            boot image
//!   +-------------+       +-------------+
//!   | text, data  |       | text, data  |   .payload_slot { MAGIC, address, length }
//!   |   slot: 0,0 |       |   slot: ----|---------+
//!   +-------------+       +-------------+         |
//!                         | PT_LOAD     | <-------+   64 KiB aligned, above the kernel
//!                         |  (archive)  |
//!                         +-------------+
//! ```

/// How the host recognises the slot. These bytes must be nowhere else in the kernel.
pub const SLOT_MAGIC: [u8; 16] = *b"allotment slot 1";

/// The section that the slot is in when it reaches the linker, whose script must keep it.
pub const SLOT_SECTION: &str = ".payload_slot";

/// Physical alignment of the payload segment: what an aarch64 `.cwasm` needs to be
/// executed where it lies, because its sections are aligned for the largest page size.
pub const SEGMENT_ALIGN: u64 = 64 * 1024;

/// The static through which a kernel finds its payload.
///
/// The host writes `address` and `length` into the file, behind the compiler's back:
/// a kernel must read the static with volatile loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PayloadSlot {
    /// [`SLOT_MAGIC`].
    pub magic: [u8; 16],
    /// Physical address of the archive, 0 if there is none.
    pub address: u64,
    /// Length of the archive in bytes, 0 if there is none.
    pub length: u64,
}

impl PayloadSlot {
    /// The slot of a kernel without payload.
    pub const EMPTY: Self = Self { magic: SLOT_MAGIC, address: 0, length: 0 };

    /// Size of the slot in the file.
    pub const SIZE: usize = size_of::<Self>();

    /// The bytes of a filled slot (both targets are little-endian).
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..16].copy_from_slice(&self.magic);
        bytes[16..24].copy_from_slice(&self.address.to_le_bytes());
        bytes[24..].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::{PayloadSlot, SLOT_MAGIC};

    #[test]
    fn slot_bytes_are_the_layout_of_the_struct() {
        let slot = PayloadSlot { magic: SLOT_MAGIC, address: 0x0102_0304, length: 0x0506 };
        let bytes = slot.to_bytes();
        assert_eq!(core::mem::offset_of!(PayloadSlot, address), 16);
        assert_eq!(core::mem::offset_of!(PayloadSlot, length), 24);
        assert_eq!(&bytes[..16], b"allotment slot 1");
        assert_eq!(bytes[16..20], [4, 3, 2, 1]);
        assert_eq!(bytes[24..26], [6, 5]);
    }
}
