//! The instructions: invalidation, control registers, vector moves.

use core::{arch::asm, fmt, ptr::NonNull};

use x86_64::{
    instructions::tables,
    instructions::tlb,
    registers::{
        control::{Cr0, Cr3, Cr4, Cr4Flags},
        model_specific::{Efer, Msr},
    },
};

use super::{
    X86_64,
    control::Control,
    invalidate::{Instructions, Method, invalidate},
};
use crate::{Arch, CpuError, Cpus, Invalidation, Occupant, PhysAddr, PhysMap, PhysOffset, VirtAddr};

/// This x86_64 CPU and the tables that its CR3 points to.
///
/// With AVX on (CR4.OSXSAVE and XCR0), and AVX-512 off, frames are cleared and
/// copied with `ymm` registers, which are saved and restored: whoever was
/// interrupted by a handler that does so finds his as they were.
pub struct Native<P = PhysOffset> {
    physical: P,
    root: PhysAddr,
    levels: u8,
    wide: bool,
    cpus: Option<&'static dyn Cpus>,
}

impl<P: PhysMap> Native<P> {
    /// Adopts the live tables (CR3) without owning them. One CPU; see
    /// [`with_cpus`](Self::with_cpus) for more.
    ///
    /// # Safety
    ///
    /// * The caller runs at CPL 0.
    /// * Physical memory is mapped at `physical`, readable and writable, as
    ///   write-back memory, as far as arena and live tables reach.
    /// * The root stays alive while the value is used. It, or a root with the
    ///   same top-level entries for the window, is in CR3 of each CPU that uses
    ///   the window, and of no CPU beside those that the value knows.
    /// * CR0.WP, CR4.PCIDE, CR4.LA57, CR4.OSXSAVE, EFER.NXE and XCR0 do not
    ///   change, and are the same on all of these CPUs.
    #[must_use]
    pub unsafe fn current(physical: P) -> Self {
        let (root, _) = Cr3::read();
        let cr4 = Cr4::read();
        Self {
            physical,
            root: PhysAddr(root.start_address().as_u64()),
            levels: if cr4.contains(Cr4Flags::L5_PAGING) { 5 } else { 4 },
            wide: cr4.contains(Cr4Flags::OSXSAVE) && avx_is_widest(),
            cpus: None,
        }
    }

    /// The same below another root, such as a process's that has the window.
    #[cfg(feature = "x86_64-v0_15")]
    pub(crate) fn with_root(self, root: PhysAddr) -> Self {
        Self { root, ..self }
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
            .field("root", &self.root)
            .field("levels", &self.levels)
            .finish_non_exhaustive()
    }
}

/// The instructions themselves.
struct Cpu;

impl Instructions for Cpu {
    #[inline]
    fn invlpg(&self, page: VirtAddr) {
        // Not by the crate's `tlb::flush`, whose addresses have 48 bits.
        // SAFETY: forgetting translations changes nothing but speed.
        unsafe { asm!("invlpg [{}]", in(reg) page.0, options(nostack, preserves_flags)) };
    }

    #[inline]
    fn reload_cr3(&self) {
        tlb::flush_all();
    }

    // No method that is in use comes here; the encodings need no assembler
    // that knows them.
    fn invpcid(&self, kind: u64, descriptor: [u64; 2]) {
        // SAFETY: as above.
        unsafe {
            asm!("invpcid {}, [{}]", in(reg) kind, in(reg) &raw const descriptor, options(nostack, preserves_flags));
        }
    }

    fn invlpgb(&self, rax: u64, ecx: u32, edx: u32) {
        // SAFETY: as above. `0f 01 fe` is INVLPGB.
        unsafe {
            asm!(".byte 0x0f, 0x01, 0xfe", in("rax") rax, in("ecx") ecx, in("edx") edx, options(nostack, preserves_flags));
        }
    }

    fn tlbsync(&self) {
        // SAFETY: it only waits. `0f 01 ff` is TLBSYNC.
        unsafe { asm!(".byte 0x0f, 0x01, 0xff", options(nostack, preserves_flags)) };
    }
}

/// IA32_PAT: eight memory types, in a byte each.
fn memory_types() -> u64 {
    const IA32_PAT: u32 = 0x277;
    // SAFETY: reading it has no effect, and every CPU with long mode has it.
    unsafe { Msr::new(IA32_PAT).read() }
}

/// Whether CPUID and XCR0 both allow 32-byte moves (SDM volume 1, 14.3), and
/// vectors have no more than 32 bytes: such a move clears what is beyond, and
/// we have not saved that. Called with CR4.OSXSAVE set.
fn avx_is_widest() -> bool {
    const SSE_AND_AVX: u64 = 0b110;
    const AVX_512: u64 = 0b111 << 5;
    let avx = core::arch::x86_64::__cpuid(1).ecx & 1 << 28 != 0;
    if !avx {
        return false;
    }
    let (low, high): (u32, u32);
    // SAFETY: CR4.OSXSAVE is set, so that `xgetbv` exists; it changes nothing.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
    }
    (u64::from(high) << 32 | u64::from(low)) & (SSE_AND_AVX | AVX_512) == SSE_AND_AVX
}

// SAFETY: `physical` is linear by `PhysMap`; the CPU's walks are ordered
// after its own stores, and other CPUs' after theirs reach memory, which they
// do in order (SDM 3A, 4.10.4.3: no invalidation is needed for an entry that
// was not present); `invlpg` and a CR3 reload drop translations and
// paging-structure caches of the current PCID (4.10.4.1), which `check` makes
// sure is the only one, and no entry of ours is global; `current`'s caller
// promises that the window is active on no other CPU than `cpus` knows, and
// `Cpus` that each of those runs `work`, and numbers them.
unsafe impl<P: PhysMap> Arch for Native<P> {
    type Format = X86_64;

