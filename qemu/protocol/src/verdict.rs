//! How a machine says that it ended as it meant to.
//!
//! QEMU's own exit status is not enough. On x86_64 it exits with 0 when a triple
//! fault resets the machine, and on aarch64 every power-off is 0. So the kernel says
//! it in words, as the last line on the serial console, and on x86_64 with an exit
//! status that nothing else produces as well.

/// The last line on the serial console of a machine that ended well.
pub const ENDED_WELL: &str = "allotment: machine ended well";

/// The last line on the serial console of a machine that failed.
pub const FAILED: &str = "allotment: machine failed";

/// The word on a test kernel's command line that asks for the long stresses too.
pub const FULL_WORD: &str = "--allotment-full";

/// x86_64: what the kernel writes to the `isa-debug-exit` port, and the exit status that
/// QEMU makes of it, `value << 1 | 1`.
pub mod debug_exit {
    /// The I/O port of the device (`-device isa-debug-exit,iobase=0xf4,iosize=4`).
    pub const PORT: u16 = 0xf4;
    /// Written when the machine ended well.
    pub const ENDED_WELL: u32 = 0x10;
    /// Written when the machine failed.
    pub const FAILED: u32 = 0x11;
    /// QEMU's exit status for [`ENDED_WELL`].
    pub const STATUS_ENDED_WELL: i32 = 33;
    /// QEMU's exit status for [`FAILED`].
    pub const STATUS_FAILED: i32 = 35;
}

#[cfg(test)]
mod tests {
    use super::debug_exit;

    #[test]
    fn statuses_follow_from_the_values() {
        assert_eq!(debug_exit::ENDED_WELL << 1 | 1, 33);
        assert_eq!(debug_exit::STATUS_ENDED_WELL, 33);
        assert_eq!(debug_exit::FAILED << 1 | 1, 35);
        assert_eq!(debug_exit::STATUS_FAILED, 35);
    }
}
