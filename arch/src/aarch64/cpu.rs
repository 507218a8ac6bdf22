//! The instructions: TLBI with its barriers, system registers, cache
//! maintenance.

use core::{arch::asm, fmt, ptr::NonNull};

use aarch64_cpu::{
    asm::barrier,
    registers::{
        CurrentEL, ID_AA64ISAR0_EL1, ID_AA64MMFR1_EL1, MAIR_EL1, Readable, SCTLR_EL1, TCR_EL1, TTBR0_EL1,
        TTBR1_EL1, VBAR_EL1,
    },
};

use super::{
    Aarch64,
    control::Control,
    invalidate::{Instructions, invalidate},
};
use crate::{
    Arch, CpuError, Cpus, Invalidation, Occupant, PAGE_SIZE, PhysAddr, PhysMap, PhysOffset, VirtAddr,
};

const ROOT: u64 = 0x0000_ffff_ffff_fffe;

/// This aarch64 CPU at EL1 and the tables that TTBR0 and TTBR1 point to.
pub struct Native<P = PhysOffset> {
    physical: P,
    lower: PhysAddr,
    upper: PhysAddr,
    levels: u8,
    hardware_dirty: bool,
    /// FEAT_TLBIRANGE.
    ranges: bool,
    /// Bytes that one `dc zva` clears, if it may be used.
    zero_block: Option<usize>,
    cpus: Option<&'static dyn Cpus>,
}

impl<P: PhysMap> Native<P> {
    /// Adopts the live tables (TTBR0_EL1, TTBR1_EL1) without owning them. One
    /// CPU; see [`with_cpus`](Self::with_cpus) for more.
    ///
    /// # Safety
    ///
    /// * The caller runs at EL1, and both registers point to tables, if only to
    ///   empty ones. With TCR_EL1.EPDn = 1 TTBRn_EL1 need not: nobody looks.
    /// * Physical memory is mapped at `physical`, readable and writable, as
    ///   normal write-back inner-shareable memory, as far as arena and live
    ///   tables reach: any other would not be coherent with the window.
    /// * The roots stay alive while the value is used. They, or roots with the
    ///   same top-level entries for the window, are in the registers of every
    ///   CPU that uses the window, and of no CPU beside those that the value
    ///   knows; all of them are in one inner-shareable domain.
    /// * MAIR_EL1 and TCR_EL1 do not change and are the same on all of them, and
    ///   so are ID_AA64ISAR0_EL1.TLB, ID_AA64MMFR1_EL1.HAFDBS and DCZID_EL0.
    #[must_use]
    pub unsafe fn current(physical: P) -> Self {
        let block = 4usize << (zero_block_id() & 0xf);
        let prohibited = zero_block_id() & 1 << 4 != 0;
        Self {
            physical,
            lower: live_root(VirtAddr(0)),
            upper: live_root(VirtAddr(!0)),
            levels: control().levels(),
            hardware_dirty: marks_writes(),
            ranges: ID_AA64ISAR0_EL1.get() >> 56 & 0xf >= 2,
            zero_block: (!prohibited && block <= PAGE_SIZE / 8).then_some(block),
            cpus: None,
        }
    }

    /// The same on several CPUs: the roots of all of them have the window.
    #[must_use]
    pub fn with_cpus(self, cpus: &'static dyn Cpus) -> Self {
        // Where there is one, nobody has to be asked which.
        Self { cpus: (cpus.count() > 1).then_some(cpus), ..self }
    }
}

impl<P> fmt::Debug for Native<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Native")
            .field("lower", &self.lower)
            .field("upper", &self.upper)
            .finish_non_exhaustive()
    }
}

/// The instructions themselves.
struct Cpu;

/// One TLBI. Forgetting translations changes nothing but speed.
macro_rules! tlbi {
    ($shared:expr, $inner:literal, $local:literal $(, $operand:expr)?) => {
        if $shared {
            // SAFETY: see above.
            unsafe { asm!($inner, $(in(reg) $operand,)? options(nostack, preserves_flags)) }
        } else {
            // SAFETY: see above.
            unsafe { asm!($local, $(in(reg) $operand,)? options(nostack, preserves_flags)) }
        }
    };
}

impl Instructions for Cpu {
    #[inline]
    fn dsb_before(&self) {
        barrier::dsb(barrier::ISH);
    }

    #[inline]
    fn tlbi_page(&self, operand: u64, leaves_only: bool, shared: bool) {
        if leaves_only {
            tlbi!(shared, "tlbi vaale1is, {}", "tlbi vaale1, {}", operand);
        } else {
            tlbi!(shared, "tlbi vaae1is, {}", "tlbi vaae1, {}", operand);
        }
    }

    // RVAALE1 and RVAAE1 with and without IS, spelled so that no assembler
    // extension is needed.
    #[inline]
    fn tlbi_range(&self, operand: u64, leaves_only: bool, shared: bool) {
        if leaves_only {
            tlbi!(shared, "sys #0, c8, c2, #7, {}", "sys #0, c8, c6, #7, {}", operand);
        } else {
            tlbi!(shared, "sys #0, c8, c2, #3, {}", "sys #0, c8, c6, #3, {}", operand);
        }
    }

