//! The instructions: TLBI with its barriers, system registers, cache
//! maintenance.

use core::{arch::asm, ptr::NonNull};

use aarch64_cpu::{
    asm::barrier,
    registers::{MAIR_EL1, Readable, SCTLR_EL1, TCR_EL1, TTBR0_EL1, TTBR1_EL1},
};

use super::Aarch64;
use crate::{Arch, CpuError, PAGE_SIZE, Pages, PhysAddr, PhysOffset, VirtAddr};

/// Beyond this many pages one TLBI of everything is cheaper than one each.
const FLUSH_ALL_ABOVE: usize = 512;
const ROOT: u64 = 0x0000_ffff_ffff_fffe;
/// TLBI takes the page number in bits \[43:0\]; above are TTL and ASID, which
/// the sign extension of an upper-half address must not reach (D8.13.5).
const TLBI_PAGE: u64 = (1 << 44) - 1;

/// This aarch64 CPU at EL1 and the tables that TTBR0 and TTBR1 point to.
#[derive(Debug)]
pub struct Native {
    physical: PhysOffset,
    lower: PhysAddr,
    upper: PhysAddr,
    hardware_dirty: bool,
    /// Bytes that one `dc zva` clears, if it may be used.
    zero_block: Option<usize>,
}

impl Native {
    /// Adopts the live tables (TTBR0_EL1, TTBR1_EL1) without owning them.
    ///
    /// # Safety
    ///
    /// * The caller runs at EL1, and both registers point to tables, if only to
    ///   empty ones.
    /// * Physical memory is mapped at `physical`, readable and writable, as
    ///   normal write-back inner-shareable memory, as far as arena and live
    ///   tables reach: any other would not be coherent with the window.
    /// * The roots stay alive and in their registers while the value is used,
    ///   on every CPU that uses the window, and MAIR_EL1 and TCR_EL1 do not
    ///   change and are the same on all of them.
    #[must_use]
    pub unsafe fn current(physical: PhysOffset) -> Self {
        let block = 4usize << (zero_block_id() & 0xf);
        let prohibited = zero_block_id() & 1 << 4 != 0;
        Self {
            physical,
            lower: PhysAddr(TTBR0_EL1.get() & ROOT & !0xfff),
            upper: PhysAddr(TTBR1_EL1.get() & ROOT & !0xfff),
            hardware_dirty: TCR_EL1.read(TCR_EL1::HD) == 1 && TCR_EL1.read(TCR_EL1::HA) == 1,
            zero_block: (!prohibited && block <= PAGE_SIZE).then_some(block),
        }
    }
}

/// DCZID_EL0: bit 4 prohibits `dc zva`, bits \[3:0\] are the log2 of the words
/// it clears.
fn zero_block_id() -> u64 {
    let id: u64;
    // SAFETY: reading an identification register has no effect.
    unsafe { asm!("mrs {}, dczid_el0", out(reg) id, options(nomem, nostack, preserves_flags)) };
    id
}

/// CTR_EL0: the smallest data line in bits \[19:16\] and the smallest
/// instruction line in bits \[3:0\], as log2 of words.
fn cache_type() -> u64 {
    let ctr: u64;
    // SAFETY: as above.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) ctr, options(nomem, nostack, preserves_flags)) };
    ctr
}

// SAFETY: `physical` is linear by `PhysOffset`; `publish` orders stores to
// tables before walks and refetches (D8.2.6, `dsb ishst; isb`); `invalidate`
// does that, broadcasts the TLBI to the inner-shareable domain and waits for
// completion before it returns (D8.13, `dsb ish; isb`).
unsafe impl Arch for Native {
    type Format = Aarch64;

    const ALIAS_IS_MAPPED: bool = true;

    fn physical(&self, address: PhysAddr) -> NonNull<u8> {
        self.physical.pointer(address)
    }

    fn root(&self, address: VirtAddr) -> PhysAddr {
        if address.0 >> 63 == 0 { self.lower } else { self.upper }
    }

    // A kernel in the upper half may have turned walks of the lower one off.
    fn walks(&self, address: VirtAddr) -> bool {
        address.0 >> 63 == 1 || TCR_EL1.read(TCR_EL1::EPD0) == 0
    }

    fn levels(&self) -> u8 {
        4
    }