    const ALIAS_IS_MAPPED: bool = true;

    #[inline]
    fn physical(&self, address: PhysAddr) -> NonNull<u8> {
        self.physical.phys_to_virt(address)
    }

    fn root(&self, _address: VirtAddr) -> PhysAddr {
        self.root
    }

    #[inline]
    fn live_root(&self, _address: VirtAddr) -> PhysAddr {
        PhysAddr(Cr3::read().0.start_address().as_u64())
    }

    fn levels(&self) -> u8 {
        self.levels
    }

    fn hardware_dirty(&self) -> bool {
        true
    }

    fn cpus(&self) -> usize {
        self.cpus.map_or(1, Cpus::count)
    }

    #[inline]
    fn current_cpu(&self) -> usize {
        self.cpus.map_or(0, Cpus::current)
    }

    fn publish(&self) {
        core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
    }

    #[inline]
    fn invalidate_local(&self, what: Invalidation) {
        invalidate(&Cpu, Method::Invlpg, what);
    }

    fn invalidate_everywhere(&self, what: Invalidation) {
        if what.is_nothing() {
            return;
        }
        self.invalidate_local(what);
        if let Some(cpus) = self.cpus {
            cpus.interrupt_others(&|| invalidate(&Cpu, Method::Invlpg, what));
        }
    }

    fn synchronise_code(&self, _start: VirtAddr, _bytes: usize) {
        // Instruction caches snoop stores (SDM 3A, 11.6); the jump that
        // follows a publication is the serialisation it needs.
    }

    fn check(&self, _window: VirtAddr) -> Result<(), CpuError> {
        Control { cr0: Cr0::read_raw(), cr4: Cr4::read_raw(), efer: Efer::read_raw(), pat: memory_types() }
            .check()
    }

    fn in_use(&self, report: &mut dyn FnMut(Occupant, VirtAddr)) {
        let here = 0u8;
        report(Occupant::Stack, VirtAddr((&raw const here).addr() as u64));
        report(Occupant::Code, VirtAddr((memory_types as fn() -> u64 as *const ()).addr() as u64));
        report(Occupant::Exceptions, VirtAddr(tables::sidt().base.as_u64()));
        report(Occupant::Segments, VirtAddr(tables::sgdt().base.as_u64()));
    }

    unsafe fn zero_frame(&self, frame: PhysAddr) {
        let start = self.physical(frame).as_ptr();
        if self.wide {
            // SAFETY: the page is writable and ours (the caller's promise).
            // AVX is enabled (`wide`), and `ymm0` is as it was at the end. It is
            // kept by a push, as a variable here costs more where this is inlined.
            unsafe {
                asm!(
                    "sub rsp, 32",
                    "vmovdqu [rsp], ymm0",
                    "vpxor xmm0, xmm0, xmm0",
                    "2:",
                    // 64 stores of 32 bytes, half the page.
                    ".set stored, 0",
                    ".rept 64",
                    "vmovdqa [{at} + stored], ymm0",
                    ".set stored, stored + 32",
                    ".endr",
                    "add {at}, 2048",
                    "sub {halves:e}, 1",
                    "jnz 2b",
                    "vmovdqu ymm0, [rsp]",
                    "add rsp, 32",
                    at = inout(reg) start => _,
                    halves = inout(reg) 2u32 => _,
                );
            }
        } else {
            // SAFETY: as above; the direction flag is clear in Rust code.
            unsafe {
                asm!(
                    "rep stosq",
                    inout("rdi") start => _,
                    inout("rcx") 512u64 => _,
                    in("rax") 0u64,
                    options(nostack, preserves_flags),
                );
            }
        }
    }

    unsafe fn copy_frame(&self, from: PhysAddr, to: PhysAddr) {
        let from = self.physical(from).as_ptr();
        let to = self.physical(to).as_ptr();
        if self.wide {
            // SAFETY: two pages, the second of them ours (the caller's
            // promise). AVX is enabled (`wide`), and both registers are as
            // they were at the end.
            unsafe {
                asm!(
                    "sub rsp, 64",
                    "vmovdqu [rsp], ymm0",
                    "vmovdqu [rsp + 32], ymm1",
                    "2:",
                    // 64 moves of 32 bytes, half the page.
                    ".set moved, 0",
                    ".rept 32",
                    "vmovdqa ymm0, [{from} + moved]",
                    "vmovdqa ymm1, [{from} + moved + 32]",
                    "vmovdqa [{to} + moved], ymm0",
                    "vmovdqa [{to} + moved + 32], ymm1",
                    ".set moved, moved + 64",
                    ".endr",
                    "add {from}, 2048",
                    "add {to}, 2048",
                    "sub {halves:e}, 1",
                    "jnz 2b",
                    "vmovdqu ymm0, [rsp]",
                    "vmovdqu ymm1, [rsp + 32]",
                    "add rsp, 64",
                    from = inout(reg) from => _,
                    to = inout(reg) to => _,
                    halves = inout(reg) 2u32 => _,
                );
            }
        } else {
            // SAFETY: as above; the direction flag is clear in Rust code.
            unsafe {
                asm!(
                    "rep movsq",
                    inout("rsi") from => _,
                    inout("rdi") to => _,
                    inout("rcx") 512u64 => _,
                    options(nostack, preserves_flags),
                );
            }
        }
    }
}