    fn tlbi_all(&self, shared: bool) {
        tlbi!(shared, "tlbi vmalle1is", "tlbi vmalle1");
    }

    #[inline]
    fn dsb_complete(&self, shared: bool) {
        if shared { barrier::dsb(barrier::ISH) } else { barrier::dsb(barrier::NSH) }
    }

    #[inline]
    fn isb(&self) {
        barrier::isb(barrier::SY);
    }
}

/// The table that a walk for `address` starts from now.
#[inline]
fn live_root(address: VirtAddr) -> PhysAddr {
    let register = if address.0 >> 63 == 0 { TTBR0_EL1.get() } else { TTBR1_EL1.get() };
    PhysAddr(register & ROOT & !0xfff)
}

/// What the registers hold that translation goes by.
fn control() -> Control {
    let level = (CurrentEL.read(CurrentEL::EL) & 0b11) as u8;
    Control { level, sctlr: SCTLR_EL1.get(), mair: MAIR_EL1.get(), tcr: TCR_EL1.get() }
}

/// Whether the CPU keeps dirty state, and is told to. TCR_EL1 alone does not
/// say so: without FEAT_HAFDBS its bits may read as they were written, and a
/// first write would fault for ever.
fn marks_writes() -> bool {
    let exists = ID_AA64MMFR1_EL1.get() & 0xf >= 2;
    exists && TCR_EL1.read(TCR_EL1::HD) == 1 && TCR_EL1.read(TCR_EL1::HA) == 1
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

// SAFETY: `physical` is linear by `PhysMap`; `publish` orders stores to
// tables before walks and refetches (D8.2.6, `dsb ishst; isb`); `invalidate`
// orders them and earlier loads before the TLBI, sends it to this CPU or the
// inner-shareable domain, which all CPUs are in, and waits for completion
// before it returns (D8.16); `Cpus` numbers them.
unsafe impl<P: PhysMap> Arch for Native<P> {
    type Format = Aarch64;

    const ALIAS_IS_MAPPED: bool = true;

    #[inline]
    fn physical(&self, address: PhysAddr) -> NonNull<u8> {
        self.physical.phys_to_virt(address)
    }

    fn root(&self, address: VirtAddr) -> PhysAddr {
        if address.0 >> 63 == 0 { self.lower } else { self.upper }
    }

    #[inline]
    fn live_root(&self, address: VirtAddr) -> PhysAddr {
        live_root(address)
    }

    // A kernel in one half may have turned walks of the other one off.
    fn walks(&self, address: VirtAddr) -> bool {
        let off =
            if address.0 >> 63 == 0 { TCR_EL1.read(TCR_EL1::EPD0) } else { TCR_EL1.read(TCR_EL1::EPD1) };
        off == 0
    }

    fn levels(&self) -> u8 {
        self.levels
    }

    // Each half has a root of its own.
    fn half_bits(&self) -> u32 {
        12 + 9 * u32::from(self.levels)
    }

    fn hardware_dirty(&self) -> bool {
        self.hardware_dirty
    }

    fn cpus(&self) -> usize {
        self.cpus.map_or(1, Cpus::count)
    }

    #[inline]
    fn current_cpu(&self) -> usize {
        self.cpus.map_or(0, Cpus::current)
    }

    fn publish(&self) {
        barrier::dsb(barrier::ISHST);
        barrier::isb(barrier::SY);
    }

    #[inline]
    fn invalidate_local(&self, what: Invalidation) {
        invalidate(&Cpu, self.ranges, what, false);
    }

    fn invalidate_everywhere(&self, what: Invalidation) {
        invalidate(&Cpu, self.ranges, what, true);
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

    fn check(&self, window: VirtAddr) -> Result<(), CpuError> {
        control().check(window)
    }

    fn physical_bits(&self) -> u32 {
        control().physical_bits()
    }

    fn in_use(&self, report: &mut dyn FnMut(Occupant, VirtAddr)) {
        let here = 0u8;
        report(Occupant::Stack, VirtAddr((&raw const here).addr() as u64));
        report(Occupant::Code, VirtAddr((control as fn() -> Control as *const ()).addr() as u64));
        report(Occupant::Exceptions, VirtAddr(VBAR_EL1.get()));
    }

    unsafe fn zero_frame(&self, frame: PhysAddr) {
        let start = self.physical(frame);
        let Some(block) = self.zero_block else {
            // SAFETY: the page is writable and the caller's alone.
            unsafe { start.write_bytes(0, PAGE_SIZE) };
            return;
        };
        // SAFETY: `dc zva` clears the `block` bytes around an address. All lie in
        // the page, as both are aligned to `block`, and eights of it fill a page.
        unsafe {
            asm!(
                "2:",
                ".rept 8",
                "dc zva, {at}",
                "add {at}, {at}, {block}",
                ".endr",
                "subs {eights}, {eights}, #1",
                "b.ne 2b",
                at = inout(reg) start.as_ptr() => _,
                block = in(reg) block,
                eights = inout(reg) PAGE_SIZE / block / 8 => _,
                options(nostack),
            );
        };
    }
}
