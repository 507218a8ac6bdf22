//! What the boot-loader leaves to the kernel: vector registers, which wasm has and the kernel has not.

use x86_64::registers::{
    control::{Cr4, Cr4Flags},
    xcontrol::{XCr0, XCr0Flags},
};

/// Lets code use SSE and AVX. (The CPU must have AVX2, as most of the last ten years have.)
pub fn init() {
    // SAFETY: the kernel itself uses no vector registers, and nobody else runs.
    unsafe {
        Cr4::update(|flags| *flags |= Cr4Flags::OSFXSR | Cr4Flags::OSXMMEXCPT_ENABLE | Cr4Flags::OSXSAVE);
        XCr0::write(XCr0Flags::X87 | XCr0Flags::SSE | XCr0Flags::AVX);
    }
}