    fn hardware_dirty(&self) -> bool {
        self.hardware_dirty
    }

    fn publish(&self) {
        barrier::dsb(barrier::ISHST);
        barrier::isb(barrier::SY);
    }

    fn invalidate(&self, pages: Pages) {
        barrier::dsb(barrier::ISHST);
        if pages.count > FLUSH_ALL_ABOVE {
            // SAFETY: forgetting translations changes nothing but speed.
            unsafe { asm!("tlbi vmalle1is", options(nostack, preserves_flags)) };
        } else {
            for page in pages.iter() {
                let operand = (page.0 >> 12) & TLBI_PAGE;
                // SAFETY: as above. VAAE1IS covers every ASID and every level.
                unsafe { asm!("tlbi vaae1is, {}", in(reg) operand, options(nostack, preserves_flags)) };
            }
        }
        barrier::dsb(barrier::ISH);
        barrier::isb(barrier::SY);
    }

    fn synchronise_code(&self, start: VirtAddr, bytes: usize) {
        let data = 4u64 << (cache_type() >> 16 & 0xf);
        let instruction = 4u64 << (cache_type() & 0xf);
        let end = start.0 + bytes as u64;
        let mut at = start.0 & !(data - 1);
        while at < end {
            // SAFETY: cleaning a readable line to the point of unification.
            unsafe { asm!("dc cvau, {}", in(reg) at, options(nostack, preserves_flags)) };
            at += data;
        }
        barrier::dsb(barrier::ISH);
        let mut at = start.0 & !(instruction - 1);
        while at < end {
            // SAFETY: invalidating instruction lines changes nothing but speed.
            unsafe { asm!("ic ivau, {}", in(reg) at, options(nostack, preserves_flags)) };
            at += instruction;
        }
        barrier::dsb(barrier::ISH);
        barrier::isb(barrier::SY);
    }

    fn check(&self) -> Result<(), CpuError> {
        const WRITE_BACK: u64 = 0xff;
        const DS: u64 = 1 << 59;
        if SCTLR_EL1.read(SCTLR_EL1::M) == 0 {
            return Err(CpuError::MmuOff);
        }
        let attribute = MAIR_EL1.get() & 0xff;
        if attribute != WRITE_BACK {
            return Err(CpuError::MemoryAttribute { found: attribute as u8 });
        }
        // TG0 = 0b00 and TG1 = 0b10 are 4 KiB; TnSZ = 16 is 48 bits; EPDn = 1
        // means no walks (D24.2.184). The lower half is only looked at.
        let upper = TCR_EL1.read(TCR_EL1::TG1) == 0b10
            && TCR_EL1.read(TCR_EL1::T1SZ) == 16
            && TCR_EL1.read(TCR_EL1::EPD1) == 0;
        let lower = TCR_EL1.read(TCR_EL1::EPD0) == 1
            || TCR_EL1.read(TCR_EL1::TG0) == 0b00 && TCR_EL1.read(TCR_EL1::T0SZ) == 16;
        if !upper || !lower {
            return Err(CpuError::Granule);
        }
        // With DS, bits [9:8] of an entry are address bits, not shareability.
        if TCR_EL1.get() & DS != 0 {
            return Err(CpuError::LargeAddresses);
        }
        let inner = (TCR_EL1.read(TCR_EL1::IRGN1) & 0b11) as u8;
        let outer = (TCR_EL1.read(TCR_EL1::ORGN1) & 0b11) as u8;
        // 0b01 and 0b11: write-back, with and without write-allocate.
        if inner & 1 == 0 || outer & 1 == 0 {
            return Err(CpuError::WalkMemory { inner, outer });
        }
        Ok(())
    }

    unsafe fn zero_frame(&self, frame: PhysAddr) {
        let start = self.physical(frame);
        let Some(block) = self.zero_block else {
            // SAFETY: the page is writable and the caller's alone.
            unsafe { start.write_bytes(0, PAGE_SIZE) };
            return;
        };
        let mut at = start.as_ptr().addr();
        let end = at + PAGE_SIZE;
        while at < end {
            // SAFETY: `dc zva` clears the `block` bytes around `at`, which lie
            // in the page as both are aligned to `block`.
            unsafe { asm!("dc zva, {}", in(reg) at, options(nostack, preserves_flags)) };
            at += block;
        }
    }
}
